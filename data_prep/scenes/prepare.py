"""From driving logs of any format to one artifact `scenes`, a scene at a time."""

import json
import re
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from data_prep.artifact import ArtifactWriter, create_artifact
from data_prep.errors import InputError
from data_prep.progress import track
from data_prep.reviews.rejects import Rejects
from data_prep.scenes.check import CheckedScene, checked_scene, linked_map
from data_prep.scenes.frame_spool import FrameSpool
from data_prep.scenes.raw_scene import RawMap, RawScene, RejectedInput, Split
from data_prep.scenes.recording_split import recording_split
from data_prep.scenes.scene_frames import (
    PreparedMap,
    map_lines_frame,
    map_origin,
    prepared_map,
    scene_frames,
)
from data_prep.scenes.scene_rules import SceneDestination, SceneRules
from data_prep.scenes.source import SceneSource
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from data_prep.scenes.tables import (
    DRIVER_STYLES,
    LIGHT_STATES,
    MAP_LINES,
    MAPS,
    SCENE_TOKENS,
    SCENES,
    STATES,
    TRACKS,
)
from data_prep.schema import REJECTED, TableSchema

KIND = "scenes"
ALWAYS = (TRACKS, STATES, LIGHT_STATES)
OPTIONAL = (SCENE_TOKENS, DRIVER_STYLES)
_MAPS_KEPT_READY = 8
_SPLIT_NAMES = ("train", "validation", "test")


def write_scenes(source: SceneSource, rules: SceneRules, destination: SceneDestination) -> None:
    """Prepare one source and write it as an artifact of kind `scenes`.

    The source is read once. Every scene is checked, brought to the fixed clock, laid on its lanes
    and put aside on disk; when all are known they are numbered, split by recording, and laid end
    to end into the tables. In memory at a time are one scene, a few maps, and a few words
    about every scene.

    Args:
        source: The raw format.
        rules: How scenes are prepared.
        destination: Where they go.

    Raises:
        InputError: If too much is refused, nothing is left, or the destination is taken.
    """
    with (
        create_artifact(
            destination.out,
            kind=KIND,
            command=destination.command,
            configuration=destination.configuration,
            inputs=destination.inputs,
            overwrite=destination.overwrite,
        ) as writer,
        tempfile.TemporaryDirectory(dir=writer.folder, prefix=".spool.") as temporary,
    ):
        _Work(source, rules, writer, Path(temporary)).run()


@dataclass(frozen=True)
class _Entry:
    """What is remembered of a scene whose rows are put aside."""

    row: dict[str, Any]
    map_key: str
    fixed: Split | None
    vehicle_states: int
    place: int


@dataclass(frozen=True)
class _KnownMap:
    """What is remembered of a map whose lines are put aside."""

    origin_m: np.ndarray
    line_keys: int
    place: int


class _Work:
    """The steps of one preparation and what they hand to each other."""

    def __init__(
        self, source: SceneSource, rules: SceneRules, writer: ArtifactWriter, folder: Path
    ) -> None:
        self.source, self.rules, self.writer = source, rules, writer
        self.rejects = Rejects()
        self.reasons: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.entries: dict[str, _Entry] = {}
        self.maps: dict[str, _KnownMap] = {}
        self.prepared: OrderedDict[str, PreparedMap] = OrderedDict()
        self.lost_files: set[str] = set()
        self.read_files: set[str] = set()
        self.refused_tracks = self.read_tracks = self.refused_pieces = 0
        self.spools = {
            schema.name: FrameSpool(folder / schema.name)
            for schema in (*ALWAYS, *OPTIONAL, MAP_LINES)
        }

    def run(self) -> None:
        for found in track(self.source.scenes(), "reading scenes"):
            if isinstance(found, RejectedInput):
                self._refuse(found)
                self.refused_pieces += 1
                self.lost_files.add(found.file)
            else:
                self._take(found)
        self._stop_if_too_much()
        ordered = [self.entries[key] for key in sorted(self.entries)]
        map_number = {key: at for at, key in enumerate(sorted({one.map_key for one in ordered}))}
        splits = self._splits(ordered)
        self._write_maps(map_number)
        self._write_scenes(ordered, map_number, splits)
        for schema in (*ALWAYS, *OPTIONAL):
            self._write_rows(schema, ordered)
        if self.writer.path(f"{DRIVER_STYLES.name}.parquet").is_file():
            self.writer.write_json("style_dimensions", list(STYLE_DIMENSIONS))
        self.writer.write_table(REJECTED, self.rejects.frame())
        self._note(ordered, splits)

    def _refuse(self, piece: RejectedInput) -> None:
        self.rejects.add(piece.file, 0, piece.reason, piece.excerpt)
        self.reasons[_kind_of_reason(piece.reason)] += 1

    def _take(self, scene: RawScene) -> None:
        self.read_files.add(scene.file)
        checked = self._checked(scene)
        for piece in checked.refused:
            self._refuse(piece)
        self.read_tracks += checked.read_tracks
        self.refused_tracks += checked.refused_tracks
        self.counts["dropped_links"] += checked.dropped_links
        if checked.scene is None:
            self.counts["refused_scenes"] += 1
            return
        prepared = self._map(checked.scene)
        frames = scene_frames(checked.scene, prepared, self.rules.step_s)
        for lost in frames.lost:
            reason = "a lone state without a velocity, or none near a step"
            self._refuse(
                RejectedInput(scene.file, f"scene {scene.key}, track {lost.key}: {reason}")
            )
        self.refused_tracks += len(frames.lost)
        if not frames.step_count:
            self.counts["refused_scenes"] += 1
            self._refuse(RejectedInput(scene.file, f"scene {scene.key}: no track is left"))
            return
        place = -1
        for name, frame in frames.tables.items():
            place = self.spools[name].append(frame)
        self.counts.update(frames.counts)
        self.counts["steps"] += frames.step_count
        row = {
            "scene_key": scene.key,
            "source": self.source.name,
            "recording_key": scene.recording_key,
            "location": scene.location,
            "step_s": self.rules.step_s,
            "step_count": frames.step_count,
            "ego_track_id": frames.ego_track_id,
            "simulated": scene.simulated,
            "notes": json.dumps(dict(scene.notes), sort_keys=True, ensure_ascii=False),
        }
        self.entries[scene.key] = _Entry(
            row, scene.map.key, scene.split, frames.vehicle_states, place
        )

    def _checked(self, scene: RawScene) -> CheckedScene:
        known = self.maps.get(scene.map.key)
        reason = None
        if scene.key in self.entries:
            reason = "its key repeats"
        elif known is not None and known.line_keys != _line_keys(scene.map):
            reason = f"its map {scene.map.key} differs from an earlier one of that name"
        if reason is None:
            return checked_scene(scene, map_is_known=known is not None)
        count = max(1, len(scene.tracks))
        row = RejectedInput(scene.file, f"scene {scene.key}: {reason}")
        return CheckedScene(None, (row,), count, count)

    def _map(self, scene: RawScene) -> PreparedMap:
        """The scene's map, from the few that are kept ready, or made ready again."""
        key = scene.map.key
        if key in self.prepared:
            self.prepared.move_to_end(key)
            return self.prepared[key]
        raw_map, dropped = linked_map(scene.map)
        if key in self.maps:
            ready = prepared_map(raw_map, self.maps[key].origin_m)
        else:
            tracks = [np.stack([one.x_m, one.y_m], axis=1) for one in scene.tracks]
            ready = prepared_map(raw_map, map_origin(raw_map, np.concatenate(tracks)))
            place = self.spools[MAP_LINES.name].append(map_lines_frame(raw_map, ready))
            self.maps[key] = _KnownMap(ready.origin_m, _line_keys(scene.map), place)
            self.counts["dropped_links"] += dropped
        self.prepared[key] = ready
        if len(self.prepared) > _MAPS_KEPT_READY:
            self.prepared.popitem(last=False)
        return ready

    def _stop_if_too_much(self) -> None:
        """Compare refused tracks with all; a file of which nothing was read counts as a scene."""
        lost = len(self.lost_files - self.read_files)
        scenes = len(self.entries) + self.counts["refused_scenes"]
        per_scene = max(1.0, self.read_tracks / scenes) if scenes else 1.0
        pieces = self.refused_pieces - lost + lost * per_scene
        refused, read = self.refused_tracks + pieces, self.read_tracks + pieces
        first = f"; the first reason is: {self.rejects.rows[0][2]}" if self.rejects.rows else ""
        if not self.entries:
            raise InputError(
                f"No scene is left of what was read{first}. Check the files and their format."
            )
        limit = self.rules.max_rejected_share
        if refused > limit * read:
            raise InputError(
                f"{refused:,.0f} of {read:,.0f} tracks were refused, more than the share "
                f"{limit:g} that is allowed{first}. Mend the files or raise --max-rejected-share."
            )

    def _splits(self, ordered: list[_Entry]) -> dict[str, Split]:
        states: Counter[str] = Counter()
        fixed: dict[str, Split] = {}
        for entry in ordered:
            recording = entry.row["recording_key"]
            states[recording] += entry.vehicle_states
            if entry.fixed is not None and fixed.setdefault(recording, entry.fixed) != entry.fixed:
                raise InputError(
                    f"Recording {recording} lies in {fixed[recording]} and in {entry.fixed} of the "
                    "source's own split; remove it from one of them."
                )
        return recording_split(
            states,
            fixed,
            validation=self.rules.validation,
            test=self.rules.test,
            seed=self.rules.seed,
        )

    def _write_maps(self, map_number: Mapping[str, int]) -> None:
        rows = []
        for key, number in map_number.items():
            x_m, y_m = self.maps[key].origin_m
            rows.append((number, f"{self.source.name}:{key}", float(x_m), float(y_m)))
        self.writer.write_table(MAPS, pl.DataFrame(rows, schema=MAPS.polars, orient="row"))

        def lines() -> Iterator[pl.DataFrame]:
            for key, number in map_number.items():
                frame = self.spools[MAP_LINES.name].read(self.maps[key].place)
                yield _numbered(MAP_LINES, "map_id", number, frame)

        write_rows(self.writer, MAP_LINES, lines())

    def _write_scenes(
        self, ordered: list[_Entry], map_number: Mapping[str, int], splits: Mapping[str, Split]
    ) -> None:
        rows = [
            {
                **entry.row,
                "scene_id": number,
                "split": splits[entry.row["recording_key"]],
                "map_id": map_number[entry.map_key],
            }
            for number, entry in enumerate(ordered)
        ]
        self.writer.write_table(SCENES, pl.DataFrame(rows, schema=SCENES.polars, orient="row"))

    def _write_rows(self, schema: TableSchema, ordered: list[_Entry]) -> None:
        def frames() -> Iterator[pl.DataFrame]:
            for number, entry in enumerate(ordered):
                frame = self.spools[schema.name].read(entry.place)
                if frame.height:
                    yield _numbered(schema, "scene_id", number, frame)

        write_rows(self.writer, schema, frames(), optional=schema in OPTIONAL)

    def _note(self, ordered: list[_Entry], splits: Mapping[str, Split]) -> None:
        scenes, states = Counter(), Counter()
        for entry in ordered:
            scenes[splits[entry.row["recording_key"]]] += 1
            states[splits[entry.row["recording_key"]]] += entry.vehicle_states
        recordings = Counter(splits.values())
        simulated = {bool(entry.row["simulated"]) for entry in ordered}
        self.writer.notes.update(
            {
                "simulated": simulated.pop() if len(simulated) == 1 else "partly",
                "scenes": len(ordered),
                "recordings": len(splits),
                "maps": len({entry.map_key for entry in ordered}),
                "seconds": round(self.counts["steps"] * self.rules.step_s, 3),
                "tracks_read": self.read_tracks,
                "tracks_refused": self.refused_tracks,
                "rejected_by_reason": dict(sorted(self.reasons.items())),
                **{name: self.counts[name] for name in sorted(self.counts) if name != "steps"},
                "by_split": {
                    name: {
                        "recordings": recordings[name],
                        "scenes": scenes[name],
                        "vehicle_states": states[name],
                    }
                    for name in _SPLIT_NAMES
                },
            }
        )


def _line_keys(raw_map: RawMap) -> int:
    """Tells maps apart that a source gives one name by mistake."""
    return hash(tuple(line.key for line in raw_map.lines))


def _kind_of_reason(reason: str) -> str:
    """A reason without the names and numbers in it."""
    words = re.sub(r"^(?:scene|map|track|line|file) .*?: ", "", reason)
    words = re.sub(r"^(?:map|line|track) .*?: ", "", words)
    words = re.sub(r" at [-\d.]+ s\b", "", words)
    return re.sub(r"[-\d.,]*\d[\d.,]*", "#", words)[:100]


def _numbered(schema: TableSchema, column: str, number: int, frame: pl.DataFrame) -> pl.DataFrame:
    numbered = frame.with_columns(pl.lit(number, dtype=pl.Int32).alias(column))
    return numbered.select(schema.polars.names())


def write_rows(
    writer: ArtifactWriter,
    schema: TableSchema,
    frames: Iterator[pl.DataFrame],
    *,
    optional: bool = False,
) -> None:
    """Write a table from frames; one without any row is written empty, or not at all."""
    first = next(frames, None)
    if first is None:
        if not optional:
            writer.write_table(schema, schema.empty())
        return

    def all_frames() -> Iterator[pl.DataFrame]:
        yield first
        yield from frames

    writer.write_stream(schema, all_frames())
