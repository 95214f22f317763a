"""An artifact `scenes` opened for reading: worlds around any samples of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Int

from data_prep.artifact import Artifact, read_artifact
from data_prep.errors import InputError
from data_prep.scenes.raw_scene import AGENT_KINDS, LIGHTS
from data_prep.scenes.tables import LIGHT_STATES, MAP_LINES, MAPS, SCENES, STATES, TRACKS
from driving.line_facts import LineFacts, fact_rows
from driving.map_store import MapStore
from driving.metrics.drivable_area import DrivableArea
from driving.world import World
from driving.world_builder import SceneTraffic, WorldSize, stack_worlds, world_rows


@dataclass(frozen=True)
class SceneStore:
    """The tables of one artifact `scenes`, indexed by scene.

    Attributes:
        folder: Where it lies.
        content_hash: Of the artifact.
        size: How much of the surroundings a world holds.
        scenes: Table of scenes.
        tracks: Table of tracks, one frame per scene.
        states: Table of states, one frame per scene.
        lights: Table of light states, one frame per scene that has any.
        maps: The maps, by number.
    """

    folder: Path
    content_hash: str
    size: WorldSize
    scenes: pl.DataFrame
    tracks: Mapping[int, pl.DataFrame]
    states: Mapping[int, pl.DataFrame]
    lights: Mapping[int, pl.DataFrame]
    maps: Mapping[int, MapStore]

    @classmethod
    def read(cls, folder: Path, *, size: WorldSize | None = None) -> "SceneStore":
        """Open an artifact.

        Raises:
            ArtifactMismatch: If it is damaged or of another kind.
            InputError: If its scenes do not share one clock.
        """
        artifact = read_artifact(folder, kind="scenes")
        return cls.of(artifact, size=size)

    @classmethod
    def of(cls, artifact: Artifact, *, size: WorldSize | None = None) -> "SceneStore":
        """Open an artifact that was read.

        Raises:
            InputError: If its scenes do not share one clock.
        """
        scenes = artifact.table(SCENES)
        if scenes["step_s"].n_unique() != 1:
            raise InputError(
                f"{artifact.folder} mixes scenes of different step_s; prepare them with the same "
                "--step-s."
            )
        maps = _by(artifact.table(MAP_LINES), "map_id")
        return cls(
            folder=artifact.folder,
            content_hash=artifact.content_hash,
            size=size or WorldSize(),
            scenes=scenes,
            tracks=_by(artifact.table(TRACKS), "scene_id"),
            states=_by(artifact.table(STATES), "scene_id"),
            lights=_by(artifact.table(LIGHT_STATES), "scene_id"),
            maps={
                number: MapStore(maps.get(number, MAP_LINES.empty()))
                for number in artifact.table(MAPS)["map_id"]
            },
        )

    @property
    def step_s(self) -> float:
        """Seconds from one step to the next, of every scene."""
        return round(float(self.scenes["step_s"][0]), 6)

    @cached_property
    def _map_of_scene(self) -> Mapping[int, int]:
        return dict(self.scenes.select("scene_id", "map_id").iter_rows())

    def drivable_area(self) -> DrivableArea:
        """Where one may drive, map by map in the order of `World.map_index`."""
        maps = [self.maps[number] for number in sorted(self.maps)]
        return DrivableArea.from_polygons(
            [map_.drivable_polygons() for map_ in maps],
            intersections=[map_.drivable_polygons("intersection") for map_ in maps],
        )

    def world(self, samples: pl.DataFrame, *, history_s: float, future_s: float) -> World:
        """The surroundings of some samples, in their order.

        Args:
            samples: Rows of `driving.style.tables.SAMPLES`.
            history_s: Past before the present step.
            future_s: Future after it.
        """
        history, future = round(history_s / self.step_s), round(future_s / self.step_s)
        parts = self._rows(
            samples,
            lambda traffic, track, step: world_rows(
                traffic, track, step, (history, future), self.size
            ),
        )
        return stack_worlds(
            parts,
            step_s=self.step_s,
            now=history,
            sample_ids=torch.as_tensor(samples["sample_id"].to_numpy().astype(np.int64)),
        )

    def facts(self, samples: pl.DataFrame) -> LineFacts:
        """What the map says of the lines and routes of `world(samples)`, row by row."""
        parts = self._rows(
            samples, lambda traffic, track, step: fact_rows(traffic, track, step, self.size)
        )
        return LineFacts(**{name: np.stack([part[name] for part in parts]) for name in parts[0]})

    def _rows(
        self,
        samples: pl.DataFrame,
        build: Callable[[SceneTraffic, int, int], dict[str, np.ndarray]],
    ) -> list[dict[str, np.ndarray]]:
        """What is built for every sample, in their order; every scene is opened once."""
        rows = samples.with_row_index("row").sort("scene_id", maintain_order=True)
        parts: list[dict[str, np.ndarray]] = []
        for scene_id in rows["scene_id"].unique(maintain_order=True):
            traffic = self._traffic(int(scene_id))
            part = rows.filter(pl.col("scene_id") == scene_id)
            moments = part.select("track_id", "step").iter_rows()
            parts.extend(build(traffic, track, step) for track, step in moments)
        return [parts[place] for place in np.argsort(rows["row"].to_numpy(), kind="stable")]

    def _traffic(self, scene_id: int) -> SceneTraffic:
        """One scene as dense arrays."""
        tracks, states = self.tracks[scene_id], self.states[scene_id]
        map_id = self._map_of_scene[scene_id]
        (count,) = self.scenes.filter(pl.col("scene_id") == scene_id)["step_count"]
        dense = np.zeros((tracks.height, count, 5), np.float64)
        mask = np.zeros((tracks.height, count), np.bool_)
        places = (states["track_id"].to_numpy(), states["step"].to_numpy())
        columns = states.select("x_m", "y_m", "heading_rad", "vx_mps", "vy_mps")
        dense[places], mask[places] = columns.to_numpy(), True
        return SceneTraffic(
            map=self.maps[map_id],
            map_index=sorted(self.maps).index(map_id),
            states=dense,
            mask=mask,
            sizes_m=tracks.select("length_m", "width_m").to_numpy().astype(np.float64),
            kinds=np.asarray([AGENT_KINDS.index(kind) for kind in tracks["kind"]], np.int64),
            routes=[list(route) for route in tracks["route_ids"]],
            lights=light_table(self.lights.get(scene_id), count),
        )


def light_table(rows: pl.DataFrame | None, count: int) -> Mapping[int, Int[np.ndarray, " step"]]:
    """What the light of every controlled lane shows at every step, as `driving.world.LIGHT_...`."""
    shown: dict[int, Int[np.ndarray, " step"]] = {}
    for line_id, step, state in (
        [] if rows is None else rows.select("line_id", "step", "state").iter_rows()
    ):
        lane = shown.setdefault(line_id, np.zeros(count, np.int64))
        lane[max(step, 0) :] = LIGHTS.index(state)
    return shown


def _by(frame: pl.DataFrame, column: str) -> dict[int, pl.DataFrame]:
    parts = frame.partition_by(column, as_dict=True, maintain_order=True)
    return {int(str(key[0])): part for key, part in parts.items()}
