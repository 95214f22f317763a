"""Ranking metrics against a plain loop, hand-worked numbers and the arithmetic of one target."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.ranking import TargetRanks, m_at_k, mrr_at_k, ndcg_at_k, recall_at_k, target_ranks


def _loop(items: list[int], target: int, k: int) -> tuple[float, float, float]:
    """Recall, NDCG and reciprocal rank of one row, the obvious way."""
    for rank, item in enumerate(items[:k], 1):
        if item == target:
            return 1.0, 1.0 / math.log2(rank + 1), 1.0 / rank
    return 0.0, 0.0, 0.0


@st.composite
def lists_and_targets(draw):
    width = draw(st.integers(1, 12))
    rows = draw(st.integers(1, 9))
    items = [draw(st.permutations(range(15)))[:width] for _ in range(rows)]
    for row in items:  # some rows returned fewer items than were asked for
        short = draw(st.integers(0, width))
        row[short:] = [-1] * (width - short)
    return items, [draw(st.integers(0, 14)) for _ in range(rows)]


@given(lists_and_targets(), st.integers(1, 14))
def test_metrics_equal_a_plain_loop(rows, k):
    items, targets = rows
    ranks, found = target_ranks(torch.tensor(items), torch.tensor(targets))
    expected = [_loop(row, target, k) for row, target in zip(items, targets, strict=True)]
    recall, ndcg, mrr = (torch.tensor(column) for column in zip(*expected, strict=True))
    torch.testing.assert_close(recall_at_k(ranks, found, k=k), recall)
    torch.testing.assert_close(ndcg_at_k(ranks, found, k=k), ndcg)
    torch.testing.assert_close(mrr_at_k(ranks, found, k=k), mrr)


def test_hand_worked_numbers():
    items = torch.tensor([[4, 2, 9, 1], [4, 2, 9, 1], [4, 2, 9, 1], [5, 6, 7, -1]])
    ranks, found = target_ranks(items, torch.tensor([4, 9, 8, 1]))
    assert ranks.tolist() == [1, 3, 5, 5]
    assert found.tolist() == [True, True, False, False]
    assert recall_at_k(ranks, found, k=2).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert ndcg_at_k(ranks, found, k=3).tolist() == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert mrr_at_k(ranks, found, k=3).tolist() == pytest.approx([1.0, 1 / 3, 0.0, 0.0])


def test_a_cut_off_beyond_the_list_finds_nothing_new():
    ranks, found = target_ranks(torch.tensor([[1, 2]]), torch.tensor([3]))
    assert recall_at_k(ranks, found, k=10).item() == 0.0


def test_no_items_at_all():
    ranks, found = target_ranks(torch.zeros((2, 0), dtype=torch.int64), torch.tensor([0, 1]))
    assert ranks.tolist() == [1, 1]
    assert not found.any()
    assert ndcg_at_k(ranks, found, k=5).tolist() == [0.0, 0.0]


@given(lists_and_targets(), st.integers(1, 8), st.integers(1, 6))
def test_ndcg_grows_within_the_arithmetic_of_one_target(rows, low, step):
    items, targets = rows
    high = low + step
    ranks, found = target_ranks(torch.tensor(items), torch.tensor(targets))
    new_hits = (recall_at_k(ranks, found, k=high) - recall_at_k(ranks, found, k=low)).sum()
    growth = (ndcg_at_k(ranks, found, k=high) - ndcg_at_k(ranks, found, k=low)).sum()
    assert growth >= new_hits / math.log2(high + 1) - 1e-5
    assert growth <= new_hits / math.log2(low + 2) + 1e-5


@given(lists_and_targets(), st.integers(1, 10))
def test_permuting_rows_permutes_values(rows, k):
    items, targets = torch.tensor(rows[0]), torch.tensor(rows[1])
    order = torch.arange(len(targets)).flip(0)
    plain = ndcg_at_k(*target_ranks(items, targets), k=k)
    moved = ndcg_at_k(*target_ranks(items[order], targets[order]), k=k)
    assert torch.equal(plain[order], moved)


def test_perfect_and_worst():
    items = torch.arange(20).reshape(4, 5)
    best = target_ranks(items, items[:, 0])
    worst = target_ranks(items, torch.full((4,), 99))
    for metric in (recall_at_k, ndcg_at_k, mrr_at_k):
        assert metric(*best, k=1).tolist() == [1.0] * 4
        assert metric(*worst, k=5).tolist() == [0.0] * 4


def test_sentiment_following_keeps_its_parts():
    found, missed = (
        (torch.tensor([1]), torch.tensor([True])),
        (torch.tensor([6]), torch.tensor([False])),
    )
    wanted = TargetRanks(*(torch.cat(x) for x in zip(found, found, missed, missed, strict=True)))
    avoided = TargetRanks(*(torch.cat(x) for x in zip(missed, found, missed, found, strict=True)))
    parts = m_at_k(wanted, avoided, k=5)
    assert parts.both.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert parts.wanted.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert parts.spared.tolist() == [1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("metric", [recall_at_k, ndcg_at_k, mrr_at_k])
def test_k_below_one_is_refused(metric):
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        metric(torch.tensor([1]), torch.tensor([True]), k=0)


def test_k_below_one_is_refused_for_pairs():
    ranks = TargetRanks(torch.tensor([1]), torch.tensor([True]))
    with pytest.raises(ValueError, match="k must be at least 1, got -1"):
        m_at_k(ranks, ranks, k=-1)
