"""The data a recommender is trained on: artifacts opened once, batches cut from flat arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import lightning as L
import numpy as np

from data_prep.artifact import read_artifact, read_manifest
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS, PREFERENCES, TEXTS
from personalize.conditioning.selection import Latest, Oracle, PreferenceIndex, SelectionPolicy
from personalize.stateful_loader import StatefulLoader
from recsys.batch import HistoryBatch
from recsys.collate import Padded, RowPreferences, prefix_batch, sequence_batch, windows
from recsys.histories import Histories, Split, Stretches
from recsys.row_preferences import Asked, PreferenceSource
from recsys.stored_catalogue import load_catalogue

RowShape = Literal["prefixes", "sequences"]


class InteractionDataModule(L.LightningDataModule):
    """Training, validation and test rows from the artifacts of the commands before `fit`.

    Training rows are made from interactions of the split `train` alone. A validation or test row
    asks for one interaction of its split, and its history is everything before it. Preferences of
    a target use evidence strictly before it.

    Training rows may be conditioned on the preference nearest to their own target: the target of
    a training row is known by definition, so this is supervision. Evaluation rows may not, unless
    an upper bound is wanted (`docs/decisions/0002`).

    Attributes:
        catalogue: What recommenders are built from.
    """

    def __init__(  # noqa: PLR0913  (each one is a documented option of the configuration)
        self,
        tables: Path,
        vectors: Path | None = None,
        semantic_ids: Path | None = None,
        preferences: Path | None = None,
        *,
        training_policies: Sequence[SelectionPolicy] | None = None,
        evaluation_policy: SelectionPolicy | None = None,
        preference_count: int = 3,
        rows: RowShape = "prefixes",
        batch_size: int = 256,
        evaluation_batch_size: int = 256,
        maximum_history: int = 20,
        train_on_validation: bool = False,
        pool_batches: int = 32,
        seed: int = 0,
    ) -> None:
        """Open the artifacts.

        Args:
            tables: Artifact `reviews`, written by `data-prep`.
            vectors: Artifact `vectors`, written by `personalize encode`.
            semantic_ids: Artifact `semantic_ids`, written by `recsys tokenize`.
            preferences: Artifact `preferences`, written by `personalize extract`; needs `vectors`.
            training_policies: How preferences of training targets are chosen; of several, one is
                drawn for every row and epoch. Default: `Oracle` (nearest to the target) and
                `Latest` in equal parts.
            evaluation_policy: The same for validation and test. Default: `Latest`.
            preference_count: Most preferences per target.
            rows: `prefixes` asks one target per row, `sequences` one after every step.
            batch_size: Rows in a training batch.
            evaluation_batch_size: Rows in a validation or test batch.
            maximum_history: Newest steps of a history that are used.
            train_on_validation: Learn from validation interactions too, for a final run.
            pool_batches: Batches whose rows are sorted by length together; 1 turns it off.
            seed: Seed of the order of training rows.

        Raises:
            InputError: If no interaction is left to learn from, or a size is out of range.
            ArtifactMismatch: If an artifact does not fit.
        """
        super().__init__()
        if maximum_history < 1:
            raise InputError(f"maximum_history must be at least 1, got {maximum_history}.")
        source = read_artifact(tables, kind="reviews")
        self.catalogue = load_catalogue(tables, vectors, semantic_ids)
        self.histories = Histories.from_interactions(source.table(INTERACTIONS))
        self._paths = {
            "tables": tables,
            "vectors": vectors,
            "semantic_ids": semantic_ids,
            "preferences": preferences,
        }
        self._training_policies = tuple(training_policies or (Oracle(), Latest()))
        self._evaluation_policies = (evaluation_policy or Latest(),)
        self._preferences = self._preference_source(preferences, preference_count, seed)
        self._rows: RowShape = rows
        self._batch_size = batch_size
        self._evaluation_batch_size = evaluation_batch_size
        self._maximum_history = maximum_history
        self._pool_batches = pool_batches
        self._seed = seed
        learnt: tuple[Split, ...] = ("train", "validation") if train_on_validation else ("train",)
        self.training_rows = self._stretches(learnt)
        if not len(self.training_rows):
            raise InputError(
                f"{tables} has no training interaction with another one before it; "
                "there is nothing to learn from."
            )

    def input_paths(self) -> Mapping[str, Path]:
        """Folder of every artifact that was given, by the name of its option."""
        return {name: path for name, path in self._paths.items() if path is not None}

    def input_hashes(self) -> Mapping[str, str]:
        """Content hash of every artifact, by the name of its option."""
        return {name: read_manifest(path).content_hash for name, path in self.input_paths().items()}

    def train_dataloader(self) -> StatefulLoader[HistoryBatch]:
        """Training batches of similar length; the order depends on seed and epoch alone."""
        return StatefulLoader(
            self.training_rows.lengths,
            lambda rows, epoch: self._batch(
                self.training_rows, rows, self._training_policies, epoch, shape=self._rows
            ),
            batch_size=self._batch_size,
            seed=self._seed,
            pool_batches=self._pool_batches,
            share=self._share(),
        )

    def every_training_row(self) -> StatefulLoader[HistoryBatch]:
        """Every training row once, in the order of the table, for a look before training."""
        return StatefulLoader(
            self.training_rows.lengths,
            lambda rows, epoch: self._batch(
                self.training_rows, rows, self._training_policies, epoch, shape=self._rows
            ),
            batch_size=self._evaluation_batch_size,
            pool_batches=0,
        )

    def val_dataloader(self) -> StatefulLoader[HistoryBatch]:
        """One row per validation interaction that has a past, in the order of the table."""
        return self._evaluation_loader("validation")

    def test_dataloader(self) -> StatefulLoader[HistoryBatch]:
        """One row per test interaction that has a past, in the order of the table."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: Split) -> StatefulLoader[HistoryBatch]:
        stretches = self.histories.prefixes((split,), maximum_history=self._maximum_history)
        return StatefulLoader(
            stretches.lengths,
            lambda rows, epoch: self._batch(
                stretches, rows, self._evaluation_policies, epoch, shape="prefixes"
            ),
            batch_size=self._evaluation_batch_size,
            pool_batches=0,
        )

    def _stretches(self, splits: tuple[Split, ...]) -> Stretches:
        cut = self.histories.sequences if self._rows == "sequences" else self.histories.prefixes
        return cut(splits, maximum_history=self._maximum_history)

    def _preference_source(
        self, preferences: Path | None, count: int, seed: int
    ) -> PreferenceSource | None:
        if preferences is None:
            return None
        vectors = self._paths["vectors"]
        if vectors is None:
            raise InputError("data.preferences needs data.vectors, which holds their vectors.")
        table = read_artifact(preferences, kind="preferences").table(PREFERENCES)
        texts = read_artifact(vectors, kind="vectors", verify=False).table(TEXTS)
        return PreferenceSource(
            index=PreferenceIndex.from_frames(table, texts),
            text_vectors=self.catalogue.text_vectors.numpy(),
            item_text_ids=self.catalogue.item_text_ids.numpy(),
            item_text_mask=self.catalogue.item_text_mask.numpy(),
            count=count,
            seed=seed,
        )

    def _batch(
        self,
        stretches: Stretches,
        rows: np.ndarray,
        policies: Sequence[SelectionPolicy],
        epoch: int,
        *,
        shape: RowShape,
    ) -> HistoryBatch:
        starts, lengths = stretches.starts[rows], stretches.lengths[rows]
        history = windows(self.histories.item_ids, starts, lengths)
        if shape == "prefixes":
            targets = (starts + lengths)[:, None]
            asked = np.ones(targets.shape, np.bool_)
        else:
            places = np.arange(history.mask.shape[1])
            targets = starts[:, None] + 1 + places
            asked = history.mask & (places >= stretches.first_targets[rows][:, None])
        draw = (epoch, int(rows[0]), len(rows)) if len(rows) else (epoch,)
        chosen = self._chosen(np.where(asked, targets, 0), asked, policies, draw)
        item_ids = np.where(asked, self.histories.item_ids[np.where(asked, targets, 0)], 0)
        if shape == "prefixes":
            return prefix_batch(rows, history, item_ids[:, 0], chosen)
        return sequence_batch(rows, history, Padded(item_ids, asked), chosen)

    def _chosen(
        self,
        targets: np.ndarray,
        asked: np.ndarray,
        policies: Sequence[SelectionPolicy],
        draw: tuple[int, ...],
    ) -> RowPreferences | None:
        """Preferences of every target, which are places in the flat arrays, row after row."""
        if self._preferences is None:
            return None
        places, real = targets.flatten(), asked.flatten()
        starts = np.maximum(self.histories.user_starts[places], places - self._maximum_history)
        return self._preferences.chosen(
            policies,
            Asked(
                user_ids=self.histories.user_ids[places],
                positions=np.where(real, self.histories.positions[places], -1),
                target_item_ids=self.histories.item_ids[places],
                histories=windows(self.histories.item_ids, starts, places - starts),
            ),
            draw=draw,
        )

    def _share(self) -> tuple[int, int]:
        """Rank and number of processes; all of them evaluate every row, so no row is left out."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size
