"""A trace: one to five way-points of the ego's path, and the edits that can be made to it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from driving.planner.planner import PLAN_STEP_S, PLAN_STEPS

MOST_POINTS = 5
SHIFTED_AFTER_S = 2.0


def trace_steps(count: int) -> Int[Tensor, " point"]:
    """The steps of a plan at which the way-points of a trace stand, counted from 0.

    Way-points are evenly spaced over the four seconds, to the nearest step; the last one is the
    end of the plan. The place of the ego at present is where every trace begins, and no way-point.

    Args:
        count: Way-points, 1 to 5.

    Raises:
        ValueError: If there are fewer or more.

    Example:
        >>> [trace_steps(count).tolist() for count in (1, 3, 4)]
        [[7], [2, 4, 7], [1, 3, 5, 7]]
    """
    if not 1 <= count <= MOST_POINTS:
        raise ValueError(f"a trace has 1 to {MOST_POINTS} way-points, got {count}.")
    number = torch.arange(1, count + 1)
    return (2 * PLAN_STEPS * number + count) // (2 * count) - 1


def trace_of(
    poses: Float[Tensor, "*batch time pose"], count: int = MOST_POINTS
) -> Float[Tensor, "*batch point 2"]:
    """The trace of plans: x and y at the steps of its way-points.

    Args:
        poses: Plans, in the frame of the ego at present.
        count: Way-points, 1 to 5.

    Raises:
        ValueError: If there are fewer or more.
    """
    return poses[..., trace_steps(count).to(poses.device), :2]


class Edit(ABC):
    """SLOT: a change of a trace.

    Laws, held by `tests/driving/test_trace.py`: the neutral setting changes no bit; a batch gives
    what its traces give; turning the trace turns the edited one; along a straight line two edits
    of a kind are one with the sum (of metres, of seconds) or the product (of factors). In gentle
    bends it is so to within decimetres (a polyline cuts the corners between its way-points), and
    for delays behind the first way-point only: how long the ego waits a trace cannot say.
    """

    @abstractmethod
    def __call__(self, points: Float[Tensor, "*batch point 2"]) -> Float[Tensor, "*batch point 2"]:
        """The edited trace, with as many way-points."""


@dataclass(frozen=True)
class Shift(Edit):
    """To the left of the way it goes; a vehicle gets there by and by.

    Attributes:
        lateral_m: Metres to the left; negative to the right.
        after_s: Seconds until it is all there; before, a smooth share of it (zero slope at both
            ends). 0 shifts all way-points alike.

    Raises:
        ValueError: If `after_s` is negative.
    """

    lateral_m: float
    after_s: float = SHIFTED_AFTER_S

    def __post_init__(self) -> None:
        """Refuse a time before the present."""
        if self.after_s < 0:
            raise ValueError(f"after_s must not be negative, got {self.after_s:g}.")

    def __call__(self, points: Float[Tensor, "*batch point 2"]) -> Float[Tensor, "*batch point 2"]:
        """The way-points moved along the normal of the polyline; standing still, of the ego."""
        if not self.lateral_m:
            return points
        seconds = _seconds(points)[1:]
        share = torch.ones_like(seconds)
        if self.after_s:
            part = (seconds / self.after_s).clamp_max(1.0)
            share = part.square() * (3 - 2 * part)
        left = torch.stack((-_directions(points)[..., 1], _directions(points)[..., 0]), -1)
        return points + self.lateral_m * share[:, None] * left


@dataclass(frozen=True)
class Scale(Edit):
    """The same way, more or less of it: every distance along the polyline times a factor.

    Attributes:
        arc_length: The factor. Beyond the last way-point the way goes straight on.

    Raises:
        ValueError: If the factor is negative.
    """

    arc_length: float

    def __post_init__(self) -> None:
        """Refuse to drive backwards."""
        if self.arc_length < 0:
            raise ValueError(f"arc_length must not be negative, got {self.arc_length:g}.")

    def __call__(self, points: Float[Tensor, "*batch point 2"]) -> Float[Tensor, "*batch point 2"]:
        """The way-points at the scaled distances."""
        if self.arc_length == 1:
            return points
        line = _with_origin(points)
        lengths_m = line.diff(dim=-2).norm(dim=-1)
        along_m = torch.cat((torch.zeros_like(lengths_m[..., :1]), lengths_m.cumsum(-1)), -1)
        return _at(line, along_m, self.arc_length * along_m[..., 1:])


@dataclass(frozen=True)
class Delay(Edit):
    """The same way, some time later: at `t` the place of `t - seconds`, before that at the start.

    Attributes:
        seconds: How much later; negative is earlier. Past the end it goes on as in the last part.
    """

    seconds: float

    def __call__(self, points: Float[Tensor, "*batch point 2"]) -> Float[Tensor, "*batch point 2"]:
        """The way-points of the trace as it was before or will be."""
        if not self.seconds:
            return points
        line, knots = _with_origin(points), _seconds(points)
        wanted = (knots[1:] - self.seconds).clamp_min(0.0)
        shape = points.shape[:-1]
        return _at(line, knots.expand(*shape[:-1], -1), wanted.expand(shape))


@dataclass(frozen=True)
class Replace(Edit):
    """One way-point put somewhere else.

    Attributes:
        number: Which, from 1; the start is 0 and stays.
        point: x and y in metres, in the frame of the ego.

    Raises:
        ValueError: If the number is below 1, or (when called) above the number of way-points.
    """

    number: int
    point: tuple[float, float]

    def __post_init__(self) -> None:
        """Refuse to move the start."""
        if self.number < 1:
            raise ValueError(f"the number of a way-point is at least 1, got {self.number}.")

    def __call__(self, points: Float[Tensor, "*batch point 2"]) -> Float[Tensor, "*batch point 2"]:
        """The trace with the other way-point."""
        if self.number > points.shape[-2]:
            raise ValueError(
                f"there is no way-point {self.number} in a trace of {points.shape[-2]}."
            )
        edited = points.clone()
        edited[..., self.number - 1, :] = points.new_tensor(self.point)
        return edited


@dataclass(frozen=True)
class Edits(Edit):
    """Several edits, one after the other; none change nothing.

    Attributes:
        edits: In order.
    """

    edits: tuple[Edit, ...] = ()

    def __call__(self, points: Float[Tensor, "*batch point 2"]) -> Float[Tensor, "*batch point 2"]:
        """The trace after the last of them."""
        for edit in self.edits:
            points = edit(points)
        return points


COMMANDS: Mapping[str, Edit] = MappingProxyType(
    {
        "as planned": Edits(),
        "slower": Scale(0.8),
        "faster": Scale(1.25),
        "more room on the left": Shift(-0.5),
        "more room on the right": Shift(0.5),
        "wait a moment": Delay(1.0),
    }
)
"""What is said, and the edit that it means."""


def edit_of(command: str) -> Edit:
    """The edit that a text asks for; capitals and spaces around it do not count.

    Raises:
        ValueError: If it asks for nothing that is known.
    """
    found = COMMANDS.get(command.strip().lower())
    if found is None:
        raise ValueError(f"no edit is called {command!r}; known are {', '.join(COMMANDS)}.")
    return found


def _with_origin(points: Float[Tensor, "*batch point 2"]) -> Float[Tensor, "*batch knot 2"]:
    return torch.cat((torch.zeros_like(points[..., :1, :]), points), -2)


def _seconds(points: Float[Tensor, "*batch point 2"]) -> Float[Tensor, " knot"]:
    """When the start and the way-points are reached."""
    steps = trace_steps(points.shape[-2]).to(points.device)
    return PLAN_STEP_S * torch.cat((steps.new_zeros(1), steps + 1)).to(points.dtype)


def _directions(points: Float[Tensor, "*batch point 2"]) -> Float[Tensor, "*batch point 2"]:
    """Unit vectors from the way-point before to the one after; straight ahead where it stands."""
    line = _with_origin(points)
    after = torch.cat((line[..., 2:, :], line[..., -1:, :]), -2)
    ahead = after - line[..., :-1, :]
    length_m = ahead.norm(dim=-1, keepdim=True)
    straight = torch.zeros_like(ahead)
    straight[..., 0] = 1.0
    return torch.where(length_m > 0.1, ahead / length_m.clamp_min(1e-9), straight)


def _at(
    line: Float[Tensor, "*batch knot 2"],
    knots: Float[Tensor, "*batch knot"],
    wanted: Float[Tensor, "*batch point"],
) -> Float[Tensor, "*batch point 2"]:
    """Points of a polyline, linear between its knots and beyond the last two."""
    right = torch.searchsorted(knots.contiguous(), wanted.contiguous(), right=True)
    right = right.clamp(1, knots.shape[-1] - 1)
    start, end = knots.gather(-1, right - 1), knots.gather(-1, right)
    share = (wanted - start) / (end - start).clamp_min(1e-6)
    index = right[..., None]
    first, last = line.take_along_dim(index - 1, -2), line.take_along_dim(index, -2)
    return first + share[..., None] * (last - first)
