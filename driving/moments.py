"""Moments of logs held in memory, to plan from again and again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from data_prep.artifact import Artifact
from data_prep.errors import InputError
from data_prep.scenes.tables import SCENES
from driving.evaluation.drive import HISTORY_S, LOOK_FURTHER_S, SCORED_S, ride_size
from driving.evaluation.judge import RIDE_STEPS, reference_progress
from driving.metrics.drivable_area import DrivableArea
from driving.planner.pdm import Pdm
from driving.planner.planner import PlannerInput
from driving.planner_input import planner_input
from driving.scene_store import SceneStore
from driving.style.tables import SAMPLES, STYLES
from driving.world import World


@dataclass(frozen=True)
class Moments:
    """Moments of logs to plan from, held in memory.

    Attributes:
        world: With four seconds of future and what scores look further at.
        scene: What the planner sees of it.
        splits: Of every moment.
        groups: Type of scene of every moment.
        gated_progress_m: What progress is a share of: PDM's over four seconds.
        area: Where one may drive.
        simulated: Whether all of it was made by a traffic simulator.
    """

    world: World
    scene: PlannerInput
    splits: list[str]
    groups: list[str]
    gated_progress_m: Float[Tensor, " batch"]
    area: DrivableArea
    simulated: bool = False


@torch.inference_mode()
def read_moments(scenes: Artifact, styles: Artifact, splits: Sequence[str], most: int) -> Moments:
    """Moments of some splits, in the order of their samples.

    Args:
        scenes: An artifact `scenes`.
        styles: An artifact `styles` of them.
        splits: Which splits.
        most: Moments of each split, evenly spread over its samples; those whose log does not go on
            for four seconds are left out of them.

    Raises:
        InputError: If splits share a recording, or one has no such moment.
    """
    samples = styles.table(SAMPLES)
    _check_recordings(scenes, samples, splits)
    chosen = pl.concat([_spread(samples.filter(pl.col("split") == name), most) for name in splits])
    store = SceneStore.of(scenes, size=ride_size(SCORED_S))
    chosen = chosen.sort("sample_id")
    if chosen.is_empty():
        raise InputError(f"{styles.folder} has no sample of the split {splits[0]}.")
    world = store.world(chosen, history_s=HISTORY_S, future_s=SCORED_S + LOOK_FURTHER_S)
    whole = world.ego_mask[:, world.now : world.now + RIDE_STEPS + 1].all(1)
    world, chosen = world.rows(whole.nonzero()[:, 0]), chosen.filter(pl.Series(whole.numpy()))
    for name in splits:
        if name not in chosen["split"]:
            raise InputError(
                f"{styles.folder} has no sample of the split {name} whose log goes on for "
                f"{SCORED_S:g} s; make styles of more scenes."
            )
    scene, area = planner_input(world, world.now), store.drivable_area()
    kinds = chosen.join(styles.table(STYLES), on="sample_id", how="left", maintain_order="left")
    return Moments(
        world=world,
        scene=scene,
        splits=chosen["split"].to_list(),
        groups=kinds["scenario_type"].to_list(),
        gated_progress_m=reference_progress(world, scene, area, Pdm())[0],
        area=area,
        simulated=bool(scenes.table(SCENES)["simulated"].all()),
    )


def _spread(samples: pl.DataFrame, most: int) -> pl.DataFrame:
    if samples.height <= most:
        return samples
    return samples[np.linspace(0, samples.height - 1, most).round().astype(int).tolist()]


def _check_recordings(scenes: Artifact, samples: pl.DataFrame, splits: Sequence[str]) -> None:
    keys = scenes.table(SCENES).select("scene_id", "source", "recording_key")
    joined = samples.filter(pl.col("split").is_in(list(splits))).join(keys, on="scene_id")
    found = joined.group_by("source", "recording_key").agg(pl.col("split").n_unique())
    shared = found.filter(pl.col("split") > 1)["recording_key"].sort()
    if len(shared):
        raise InputError(
            f"The recording {shared[0]} is in several of the splits {', '.join(splits)}."
        )
