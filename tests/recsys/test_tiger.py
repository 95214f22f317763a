"""TIGER: what it reads of a history, and that it learns."""

import dataclasses

import pytest
import torch

from recsys.retriever.guidance import stacked, without_preferences
from recsys.retriever.tiger import Tiger
from tests.recsys.retriever_fixtures import TINY, rows_of, small_batch, small_catalogue

CATALOGUE = small_catalogue()


def tiger(**options) -> Tiger:
    torch.manual_seed(7)
    return Tiger(CATALOGUE, size=TINY, **options).eval()


def logits(model: Tiger, batch):
    zeros = torch.zeros(len(batch), 1, dtype=torch.long)
    with torch.no_grad():
        return model.step(model.prepare(batch), 0, zeros, zeros)[:, 0]


def test_the_order_of_the_history_matters():
    batch = small_batch(CATALOGUE, rows=6)
    turned = dataclasses.replace(batch, history_item_ids=batch.history_item_ids.clone())
    turned.history_item_ids[5] = turned.history_item_ids[5].flip(0)
    model = tiger()
    assert (logits(model, batch)[5] - logits(model, turned)[5]).abs().max() > 1e-3


def test_only_the_latest_items_are_read():
    batch = small_batch(CATALOGUE, rows=6)
    row = rows_of(batch, slice(5, 6))
    latest = dataclasses.replace(
        row, history_item_ids=row.history_item_ids[:, 4:6], history_mask=row.history_mask[:, 4:6]
    )
    model = tiger(history_items=2)
    torch.testing.assert_close(logits(model, row), logits(model, latest))
    assert model.encode(batch)[0].shape[1] == 2 * 4


def test_preferences_change_nothing():
    batch = small_batch(CATALOGUE, rows=4)
    assert torch.equal(logits(tiger(), batch), logits(tiger(), without_preferences(batch)))


def test_a_row_without_history_reads_one_token_whatever_the_padding():
    batch = small_batch(CATALOGUE, rows=2)
    empty = dataclasses.replace(batch, history_mask=torch.zeros_like(batch.history_mask))
    short = dataclasses.replace(
        empty,
        history_item_ids=empty.history_item_ids[:, :1],
        history_mask=empty.history_mask[:, :1],
    )
    torch.testing.assert_close(logits(tiger(), empty), logits(tiger(), short))
    assert torch.isfinite(tiger().loss(empty))


@pytest.mark.parametrize("tied", [True, False])
def test_training_lowers_the_loss_and_uses_every_weight(tied):
    model = tiger(tied=tied).train()
    batch = small_batch(CATALOGUE, rows=16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None for p in model.parameters())
    with torch.no_grad():
        found = model.eval().recommend(batch, count=10)
    assert (found.item_ids == batch.target_item_ids).any(1).float().mean() > 0.5


def test_the_loss_starts_near_that_of_a_guess():
    model, batch = tiger(), small_batch(CATALOGUE, rows=64)
    guess = torch.tensor([float(size) for size in CATALOGUE.level_sizes]).log().mean()
    assert 0.5 * guess < model.loss(batch) < 2.5 * guess


def test_label_smoothing_mixes_in_all_codes():
    batch = small_batch(CATALOGUE, rows=4)
    plain, smooth = tiger(), tiger(label_smoothing=0.2)
    memory = plain.prepare(batch)
    codes = CATALOGUE.item_codes[batch.target_item_ids[:, 0]]
    hidden = plain.decoder.decoder(
        plain.decoder.embedding(plain.decoder.started_tokens(codes[:, :-1])), memory
    )
    spread = torch.stack(
        [-plain.decoder.level_logits(n, hidden[:, n]).log_softmax(-1).mean(-1) for n in range(4)]
    ).mean()
    expected = 0.8 * plain.loss(batch) + 0.2 * spread
    torch.testing.assert_close(smooth.loss(batch), expected)


def test_batches_of_sequences_are_refused():
    batch = small_batch(CATALOGUE, rows=2)
    sequence = dataclasses.replace(
        batch,
        target_item_ids=batch.history_item_ids,
        target_mask=batch.history_mask,
        preference_text_ids=batch.preference_text_ids.expand(-1, 6, -1),
        preference_mask=batch.preference_mask.expand(-1, 6, -1),
        preference_avoid=batch.preference_avoid.expand(-1, 6, -1),
    )
    with pytest.raises(ValueError, match=r"learns from batches of prefixes.*got 6 targets"):
        tiger().loss(sequence)


def test_state_holds_weights_alone():
    assert not [name for name in tiger().state_dict() if "trie" in name or "item_" in name]


def test_stacked_batches_follow_each_other():
    batch = small_batch(CATALOGUE, rows=3)
    both = stacked(batch, batch)
    assert torch.equal(both.row_ids, torch.tensor([0, 1, 2, 0, 1, 2]))
