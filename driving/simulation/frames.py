"""Angles and changes of frame, for poses of any leading dimensions."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def wrapped(angle_rad: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The same angle within [-pi, pi)."""
    return torch.remainder(angle_rad + math.pi, 2 * math.pi) - math.pi


def unwrapped(headings_rad: Float[Tensor, "*batch step"]) -> Float[Tensor, "*batch step"]:
    """Headings without jumps of a full turn; the first one stays as it is."""
    turns = wrapped(headings_rad.diff(dim=-1))
    return torch.cat((headings_rad[..., :1], headings_rad[..., :1] + turns.cumsum(-1)), -1)


def to_frame(
    poses: Float[Tensor, "*batch step 3"], frame: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch step 3"]:
    """Poses as seen from a frame that is itself given in theirs."""
    offset = poses[..., :2] - frame[..., None, :2]
    cosine, sine = frame[..., 2:].cos(), frame[..., 2:].sin()
    x = cosine * offset[..., 0] + sine * offset[..., 1]
    y = cosine * offset[..., 1] - sine * offset[..., 0]
    return torch.stack((x, y, poses[..., 2] - frame[..., 2:]), -1)


def from_frame(
    poses: Float[Tensor, "*batch step 3"], frame: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch step 3"]:
    """Poses of a frame in the frame that it is given in; the inverse of `to_frame`."""
    cosine, sine = frame[..., 2:].cos(), frame[..., 2:].sin()
    x = cosine * poses[..., 0] - sine * poses[..., 1] + frame[..., 0:1]
    y = sine * poses[..., 0] + cosine * poses[..., 1] + frame[..., 1:2]
    return torch.stack((x, y, poses[..., 2] + frame[..., 2:]), -1)


def ahead_by(
    poses: Float[Tensor, "*batch 3"], distance_m: Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch 3"]:
    """Poses moved along their own heading (back where the distance is negative)."""
    x = poses[..., 0] + distance_m * poses[..., 2].cos()
    y = poses[..., 1] + distance_m * poses[..., 2].sin()
    return torch.stack((x, y, poses[..., 2]), -1)
