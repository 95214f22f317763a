"""A path by its arc length: points at equal distances, positions on it, positions beside it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from driving.simulation.frames import unwrapped, wrapped


@dataclass(frozen=True)
class Path:
    """A line to drive along, straight on before its beginning and beyond its end.

    Attributes:
        points: At equal distances; the first is at arc length 0.
        heading_rad: Direction at every point, without jumps.
        curvature_per_m: At every point; positive turns left.
        spacing_m: Distance from point to point.
    """

    points: Float[Tensor, "*batch place 2"]
    heading_rad: Float[Tensor, "*batch place"]
    curvature_per_m: Float[Tensor, "*batch place"]
    spacing_m: float

    @property
    def along_m(self) -> Float[Tensor, " place"]:
        """Arc length of every point."""
        count = self.points.shape[-2]
        return torch.arange(count, device=self.points.device) * self.spacing_m

    def at(self, along_m: Float[Tensor, "*batch many"]) -> Float[Tensor, "*batch many 3"]:
        """Pose on the path at arc lengths; straight on beyond its ends."""
        position = along_m / self.spacing_m
        last = self.points.shape[-2] - 1
        index = position.detach().floor().clamp(0, last - 1).long()
        share = position - index
        start, end = _taken(self.points, index), _taken(self.points, index + 1)
        point = start + share[..., None] * (end - start)
        turn = share.clamp(0, 1)
        first, second = self.heading_rad.gather(-1, index), self.heading_rad.gather(-1, index + 1)
        heading = first + turn * (second - first)
        return torch.cat((point, heading[..., None]), -1)

    def curvature_at(self, along_m: Float[Tensor, "*batch many"]) -> Float[Tensor, "*batch many"]:
        """Curvature at arc lengths, that of the nearest point."""
        last = self.points.shape[-2] - 1
        return self.curvature_per_m.gather(-1, self._nearest_index(along_m, last))

    def _nearest_index(self, along_m: Tensor, last: int) -> Tensor:
        return (along_m / self.spacing_m).round().clamp(0, last).long()

    def beside(self, points: Float[Tensor, "*batch many 2"]) -> "Beside":
        """Where points lie beside the path: by the tangent at its nearest point."""
        nearest = torch.cdist(points, self.points).argmin(-1)
        last = self.points.shape[-2] - 1
        heading = self.heading_rad.gather(-1, nearest)
        offset = points - _taken(self.points, nearest)
        cosine, sine = heading.cos(), heading.sin()
        ahead = cosine * offset[..., 0] + sine * offset[..., 1]
        left = cosine * offset[..., 1] - sine * offset[..., 0]
        # the tangent leaves a bend: follow its curve, except beyond the ends, where it is straight
        curvature = self.curvature_per_m.gather(-1, nearest)
        inner = (nearest > 0) & (nearest < last)
        left = left - torch.where(inner, curvature * ahead.square() / 2, 0.0)
        along = nearest * self.spacing_m + ahead
        return Beside(along, left, heading + torch.where(inner, curvature * ahead, 0.0))


@dataclass(frozen=True)
class Beside:
    """Positions in the coordinates of a path.

    Attributes:
        along_m: Arc length of the foot.
        left_m: Distance from the path, positive on its left.
        heading_rad: Of the path at the foot.
    """

    along_m: Float[Tensor, "*batch many"]
    left_m: Float[Tensor, "*batch many"]
    heading_rad: Float[Tensor, "*batch many"]


def _taken(values: Float[Tensor, "*batch place 2"], index: Tensor) -> Tensor:
    return values.gather(-2, index[..., None].expand(*index.shape, 2))


def path_through(
    points: Float[Tensor, "*batch vertex 2"],
    mask: Bool[Tensor, "*batch vertex"],
    *,
    start_m: Float[Tensor, "*#batch"] | float = 0.0,
    count: int = 80,
    spacing_m: float = 2.0,
    first_heading_rad: Float[Tensor, "*batch"] | None = None,
) -> Path:
    """A path along vertices, resampled to equal distances and continued straight at its end.

    Args:
        points: Vertices in order.
        mask: Which count; those that do not are skipped, and repeated vertices do no harm.
        start_m: Arc length along the vertices at which the path begins.
        count: Points of the path.
        spacing_m: Their distance.
        first_heading_rad: Direction of a path that has no length, where everybody stands still.
    """
    points = _filled(points, mask)
    steps = points.diff(dim=-2)
    lengths = steps.norm(dim=-1)
    ends = torch.cat((torch.zeros_like(lengths[..., :1]), lengths.cumsum(-1)), -1)
    wanted = torch.arange(count, device=points.device, dtype=points.dtype) * spacing_m
    start = torch.as_tensor(start_m, device=points.device, dtype=points.dtype)
    wanted = (wanted + start[..., None]).expand(*points.shape[:-2], count).contiguous()
    total = ends[..., -1:]
    inside = torch.minimum(wanted.clamp_min(0), total)
    segment = torch.searchsorted(ends.contiguous(), inside, right=True) - 1
    segment = _last_moving(segment.clamp(0, lengths.shape[-1] - 1), lengths)
    share = (inside - ends.gather(-1, segment)) / lengths.gather(-1, segment).clamp_min(1e-6)
    direction = _taken(steps, segment)
    found = _taken(points, segment) + share.clamp(0, 1)[..., None] * direction
    straight = _direction(steps, lengths, first_heading_rad)
    beyond = (wanted - inside)[..., None]
    ahead = torch.where(wanted[..., None] < 0, straight[0], straight[1])
    return path_of(found + beyond * ahead, spacing_m)


def path_of(points: Float[Tensor, "*batch place 2"], spacing_m: float) -> Path:
    """A path of points that are already at equal distances."""
    steps = points.diff(dim=-2)
    directions = unwrapped(torch.atan2(steps[..., 1], steps[..., 0]))
    middle = (directions[..., 1:] + directions[..., :-1]) / 2
    heading = torch.cat((directions[..., :1], middle, directions[..., -1:]), -1)
    bends = directions.diff(dim=-1) / spacing_m
    curvature = torch.cat((bends[..., :1], bends, bends[..., -1:]), -1)
    return Path(points, heading, curvature, spacing_m)


def _filled(
    points: Float[Tensor, "*batch vertex 2"], mask: Bool[Tensor, "*batch vertex"]
) -> Float[Tensor, "*batch vertex 2"]:
    """Masked vertices on the last one before them, or on the first of all."""
    index = torch.arange(mask.shape[-1], device=mask.device).expand(mask.shape)
    latest = torch.where(mask, index, -1).cummax(-1).values
    first = mask.long().argmax(-1, keepdim=True)
    return _taken(points, torch.where(latest < 0, first, latest))


def _last_moving(segment: Tensor, lengths: Float[Tensor, "*batch piece"]) -> Tensor:
    """The segment itself, or the last one with a length before it."""
    index = torch.arange(lengths.shape[-1], device=lengths.device).expand(lengths.shape)
    moving = torch.where(lengths > 1e-6, index, 0).cummax(-1).values
    return moving.gather(-1, segment)


def _direction(
    steps: Float[Tensor, "*batch piece 2"],
    lengths: Float[Tensor, "*batch piece"],
    first_heading_rad: Float[Tensor, "*batch"] | None,
) -> tuple[Tensor, Tensor]:
    """Unit vectors in which the path goes on before its first and after its last vertex."""
    if first_heading_rad is None:
        first_heading_rad = torch.zeros_like(lengths[..., 0])
    still = torch.stack((first_heading_rad.cos(), first_heading_rad.sin()), -1)[..., None, :]
    there = lengths > 1e-3
    count = lengths.shape[-1]
    index = torch.arange(count, device=lengths.device).expand(lengths.shape)
    first = there.long().argmax(-1, keepdim=True)
    last = torch.where(there, index, 0).amax(-1, keepdim=True)
    none = ~there.any(-1)[..., None, None]

    def unit(chosen: Tensor) -> Tensor:
        step = _taken(steps, chosen)
        return torch.where(none, still, step / step.norm(dim=-1, keepdim=True).clamp_min(1e-6))

    return unit(first), unit(last)


def heading_error(
    heading_rad: Float[Tensor, "*batch many"], beside: Beside
) -> Float[Tensor, "*batch many"]:
    """Headings relative to the path."""
    return wrapped(heading_rad - beside.heading_rad)
