"""Lets a planner drive samples batch by batch, in every style asked for, and keeps what it did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from data_prep.artifact import Artifact
from data_prep.progress import track
from data_prep.scenes.style_dimensions import STYLE_LABELS
from driving.evaluation.driven_style import StyleReader, measured
from driving.evaluation.examples import chosen_examples, drive_example, scene_example
from driving.evaluation.gate import SafetyGate
from driving.evaluation.judge import (
    displacements,
    driven_world,
    logged_ride,
    scored,
    tracked,
    yardstick,
)
from driving.evaluation.passenger import course, start_facts
from driving.evaluation.planners import NamedPlanner
from driving.evaluation.tables import CLOSED_LOOP, DISPLACEMENTS, OPEN_LOOP
from driving.metrics.drivable_area import DrivableArea
from driving.planner.pdm import Pdm
from driving.planner.planner import StyleCondition
from driving.planner_input import planner_input
from driving.scene_store import SceneStore
from driving.simulation.kinematics import STEP_S
from driving.simulation.rollout import roll_out
from driving.simulation.state import Motion
from driving.style.measures import MEASURE_NAMES, Measures
from driving.style.tables import STYLES
from driving.style.windows import SIZE
from driving.world import World
from driving.world_builder import WorldSize

HISTORY_S = 1.0
LOOK_FURTHER_S = 1.2
"""Projected contacts look beyond the ride, where the log goes on."""
SCORED_S = 4.0
FASTEST_MPS = 40.0
"""For every second that a ride is longer, a world reaches so many metres further."""


@dataclass(frozen=True)
class Questions:
    """What is asked of a planner.

    Attributes:
        open_conditions: Styles asked for in open loop.
        closed_conditions: Styles asked for in closed loop.
        ride_s: How long closed-loop rides last.
        reactive: Other vehicles react in closed loop instead of repeating the log.
        gate: Candidates that seem unsafe are passed over in closed loop.
        batch_size: Samples at a time.
        examples: Scenes kept for pictures.
        seed: Seed of planning, shuffling and the choice of examples.
        device: Where the planner computes.
    """

    open_conditions: tuple[str, ...]
    closed_conditions: tuple[str, ...]
    ride_s: float
    reactive: bool
    gate: bool
    batch_size: int
    examples: int
    seed: int
    device: str


def ride_size(ride_s: float) -> WorldSize:
    """How much a world must hold for rides of this length.

    The route reaches as far beyond the end of the ride as a planner looks; so far as lanes go, four
    seconds' worth is always held.
    """
    further_m = FASTEST_MPS * max(ride_s - SCORED_S, 0.0)
    return replace(
        SIZE,
        lines=round(SIZE.lines * (1 + further_m / SIZE.radius_m)),
        radius_m=SIZE.radius_m + further_m,
        places=SIZE.places + round(FASTEST_MPS * ride_s / SIZE.place_step_m),
    )


def drive_all(
    store: SceneStore,
    styles: Artifact,
    samples: pl.DataFrame,
    named: NamedPlanner,
    questions: Questions,
    asked: Mapping[str, StyleCondition],
) -> tuple[pl.DataFrame, pl.DataFrame, list[dict[str, Any]]]:
    """Results, measures and examples of one planner over all samples."""
    area = store.drivable_area()
    reader = StyleReader.of(styles)
    labels = sample_labels(styles, samples)
    shown_ids = chosen_examples(
        samples["sample_id"].to_numpy(), questions.examples, seed=questions.seed
    )
    drive = _Drive(named, questions, reader, set(shown_ids.tolist()))
    for start in track(range(0, samples.height, questions.batch_size), "batches driven"):
        part = samples.slice(start, questions.batch_size)
        rows = slice(start, start + part.height)
        world = store.world(part, history_s=HISTORY_S, future_s=questions.ride_s + LOOK_FURTHER_S)
        chosen = {name: condition.rows(rows) for name, condition in asked.items()}
        drive.batch(world, area, labels[rows], chosen)
    return drive.finished()


class _Drive:
    """Goes through batches of worlds and keeps what is worth keeping."""

    def __init__(
        self, named: NamedPlanner, questions: Questions, reader: StyleReader, shown: set[int]
    ) -> None:
        self.named, self.questions, self.reader, self.shown = named, questions, reader, shown
        self.results: list[pl.DataFrame] = []
        self.measures: list[pl.DataFrame] = []
        self.examples: dict[int, dict[str, Any]] = {}
        self.proposer = Pdm()
        self.ride_steps = round(questions.ride_s / STEP_S)

    def batch(
        self,
        world: World,
        area: DrivableArea,
        labels: Tensor,
        asked: Mapping[str, StyleCondition],
    ) -> None:
        """Drive one batch under every condition."""
        with torch.inference_mode():
            scene = planner_input(world, world.now)
            by = yardstick(world, scene, area, labels, self.proposer)
            began = start_facts(world)
            for row in self._shown_rows(world):
                self.examples[int(world.sample_ids[row])] = scene_example(world, row)
            for condition in self.questions.open_conditions:
                plan, ride = self._open(world, asked[condition])
                columns = displacements(plan, world) | scored(world, ride, by)
                self._keep((OPEN_LOOP, condition), world, ride, columns, began)
            for condition in self.questions.closed_conditions:
                driven, ride = self._closed(world, area, asked[condition])
                columns = scored(driven, ride, by)
                self._keep((CLOSED_LOOP, condition), driven, ride, columns, began)

    def _open(self, world: World, style: StyleCondition) -> tuple[Tensor, Motion]:
        scene = planner_input(world, world.now)
        planner = self.named.planner
        if planner is None:
            ride = logged_ride(world)
            return ride.poses[:, 5::5], ride
        device = self.questions.device
        plans = planner.plan(scene.to(device), style.to(device), seed=self.questions.seed)
        best = plans.best.cpu()
        return best, tracked(scene, best)

    def _closed(
        self, world: World, area: DrivableArea, style: StyleCondition
    ) -> tuple[World, Motion]:
        planner = self.named.planner
        if planner is None:
            return world, logged_ride(world, steps=self.ride_steps)
        device = self.questions.device
        found = roll_out(
            world.to(device),
            planner,
            style.to(device),
            duration_s=self.questions.ride_s,
            reactive=self.questions.reactive,
            seed=self.questions.seed,
            gate=SafetyGate(area.to(device)) if self.questions.gate else None,
        )
        driven = with_agents(world, found.agent_poses, found.agent_velocities_mps, found.agent_mask)
        ego = Motion(**{name: value.cpu() for name, value in vars(found.ego).items()})
        return driven, ego

    def _keep(
        self,
        asked: tuple[str, str],
        world: World,
        ride: Motion,
        columns: Mapping[str, Tensor],
        began: Mapping[str, pl.Series],
    ) -> None:
        loop, condition = asked
        driven, steps = driven_world(world, ride), ride.speed_mps.shape[1] - 1
        measures, windows = measured(driven, steps)
        style = self.reader.read(world.sample_ids.numpy(), windows, measures)
        count = len(world.sample_ids)
        key = {
            "loop": pl.Series([loop] * count),
            "condition": pl.Series([condition] * count),
            "sample_id": pl.Series(world.sample_ids.numpy().astype(np.int32)),
        }
        missing = {name: pl.Series([None] * count, dtype=pl.Float32) for name, _ in DISPLACEMENTS}
        values = {
            name: pl.Series(value.numpy().astype(np.float32)) for name, value in columns.items()
        }
        self.results.append(
            pl.DataFrame(
                key
                | (missing | values)
                | dict(began)
                | course(driven, ride)
                | {
                    "start_speed_mps": pl.Series(ride.speed_mps[:, 0].numpy().astype(np.float32)),
                    "style_values": pl.Series(style.values.tolist(), dtype=pl.List(pl.Float32)),
                    "style_mask": pl.Series(style.mask.tolist(), dtype=pl.List(pl.Boolean)),
                    "driven_label": pl.Series(style.labels),
                }
            )
        )
        self.measures.append(pl.DataFrame(key | _measure_columns(measures)))
        if loop == CLOSED_LOOP:
            self._show(condition, driven, ride, columns, style.labels)

    def _show(
        self,
        condition: str,
        world: World,
        ride: Motion,
        columns: Mapping[str, Tensor],
        labels: Sequence[str],
    ) -> None:
        for row in self._shown_rows(world):
            facts = {name: round(float(values[row]), 4) for name, values in columns.items()}
            example = self.examples[int(world.sample_ids[row])]
            example["drives"][condition] = drive_example(
                world, ride, row, facts | {"driven_label": labels[row]}
            )

    def _shown_rows(self, world: World) -> list[int]:
        return [row for row, number in enumerate(world.sample_ids.tolist()) if number in self.shown]

    def finished(self) -> tuple[pl.DataFrame, pl.DataFrame, list[dict[str, Any]]]:
        """Everything kept, in the order of its keys."""
        order = [self.examples[number] for number in sorted(self.examples)]
        return pl.concat(self.results), pl.concat(self.measures), order


def _measure_columns(measures: Measures) -> dict[str, pl.Series]:
    found, mask = measures.values.numpy(), measures.mask.numpy()
    return {
        name: pl.Series(np.where(mask[:, n], found[:, n], np.nan).astype(np.float32)).fill_nan(None)
        for n, name in enumerate(MEASURE_NAMES)
    }


def with_agents(world: World, poses: Tensor, velocities: Tensor, mask: Tensor) -> World:
    """The world with its agents as they reacted; beyond the ride the log goes on."""
    span = slice(world.now, world.now + poses.shape[2])
    changed = {
        "agent_poses": world.agent_poses.clone(),
        "agent_velocities_mps": world.agent_velocities_mps.clone(),
        "agent_mask": world.agent_mask.clone(),
    }
    for name, values in zip(changed, (poses, velocities, mask), strict=True):
        changed[name][:, :, span] = values.cpu()
    return replace(world, **changed)


def sample_labels(styles: Artifact, samples: pl.DataFrame) -> Tensor:
    """Row of `STYLE_LABELS` of every sample's log."""
    named = samples.join(styles.table(STYLES), on="sample_id", maintain_order="left")["label"]
    return torch.tensor([STYLE_LABELS.index(label) for label in named])
