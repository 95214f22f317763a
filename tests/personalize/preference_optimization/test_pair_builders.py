"""What each builder makes of a few rows whose answer is plain."""

from dataclasses import replace

import pytest
import torch

from personalize.evaluation.reversals import reversal_report
from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.context_reversals import ContextReversals, as_reversals
from personalize.preference_optimization.context_swaps import ContextSwaps
from personalize.preference_optimization.extremes import (
    BestAgainstWorst,
    PairsByReward,
    WholeRankings,
)
from personalize.preference_optimization.follow_up import FollowUpPairs
from personalize.preference_optimization.hindsight import HindsightPairs
from personalize.preference_optimization.near_misses import NearMisses
from personalize.preference_optimization.ranked_pairs import RankedPairs
from personalize.preference_optimization.target_pairs import Drawn, Nearest, TargetAgainstOthers

WISH = {"wish": 1.0}


def rows(wish, other=None, **changed) -> Candidates:
    """Responses 0, 1, ... to one context, all of which pass; the first one was logged."""
    count = len(wish)
    other = [0.0] * count if other is None else other
    zeros = torch.zeros(count)
    given = {
        "context": torch.zeros(count, dtype=torch.long),
        "origin": torch.zeros(count, dtype=torch.long),
        "response": torch.arange(count),
        "responses": torch.arange(count),
        "target": torch.arange(count) == 0,
        "gate": torch.ones(count, dtype=torch.bool),
        "reward": torch.tensor([wish, other]).T,
        "names": ("wish", "other"),
        "log_prob": zeros,
        "distance": zeros,
        "group": torch.zeros(count, dtype=torch.long),
    }
    return Candidates(**{**given, **changed})


def flags(*numbers: int, count: int) -> torch.Tensor:
    return torch.isin(torch.arange(count), torch.tensor(numbers))


def swapped(wish, swapped_wish, **changed) -> Candidates:
    """Responses 0, 1, ... in context 0, then the same in context 9, made from it."""
    count = len(wish)
    context = torch.tensor([0] * count + [9] * count)
    return rows(
        [*wish, *swapped_wish],
        **{
            "context": context,
            "response": torch.arange(count).repeat(2),
            "target": flags(0, count=2 * count),
            **changed,
        },
    )


def test_the_best_meets_the_worst_of_what_passes() -> None:
    gate = flags(0, 1, 2, 3, count=5)
    found = BestAgainstWorst({"wish": 2.0, "other": -1.0})(
        rows([0.0, 1.0, 3.0, 1.5, 9.0], [0.0, 4.0, 1.0, 0.0, 0.0], gate=gate)
    )
    assert found.rows.tolist() == [[2, 1]]  # values 0, -2, 5, 3, and 18 which fails
    assert found.grade.tolist() == [[5.0, -2.0]]
    assert found.sources == ("best_against_worst",)


def test_a_gap_must_be_larger_than_asked() -> None:
    few = rows([0.0, 1.0])
    assert len(BestAgainstWorst(WISH, 1.0)(few)) == 0
    assert len(BestAgainstWorst(WISH, 0.99)(few)) == 1


def test_a_whole_ranking_is_in_order_and_leaves_out_what_is_no_worse() -> None:
    found = WholeRankings(WISH, 3)(rows([1.0, 5.0, 1.0, 3.0, -2.0]))
    assert found.rows.tolist() == [[1, 3, 0]]
    assert found.grade.tolist() == [[5.0, 3.0, 1.0]]
    short = WholeRankings(WISH, 4)(rows([1.0, 5.0, 1.0]))
    assert short.rows.tolist() == [[1, 0, 0, 0]]
    assert short.present.tolist() == [[True, True, False, False]]


def test_random_pairs_are_all_pairs_where_all_are_asked_for() -> None:
    found = PairsByReward(WISH, per_context=10)(rows([2.0, 1.0, 3.0, 1.0]))
    assert found.rows.tolist() == [[0, 1], [2, 0], [0, 3], [2, 1], [2, 3]]
    drawn = {
        tuple(PairsByReward(WISH, per_context=1)(rows([2.0, 1.0, 3.0]), seed=s).rows[0].tolist())
        for s in range(40)
    }
    assert drawn == {(0, 1), (2, 0), (2, 1)}


def test_the_hardest_negatives_are_the_likeliest() -> None:
    few = rows([0.0] * 5, log_prob=torch.tensor([-0.1, -4.0, -1.0, -9.0, -2.0]))
    found = TargetAgainstOthers(3)(few)
    assert found.rows.tolist() == [[0, 2, 4, 1]]
    assert found.grade.tolist() == [[1.0, 0.0, 0.0, 0.0]]
    most = TargetAgainstOthers(9)(few)
    assert most.rows.tolist()[0][:5] == [0, 2, 4, 1, 3]
    assert int(most.present.sum()) == 5


def test_similar_negatives_are_the_nearest() -> None:
    few = rows([0.0] * 4, distance=torch.tensor([0.0, 3.0, 1.0, 2.0]))
    assert TargetAgainstOthers(2, Nearest())(few).rows.tolist() == [[0, 2, 3]]


def test_drawn_negatives_are_all_drawn_alike() -> None:
    few = rows([0.0] * 4)
    drawn = [TargetAgainstOthers(1, Drawn())(few, seed=s).rows[0, 1].item() for s in range(300)]
    counts = torch.bincount(torch.tensor(drawn), minlength=4)
    assert counts[0] == 0
    assert (counts[1:] > 70).all()


def test_what_was_logged_and_fails_teaches_nothing() -> None:
    assert len(TargetAgainstOthers()(rows([0.0] * 3, gate=flags(1, 2, count=3)))) == 0
    assert len(TargetAgainstOthers()(rows([0.0] * 3, target=flags(count=3)))) == 0


def test_what_was_also_logged_is_no_negative() -> None:
    found = TargetAgainstOthers(5)(rows([0.0] * 4, target=flags(1, 3, count=4)))
    assert found.rows[found.present].tolist() == [1, 0, 2]


def test_a_near_miss_is_the_nearest_that_fails() -> None:
    # the best that passes is 1; 2 fails the gate, 3 scores below 0.3, 4 is nearer but good
    score, distance = [0.8, 0.9, 0.95, 0.1, 0.5], torch.tensor([0.0, 5.0, 2.0, 3.0, 1.0])
    few = rows(score, distance=distance, gate=flags(0, 1, 3, 4, count=5))
    assert NearMisses(WISH)(few).rows.tolist() == [[1, 2]]
    nearer = replace(few, distance=torch.tensor([0.0, 5.0, 4.0, 3.0, 1.0]))
    assert NearMisses(WISH)(nearer).rows.tolist() == [[1, 3]]
    assert NearMisses(WISH, fails_below=0.6)(nearer).rows.tolist() == [[1, 4]]
    assert len(NearMisses(WISH)(rows([0.8, 0.9]))) == 0


def test_controls_of_near_misses_reject_any_that_failed_and_any_at_all() -> None:
    few = rows([0.8, 0.9, 0.95, 0.1, 0.5], gate=flags(0, 1, 3, 4, count=5))

    def rejected(builder: NearMisses) -> set[int]:
        return {int(builder(few, seed=seed).rows[0, 1]) for seed in range(60)}

    assert rejected(NearMisses(WISH, choice=Drawn())) == {2, 3}
    assert rejected(NearMisses(WISH, float("inf"), Drawn())) == {0, 2, 3, 4}


def test_the_first_quality_that_differs_enough_decides_and_gates_come_first() -> None:
    builder = RankedPairs({"wish": 0.5, "other": 0.0}, per_context=99)
    few = rows([1.0, 1.4, 9.0, 2.0], [2.0, 1.0, 5.0, 0.0], gate=flags(0, 1, 3, count=4))
    found = builder(few)
    said = {
        (tuple(row), found.sources[int(source)])
        for row, source in zip(found.rows.tolist(), found.provenance, strict=True)
    }
    assert said == {
        ((0, 1), "other"),  # 0.4 is no difference in the wish
        ((0, 2), "gate"),
        ((3, 0), "wish"),
        ((1, 2), "gate"),
        ((3, 1), "wish"),
        ((3, 2), "gate"),
    }
    assert len(builder(rows([1.0, 9.0], gate=flags(count=2)))) == 0


def test_a_response_is_better_where_it_meets_the_wish() -> None:
    # response 0 meets the wish of context 0, response 1 that of context 9, response 2 neither
    few = swapped([1.0, -1.0, 0.0], [-1.0, 1.0, 0.0])
    found = ContextSwaps(WISH)(few)
    assert sorted(found.rows.tolist()) == [[0, 3], [4, 1]]
    assert ContextSwaps(WISH, both_ends=False)(few).rows.tolist() == [[0, 3]]


def test_both_ends_are_needed_and_come_in_equal_numbers() -> None:
    one_end = swapped([1.0, 2.0], [0.0, 0.0])
    assert len(ContextSwaps(WISH)(one_end)) == 0
    assert len(ContextSwaps(WISH, both_ends=False)(one_end)) == 2
    uneven = swapped([1.0, 2.0, 3.0, 0.0], [0.0, 0.0, 0.0, 1.0])
    for seed in range(10):
        found = ContextSwaps(WISH)(uneven, seed=seed)
        assert len(found) == 2
        assert sorted(uneven.context[found.rows[:, 0]].tolist()) == [0, 9]


def test_a_swap_needs_the_response_to_pass_in_both_contexts() -> None:
    few = swapped([1.0, -1.0], [-1.0, 1.0], gate=flags(0, 1, 2, count=4))
    assert len(ContextSwaps(WISH)(few)) == 0
    assert ContextSwaps(WISH, both_ends=False)(few).rows.tolist() == [[0, 2]]


def test_a_reversal_turns_the_winner_round_and_no_blind_score_sees_it() -> None:
    few = swapped([1.0, -1.0, 0.9], [-1.0, 1.0, 0.95])
    found = ContextReversals(WISH, 0.08)(few)
    assert found.rows.tolist() == [[0, 1], [4, 3], [0, 2], [5, 3]]
    found = ContextReversals(WISH, 0.2)(few)
    assert found.rows.tolist() == [[0, 1], [4, 3]]
    blind = torch.arange(3.0).repeat(2)
    report = reversal_report(blind, as_reversals(found, few))
    assert report.accuracy.mean == 0.5
    aware = reversal_report(few.named("wish"), as_reversals(found, few))
    assert aware.both_right.mean == 1.0


def test_hindsight_sees_what_came_of_both_or_of_the_one_taken() -> None:
    # response 0 promises 3 and keeps -1; response 1 promises 2 and keeps -2
    few = rows([-1.0, -2.0], [3.0, 2.0])
    promise, outcome = {"other": 1.0}, {"wish": 1.0}
    assert PairsByReward(promise)(few).rows.tolist() == [[0, 1]]
    assert HindsightPairs(promise, outcome)(few).rows.tolist() == [[0, 1]]
    assert HindsightPairs(promise, outcome, see_both=False)(few).rows.tolist() == [[1, 0]]
    tied = rows([-1.0, -2.0], [3.0, 3.0])
    assert HindsightPairs(promise, outcome)(tied).rows.tolist() == [[0, 1]]
    assert len(HindsightPairs(promise, outcome, see_both=False)(tied)) == 0


def test_follow_ups_are_averaged_on_either_side() -> None:
    reward = torch.tensor([[-1.0, -3.0, -2.0], [-1.5, -1.5, -9.0], [-0.5, -0.7, -0.1]])
    few = replace(rows([0.0] * 3), reward=reward, names=("again", "longer", "return"))
    found = FollowUpPairs(("again", "longer"), ("return",))(few)
    assert found.rows.tolist() == [[1, 2]]  # 0, 7.5 and -0.5
    assert found.grade[0].tolist() == pytest.approx([7.5, -0.5])
    with pytest.raises(ValueError, match="must each name at least one reward"):
        FollowUpPairs((), ("return",))


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="per_context must be 1 or more, got 0"):
        PairsByReward(WISH, per_context=0)(rows([1.0, 2.0]))
    with pytest.raises(ValueError, match="length must be 2 or more, got 1"):
        WholeRankings(WISH, 1)
    with pytest.raises(ValueError, match="negatives must be 1 or more, got 0"):
        TargetAgainstOthers(0)


def test_what_was_both_logged_and_drawn_is_what_was_logged() -> None:
    twice = rows([0.0] * 3, response=torch.tensor([4, 1, 4]), target=flags(2, count=3),
                 responses=torch.arange(5))  # fmt: skip
    assert TargetAgainstOthers()(twice).rows[0, :2].tolist() == [2, 1]
