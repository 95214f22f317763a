"""Edits of a trace: hand-worked way-points, and the laws of composition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import driving.planner.trace
from driving.planner.trace import (
    COMMANDS,
    Delay,
    Edit,
    Edits,
    Replace,
    Scale,
    Shift,
    edit_of,
    trace_of,
    trace_steps,
)

NEUTRAL: list[Edit] = [Shift(0.0), Scale(1.0), Delay(0.0), Edits()]
COUNTS = st.integers(1, 5)


def straight(speed_mps: float, heading_rad: float, count: int) -> torch.Tensor:
    """A trace along a line at a steady speed."""
    seconds = 0.5 * (trace_steps(count) + 1).double()
    ahead = torch.tensor([math.cos(heading_rad), math.sin(heading_rad)], dtype=torch.float64)
    return speed_mps * seconds[:, None] * ahead


def arc(speed_mps: float, radius_m: float, count: int) -> torch.Tensor:
    """A trace along an arc to the left at a steady speed."""
    turned = speed_mps * 0.5 * (trace_steps(count) + 1).double() / radius_m
    return radius_m * torch.stack((turned.sin(), 1 - turned.cos()), -1)


def assert_close(found: torch.Tensor, expected: torch.Tensor, within_m: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected, atol=within_m, rtol=0)


def test_way_points_are_evenly_spaced_to_the_nearest_step():
    found = [(trace_steps(count) + 1).tolist() for count in range(1, 6)]
    assert found == [[8], [4, 8], [3, 5, 8], [2, 4, 6, 8], [2, 3, 5, 6, 8]]


@pytest.mark.parametrize("count", [0, 6])
def test_a_trace_has_one_to_five_way_points(count):
    with pytest.raises(ValueError, match=f"1 to 5 way-points, got {count}"):
        trace_steps(count)


def test_a_trace_is_where_a_plan_is():
    poses = torch.arange(48.0).reshape(2, 8, 3)
    assert trace_of(poses, 2).tolist() == [
        [[9.0, 10.0], [21.0, 22.0]],
        [[33.0, 34.0], [45.0, 46.0]],
    ]


def test_a_shift_comes_smoothly_and_to_the_left():
    found = Shift(1.0)(straight(10.0, 0.0, 4))  # way-points at 1, 2, 3 and 4 s
    assert_close(found, torch.tensor([[10, 0.5], [20, 1], [30, 1], [40, 1]], dtype=torch.float64))
    found = Shift(-2.0, after_s=4.0)(straight(10.0, 0.0, 2))  # half of the time: half of it
    assert_close(found, torch.tensor([[20, -1.0], [40, -2]], dtype=torch.float64))
    found = Shift(2.0, after_s=4.0)(straight(10.0, 0.0, 4))  # a quarter: 3/16 - 2/64
    assert_close(found[0], torch.tensor([10.0, 2 * 10 / 64], dtype=torch.float64))


def test_a_shift_is_normal_to_the_way():
    found = Shift(1.0, after_s=0.0)(straight(10.0, math.pi / 2, 2))
    assert_close(found, torch.tensor([[-1.0, 20], [-1, 40]], dtype=torch.float64))
    standing = torch.zeros(2, 2, dtype=torch.float64)
    found = Shift(1.0, after_s=0.0)(standing)
    assert_close(found, torch.tensor([[0.0, 1], [0, 1]], dtype=torch.float64))


def test_a_scale_goes_along_the_polyline():
    corner = torch.tensor([[10.0, 0.0], [10.0, 10.0]], dtype=torch.float64)
    assert_close(Scale(0.75)(corner), torch.tensor([[7.5, 0], [10, 5]], dtype=torch.float64))
    assert_close(Scale(1.5)(corner), torch.tensor([[10.0, 5], [10, 20]], dtype=torch.float64))
    assert_close(Scale(0.0)(corner), torch.zeros(2, 2, dtype=torch.float64))


def test_a_delay_is_the_place_of_before():
    corner = torch.tensor([[10.0, 0.0], [10.0, 10.0]], dtype=torch.float64)  # at 2 s and 4 s
    assert_close(Delay(1.0)(corner), torch.tensor([[5.0, 0], [10, 5]], dtype=torch.float64))
    assert_close(Delay(3.0)(corner), torch.tensor([[0.0, 0], [5, 0]], dtype=torch.float64))
    assert_close(Delay(-1.0)(corner), torch.tensor([[10.0, 5], [10, 15]], dtype=torch.float64))


def test_a_way_point_is_replaced_and_the_others_are_not():
    trace = straight(10.0, 0.3, 3)
    found = Replace(2, (1.5, -2.5))(trace)
    assert found[1].tolist() == [1.5, -2.5]
    assert torch.equal(found[[0, 2]], trace[[0, 2]])
    assert torch.equal(trace, straight(10.0, 0.3, 3))


@pytest.mark.parametrize("edit", NEUTRAL, ids=repr)
@pytest.mark.parametrize("count", [1, 4, 5])
def test_neutral_edits_change_no_bit(edit, count):
    trace = torch.randn(3, count, 2)
    assert torch.equal(edit(trace), trace)


SPEEDS, HEADINGS = st.floats(1.0, 30.0), st.floats(-3.0, 3.0)


@settings(max_examples=25)
@given(st.floats(-2, 2), st.floats(-2, 2), SPEEDS, COUNTS)
def test_shifts_add_up(first, second, speed, count):
    """A way that is not straight ahead is bent by a shift that comes smoothly."""
    trace = straight(speed, 0.0, count)
    both = Shift(second, after_s=0.0)(Shift(first, after_s=0.0)(trace))
    expected = Shift(first + second, after_s=0.0)(trace)
    slope = (abs(first) + abs(second)) / speed  # the first part leads from the start, aside
    assert_close(both, expected, within_m=1e-9 + 2 * slope * (abs(first) + abs(second)))


@settings(max_examples=25)
@given(st.floats(0.1, 3), st.floats(0.1, 3), SPEEDS, HEADINGS, COUNTS)
def test_scales_multiply(first, second, speed, heading, count):
    trace = straight(speed, heading, count)
    both = Edits((Scale(first), Scale(second)))(trace)
    assert_close(both, Scale(first * second)(trace), within_m=1e-6)


@settings(max_examples=25)
@given(st.floats(-1, 1), st.floats(-1, 1), SPEEDS, HEADINGS)
def test_delays_add_up_behind_the_first_way_point(first, second, speed, heading):
    """How long the ego waits at the start a trace cannot say: its first way-point is at 1 s."""
    trace = straight(speed, heading, 4)
    both = Edits((Delay(first), Delay(second)))(trace)
    assert_close(both[1:], Delay(first + second)(trace)[1:], within_m=1e-6)


@settings(max_examples=25)
@given(st.floats(-1.5, 1.5), st.floats(5.0, 12.0), st.integers(3, 5))
def test_in_gentle_bends_an_edit_is_nearly_undone(metres, speed, count):
    trace = arc(speed, 200.0, count)
    assert_close(Edits((Shift(metres), Shift(-metres)))(trace), trace, within_m=0.2)
    assert_close(Edits((Scale(0.8), Scale(1.25)))(trace), trace, within_m=0.5)


EDITS = [Shift(0.7), Shift(-0.7, after_s=0.0), Scale(0.6), Scale(1.4), Delay(0.7), Delay(-0.7),
         Replace(1, (3.0, 1.0))]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=repr)
def test_a_batch_gives_what_its_traces_give(edit):
    traces = torch.randn(2, 3, 4, 2, dtype=torch.float64).cumsum(-2)
    one_by_one = torch.stack([torch.stack([edit(trace) for trace in row]) for row in traces])
    assert_close(edit(traces), one_by_one)


@pytest.mark.parametrize("edit", EDITS[:-1], ids=repr)
@settings(max_examples=25)
@given(st.floats(-3, 3))
def test_turning_the_frame_turns_the_edited_trace(edit, angle):
    trace = arc(8.0, 40.0, 5)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    assert_close(edit(trace @ turn), edit(trace) @ turn)


def test_standing_still_stays_finite():
    for edit in EDITS:
        assert edit(torch.zeros(2, 5, 2)).isfinite().all()


def test_texts_mean_edits():
    assert edit_of(" Slower ") == Scale(0.8)
    assert edit_of("more room on the left") == Shift(-0.5)
    trace = arc(8.0, 40.0, 5)
    assert torch.equal(COMMANDS["as planned"](trace), trace)
    assert Shift(-0.5)(straight(8.0, 0.0, 5))[-1, 1] < 0
    with pytest.raises(ValueError, match="no edit is called 'fly'; known are as planned, slower"):
        edit_of("fly")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shift(1.0, after_s=-1.0), "after_s must not be negative, got -1"),
        (lambda: Scale(-0.5), "arc_length must not be negative, got -0.5"),
        (lambda: Replace(0, (1.0, 1.0)), "number of a way-point is at least 1, got 0"),
        (lambda: Replace(3, (1.0, 1.0))(torch.zeros(2, 2)), "no way-point 3 in a trace of 2"),
    ],
)
def test_edits_refuse_what_makes_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_edit_is_tested():
    kinds = {type(edit).__name__ for edit in [*EDITS, *NEUTRAL]}
    there = vars(driving.planner.trace).values()
    made = {v.__name__ for v in there if isinstance(v, type) and issubclass(v, Edit)}
    assert made - {"Edit"} == kinds
