"""Ranked factors against a plain loop; units, margins of their own, cycles, partners."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from benchmarks.methods.heron import experiment, planner_candidates
from personalize.preference_optimization.ranked_factors import (
    RankedFactors,
    cycle_rate,
    ranked_by_scale,
    ranked_comparisons,
)

NAMES = ("a", "b", "c", "d")


def by_loop(first: list[float], second: list[float], margins: tuple[float, ...]) -> tuple[int, int]:
    """Who wins and by which factor, one factor after the other."""
    for number, (one, other, margin) in enumerate(zip(first, second, margins, strict=True)):
        if one > other + margin:
            return 1, number
        if other > one + margin:
            return -1, number
    return 0, len(margins)


def table(seed: int, rows: int = 12, factors: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randint(-3, 4, (rows, factors), generator=generator)
    return whole.double() / 2


@given(st.integers(0, 1000), st.tuples(*[st.sampled_from([0.0, 0.25, 0.75, 1.25])] * 4))
def test_the_vectorised_comparison_is_the_loop(seed: int, margins: tuple[float, ...]):
    factors = table(seed)
    sign, level = RankedFactors(NAMES, margins)(factors[:, None], factors[None])
    for row, first in enumerate(factors.tolist()):
        for column, second in enumerate(factors.tolist()):
            expected = by_loop(first, second, margins)
            assert (int(sign[row, column]), int(level[row, column])) == expected
    assert torch.equal(sign, -sign.T)


def test_every_factor_has_the_margin_of_its_own():
    ranking = RankedFactors(NAMES, (10.0, 10.0, 1.0, 3.0))
    zero = torch.zeros(4, dtype=torch.float64)
    third = torch.tensor([5.0, 5.0, 2.0, 0.0], dtype=torch.float64)
    fourth = torch.tensor([5.0, 5.0, 0.0, 4.0], dtype=torch.float64)
    within = torch.tensor([5.0, 5.0, 1.0, 2.0], dtype=torch.float64)
    rows = torch.stack([third, fourth, within])
    sign, level = ranking(rows, zero.expand(3, 4))
    assert sign.tolist() == [1, 1, 0]  # the second margin, 10, would have left all undecided
    assert level.tolist() == [2, 3, 4]


def test_a_difference_of_exactly_the_margin_decides_nothing():
    sign, level = RankedFactors(("a",), (0.5,))(torch.tensor([[1.5]]), torch.tensor([[1.0]]))
    assert (sign.tolist(), level.tolist()) == ([0], [1])


@given(st.integers(0, 1000), st.integers(0, 3), st.sampled_from([0.01, 100.0, 1024.0]))
def test_the_unit_of_a_factor_changes_no_label_but_those_of_a_sum(
    seed: int, which: int, times: float
):
    factors = torch.randn(30, 4, generator=torch.Generator().manual_seed(seed)).double()
    other = factors.clone()
    other[:, which] *= times
    shares = (0.4, 0.3, 0.5, 0.0)
    one, two = ranked_by_scale(NAMES, factors, shares), ranked_by_scale(NAMES, other, shares)
    assert torch.equal(one(factors[:, None], factors[None])[0], two(other[:, None], other[None])[0])
    sums = [values.sum(1)[:, None] - values.sum(1) for values in (factors, other)]
    assert not torch.equal(sums[0].sign(), sums[1].sign())


def test_margins_are_shares_of_the_deviation():
    factors = torch.tensor([[1.0, 10.0], [3.0, 10.0], [5.0, 70.0]])
    ranking = ranked_by_scale(("a", "b"), factors, (0.5, 1.0))
    assert ranking.margins == pytest.approx((1.0, np.std([10, 10, 70], ddof=1)))


def cycles_by_loop(winners: np.ndarray) -> float:
    cycles, triples = 0, 0
    for a in range(len(winners)):
        for b in range(a + 1, len(winners)):
            for c in range(b + 1, len(winners)):
                three = winners[a, b], winners[b, c], winners[c, a]
                triples += all(three)
                cycles += three in ((1, 1, 1), (-1, -1, -1))
    return cycles / triples if triples else 0.0


@given(st.integers(0, 200), st.sampled_from([0.0, 0.7]))
def test_cycles_are_counted_as_by_hand_and_there_are_none_without_margins(seed: int, share: float):
    factors = torch.randn(14, 3, generator=torch.Generator().manual_seed(seed)).double()
    ranking = ranked_by_scale(NAMES[:3], factors, (share,) * 3)
    winners, _ = ranking(factors[:, None], factors[None])
    assert cycle_rate(winners) == pytest.approx(cycles_by_loop(winners.numpy()))
    if share == 0:
        assert cycle_rate(winners) == 0


def test_margins_make_a_cycle():
    steps = torch.tensor([[0.0, 0.0], [0.6, -1.0], [1.2, -2.0]], dtype=torch.float64)
    winners, _ = RankedFactors(("a", "b"), (1.0, 0.0))(steps[:, None], steps[None])
    assert winners.tolist() == [[0, 1, -1], [-1, 0, 1], [1, -1, 0]]
    assert cycle_rate(winners) == 1.0


def test_undecided_triples_count_for_nothing():
    assert cycle_rate(torch.zeros(4, 4, dtype=torch.long)) == 0.0


def test_partners_come_from_the_own_context_and_every_pair_counts_once():
    contexts = torch.tensor([5, 9, 5, 9, 5, 7])  # the only row of 7 has no partner
    factors = torch.tensor([[1.0], [4.0], [2.0], [4.0], [3.0], [0.0]])
    found = ranked_comparisons(factors, RankedFactors(("a",), (0.0,)), contexts, per_row=50)
    pairs = sorted(
        zip(found.comparisons.better.tolist(), found.comparisons.worse.tolist(), strict=True)
    )
    assert pairs == [(2, 0), (4, 0), (4, 2)]
    assert found.undecided == 1
    assert found.level.tolist() == [0, 0, 0]


def test_the_same_seed_draws_the_same_partners():
    factors, contexts = table(3, rows=40), torch.arange(40) // 20
    ranking = RankedFactors(NAMES, (0.5,) * 4)
    one, two, other = (
        ranked_comparisons(factors, ranking, contexts, per_row=2, seed=seed).comparisons
        for seed in (1, 1, 2)
    )
    assert torch.equal(one.better, two.better)
    assert torch.equal(one.worse, two.worse)
    assert one.better.tolist() != other.better.tolist()
    sign, _ = ranking(factors[one.better], factors[one.worse])
    assert (sign == 1).all()


def test_ranks_keep_their_labels_and_a_reward_learns_them():
    found = experiment((0,))
    assert found["shown"], found["measures"]


def test_planner_candidates_are_picked_by_rank(tmp_path: Path):
    scores = np.zeros((2, 7, 7), np.float32)
    scores[..., :3] = 1
    scores[..., 3] = np.linspace(0.1, 0.7, 7)
    scores[0, 6, 0] = 0  # the one with most progress collides
    scores[0, 6, 3] = 0.9
    mask = np.ones((2, 7, 7), bool)
    mask[1, 6] = False
    save_file({"sub_scores": scores, "sub_score_mask": mask}, str(tmp_path / "teacher.safetensors"))
    measures = planner_candidates(tmp_path)["measures"]
    assert measures["PDM score, most wins by rank"]["mean"] == pytest.approx((5 + 5 * 0.6) / 12)
    assert measures["decided by no_collision"]["mean"] == pytest.approx(6 / 36)


def test_what_cannot_be_ranked_is_refused():
    factors, contexts = torch.ones(4, 2), torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match="one per factor"):
        RankedFactors(("a", "b"), (0.0,))
    with pytest.raises(ValueError, match="one per factor"):
        RankedFactors((), ())
    with pytest.raises(ValueError, match="must not be negative"):
        RankedFactors(("a",), (-0.1,))
    with pytest.raises(ValueError, match="got 1, 2 and 2"):
        ranked_by_scale(("a",), factors, (0.1, 0.1))
    with pytest.raises(ValueError, match="per_row must be 1 or more, got 0"):
        ranked_comparisons(factors, RankedFactors(("a", "b"), (0.0, 0.0)), contexts, per_row=0)
    with pytest.raises(ValueError, match="No pair is decided"):
        ranked_comparisons(factors, RankedFactors(("a", "b"), (0.0, 0.0)), contexts)
    with pytest.raises(ValueError, match="negative of its transpose"):
        cycle_rate(torch.ones(2, 2, dtype=torch.long))
