"""The record of comparisons: what it refuses, and that nothing is lost on the way."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personalize.preference_optimization.compared_rows import ComparedRows, joined
from personalize.preference_optimization.comparisons import Comparisons

quick = settings(deadline=None, derandomize=True, max_examples=20)


def record(*, lists: bool = True) -> ComparedRows:
    """A list of three, a pair, and another list of three with a soft label."""
    rows = torch.tensor([[4, 0, 2], [3, 1, 0], [9, 8, 7]])
    present = torch.tensor([[True, True, True], [True, True, not lists], [True, True, True]])
    return replace(
        ComparedRows.of(rows, "by hand", present=present),
        strength=torch.tensor([1.0, 0.5, 0.2]),
        weight=torch.tensor([1.0, 2.0, 3.0]),
        grade=torch.tensor([[3.0, 2.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        annotator=torch.tensor([5, 6, 5]),
    )


def test_the_first_is_paired_with_each_of_the_others() -> None:
    found = record().pairs()
    assert found.better.tolist() == [4, 4, 3, 9, 9]
    assert found.worse.tolist() == [0, 2, 1, 8, 7]
    torch.testing.assert_close(found.strength, torch.tensor([1.0, 1.0, 0.5, 0.2, 0.2]))


def test_what_is_not_given_is_neutral() -> None:
    found = ComparedRows.of(torch.tensor([[3, 1]]), "by hand")
    assert found.present.all()
    assert [float(v) for v in (found.strength, found.margin, found.weight)] == [1.0, 0.0, 1.0]
    assert found.grade.tolist() == [[0.0, 0.0]]
    assert (found.annotator.item(), found.provenance.item()) == (0, 0)


def test_pairs_go_in_and_come_out_the_same() -> None:
    pairs = Comparisons(torch.tensor([3, 0]), torch.tensor([1, 2]), torch.tensor([1.0, 0.25]))
    found = ComparedRows.of_pairs(pairs, "by hand").pairs()
    for name in ("better", "worse", "strength"):
        assert torch.equal(getattr(found, name), getattr(pairs, name))


@quick
@given(st.permutations([0, 1, 2]))
def test_some_comparisons_keep_all_that_is_known_of_them(order: list[int]) -> None:
    whole = record()
    found = whole.some(torch.tensor(order))
    for name in ("rows", "present", "strength", "weight", "grade", "annotator"):
        assert torch.equal(getattr(found, name), getattr(whole, name)[order])
    none = whole.some(torch.zeros(3, dtype=torch.bool))
    assert len(none) == 0
    assert none.sources == ("by hand",)


def test_joined_comparisons_keep_their_sources_and_are_filled_up() -> None:
    pair = ComparedRows.of(torch.tensor([[1, 2]]), "by eye")
    found = joined([pair, record()])
    assert found.rows.tolist() == [[1, 2, 0], [4, 0, 2], [3, 1, 0], [9, 8, 7]]
    assert found.present[0].tolist() == [True, True, False]
    assert [found.sources[number] for number in found.provenance] == ["by eye", *["by hand"] * 3]
    assert found.annotator.tolist() == [0, 5, 6, 5]
    assert len(found.pairs()) == 6


def test_nothing_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="there is nothing to join"):
        joined([])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"strength": torch.tensor([1.0, 1.5, 0.0])}, r"strength must lie in \[0, 1\]"),
        ({"strength": torch.tensor([1.0, float("nan"), 0.0])}, r"strength must lie in \[0, 1\]"),
        ({"provenance": torch.tensor([0, 1, 0])}, "provenance must number the 1 sources"),
        ({"rows": torch.tensor([[4, 0, -2], [3, 1, 0], [9, 8, 7]])}, "rows must be 0 or more"),
        ({"rows": torch.tensor([[4, 0, 4], [3, 1, 0], [9, 8, 7]])}, "compared with itself"),
        ({"rows": torch.tensor([[4, 0, 2], [3, 3, 0], [9, 8, 7]])}, "compared with itself"),
        ({"present": torch.tensor([[True, False, True]] * 3)}, "the first two rows"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(changed, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(record(), **changed)


def test_a_place_that_is_filled_up_may_repeat_a_row() -> None:
    rows = torch.tensor([[4, 0, 2], [3, 1, 3], [9, 8, 7]])
    assert len(replace(record(), rows=rows)) == 3


def test_lengths_that_differ_are_refused() -> None:
    pair = ComparedRows.of(torch.tensor([[1, 2]]), "by eye")
    with pytest.raises(ValueError, match="a comparison needs at least two rows, got 1"):
        ComparedRows.of(torch.tensor([[1]]), "by eye")
    for name in ("strength", "margin", "weight", "annotator", "provenance"):
        with pytest.raises((ValueError, TypeError)):
            replace(pair, **{name: getattr(record(), name)})
