"""Oriented boxes seen from above: corners, overlap, signed clearance."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def box_corners(
    poses: Float[Tensor, "*box 3"], sizes_m: Float[Tensor, "*#box 2"]
) -> Float[Tensor, "*box 4 2"]:
    """Corners of boxes: front left, rear left, rear right, front right.

    Args:
        poses: x and y of the centre in metres and heading in radians.
        sizes_m: Length and width.

    Example:
        >>> box_corners(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([4.0, 2.0]))[0]
        tensor([3., 1.])
    """
    x, y, heading = poses.unbind(-1)
    half_length, half_width = (0.5 * sizes_m).unbind(-1)
    cos, sin = heading.cos(), heading.sin()
    ahead_x, ahead_y = half_length * cos, half_length * sin
    left_x, left_y = half_width * sin, half_width * cos
    front_x, front_y, rear_x, rear_y = x + ahead_x, y + ahead_y, x - ahead_x, y - ahead_y
    corners = [
        front_x - left_x, front_y + left_y, rear_x - left_x, rear_y + left_y,
        rear_x + left_x, rear_y - left_y, front_x + left_x, front_y - left_y,
    ]  # fmt: skip
    return torch.stack(corners, -1).unflatten(-1, (4, 2))


def separation(
    first: Float[Tensor, "*box 3"],
    first_sizes_m: Float[Tensor, "*#box 2"],
    second: Float[Tensor, "*box 3"],
    second_sizes_m: Float[Tensor, "*#box 2"],
) -> Float[Tensor, "*box"]:
    """The largest gap between two boxes along the directions of their sides, in metres.

    Positive exactly if the boxes are apart (separating axes); it is then at most the distance.
    Otherwise its negative is how far one would have to move to be free: the depth of penetration.
    """
    own = torch.stack(torch.broadcast_tensors(0.5 * first_sizes_m, 0.5 * second_sizes_m))
    length, width = own.flip(0).unbind(-1)
    turn = second[..., 2] - first[..., 2]
    cos, sin = turn.cos().abs(), turn.sin().abs()
    frames = torch.stack([first[..., 2], second[..., 2]])
    x, y = _in_frame(second[..., :2] - first[..., :2], frames)
    ahead = x.abs() - own[..., 0] - length * cos - width * sin
    aside = y.abs() - own[..., 1] - length * sin - width * cos
    return torch.maximum(ahead, aside).amax(0)


def boxes_overlap(
    first: Float[Tensor, "*box 3"],
    first_sizes_m: Float[Tensor, "*#box 2"],
    second: Float[Tensor, "*box 3"],
    second_sizes_m: Float[Tensor, "*#box 2"],
) -> Bool[Tensor, "*box"]:
    """Whether two boxes share a point; boxes that touch do."""
    return separation(first, first_sizes_m, second, second_sizes_m) <= 0


def clearance(
    first: Float[Tensor, "*box 3"],
    first_sizes_m: Float[Tensor, "*#box 2"],
    second: Float[Tensor, "*box 3"],
    second_sizes_m: Float[Tensor, "*#box 2"],
) -> Float[Tensor, "*box"]:
    """Distance between two boxes in metres; overlapping ones have minus the depth of penetration.

    Two boxes that are apart are nearest at a corner of one of them, so all eight are tried.

    Example:
        >>> a, b = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([7.0, 6.0, 0.0])
        >>> clearance(a, torch.tensor([4.0, 2.0]), b, torch.tensor([4.0, 2.0]))
        tensor(5.)
    """
    apart = separation(first, first_sizes_m, second, second_sizes_m)
    distances = []
    for corners, frame, size in (
        (box_corners(second, second_sizes_m), first, first_sizes_m),
        (box_corners(first, first_sizes_m), second, second_sizes_m),
    ):
        x, y = _in_frame(corners - frame[..., None, :2], frame[..., None, 2])
        ahead = (x.abs() - 0.5 * size[..., 0:1]).clamp_min(0)
        aside = (y.abs() - 0.5 * size[..., 1:2]).clamp_min(0)
        distances.append(torch.hypot(ahead, aside).amin(-1))
    return torch.where(apart > 0, torch.minimum(*distances), apart)


def segment_meets_box(
    starts: Float[Tensor, "*box 2"],
    ends: Float[Tensor, "*box 2"],
    poses: Float[Tensor, "*box 3"],
    sizes_m: Float[Tensor, "*box 2"],
) -> Bool[Tensor, "*box"]:
    """Whether a straight segment shares a point with a box."""
    both = torch.stack([starts, ends]) - poses[..., :2]
    (x0, x1), (y0, y1) = _in_frame(both, poses[..., 2])
    middle_x, middle_y, half_x, half_y = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
    ahead, aside = (0.5 * sizes_m).unbind(-1)
    reach_x, reach_y = half_x.abs(), half_y.abs()
    return (
        (middle_x.abs() <= ahead + reach_x)
        & (middle_y.abs() <= aside + reach_y)
        & ((middle_x * half_y - middle_y * half_x).abs() <= ahead * reach_y + aside * reach_x)
    )


def _in_frame(
    offsets: Float[Tensor, "*#box 2"], heading: Float[Tensor, "*#box"]
) -> tuple[Tensor, Tensor]:
    """Ahead and to the left, seen by somebody with this heading."""
    cos, sin = heading.cos(), heading.sin()
    x, y = offsets[..., 0], offsets[..., 1]
    return x * cos + y * sin, y * cos - x * sin
