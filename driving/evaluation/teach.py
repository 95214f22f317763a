"""`driving teach`: the training samples driven in several styles by rules, each drive scored."""

import sys
from collections.abc import Sequence
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
from driving.planner.pdm import teach
from driving.planner.planner import PLAN_STEPS, Planner, StyleCondition
from driving.planner_input import planner_input
from driving.scene_store import SceneStore
from driving.simulation.state import Motion
from driving.style.leader import leader, steady_time_gap
from driving.style.tables import SAMPLES
from driving.world import World

HISTORY_S, FUTURE_S, LOOK_FURTHER_S = 1.0, 4.0, 1.2
STATED_SHARE = 0.5
FROM_SCORES = ("no_collision", "drivable_area", "time_to_collision", "progress", "comfort")
"""Parts of the PDM score, in the order in which `SUB_SCORES` begins."""


def write_teacher(  # noqa: PLR0913  (one parameter per option of the command)
    *,
    scenes: Path,
    styles: Path,
    out: Path,
    rules: str = "idm",
    variants: int = 3,
    maximum_samples: int | None = None,
    batch_size: int = 64,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Write the artifact `teacher`: a row per sample; rows that are not for training are masked.

    Every training sample is driven by rules in the three presets and in `variants` drawn styles,
    of which each dimension is stated with probability one half, uniformly between its ends. Each
    drive is scored, so that a planner can learn what is safe as well as what is styled.

    Args:
        scenes: Artifact `scenes`.
        styles: Artifact `styles`.
        out: Folder to write.
        rules: Who drives: `idm`, or `pdm`, which changes lanes and costs twenty times as much.
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
        asked = drawn_styles(rows, variants, seed=seed)
        with torch.inference_mode():
            taught = taught_rows(world, area, asked, RULES[rules]())
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
    sys.stderr.write(f"{training.height:,} samples driven in {3 + variants} styles: {out}\n")


def empty_arrays(samples: int, variants: int) -> dict[str, np.ndarray]:
    """The arrays of a teacher that has driven nothing yet; the log is the last proposal."""
    proposals, style, heads = variants + 1, len(STYLE_DIMENSIONS), len(SUB_SCORES)
    return {
        "poses": np.zeros((samples, variants, PLAN_STEPS, 3), np.float32),
        "mask": np.zeros((samples, variants), np.bool_),
        "style_values": np.zeros((samples, variants, style), np.float32),
        "style_mask": np.zeros((samples, variants, style), np.bool_),
        "proposals": np.zeros((samples, proposals, PLAN_STEPS, 3), np.float32),
        "sub_scores": np.zeros((samples, proposals, heads), np.float32),
        "sub_score_mask": np.zeros((samples, proposals, heads), np.bool_),
    }


def drawn_styles(sample_ids: np.ndarray, variants: int, *, seed: int) -> list[StyleCondition]:
    """The presets, then styles drawn for each sample by its number: batches change nothing."""
    found = [asked_styles(name, None, sample_ids) for name in PRESETS]
    shape = (variants, len(STYLE_DIMENSIONS))
    values = np.zeros((len(sample_ids), *shape), np.float32)
    stated = np.zeros((len(sample_ids), *shape), np.bool_)
    for row, number in enumerate(sample_ids):
        generator = np.random.Generator(np.random.PCG64([seed, int(number)]))
        stated[row] = generator.random(shape) < STATED_SHARE
        values[row] = np.where(stated[row], generator.uniform(-1, 1, shape), 0.0)
    return found + [
        StyleCondition(torch.from_numpy(values[:, n]), torch.from_numpy(stated[:, n]))
        for n in range(variants)
    ]


def taught_rows(
    world: World, area: DrivableArea, asked: list[StyleCondition], planner: Planner
) -> dict[str, np.ndarray]:
    """Rows of every array of `empty_arrays` for the samples of a world."""
    scene = planner_input(world, world.now)
    poses = teach(planner, scene, asked)
    stride = slice(world.now + 5, world.now + 5 * PLAN_STEPS + 1, 5)
    proposals = torch.cat([poses, world.ego_poses[:, None, stride]], 1)
    rides = [*(tracked(scene, poses[:, n]) for n in range(len(asked))), logged_ride(world)]
    values, mask = sub_scores(world, area, rides)
    return {
        "poses": poses.numpy(),
        "mask": np.ones(poses.shape[:2], np.bool_),
        "style_values": torch.stack([style.values for style in asked], 1).numpy(),
        "style_mask": torch.stack([style.mask for style in asked], 1).numpy(),
        "proposals": proposals.numpy(),
        "sub_scores": values.numpy(),
        "sub_score_mask": mask.numpy(),
    }


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
