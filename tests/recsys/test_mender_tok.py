"""Mender-Tok with a tiny, randomly initialised T5 that the test makes."""

import dataclasses

import pytest
import torch

from data_prep.errors import InputError
from recsys.retriever.guidance import without_preferences
from recsys.retriever.mender_tok import MenderTok
from recsys.retriever.prompt import AVOID, END, ITEM, LIKE, PromptTable, pack
from tests.recsys.retriever_fixtures import TINY, small_batch, small_catalogue
from tests.recsys.tiny_t5 import tiny_tokenizer, write_tiny_t5

CATALOGUE = small_catalogue()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """A folder with a T5 of one layer and its tokenizer."""
    return write_tiny_t5(tmp_path_factory.mktemp("tiny_t5"))


def mender(checkpoint: str, **options) -> MenderTok:
    torch.manual_seed(1)
    return MenderTok(CATALOGUE, encoder=checkpoint, size=TINY, **options).eval()


def logits(model: MenderTok, batch):
    zeros = torch.zeros(len(batch), 1, dtype=torch.long)
    with torch.no_grad():
        return model.step(model.prepare(batch), 0, zeros, zeros)[:, 0]


def words_of(prompt, row: int) -> str:
    tokenizer = tiny_tokenizer()
    return " ".join(tokenizer.convert_ids_to_tokens(prompt.tokens[row][prompt.mask[row]].tolist()))


def packed(most_tokens: int):
    # Preference texts 5 and 6, items with texts 0 to 3; every part is 6 tokens, items 4.
    table = PromptTable(CATALOGUE.texts, tiny_tokenizer(), most_text_tokens=32)
    kinds = torch.tensor([[LIKE, AVOID, LIKE, ITEM, ITEM, ITEM, ITEM]] * 2)
    texts = torch.tensor([[5, 6, 0, 0, 1, 2, 3]] * 2)
    mask = torch.tensor([[1, 1, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0]]).bool()
    return pack(table, texts, kinds, mask, preferences=3, most_tokens=most_tokens)


def test_preferences_come_first_then_items_oldest_first():
    prompt = packed(100)
    assert words_of(prompt, 0) == (
        "I like : text number 5 I avoid : text number 6 Item : text number 0 "
        "Item : text number 1 Item : text number 2 Item : text number 3 </s>"
    )
    assert words_of(prompt, 1) == "Item : text number 0 Item : text number 1 </s>"
    assert prompt.kinds[0, [0, 6, 12, 32]].tolist() == [LIKE, AVOID, ITEM, END]


def test_whole_items_are_left_out_oldest_first_and_preferences_stay():
    assert words_of(packed(25), 0) == (
        "I like : text number 5 I avoid : text number 6 "
        "Item : text number 2 Item : text number 3 </s>"
    )
    assert words_of(packed(22), 0).endswith("number 6 Item : text number 3 </s>")
    assert words_of(packed(14), 0) == "I like : text number 5 I avoid : text number 6 </s>"
    assert words_of(packed(12), 0) == "I like : text number 5 Item : text number 3 </s>"
    assert packed(12).tokens.shape[1] == 12


def test_long_texts_are_cut():
    table = PromptTable(("one",), tiny_tokenizer(), most_text_tokens=3)
    assert table.lengths.tolist() == [[3], [3], [3]]


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_padding_changes_nothing_and_preferences_matter(checkpoint, lora_rank):
    model, batch = mender(checkpoint, lora_rank=lora_rank), small_batch(CATALOGUE, rows=4)
    padding = {"history_item_ids": 7, "history_mask": False, "preference_text_ids": 3}
    padding |= {"preference_mask": False, "preference_avoid": True}
    padded = dataclasses.replace(
        batch,
        **{
            name: torch.nn.functional.pad(getattr(batch, name), (0, 3), value=value)
            for name, value in padding.items()
        },
    )
    plain = logits(model, batch)
    torch.testing.assert_close(plain, logits(model, padded), rtol=1e-4, atol=1e-4)
    assert (plain - logits(model, without_preferences(batch))).abs().max() > 1e-3
    flipped = dataclasses.replace(batch, preference_avoid=~batch.preference_avoid)
    assert (plain - logits(model, flipped)).abs().max() > 1e-3


def test_low_rank_additions_learn_and_the_encoder_stays(checkpoint):
    model, batch = mender(checkpoint, lora_rank=4).train(), small_batch(CATALOGUE, rows=16)
    names = [name for name, p in model.encoder.named_parameters() if p.requires_grad]
    assert names
    assert all("lora" in name for name in names)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_a_frozen_encoder_has_nothing_to_learn_and_no_dropout(checkpoint):
    model = mender(checkpoint, lora_rank=0).train()
    assert not any(p.requires_grad for p in model.encoder.parameters())
    batch = small_batch(CATALOGUE, rows=4)
    first, second = model.encode(batch)[0], model.encode(batch)[0]
    torch.testing.assert_close(first, second)
    with torch.no_grad():
        found = model.eval().recommend(batch, count=5)
    assert (found.item_ids >= 0).all()


def test_missing_checkpoints_and_texts_are_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"No encoder checkpoint 'no/such' .* set download to true"
    ):
        MenderTok(CATALOGUE, encoder="no/such", size=TINY)
    with pytest.raises(InputError, match="Mender-Tok reads texts; run `personalize encode`"):
        MenderTok(dataclasses.replace(CATALOGUE, texts=()), encoder=str(tmp_path), size=TINY)
