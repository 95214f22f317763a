"""Mender-Emb: what its memory depends on, and what it does not."""

import dataclasses

import pytest
import torch

from data_prep.errors import InputError
from recsys.recommender import Filters
from recsys.retriever.generative import Conditioning, drop_preferences
from recsys.retriever.guidance import without_preferences
from recsys.retriever.mender_emb import MenderEmb
from tests.recsys.retriever_fixtures import TINY, rows_of, small_batch, small_catalogue

CATALOGUE = small_catalogue()


def mender(**options) -> MenderEmb:
    torch.manual_seed(6)
    size = options.pop("size", TINY)
    return MenderEmb(CATALOGUE, size=size, **options).eval()


def logits(model: MenderEmb, batch):
    """Logits of the first level for every row."""
    zeros = torch.zeros(len(batch), 1, dtype=torch.long)
    with torch.no_grad():
        return model.step(model.prepare(batch), 0, zeros, zeros)[:, 0]


@pytest.fixture(params=[0, 2])
def model(request) -> MenderEmb:
    return mender(size=dataclasses.replace(TINY, encoder_layers=request.param))


def test_the_order_of_the_history_matters(model):
    batch = small_batch(CATALOGUE, rows=6)
    turned = batch.history_item_ids.clone()
    turned[5, :6] = turned[5, :6].flip(0)
    changed = logits(model, dataclasses.replace(batch, history_item_ids=turned))
    assert (logits(model, batch)[5] - changed[5]).abs().max() > 1e-2
    torch.testing.assert_close(logits(model, batch)[:5], changed[:5])


def test_the_order_of_the_preferences_does_not_matter(model):
    batch = small_batch(CATALOGUE, rows=4)  # the last row has four preferences
    order = torch.tensor([2, 0, 3, 1])
    turned = dataclasses.replace(
        batch,
        preference_text_ids=batch.preference_text_ids[:, :, order],
        preference_mask=batch.preference_mask[:, :, order],
        preference_avoid=batch.preference_avoid[:, :, order],
    )
    torch.testing.assert_close(logits(model, batch), logits(model, turned), rtol=1e-4, atol=1e-4)


def test_padding_changes_nothing(model):
    batch = small_batch(CATALOGUE, rows=4)
    wide = {"history_item_ids": 7, "history_mask": False}
    deep = {"preference_text_ids": 3, "preference_mask": False, "preference_avoid": True}
    padded = dataclasses.replace(
        batch,
        **{
            name: torch.nn.functional.pad(getattr(batch, name), (0, 3), value=value)
            for name, value in (wide | deep).items()
        },
    )
    torch.testing.assert_close(logits(model, batch), logits(model, padded), rtol=1e-4, atol=1e-4)


def test_liking_differs_from_avoiding(model):
    batch = small_batch(CATALOGUE, rows=4)
    flipped = dataclasses.replace(batch, preference_avoid=~batch.preference_avoid)
    difference = (logits(model, batch) - logits(model, flipped)).abs().amax(1)
    assert (difference > 1e-3).tolist() == batch.preference_mask.any(2)[:, 0].tolist()


def test_preferences_and_codes_are_read():
    batch = small_batch(CATALOGUE, rows=4)
    model, plain = mender(), mender(codes_in_memory=False)
    assert (logits(model, batch) - logits(model, without_preferences(batch))).abs().max() > 1e-2
    assert (logits(model, batch) - logits(plain, batch)).abs().max() > 1e-2


def test_an_item_without_text_is_known_by_its_codes_alone():
    unknown = dataclasses.replace(CATALOGUE, item_text_mask=torch.zeros(60, dtype=torch.bool))
    other = dataclasses.replace(unknown, item_text_ids=torch.zeros(60, dtype=torch.long))
    batch = small_batch(CATALOGUE, rows=4)
    torch.manual_seed(6)
    first = MenderEmb(unknown, size=TINY).eval()
    torch.manual_seed(6)
    second = MenderEmb(other, size=TINY).eval()
    torch.testing.assert_close(logits(first, batch), logits(second, batch))


def test_only_the_latest_items_are_read():
    batch = small_batch(CATALOGUE, rows=6)
    model = mender(history_items=3)
    cut = rows_of(batch, slice(4, 6))
    latest = dataclasses.replace(
        cut,
        history_item_ids=torch.stack((cut.history_item_ids[0, 2:5], cut.history_item_ids[1, 3:6])),
        history_mask=torch.ones(2, 3, dtype=torch.bool),
    )
    torch.testing.assert_close(logits(model, cut), logits(model, latest))


def test_rows_without_anything_still_get_items():
    batch = small_batch(CATALOGUE, rows=3)
    empty = dataclasses.replace(
        without_preferences(batch), history_mask=torch.zeros_like(batch.history_mask)
    )
    with torch.no_grad():
        found = mender().recommend(empty, count=5, filters=Filters(exclude_history=True))
    assert (found.item_ids >= 0).all()
    assert torch.equal(found.item_ids[0], found.item_ids[1])


def test_guidance_moves_logits_from_without_to_with_and_beyond():
    batch = small_batch(CATALOGUE, rows=4)
    model = mender(conditioning=Conditioning(guidance=1.0))
    with torch.no_grad():
        plain = model.recommend(batch, count=6)
        model.guidance = 1.0 + 1e-7
        same = model.recommend(batch, count=6)
        model.guidance = 0.0
        none = model.recommend(batch, count=6)
        model.guidance = 4.0
        strong = model.recommend(batch, count=6)
        model.guidance = 1.0
        ignored = model.recommend(without_preferences(batch), count=6)
    assert torch.equal(plain.item_ids, same.item_ids)
    assert torch.equal(none.item_ids, ignored.item_ids)
    assert not torch.equal(plain.item_ids, strong.item_ids)


def test_a_share_of_the_rows_loses_all_preferences():
    batch = small_batch(CATALOGUE, rows=5000, preferences=3)
    before = batch.preference_mask.any(2)[:, 0]
    torch.manual_seed(0)
    after = drop_preferences(batch, 0.3).preference_mask
    changed = (after != batch.preference_mask).any(2)[:, 0]
    assert not after[changed].any()
    assert 0.27 < changed[before].float().mean() < 0.33
    assert not drop_preferences(batch, 1.0).preference_mask.any()
    assert torch.equal(drop_preferences(batch, 0.0).preference_mask, batch.preference_mask)


def test_training_drops_preferences_and_evaluation_does_not():
    model = mender(conditioning=Conditioning(dropout=1.0))
    batch = small_batch(CATALOGUE, rows=4)
    kept = model.loss(batch)
    dropped = model.loss(without_preferences(batch))
    assert not torch.isclose(kept, dropped)
    torch.testing.assert_close(model.train().loss(batch), dropped)


def test_training_lowers_the_loss():
    model = mender().train()
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
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert unused == []


def test_missing_vectors_codes_and_bad_shares_are_refused():
    with pytest.raises(InputError, match="Mender-Emb reads text vectors; run `personalize encode`"):
        MenderEmb(dataclasses.replace(CATALOGUE, text_vectors=torch.zeros(0, 0)))
    bare = dataclasses.replace(
        CATALOGUE, item_codes=torch.zeros(60, 0, dtype=torch.long), level_sizes=()
    )
    with pytest.raises(InputError, match="needs some; run `recsys tokenize`"):
        MenderEmb(bare)
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\], got 1\.5"):
        Conditioning(dropout=1.5)
