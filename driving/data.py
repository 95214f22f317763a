"""The data a planner is trained on: samples of scenes with the style each was driven in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import lightning as L
import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data_prep.artifact import read_artifact, read_manifest
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.planner.batch import SUB_SCORES, PlanningBatch, ScoredProposals, TeacherFutures
from driving.planner.planner import PLAN_STEPS, PlannerInput, StyleCondition
from driving.planning_rows import PlanningRows, read_planning_rows
from driving.style.tables import SAMPLES
from personalize.stateful_loader import StatefulLoader

Condition = Literal["own", "before", "truth", "none"]
Split = Literal["train", "validation", "test"]
STAGES: Mapping[str, tuple[Split, ...]] = {
    "fit": ("train", "validation"),
    "validate": ("validation",),
    "test": ("test",),
}


class DrivingDataModule(L.LightningDataModule):
    """Training, validation and test rows from artifacts `scenes`, `styles` and what conditions.

    Worlds are made once, when a run begins, and kept as what planners see and what was driven; a
    batch is a choice of rows. A sample with no logged future is no training row.

    The style `own` is measured on the very stretch that is to be planned. For a training row that
    is supervision; for an evaluated one it tells of the future, so a fair evaluation asks for
    `before`, and `own` or `truth` only where following a given style is what is measured.
    """

    def __init__(  # noqa: PLR0913  (each one is a documented option of the configuration)
        self,
        scenes: Path,
        styles: Path,
        style_vectors: Path | None = None,
        teacher: Path | None = None,
        *,
        condition: Condition = "own",
        evaluation_condition: Condition | None = None,
        batch_size: int = 64,
        evaluation_batch_size: int = 256,
        maximum_samples: int | None = None,
        seed: int = 0,
    ) -> None:
        """Check that the artifacts fit; scenes are read when a run begins.

        Args:
            scenes: Artifact `scenes`, written by `data-prep scenes` or `data-prep traffic`.
            styles: Artifact `styles`, written by `driving annotate`: the samples.
            style_vectors: Artifact `style_vectors`; without it nothing is asked for.
            teacher: Artifact `teacher`: the same samples driven in several styles, with their
                sub-scores; training rows only.
            condition: Which style of the sample its training rows are conditioned on.
            evaluation_condition: The same for validation and test. Default: as `condition`.
            batch_size: Rows in a training batch.
            evaluation_batch_size: Rows in a validation or test batch.
            maximum_samples: Most samples of every split, evenly spread; None takes all.
            seed: Seed of the order of training rows.

        Raises:
            InputError: If a condition needs `style_vectors`, or a size is out of range.
            ArtifactMismatch: If an artifact is damaged or of another kind.
        """
        super().__init__()
        if maximum_samples is not None and maximum_samples < 1:
            raise InputError(f"maximum_samples must be at least 1, got {maximum_samples}.")
        if style_vectors is None:
            if evaluation_condition not in (None, "none"):
                raise InputError("data.evaluation_condition needs data.style_vectors.")
            condition = "none"
        self._paths = {
            "scenes": scenes,
            "styles": styles,
            "style_vectors": style_vectors,
            "teacher": teacher,
        }
        self.samples = read_artifact(styles, kind="styles").table(SAMPLES)
        self._conditions: dict[Split, Condition] = {
            "train": condition,
            "validation": evaluation_condition or condition,
            "test": evaluation_condition or condition,
        }
        self._styles = {
            name: self._style_arrays(name) for name in sorted(set(self._conditions.values()))
        }
        self._teacher = self._teacher_arrays()
        self._batch_size = batch_size
        self._evaluation_batch_size = evaluation_batch_size
        self._maximum_samples = maximum_samples
        self._seed = seed
        self._rows: dict[Split, PlanningRows] = {}

    def input_paths(self) -> Mapping[str, Path]:
        """Folder of every artifact that was given, by the name of its option."""
        return {name: path for name, path in self._paths.items() if path is not None}

    def input_hashes(self) -> Mapping[str, str]:
        """Content hash of every artifact, by the name of its option."""
        return {name: read_manifest(path).content_hash for name, path in self.input_paths().items()}

    def setup(self, stage: str) -> None:
        """Make the rows that a stage needs.

        Raises:
            InputError: If a split is empty, or no training sample has a logged future.
        """
        for split in STAGES.get(stage, ("train", "validation", "test")):
            if split not in self._rows:
                self._rows[split] = self._read(split)

    def training_futures(
        self,
    ) -> tuple[
        PlannerInput,
        Float[Tensor, "sample variant time 3"],
        Bool[Tensor, "sample variant time"],
    ]:
        """Scenes, all that is learnt in them and its mask: the log, then the teacher's variants.

        Those that begin displaced are masked: their poses are in another frame.
        """
        rows = self._rows["train"]
        futures, mask = rows.future[:, None], rows.future_mask[:, None]
        taught = None if self._teacher is None else _teacher_futures(self._teacher)
        if taught is None:
            return rows.scenes, futures, mask
        taught = taught.rows(torch.from_numpy(rows.sample_ids))
        there = taught.mask & (taught.displacement == 0).all(-1)
        return (
            rows.scenes,
            torch.cat([futures, taught.poses], 1),
            torch.cat([mask, there[..., None].expand(-1, -1, PLAN_STEPS)], 1),
        )

    def train_dataloader(self) -> StatefulLoader[PlanningBatch]:
        """Training batches; the order depends on seed and epoch alone."""
        return self._loader("train", self._batch_size, pool_batches=1, share=self._share())

    def val_dataloader(self) -> StatefulLoader[PlanningBatch]:
        """Validation batches, in the order of the table."""
        return self._loader("validation", self._evaluation_batch_size, pool_batches=0)

    def test_dataloader(self) -> StatefulLoader[PlanningBatch]:
        """Test batches, in the order of the table."""
        return self._loader("test", self._evaluation_batch_size, pool_batches=0)

    def _loader(
        self, split: Split, batch_size: int, *, pool_batches: int, share: tuple[int, int] = (0, 1)
    ) -> StatefulLoader[PlanningBatch]:
        return StatefulLoader(
            np.ones(len(self._rows[split]), np.int64),
            lambda rows, _epoch: self._batch(split, rows),
            batch_size=batch_size,
            seed=self._seed,
            pool_batches=pool_batches,
            share=share,
        )

    def _read(self, split: Split) -> PlanningRows:
        samples = self.samples.filter(pl.col("split") == split)
        if not samples.height:
            raise InputError(
                f"{self._paths['styles']} has no sample of the split {split}; annotate more scenes."
            )
        most = self._maximum_samples
        if most is not None and samples.height > most:
            samples = samples[np.linspace(0, samples.height - 1, most).round().astype(np.int64)]
        scenes = self._paths["scenes"]
        if scenes is None:
            raise InputError("data.scenes is missing; pass --data.scenes.")
        rows = read_planning_rows(scenes, samples)
        if split != "train":
            return rows
        kept = rows.future_mask.any(-1).nonzero()[:, 0]
        if not len(kept):
            raise InputError(
                f"No training sample of {self._paths['styles']} has a logged future; there is "
                "nothing to learn from."
            )
        return PlanningRows(
            rows.sample_ids[kept.numpy()],
            rows.scenes.rows(kept),
            rows.future[kept],
            rows.future_mask[kept],
        )

    def _batch(self, split: Split, rows: np.ndarray) -> PlanningBatch:
        chosen, data = torch.from_numpy(rows), self._rows[split]
        ids = torch.from_numpy(data.sample_ids[rows])
        values, mask = self._styles[self._conditions[split]]
        teacher, proposals = None, None
        if split == "train" and self._teacher is not None:
            taught = {name: array[ids] for name, array in self._teacher.items()}
            teacher = _teacher_futures(taught)
            proposals = _scored_proposals(taught)
        return PlanningBatch(
            scene=data.scenes.rows(chosen),
            style=StyleCondition(values[ids], mask[ids]),
            future=data.future[chosen],
            future_mask=data.future_mask[chosen],
            proposals=proposals,
            teacher=teacher,
        )

    def _style_arrays(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Values and mask of every sample under a condition."""
        size = (self.samples.height, len(STYLE_DIMENSIONS))
        path = self._paths["style_vectors"]
        if path is None or condition == "none":
            return torch.zeros(size), torch.zeros(size, dtype=torch.bool)
        source = read_artifact(path, kind="style_vectors")
        arrays = source.arrays("style_vectors")
        names = (f"{condition}_values", f"{condition}_mask")
        if missing := [name for name in names if name not in arrays]:
            raise ArtifactMismatch(
                f"{path} has no {missing[0]}; it holds {', '.join(sorted(arrays))}. Choose another "
                "data.condition."
            )
        values = torch.from_numpy(np.array(arrays[names[0]], dtype=np.float32))
        mask = torch.from_numpy(np.array(arrays[names[1]], dtype=np.bool_))
        for array in (values, mask):
            if tuple(array.shape) != size:
                raise ArtifactMismatch(
                    f"{path} has style vectors of {tuple(array.shape)}, the samples need {size}; "
                    "make it again from these styles."
                )
        return values * mask, mask

    def _teacher_arrays(self) -> dict[str, Tensor] | None:
        """Arrays of the teacher by name, one row per sample."""
        path = self._paths["teacher"]
        if path is None:
            return None
        arrays = read_artifact(path, kind="teacher").arrays("teacher")
        for name, array in arrays.items():
            if len(array) != self.samples.height:
                raise ArtifactMismatch(
                    f"{path} has {len(array)} rows of {name}, there are {self.samples.height} "
                    "samples; make it again from these styles."
                )
        if "poses" in arrays and "displacement" not in arrays:
            raise ArtifactMismatch(
                f"{path} does not say where its drives begin; make it again with `driving teach`."
            )
        scored = arrays.get("sub_scores")
        if scored is not None and scored.shape[-1] != len(SUB_SCORES):
            raise ArtifactMismatch(
                f"{path} has {scored.shape[-1]} sub-scores, needed are {', '.join(SUB_SCORES)}."
            )
        return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

    def _share(self) -> tuple[int, int]:
        """Rank and number of processes; all of them evaluate every row."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size


def _teacher_futures(arrays: Mapping[str, Tensor]) -> TeacherFutures | None:
    if "poses" not in arrays:
        return None
    return TeacherFutures(
        arrays["poses"].float(),
        arrays["mask"].bool(),
        arrays["style_values"].float(),
        arrays["style_mask"].bool(),
        arrays["displacement"].float(),
    )


def _scored_proposals(arrays: Mapping[str, Tensor]) -> ScoredProposals | None:
    if "sub_scores" not in arrays:
        return None
    mask = arrays["sub_score_mask"].bool()
    return ScoredProposals(arrays["proposals"].float(), arrays["sub_scores"].float() * mask, mask)
