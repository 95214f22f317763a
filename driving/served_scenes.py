"""The samples that are served: their ids, what is said of each, and who is found by which word."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from jaxtyping import Int64

from data_prep.artifact import Artifact
from data_prep.errors import InputError
from data_prep.scenes.tables import SCENES
from data_prep.schema import SPLITS
from driving.scene_texts import SampleText, scene_texts
from driving.style.tables import SAMPLES
from personalize.api.messages import Scene, SceneFilters
from personalize.api.ports import RequestRefused


@dataclass(frozen=True)
class ServedScenes:
    """Samples in the order of their numbers.

    A sample's id is its token; where it has none, or shares it, the key of the scene, the track and
    the step: `grid 00001 of seed 0:1:10`. Both are understood.

    Attributes:
        samples: Rows of the samples table, with key, source, place and `simulated` of the scene.
        texts: What is said of each.
    """

    samples: pl.DataFrame
    texts: Sequence[SampleText]

    @classmethod
    def of(cls, scenes: Artifact, styles: Artifact, splits: Sequence[str]) -> "ServedScenes":
        """The samples of some splits.

        Raises:
            InputError: If a split is unknown, or there is no sample in them.
            ArtifactMismatch: If scenes and styles do not fit.
        """
        if unknown := [split for split in splits if split not in SPLITS]:
            raise InputError(f"There is no split {unknown[0]}; known are {', '.join(SPLITS)}.")
        about = scenes.table(SCENES).select(
            "scene_id", "scene_key", "source", "location", "simulated"
        )
        samples = styles.table(SAMPLES).filter(pl.col("split").is_in(list(splits)))
        if samples.is_empty():
            raise InputError(
                f"{styles.folder} has no sample of the splits {', '.join(splits)}; serve others."
            )
        joined = samples.join(about, on="scene_id", how="left", maintain_order="left")
        return cls(joined, scene_texts(scenes, styles, samples))

    def __len__(self) -> int:
        """Number of samples."""
        return self.samples.height

    @cached_property
    def ids(self) -> list[str]:
        """The id of every sample, by row."""
        tokens = self.samples["token"]
        single = tokens.is_unique() & tokens.is_not_null()
        return [
            token if alone else place
            for token, place, alone in zip(tokens, self._places, single, strict=True)
        ]

    @cached_property
    def numbers(self) -> Int64[np.ndarray, " sample"]:
        """`sample_id` of every row, ascending."""
        return self.samples["sample_id"].to_numpy().astype(np.int64)

    @cached_property
    def _places(self) -> list[str]:
        keys = self.samples["scene_key"]
        source = self.samples.group_by("scene_key").agg(pl.col("scene_id").n_unique())
        repeated = set(source.filter(pl.col("scene_id") > 1)["scene_key"])
        rows = self.samples.select("source", "scene_id", "track_id", "step").iter_rows()
        return [
            f"{f'{source} {scene} {key}' if key in repeated else key}:{track}:{step}"
            for key, (source, scene, track, step) in zip(keys, rows, strict=True)
        ]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        found = {place: row for row, place in enumerate(self._places)}
        return found | {name: row for row, name in enumerate(self.ids)}

    def row(self, scene: str, *, param: str = "scene") -> int:
        """The row of an id.

        Raises:
            RequestRefused: If there is none of this id.
        """
        row = self._row_of.get(scene)
        if row is None:
            raise RequestRefused(
                f"There is no scene {scene!r}; /v1/scenes lists them.", param=param, status=404
            )
        return row

    def row_of_number(self, sample_id: int) -> int:
        """The row of a `sample_id`, -1 where it is not served."""
        row = int(np.searchsorted(self.numbers, sample_id))
        return row if row < len(self) and self.numbers[row] == sample_id else -1

    def sample(self, row: int) -> pl.DataFrame:
        """One row of `SAMPLES`."""
        return self.samples[row : row + 1].select(SAMPLES.polars.names())

    def scene(self, row: int) -> Scene:
        """One sample as a message."""
        if row not in self._messages:
            source, split, location, simulated = self._facts[row]
            text = self.texts[row]
            self._messages[row] = Scene(
                id=self.ids[row],
                source=source,
                split=split,
                location=location,
                scenario_type=text.scenario_type,
                label=text.label,
                description=text.description,
                style=dict(text.style),
                simulated=simulated,
            )
        return self._messages[row]

    @cached_property
    def _messages(self) -> dict[int, Scene]:
        """What was asked for before; at most one per sample."""
        return {}

    @cached_property
    def _facts(self) -> list[tuple]:
        return self.samples.select("source", "split", "location", "simulated").rows()

    def having(self, query: str) -> list[int]:
        """Rows in whose description, place, kind, label or id all words of a query occur."""
        words = query.casefold().split()
        return [row for row, text in enumerate(self._said) if all(word in text for word in words)]

    @cached_property
    def _said(self) -> list[str]:
        """What a search by words looks at: names as they are, and with spaces for underscores."""
        facts = self.samples.select("location", "source", "split").iter_rows()
        said = [
            " ".join((key, *about, text.scenario_type, text.label, text.description)).casefold()
            for key, about, text in zip(self.ids, facts, self.texts, strict=True)
        ]
        return [f"{words} {words.replace('_', ' ')}" for words in said]

    @cached_property
    def _types(self) -> np.ndarray:
        return np.array([text.scenario_type for text in self.texts])

    def allowed(self, filters: SceneFilters) -> Int64[np.ndarray, " allowed"] | None:
        """Numbers of the samples that pass, ascending; None where all do.

        Raises:
            RequestRefused: If a scene or a type of scene is not known.
        """
        if not filters.model_dump(exclude_defaults=True):
            return None
        passes = np.ones(len(self), np.bool_)
        if filters.splits is not None:
            passes &= np.isin(self.samples["split"].to_numpy(), filters.splits)
        if filters.scenario_types is not None:
            self._know(filters.scenario_types)
            passes &= np.isin(self._types, filters.scenario_types)
        if filters.allow is not None:
            passes &= np.isin(np.arange(len(self)), self._rows(filters.allow, "filters.allow"))
        passes[self._rows(filters.deny, "filters.deny")] = False
        return self.numbers[passes]

    def _know(self, types: Sequence[str]) -> None:
        known = np.unique(self._types).tolist()
        if unknown := [name for name in types if name not in known]:
            raise RequestRefused(
                f"There is no scenario type {unknown[0]!r}; served are {', '.join(known)}.",
                param="filters.scenario_types",
            )

    def _rows(self, scenes: Sequence[str], param: str) -> list[int]:
        return [self.row(scene, param=param) for scene in scenes]
