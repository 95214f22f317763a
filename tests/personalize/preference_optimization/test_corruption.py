"""Spoilt responses: the whole stay whole, a higher degree spoils all that a lower one does."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personalize.preference_optimization.corruption import (
    CodesOfAnother,
    Notches,
    graded_responses,
)

CODES = torch.arange(24).view(6, 4)  # all codes differ, so a spoilt level shows
PATHS = torch.zeros(5, 8, 3)
quick = settings(deadline=None, derandomize=True, max_examples=20)
seeds = given(st.integers(0, 10_000))


@quick
@seeds
def test_as_many_levels_are_another_s_as_the_degree_says(seed: int) -> None:
    found, degree = graded_responses(CODES, CodesOfAnother(), 4, seed=seed)
    assert degree.tolist() == [[0, 1, 2, 3, 4]] * 6
    spoilt = found != CODES[:, None]
    assert torch.equal(spoilt.sum(-1), degree)
    assert (spoilt[:, :-1] <= spoilt[:, 1:]).all()  # what was spoilt stays spoilt
    assert torch.equal(found % 4, CODES[:, None].expand_as(found) % 4)  # a level stays a level
    donors = found[:, 4] // 4
    assert (donors == donors[:, :1]).all()  # all of one other
    assert (donors[:, 0] != torch.arange(6)).all()


@quick
@seeds
def test_notches_add_up(seed: int) -> None:
    size = (0.5, 0.1, 0.0)
    found, _ = graded_responses(PATHS, Notches(size, smooth=3), 3, seed=seed)
    assert torch.equal(found[:, 0], PATHS)
    torch.testing.assert_close(found[:, 3], 3 * found[:, 1])
    assert (found[..., 2] == 0).all()
    assert (found[:, 1, :, :2] != 0).all()


def test_a_notch_has_its_size_however_smooth() -> None:
    many = torch.zeros(4000, 6, 2)
    for smooth in (1, 4):
        found, _ = graded_responses(many, Notches((0.5, 2.0), smooth), 1)
        deviation = found[:, 1].std((0, 1))
        torch.testing.assert_close(deviation, torch.tensor([0.5, 2.0]), rtol=0.03, atol=0)


def test_a_smooth_disturbance_changes_slowly() -> None:
    steps = []
    for smooth in (1, 4):
        found, _ = graded_responses(torch.zeros(500, 8, 1), Notches((1.0,), smooth), 1)
        steps.append(float(found[:, 1].diff(dim=1).square().mean()))
    assert steps[1] < 0.4 * steps[0]


def test_the_same_seed_spoils_the_same() -> None:
    first, again, other = (
        graded_responses(CODES, CodesOfAnother(), 2, seed=s)[0] for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="degrees must be 1 or more, got 0"):
        graded_responses(CODES, CodesOfAnother(), 0)
    with pytest.raises(ValueError, match="a degree of at most 4 are needed, got 6 and 5"):
        graded_responses(CODES, CodesOfAnother(), 5)
    with pytest.raises(ValueError, match="two sequences"):
        graded_responses(CODES[:1], CodesOfAnother(), 1)
    with pytest.raises(ValueError, match="size must not be negative"):
        Notches((-1.0,))
    with pytest.raises(ValueError, match="smooth 1 or more"):
        Notches((1.0,), 0)
