"""Rows of features, comparisons of them, and lists as pairs."""

import pytest
import torch

from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.rewards.feature_comparisons import FeatureTable, in_pairs

TABLE = FeatureTable(
    torch.arange(4.0)[:, None],
    10 * torch.arange(8.0).view(4, 2),
    torch.arange(4.0)[:, None],
    ("q",),
)
LISTS = ComparedRows.of(
    torch.tensor([[2, 0, 1], [3, 1, 0]]),
    "test",
    present=torch.tensor([[True, True, True], [True, True, False]]),
    grade=torch.tensor([[3.0, 2.0, 1.0], [5.0, 4.0, 0.0]]),
    annotator=torch.tensor([7, 8]),
)


def test_comparisons_hold_the_features_of_their_rows():
    batch = TABLE.compared(LISTS, torch.tensor([1]))
    assert batch.context[0, :, 0].tolist() == [3.0, 1.0, 0.0]
    assert batch.response[0, 0].tolist() == [60.0, 70.0]
    assert batch.quality[0, :, 0].tolist() == [3.0, 1.0, 0.0]
    assert batch.number.tolist() == [1]
    assert batch.annotator.tolist() == [8]
    assert len(batch.to("cpu")) == 1
    assert len(TABLE.compared(LISTS)) == 2


def test_a_list_is_the_first_against_each_of_the_others():
    pairs = in_pairs(LISTS)
    assert pairs.rows.tolist() == [[2, 0], [2, 1], [3, 1]]
    assert pairs.grade.tolist() == [[3.0, 2.0], [3.0, 1.0], [5.0, 4.0]]
    assert pairs.annotator.tolist() == [7, 7, 8]
    assert pairs.present.all()


def test_pairs_stay_what_they_are():
    pairs = ComparedRows.of(torch.tensor([[0, 1]]), "test")
    assert in_pairs(pairs) is pairs


def test_rows_must_be_as_many():
    with pytest.raises(ValueError, match="must have as many rows, got 2, 1 and 1"):
        FeatureTable.of(torch.zeros(2, 1), torch.zeros(1, 1))


def test_qualities_must_be_named():
    with pytest.raises(ValueError, match="names must be one per quality, got 0 for 1"):
        FeatureTable(torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, 1))
