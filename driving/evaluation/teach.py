"""`driving teach`: the training samples driven in several styles by rules, each drive scored."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data_prep.artifact import create_artifact, read_artifact
from data_prep.errors import InputError
from data_prep.progress import track
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.evaluation.conditions import PRESETS, asked_styles
from driving.evaluation.judge import driven_world, logged_ride, tracked
from driving.evaluation.planners import RULES
from driving.metrics.drivable_area import DrivableArea
from driving.metrics.score import pdm_score
from driving.planner.batch import SUB_SCORES
from driving.planner.going_on import going_on
from driving.planner.pdm import teach
from driving.planner.planner import PLAN_STEPS, Planner, PlannerInput, StyleCondition
from driving.planner_input import planner_input
from driving.scene_store import SceneStore
from driving.simulation.state import Motion
from driving.style.leader import leader, steady_time_gap
from driving.style.tables import SAMPLES
from driving.world import World

HISTORY_S, FUTURE_S, LOOK_FURTHER_S = 1.0, 4.0, 1.2
STATED_SHARE, ALONE_SHARE, DISPLACED_SHARE = 0.5, 0.5, 0.5
FARTHEST = (1.0, 0.15, 0.25)
"""Displacements are uniform within these: metres aside, radians, share of the speed."""
SPOILED = 6
LEAST_SPOILED, MOST_SPOILED = (-4.0, 0.5), (4.0, 1.6)
NORMAL = tuple(PRESETS).index("normal")
FROM_SCORES = ("no_collision", "drivable_area", "time_to_collision", "progress", "comfort")
"""Parts of the PDM score, in the order in which `SUB_SCORES` begins."""


def write_teacher(  # noqa: PLR0913  (one parameter per option of the command)
    *,
    scenes: Path,
    styles: Path,
    out: Path,
    rules: str = "idm_lane_change",
    variants: int = 5,
    maximum_samples: int | None = None,
    batch_size: int = 64,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Write the artifact `teacher`: a row per sample; rows that are not for training are masked.

    Every training sample is driven by rules in the three presets and in `variants` drawn styles:
    one dimension alone or several, uniformly between their ends. Half of the latter begin beside
    the log's way, turned, faster or slower. Drives that begin where the log does, and some that
    were spoiled on purpose, are scored, so that a planner can learn what is safe as well as what
    is styled.

    Args:
        scenes: Artifact `scenes`.
        styles: Artifact `styles`.
        out: Folder to write.
        rules: Who drives: `idm_lane_change`, `idm`, which changes no lane, or `pdm`, which costs
            twenty times as much.
        variants: Drawn styles beside the presets.
        maximum_samples: Most training samples, evenly spread; None drives all.
        batch_size: Samples at a time.
        seed: Seed of the drawn styles.
        overwrite: Replace what is there.

    Raises:
        InputError: If a number is out of range or there is no training sample.
    """
    if variants < 0 or batch_size < 1:
        raise InputError(
            f"--variants must be 0 or more and --batch-size at least 1, got {variants} and "
            f"{batch_size}."
        )
    annotated = read_artifact(styles, kind="styles")
    store = SceneStore.read(scenes)
    samples = annotated.table(SAMPLES)
    training = samples.filter(pl.col("split") == "train")
    if training.is_empty():
        raise InputError(f"{styles} has no training sample to drive.")
    if maximum_samples is not None:
        places = np.linspace(0, training.height - 1, max(maximum_samples, 1)).round()
        training = training[np.unique(places.astype(np.int64))]
    arrays = empty_arrays(samples.height, len(PRESETS) + variants)
    area = store.drivable_area()
    for start in track(range(0, training.height, batch_size), "batches taught"):
        part = training.slice(start, batch_size)
        world = store.world(part, history_s=HISTORY_S, future_s=FUTURE_S + LOOK_FURTHER_S)
        rows = part["sample_id"].to_numpy()
        draws = drawn(rows, variants, seed=seed)
        with torch.inference_mode():
            taught = taught_rows(world, area, draws, RULES[rules]())
        for name, values in taught.items():
            arrays[name][rows] = values
    with create_artifact(
        out,
        kind="teacher",
        command="driving teach",
        configuration={
            "rules": rules,
            "variants": variants,
            "maximum_samples": maximum_samples,
            "seed": seed,
        },
        inputs={"scenes": store.content_hash, "styles": annotated.content_hash},
        overwrite=overwrite,
    ) as writer:
        writer.write_arrays("teacher", arrays)
        writer.write_json("teacher_scores", {"sub_scores": list(SUB_SCORES)})
        known = arrays["sub_score_mask"][training["sample_id"].to_numpy()]
        values = arrays["sub_scores"][training["sample_id"].to_numpy()]
        means = (values * known).sum((0, 1)) / np.maximum(known.sum((0, 1)), 1)
        writer.notes.update({"samples": training.height, "drives": int(arrays["mask"].sum())})
        writer.notes["mean_sub_scores"] = {
            name: round(float(mean), 4) for name, mean in zip(SUB_SCORES, means, strict=True)
        }
    sys.stderr.write(
        f"{training.height:,} samples driven in {len(PRESETS) + variants} styles: {out}\n"
    )


def empty_arrays(samples: int, variants: int) -> dict[str, np.ndarray]:
    """The arrays of a teacher that has driven nothing yet.

    Proposals are the variants' drives, then spoiled ones, then the log.
    """
    proposals, style, heads = variants + SPOILED + 1, len(STYLE_DIMENSIONS), len(SUB_SCORES)
    return {
        "poses": np.zeros((samples, variants, PLAN_STEPS, 3), np.float32),
        "mask": np.zeros((samples, variants), np.bool_),
        "style_values": np.zeros((samples, variants, style), np.float32),
        "style_mask": np.zeros((samples, variants, style), np.bool_),
        "displacement": np.zeros((samples, variants, 3), np.float32),
        "proposals": np.zeros((samples, proposals, PLAN_STEPS, 3), np.float32),
        "sub_scores": np.zeros((samples, proposals, heads), np.float32),
        "sub_score_mask": np.zeros((samples, proposals, heads), np.bool_),
    }


@dataclass(frozen=True)
class Draws:
    """What is drawn for every sample, by its number alone: batches change nothing.

    Attributes:
        style_values: Of the drawn variants.
        style_mask: Which dimensions are stated.
        displacement: Where they begin; see `displaced`.
        spoiling: Of spoiled drives: metres aside and share of the way at the end.
    """

    style_values: Float[np.ndarray, "sample variant style"]
    style_mask: Bool[np.ndarray, "sample variant style"]
    displacement: Float[np.ndarray, "sample variant 3"]
    spoiling: Float[np.ndarray, "sample spoiled 2"]


def drawn(sample_ids: np.ndarray, variants: int, *, seed: int) -> Draws:
    """Drawn variants and spoiled drives of samples.

    Half of the variants state one dimension alone, the others each one with probability one half;
    half of them begin displaced.
    """
    count, size = len(sample_ids), len(STYLE_DIMENSIONS)
    values = np.zeros((count, variants, size), np.float32)
    stated = np.zeros((count, variants, size), np.bool_)
    moved = np.zeros((count, variants, 3), np.float32)
    spoiling = np.zeros((count, SPOILED, 2), np.float32)
    for row, number in enumerate(sample_ids):
        generator = np.random.Generator(np.random.PCG64([seed, int(number)]))
        several = generator.random((variants, size)) < STATED_SHARE
        alone = np.arange(size) == generator.integers(size, size=(variants, 1))
        stated[row] = np.where(generator.random((variants, 1)) < ALONE_SHARE, alone, several)
        values[row] = np.where(stated[row], generator.uniform(-1, 1, (variants, size)), 0.0)
        displaces = generator.random((variants, 1)) < DISPLACED_SHARE
        moved[row] = displaces * generator.uniform(-1, 1, (variants, 3)) * FARTHEST
        spoiling[row] = generator.uniform(LEAST_SPOILED, MOST_SPOILED, (SPOILED, 2))
    return Draws(values, stated, moved, spoiling)


def taught_rows(
    world: World, area: DrivableArea, draws: Draws, planner: Planner
) -> dict[str, np.ndarray]:
    """Rows of every array of `empty_arrays` for the samples of a world."""
    scene = planner_input(world, world.now)
    ids = world.sample_ids.numpy()
    asked = [asked_styles(name, None, ids) for name in PRESETS]
    drawn_values, drawn_mask = map(torch.from_numpy, (draws.style_values, draws.style_mask))
    asked += [
        StyleCondition(drawn_values[:, n], drawn_mask[:, n]) for n in range(drawn_mask.shape[1])
    ]
    moved = torch.from_numpy(draws.displacement)
    moved = torch.cat([moved.new_zeros(len(ids), len(PRESETS), 3), moved], 1)
    poses = teach(planner, scene, asked, moved)
    spoiled = spoiled_drives(scene, poses[:, NORMAL], torch.from_numpy(draws.spoiling))
    stride = slice(world.now + 5, world.now + 5 * PLAN_STEPS + 1, 5)
    begins_here = (moved == 0).all(-1)
    normal = poses[:, NORMAL : NORMAL + 1]
    judged = torch.cat([poses.where(begins_here[..., None, None], normal), spoiled], 1)
    rides = [*(tracked(scene, judged[:, n]) for n in range(judged.shape[1])), logged_ride(world)]
    scores, known = sub_scores(world, area, rides)
    known[:, : poses.shape[1]] &= begins_here[..., None]
    return {
        "poses": poses.numpy(),
        "mask": np.ones(poses.shape[:2], np.bool_),
        "style_values": torch.stack([style.values for style in asked], 1).numpy(),
        "style_mask": torch.stack([style.mask for style in asked], 1).numpy(),
        "displacement": moved.numpy(),
        "proposals": torch.cat([judged, world.ego_poses[:, None, stride]], 1).numpy(),
        "sub_scores": (scores * known).numpy(),
        "sub_score_mask": known.numpy(),
    }


def spoiled_drives(
    scene: PlannerInput,
    poses: Float[Tensor, "batch time 3"],
    spoiling: Float[Tensor, "batch spoiled 2"],
) -> Float[Tensor, "batch spoiled time 3"]:
    """A drive that drifts aside and comes too far or not far enough: what is not to be driven.

    Teachers and logs hardly ever leave the road or hit anybody, so from them alone no planner
    learns to tell what would.

    Args:
        scene: The scene.
        poses: A drive.
        spoiling: Metres to the left that it has drifted after four seconds, and its length as a
            share of its own.
    """
    base = going_on(scene)
    changes = base.changes(poses[:, None]).expand(-1, spoiling.shape[1], -1, -1)
    share = torch.arange(1, PLAN_STEPS + 1) / PLAN_STEPS
    aside = spoiling[..., :1] * share.square()
    along = (changes[..., 0] + base.along_m[:, None]) * spoiling[..., 1:] - base.along_m[:, None]
    driven = (along + base.along_m[:, None])[..., -1:].clamp_min(1.0)
    turned = torch.atan2(2 * spoiling[..., :1] * share, driven)
    return base.poses(torch.stack((along, changes[..., 1] + aside, changes[..., 2] + turned), -1))


def sub_scores(
    world: World, area: DrivableArea, rides: Sequence[Motion]
) -> tuple[Float[Tensor, "batch proposal head"], Bool[Tensor, "batch proposal head"]]:
    """The sub-scores a planner predicts of rides, in the order of `SUB_SCORES`; which are known.

    Progress is relative to the best of these rides.
    """
    scores = pdm_score(world, _candidates(rides), area)
    safe = torch.stack([getattr(scores, name) for name in FROM_SCORES], -1).float()
    gaps, known = zip(*(_time_gap(world, ride) for ride in rides), strict=True)
    speeds = torch.stack([ride.speed_mps.mean(-1) for ride in rides], 1)
    values = torch.cat([safe, torch.stack(gaps, 1)[..., None], speeds[..., None]], -1)
    mask = torch.ones_like(values, dtype=torch.bool)
    mask[..., -2] = torch.stack(known, 1)
    return values * mask, mask


def _candidates(rides: Sequence[Motion]) -> Motion:
    names = Motion.__dataclass_fields__
    return Motion(*(torch.stack([getattr(ride, name) for ride in rides], 1) for name in names))


def _time_gap(world: World, ride: Motion) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """The steady time gap of a ride to its leader, and where there is one."""
    ahead = leader(driven_world(world, ride), ride.poses, first=world.now)
    return steady_time_gap(ahead, ride.speed_mps, ride.acceleration_mps2, step_s=world.step_s)
