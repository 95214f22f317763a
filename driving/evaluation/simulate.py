"""`driving simulate`: let one planner drive the samples of a split, in every style asked for."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from data_prep.artifact import Artifact, create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.progress import track
from data_prep.scenes.style_dimensions import STYLE_LABELS
from driving.evaluation.conditions import asked_styles, sweep_names
from driving.evaluation.driven_style import StyleReader
from driving.evaluation.examples import chosen_examples, drive_example, scene_example
from driving.evaluation.gate import SafetyGate
from driving.evaluation.judge import (
    RIDE_STEPS,
    displacements,
    driven_world,
    logged_ride,
    scored,
    tracked,
    yardstick,
)
from driving.evaluation.planners import NamedPlanner, chosen_device, open_planner
from driving.evaluation.tables import (
    CLOSED_LOOP,
    DISPLACEMENTS,
    OPEN_LOOP,
    RESULTS,
    measures_schema,
)
from driving.metrics.drivable_area import DrivableArea
from driving.planner.pdm import Pdm
from driving.planner.planner import StyleCondition
from driving.planner_input import planner_input
from driving.scene_store import SceneStore
from driving.simulation.rollout import roll_out
from driving.simulation.state import Motion
from driving.style.features import measure
from driving.style.measures import MEASURE_NAMES
from driving.style.tables import SAMPLES, STYLES
from driving.style.windows import SIZE
from driving.world import World
from personalize.configured_class import named_values

HISTORY_S, FUTURE_S = 1.0, 4.0
LOOK_FURTHER_S = 1.2
"""Projected contacts look beyond the ride, where the log goes on."""


@dataclass(frozen=True)
class Questions:
    """What is asked of a planner.

    Attributes:
        open_conditions: Styles asked for in open loop.
        closed_conditions: Styles asked for in closed loop.
        reactive: Other vehicles react in closed loop instead of repeating the log.
        gate: Candidates that seem unsafe are passed over in closed loop.
        batch_size: Samples at a time.
        examples: Scenes kept for pictures.
        seed: Seed of planning, shuffling and the choice of examples.
        device: Where the planner computes.
    """

    open_conditions: tuple[str, ...]
    closed_conditions: tuple[str, ...]
    reactive: bool
    gate: bool
    batch_size: int
    examples: int
    seed: int
    device: str


def write_rollouts(  # noqa: PLR0913  (one parameter per option of the command)
    *,
    scenes: Path,
    styles: Path,
    out: Path,
    style_vectors: Path | None = None,
    checkpoint: Path | None = None,
    rules: str | None = None,
    name: str | None = None,
    split: str = "test",
    conditions: Sequence[str] = ("none",),
    closed_conditions: Sequence[str] = (),
    sweep: bool = False,
    maximum_samples: int | None = None,
    reactive: bool = False,
    gate: bool = False,
    batch_size: int = 64,
    examples: int = 6,
    seed: int = 0,
    device: str | None = None,
    changes: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Write the artifact `rollouts` of one planner.

    Args:
        scenes: Artifact `scenes`.
        styles: Artifact `styles` of these scenes.
        out: Folder to write.
        style_vectors: Artifact `style_vectors` of these styles, for conditions that need it.
        checkpoint: A trained planner.
        rules: A planner that follows rules, by name, instead.
        name: Its name in the report.
        split: Which samples: train, validation or test.
        conditions: Styles asked for in open loop.
        closed_conditions: Styles asked for in closed loop.
        sweep: Also ask for each dimension alone, at either end, in closed loop.
        maximum_samples: Most samples, evenly spread; None takes all.
        reactive: Other vehicles react in closed loop.
        gate: Pass over candidates that seem unsafe in closed loop, whatever the planner's scores.
        batch_size: Samples at a time; changes the speed, not the results.
        examples: Scenes kept for pictures.
        seed: Seed of everything that is drawn.
        device: Torch device; a GPU where there is one.
        changes: Options of a trained planner to change, as `NAME=VALUE`.
        overwrite: Replace what is there.

    Raises:
        InputError: If an option is wrong or no sample is left.
        ArtifactMismatch: If artifacts do not belong together.
    """
    if batch_size < 1 or examples < 0:
        raise InputError(f"--batch-size must be at least 1, got {batch_size}.")
    read = read_artifact(styles, kind="styles")
    store = SceneStore.read(scenes, size=SIZE)
    vectors = _vectors(style_vectors, read)
    samples = _chosen_samples(read, split, maximum_samples)
    questions = Questions(
        open_conditions=tuple(dict.fromkeys(conditions)),
        closed_conditions=tuple(
            dict.fromkeys((*closed_conditions, *(sweep_names() if sweep else ())))
        ),
        reactive=reactive,
        gate=gate,
        batch_size=batch_size,
        examples=examples,
        seed=seed,
        device=chosen_device(device),
    )
    named = open_planner(
        checkpoint=checkpoint,
        rules=rules,
        name=name,
        changes=named_values(changes),
        device=questions.device,
    )
    asked = _asked(questions, vectors, samples)
    results, measures, shown = drive_all(store, read, samples, named, questions, asked)
    with create_artifact(
        out,
        kind="rollouts",
        command="driving simulate",
        configuration={
            "scenes": str(scenes),
            "styles": str(styles),
            "style_vectors": str(style_vectors) if style_vectors else None,
            "checkpoint": str(checkpoint) if checkpoint else None,
            "rules": rules,
            "split": split,
            "conditions": list(questions.open_conditions),
            "closed_conditions": list(questions.closed_conditions),
            "maximum_samples": maximum_samples,
            "reactive": reactive,
            "gate": gate,
            "seed": seed,
            "changes": list(changes),
        },
        inputs={"scenes": store.content_hash, "styles": read.content_hash}
        | ({"checkpoint": named.content_hash} if named.content_hash else {}),
        overwrite=overwrite,
    ) as writer:
        writer.write_table(RESULTS, results)
        writer.write_table(measures_schema(MEASURE_NAMES), measures)
        writer.write_json("examples", shown)
        writer.notes.update({"name": named.name, "samples": samples.height, **named.notes})
        writer.notes["reads_style"] = named.reads_style
    sys.stderr.write(f"{named.name}: {samples.height} samples, {results.height} rides\n")


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
    labels = _labels(styles, samples)
    shown_ids = chosen_examples(
        samples["sample_id"].to_numpy(), questions.examples, seed=questions.seed
    )
    drive = _Drive(named, questions, reader, set(shown_ids.tolist()))
    for start in track(range(0, samples.height, questions.batch_size), "batches driven"):
        part = samples.slice(start, questions.batch_size)
        rows = slice(start, start + part.height)
        world = store.world(part, history_s=HISTORY_S, future_s=FUTURE_S + LOOK_FURTHER_S)
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
            for row in self._shown_rows(world):
                self.examples[int(world.sample_ids[row])] = scene_example(world, row)
            for condition in self.questions.open_conditions:
                plan, ride = self._open(world, asked[condition])
                columns = displacements(plan, world) | scored(world, ride, by)
                self._keep(OPEN_LOOP, condition, world, ride, columns)
            for condition in self.questions.closed_conditions:
                driven, ride = self._closed(world, area, asked[condition])
                self._keep(CLOSED_LOOP, condition, driven, ride, scored(driven, ride, by))

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
            return world, logged_ride(world)
        device = self.questions.device
        found = roll_out(
            world.to(device),
            planner,
            style.to(device),
            duration_s=FUTURE_S,
            reactive=self.questions.reactive,
            seed=self.questions.seed,
            gate=SafetyGate(area.to(device)) if self.questions.gate else None,
        )
        driven = _with_agents(
            world, found.agent_poses, found.agent_velocities_mps, found.agent_mask
        )
        ego = Motion(**{name: value.cpu() for name, value in vars(found.ego).items()})
        return driven, ego

    def _keep(
        self,
        loop: str,
        condition: str,
        world: World,
        ride: Motion,
        columns: Mapping[str, Tensor],
    ) -> None:
        driven = driven_world(world, ride)
        measures = measure(driven)
        style = self.reader.read(world.sample_ids.numpy(), measures)
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
                | {
                    "start_speed_mps": pl.Series(ride.speed_mps[:, 0].numpy().astype(np.float32)),
                    "style_values": pl.Series(style.values.tolist(), dtype=pl.List(pl.Float32)),
                    "style_mask": pl.Series(style.mask.tolist(), dtype=pl.List(pl.Boolean)),
                    "driven_label": pl.Series(style.labels),
                }
            )
        )
        found, mask = measures.values.numpy(), measures.mask.numpy()
        columns_of = {
            name: pl.Series(np.where(mask[:, place], found[:, place], np.nan).astype(np.float32))
            .fill_nan(None)
            for place, name in enumerate(MEASURE_NAMES)
        }  # fmt: skip
        self.measures.append(pl.DataFrame(key | columns_of))
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


def _with_agents(world: World, poses: Tensor, velocities: Tensor, mask: Tensor) -> World:
    """The world with its agents as they reacted; beyond the ride the log goes on."""
    span = slice(world.now, world.now + RIDE_STEPS + 1)
    changed = {
        "agent_poses": world.agent_poses.clone(),
        "agent_velocities_mps": world.agent_velocities_mps.clone(),
        "agent_mask": world.agent_mask.clone(),
    }
    for name, values in zip(changed, (poses, velocities, mask), strict=True):
        changed[name][:, :, span] = values.cpu()
    return replace(world, **changed)


def _asked(
    questions: Questions, vectors: Mapping[str, np.ndarray] | None, samples: pl.DataFrame
) -> dict[str, StyleCondition]:
    names = dict.fromkeys((*questions.open_conditions, *questions.closed_conditions))
    if not names:
        raise InputError("nothing is asked; pass --conditions or --closed-conditions.")
    ids = samples["sample_id"].to_numpy()
    return {name: asked_styles(name, vectors, ids, seed=questions.seed) for name in names}


def _chosen_samples(styles: Artifact, split: str, most: int | None) -> pl.DataFrame:
    samples = styles.table(SAMPLES).filter(pl.col("split") == split)
    if samples.is_empty():
        raise InputError(f"{styles.folder} has no sample of the split {split}.")
    if most is not None:
        if most < 1:
            raise InputError(f"--maximum-samples must be at least 1, got {most}.")
        places = np.unique(np.linspace(0, samples.height - 1, most).round().astype(np.int64))
        samples = samples[places]
    return samples


def _labels(styles: Artifact, samples: pl.DataFrame) -> Tensor:
    named = samples.join(styles.table(STYLES), on="sample_id", maintain_order="left")["label"]
    return torch.tensor([STYLE_LABELS.index(label) for label in named])


def _vectors(folder: Path | None, styles: Artifact) -> Mapping[str, np.ndarray] | None:
    if folder is None:
        return None
    artifact = read_artifact(folder, kind="style_vectors")
    made_from = artifact.manifest.inputs.get("styles")
    if made_from != styles.content_hash:
        raise ArtifactMismatch(
            f"{folder} was encoded from other styles than {styles.folder}; run driving encode anew."
        )
    return artifact.arrays("style_vectors")
