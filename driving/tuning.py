"""What `personalize tune` opens of the driving half: a planner, moments of logs, a teacher."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_prep.artifact import Artifact, read_artifact
from data_prep.errors import InputError
from driving.asked_styles import AskedStyles
from driving.load import load_planner
from driving.moments import Moments, read_moments
from driving.plan_responses import PlanPolicy
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.diffusion_policy import DiffusionPolicy
from driving.planner.planner import StyleCondition
from driving.planning_rows import logged_future
from driving.tuned_plans import TunablePlans
from personalize.preference_optimization.policy import Policy
from personalize.preference_optimization.tunable import (
    TEST,
    TRAINING,
    VALIDATION,
    TunableSource,
)

STYLES = ("conservative", "aggressive")
MOMENTS = 512
"""Most moments of each split."""


class TunedPlans(TunableSource):
    """A diffusion planner tuned in moments of logs, under some styles each."""

    def __init__(  # noqa: PLR0913  (each one is a documented option of the configuration)
        self,
        *,
        checkpoint: Path,
        scenes: Path | None = None,
        styles: Path | None = None,
        style_vectors: Path | None = None,
        teacher: Path | None = None,
        asked: Sequence[str] = STYLES,
        moments: int = MOMENTS,
        swaps: bool = False,
        policy: Callable[[DiffusionPlanner], Policy] = DiffusionPolicy,
    ) -> None:
        """Say what to open.

        Args:
            checkpoint: A checkpoint of a diffusion planner, or a run whose best one is taken.
            scenes: Artifact `scenes`; by default the one it was trained on.
            styles: Artifact `styles`; likewise.
            style_vectors: Artifact `style_vectors`, where a driver's own style is asked for;
                likewise.
            teacher: Artifact `teacher`, which says what to imitate under a style; likewise.
            asked: Styles, by the names that `driving simulate` takes as conditions.
            moments: Most moments of each split, evenly spread over its samples.
            swaps: Whether candidates come under the other styles too.
            policy: What counts as a response, and as its log-probability.

        Raises:
            ValueError: If a number is out of range, or styles are not distinct.
        """
        if moments < 1:
            raise ValueError(f"moments must be at least 1, got {moments}.")
        if not asked or len(set(asked)) < len(asked):
            raise ValueError(f"asked must name distinct styles, at least one, got {list(asked)}.")
        self._checkpoint, self._asked = checkpoint, tuple(asked)
        given = {
            "scenes": scenes,
            "styles": styles,
            "style_vectors": style_vectors,
            "teacher": teacher,
        }
        self._given = {name: path for name, path in given.items() if path is not None}
        self._most, self._swaps, self._policy = moments, swaps, policy

    def open(self) -> TunablePlans:
        """Read planner, scenes and teacher, and drive every moment.

        Raises:
            InputError: If the planner is no diffusion planner, a split has no moment whose log
                goes on for four seconds, splits share a recording, or a style is not known.
            ArtifactMismatch: If an artifact is damaged or of another kind.
        """
        loaded = load_planner(self._checkpoint)
        planner = loaded.planner
        if not isinstance(planner, DiffusionPlanner):
            raise InputError(
                f"{loaded.folder} holds a {type(planner).__name__}, which cannot be tuned; take "
                "a DiffusionPlanner."
            )
        paths = {**loaded.paths, **self._given}
        read = {
            name: read_artifact(paths[name], kind=name)
            for name in ("scenes", "styles", "style_vectors", "teacher")
            if name in paths
        }
        splits = (TRAINING, VALIDATION, TEST)
        moments = read_moments(read["scenes"], read["styles"], splits, self._most)
        vectors = read.get("style_vectors")
        arrays = None if vectors is None else vectors.arrays("style_vectors")
        ids = moments.world.sample_ids.numpy()
        styles = AskedStyles.of(self._asked, arrays, ids)
        policy = self._policy(planner)
        if not isinstance(policy, PlanPolicy):
            raise InputError(f"plans cannot be tuned as {type(policy).__name__}.")
        return TunablePlans(
            replace(loaded, paths=paths),
            policy,
            moments,
            styles,
            imitated(moments, styles.told, read.get("teacher")),
            {"checkpoint": loaded.content_hash}
            | {name: artifact.content_hash for name, artifact in read.items()},
            swaps=self._swaps,
        )


def imitated(
    moments: Moments, styles: Mapping[str, StyleCondition], teacher: Artifact | None
) -> Float[Tensor, "context time 3"]:
    """What to imitate in every moment under every style, style after style of a moment.

    A teacher's drive that began where the log did and was told the very style; else the log.
    """
    logged = logged_future(moments.world)[0].clone()
    futures = dict.fromkeys(styles, logged)
    if teacher is not None:
        drives = teacher_drives(teacher, moments.world.sample_ids.numpy())
        futures = {name: of_teacher(drives, asked, logged) for name, asked in styles.items()}
    return torch.stack(list(futures.values()), 1).flatten(0, 1)


Drives = tuple[
    Float[Tensor, "moment variant time 3"],
    Bool[Tensor, "moment variant"],
    Float[Tensor, "moment variant style"],
    Bool[Tensor, "moment variant style"],
]
"""A teacher's poses, which of them count, and the styles that were told."""


def teacher_drives(teacher: Artifact, samples: Int[np.ndarray, " moment"]) -> Drives:
    """Poses of a teacher's drives, which count, and what each was told.

    Those count that are there and began where the log did.
    """
    arrays = teacher.arrays("teacher")
    poses, mask, displacement, values, asked = (
        torch.from_numpy(np.array(arrays[name][samples]))
        for name in ("poses", "mask", "displacement", "style_values", "style_mask")
    )
    return poses.float(), mask & (displacement == 0).all(-1), values.float(), asked


def of_teacher(
    drives: Drives,
    style: StyleCondition,
    logged: Float[Tensor, "moment time 3"],
) -> Float[Tensor, "moment time 3"]:
    """The first drive that counts and was told the very style; what was logged where none was."""
    poses, there, values, asked = drives
    same = (asked == style.mask[:, None]).all(-1)
    same &= ((values - style.values[:, None]).abs() * asked < 1e-4).all(-1)
    found = there & same & asked.any(-1)
    first = found.to(torch.uint8).argmax(1)
    taken = poses.take_along_dim(first[:, None, None, None], 1)[:, 0]
    return torch.where(found.any(1)[:, None, None], taken, logged)
