"""SASRec: causal, blind to padding, the loss an obvious loop gives, and able to learn."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.baselines.sasrec import SASRec
from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.collate import Padded, Ragged, prefix_batch, sequence_batch

ITEMS = 11


def _catalogue(items: int = ITEMS) -> Catalogue:
    return Catalogue(
        item_codes=torch.zeros(items, 0, dtype=torch.int64),
        level_sizes=(),
        item_text_ids=torch.zeros(items, dtype=torch.int64),
        item_text_mask=torch.zeros(items, dtype=torch.bool),
        text_vectors=torch.zeros(0, 0),
    )


def _model(**options) -> SASRec:
    torch.manual_seed(0)
    return SASRec(_catalogue(), width=8, heads=2, **options).double().eval()


def _prefixes(histories, targets) -> HistoryBatch:
    rows = np.arange(len(histories))
    return prefix_batch(rows, Ragged.from_lists(histories).last(50), np.array(targets))


histories = st.lists(
    st.lists(st.integers(0, ITEMS - 1), min_size=2, max_size=6), min_size=1, max_size=4
)


@given(histories)
@settings(max_examples=20)
def test_sequences_give_the_loss_of_their_prefixes(people):
    model = _model()
    history = Ragged.from_lists([person[:-1] for person in people]).last(50)
    after = Ragged.from_lists([person[1:] for person in people]).last(50)
    sequences = sequence_batch(np.arange(len(people)), history, Padded(*after))
    prefixes = [(person[:end], person[end]) for person in people for end in range(1, len(person))]
    expected = []
    for past, target in prefixes:
        logits = model._scores(model._states(_prefixes([past], [target])))[0, -1]
        expected.append((logits.logsumexp(0) - logits[target]).item())
    assert model.loss(sequences).item() == pytest.approx(np.mean(expected))
    together = _prefixes(*zip(*prefixes, strict=True))
    assert model.loss(together).item() == pytest.approx(np.mean(expected))


def test_padding_and_what_stands_in_it_change_nothing():
    model = _model()
    batch = _prefixes([[3, 4, 5], [6]], [1, 2])
    garbage = torch.where(batch.history_mask, batch.history_item_ids, 9)
    wide = dataclasses.replace(
        batch,
        history_item_ids=torch.nn.functional.pad(garbage, (0, 3), value=7),
        history_mask=torch.nn.functional.pad(batch.history_mask, (0, 3)),
    )
    for left, right in zip(
        vars(model.recommend(batch, count=5)).values(),
        vars(model.recommend(wide, count=5)).values(),
        strict=True,
    ):
        torch.testing.assert_close(left, right)
    torch.testing.assert_close(model.loss(batch), model.loss(wide))


def test_it_learns_what_follows_what():
    torch.manual_seed(0)
    model = SASRec(_catalogue(), width=16, heads=2, dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    people = [[(start + step) % ITEMS for step in range(6)] for start in range(ITEMS)]
    batch = _prefixes([person[:-1] for person in people], [person[-1] for person in people])
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    found = model.eval().recommend(batch, count=1)
    assert found.item_ids.squeeze(1).tolist() == [person[-1] for person in people]


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="heads must divide width, got 3 heads for width 8"):
        SASRec(_catalogue(), width=8, heads=3)
