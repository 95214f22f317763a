"""The anchors of a planner: typical futures by k-means, and the scales they are noised in."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data_prep.errors import InputError
from driving.planner.planner import PLAN_STEP_S, PLAN_STEPS

MOST_FUTURES = 20_000
LEAST_SCALE_M, LEAST_UNIT_M, LEAST_UNIT_RAD = 0.5, 0.1, 0.02


@dataclass(frozen=True)
class Anchors:
    """Typical futures and the units of what a planner says about them.

    Attributes:
        poses: x, y, heading; ordered by how far they lead, then from right to left.
        centre_m: Middle of all futures at every step.
        scale_m: Half of their range at every step; noise is added in this unit.
        unit: How far futures lie from their nearest anchor; offsets have this unit (metres,
            metres, radians).
    """

    poses: Float[Tensor, "candidate time 3"]
    centre_m: Float[Tensor, "time 2"]
    scale_m: Float[Tensor, "time 2"]
    unit: Float[Tensor, "time 3"]


def straight_anchors(count: int, *, fastest_mps: float = 15.0) -> Anchors:
    """Straight ahead at equally many speeds: what a planner has before it saw any future."""
    seconds = PLAN_STEP_S * torch.arange(1, PLAN_STEPS + 1)
    speeds = torch.linspace(0.0, fastest_mps, count)
    poses = torch.zeros(count, PLAN_STEPS, 3)
    poses[..., 0] = speeds[:, None] * seconds
    centre = torch.stack([0.5 * fastest_mps * seconds, torch.zeros_like(seconds)], -1)
    scale = torch.stack([0.5 * fastest_mps * seconds, seconds], -1).clamp_min(LEAST_SCALE_M)
    unit = torch.cat([scale / max(1, count - 1), torch.full((PLAN_STEPS, 1), 0.1)], -1)
    return Anchors(poses, centre, scale, unit)


def fitted_anchors(
    futures: Float[Tensor, "sample time 3"], mask: Bool[Tensor, "sample time"], count: int
) -> Anchors:
    """Anchors by k-means on x and y of all whole futures; the heading is the mean of a cluster's.

    Scales are fitted per step: half a second ahead all futures are within metres, so noise in the
    unit of the fourth second would bury them.

    Args:
        futures: x, y, heading; headings are continuous.
        mask: Which steps are there; futures that lack a step are left out.
        count: Number of anchors.

    Raises:
        InputError: If there are fewer distinct whole futures than anchors.
    """
    from sklearn.cluster import KMeans

    whole = futures[mask.all(-1)].double().numpy()
    if len(whole) > MOST_FUTURES:
        whole = whole[np.linspace(0, len(whole) - 1, MOST_FUTURES).round().astype(int)]
    flat = whole[..., :2].reshape(len(whole), 2 * PLAN_STEPS)
    distinct = len(np.unique(flat, axis=0))
    if distinct < count:
        raise InputError(
            f"{count} anchors need as many different training futures of "
            f"{PLAN_STEP_S * PLAN_STEPS:g} s, there are {distinct}; give more scenes or lower "
            "model.planner.anchors."
        )
    labels = KMeans(count, n_init=4, random_state=0).fit(flat).labels_  # pyright: ignore[reportArgumentType]
    poses = np.stack([whole[labels == number].mean(0) for number in range(count)])
    order = np.lexsort((poses[:, -1, 1], poses[:, -1, 0]))
    residuals = whole - poses[labels]
    low, high = whole[..., :2].min(0), whole[..., :2].max(0)
    scale = np.maximum((high - low) / 2, LEAST_SCALE_M)
    unit = np.sqrt((residuals**2).mean(0))
    unit[:, :2] = np.maximum(unit[:, :2], LEAST_UNIT_M)
    unit[:, 2] = np.maximum(unit[:, 2], LEAST_UNIT_RAD)
    return Anchors(
        *(
            torch.from_numpy(np.ascontiguousarray(part)).float()
            for part in (poses[order], (low + high) / 2, scale, unit)
        )
    )


def signal_shares(
    steps: int = 1000, first_beta: float = 1e-4, last_beta: float = 0.02
) -> Float[Tensor, " step"]:
    """Product of `1 - beta` up to every step of a scaled-linear schedule of noise.

    Source:
        Ho et al., 2020, arXiv:2006.11239, with the schedule of Rombach et al., 2021,
        arXiv:2112.10752: square roots of beta rise linearly.

    Example:
        >>> [round(float(share), 4) for share in signal_shares()[[0, 49, 999]]]
        [0.9999, 0.9911, 0.0007]
    """
    roots = torch.linspace(math.sqrt(first_beta), math.sqrt(last_beta), steps, dtype=torch.float64)
    return torch.cumprod(1 - roots**2, 0).float()
