"""All windows of an artifact `scenes`: their measures and where they take place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float

from data_prep.errors import InputError
from data_prep.progress import track
from driving.scene_store import SceneStore
from driving.style.describe import Neighbours
from driving.style.features import measure
from driving.style.measures import PLACE
from driving.style.scale import Context
from driving.style.scenario import Surroundings, scenario_type
from driving.style.smoothing import WINDOW_STEPS as SMOOTHED_STEPS
from driving.style.surroundings import surroundings
from driving.world import AGENT_CYCLIST, AGENT_PEDESTRIAN, AGENT_VEHICLE, World
from driving.world_builder import WorldSize

BATCH = 32
NEAR_M = 50.0
SIZE = WorldSize(agents=32, lines=192, radius_m=150.0)


@dataclass(frozen=True)
class Windows:
    """What was measured of every sample, in their order.

    Attributes:
        values: The measures.
        mask: What was measured.
        facts: Where each takes place.
        scenario_types: What kind of scene it is.
        neighbours: Who else is near.
    """

    values: Float[np.ndarray, "sample measure"]
    mask: Bool[np.ndarray, "sample measure"]
    facts: Sequence[Surroundings]
    scenario_types: Sequence[str]
    neighbours: Sequence[Neighbours]

    @property
    def contexts(self) -> list[Context]:
        """What every window is compared with."""
        led = self.mask[:, PLACE["smallest_gap_m"]]
        return [
            Context(name, bool(leader), facts.road_class)
            for name, leader, facts in zip(self.scenario_types, led, self.facts, strict=True)
        ]


def read_windows(
    store: SceneStore, samples: pl.DataFrame, *, history_s: float, future_s: float
) -> Windows:
    """Measure every sample.

    Args:
        store: The scenes.
        samples: Rows of `SAMPLES`, in the order of the scenes.
        history_s: Past of the worlds; a conflict that was passed by another one then counts.
        future_s: Length of the windows.

    Raises:
        InputError: If the windows are too short to be smoothed.
    """
    steps = round(future_s / store.step_s)
    if steps < SMOOTHED_STEPS:
        raise InputError(
            f"--future-s must be at least {SMOOTHED_STEPS * store.step_s:g} here, got {future_s:g}."
        )
    values, mask = [], []
    facts: list[Surroundings] = []
    neighbours: list[Neighbours] = []
    firsts = range(0, samples.height, BATCH)
    for first in track(firsts, "Measuring windows"):
        part = samples.slice(first, BATCH)
        world = store.world(part, history_s=history_s, future_s=future_s)
        with torch.inference_mode():
            found = measure(world, steps=steps)
            changed = found.column("lane_change_peak_speed_mps")[1]
            facts += surroundings(world, store.facts(part), changed, steps=steps)
        neighbours += _neighbours(world)
        values.append(found.values.numpy())
        mask.append(found.mask.numpy())
    types = [scenario_type(fact)[0] for fact in facts]
    return Windows(np.concatenate(values), np.concatenate(mask), facts, types, neighbours)


def _neighbours(world: World) -> list[Neighbours]:
    away = world.agent_poses[:, :, world.now, :2].norm(dim=-1)
    near = world.agent_mask[:, :, world.now] & (away <= NEAR_M)
    counts = [
        (near & (world.agent_kinds == kind)).sum(-1).tolist()
        for kind in (AGENT_VEHICLE, AGENT_PEDESTRIAN, AGENT_CYCLIST)
    ]
    return [Neighbours(*row) for row in zip(*counts, strict=True)]
