"""Samples as rows a planner learns from: inputs and futures of many of them, held in memory."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_prep.errors import InputError
from driving.planner.planner import PLAN_STEP_S, PLAN_STEPS, PlannerInput
from driving.planner_input import planner_input
from driving.scene_store import SceneStore
from driving.world import World

WORLDS_AT_ONCE = 256
HISTORY_S = 1.0


@dataclass(frozen=True)
class PlanningRows:
    """What planners see of some samples, and what was driven.

    Attributes:
        sample_ids: Rows of the samples table.
        scenes: What the planner sees.
        future: Logged x, y, heading at 0.5, 1.0, ..., 4.0 s from now; 0 where the mask is false.
        future_mask: Which of them were logged.
    """

    sample_ids: Int[np.ndarray, " sample"]
    scenes: PlannerInput
    future: Float[Tensor, "sample time 3"]
    future_mask: Bool[Tensor, "sample time"]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.sample_ids)


def read_planning_rows(scenes: Path, samples: pl.DataFrame) -> PlanningRows:
    """The rows of some samples, made from their worlds a few hundred at a time.

    Args:
        scenes: An artifact `scenes`.
        samples: Rows of the samples table, at least one.

    Raises:
        InputError: If there is no sample.
        ArtifactMismatch: If the artifact is damaged or of another kind.
    """
    if not samples.height:
        raise InputError(f"There is no sample to read from {scenes}; make styles of more scenes.")
    store = SceneStore.read(scenes)
    parts, futures, masks = [], [], []
    for start in range(0, samples.height, WORLDS_AT_ONCE):
        chosen = samples[start : start + WORLDS_AT_ONCE]
        world = store.world(chosen, history_s=HISTORY_S, future_s=PLAN_STEPS * PLAN_STEP_S)
        parts.append(planner_input(world, world.now))
        future, mask = logged_future(world)
        futures.append(future)
        masks.append(mask)
    ids = samples["sample_id"].to_numpy().astype(np.int64)
    return PlanningRows(ids, joined_scenes(parts), torch.cat(futures), torch.cat(masks))


def logged_future(
    world: World,
) -> tuple[Float[Tensor, "batch time 3"], Bool[Tensor, "batch time"]]:
    """The ego's poses at 0.5, 1.0, ..., 4.0 s after the present, and which of them were logged.

    The world frame is the ego's present pose, so nothing is turned; headings are made continuous
    from the present on.
    """
    stride = round(PLAN_STEP_S / world.step_s)
    steps = world.now + stride * torch.arange(1, PLAN_STEPS + 1)
    inside = steps < world.ego_poses.shape[1]
    places = steps.clamp_max(world.ego_poses.shape[1] - 1).to(world.ego_poses.device)
    mask = world.ego_mask[:, places] & inside.to(places.device)
    poses = world.ego_poses[:, places].clone()
    poses[..., 2] = _continuous(poses[..., 2], mask)
    return poses * mask.unsqueeze(-1), mask


def joined_scenes(parts: list[PlannerInput]) -> PlannerInput:
    """Many inputs as one; where one has more agents, lines or points, the others are padded."""
    joined = {}
    for field in fields(PlannerInput):
        values = [getattr(part, field.name) for part in parts]
        sizes = [max(size) for size in zip(*(value.shape[1:] for value in values), strict=True)]
        whole = values[0].new_zeros(sum(map(len, values)), *sizes)
        start = 0
        for value in values:
            place = (slice(start, start + len(value)), *(slice(size) for size in value.shape[1:]))
            whole[place] = value
            start += len(value)
        joined[field.name] = whole
    return PlannerInput(**joined)


def _continuous(
    heading_rad: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time"]:
    """Headings without jumps, beginning near 0; steps without a heading are bridged."""
    last = torch.zeros_like(heading_rad[:, 0])
    found = []
    for value, known in zip(heading_rad.unbind(1), mask.unbind(1), strict=True):
        turn = torch.remainder(value - last + torch.pi, 2 * torch.pi) - torch.pi
        last = torch.where(known, last + turn, last)
        found.append(last)
    return torch.stack(found, 1)
