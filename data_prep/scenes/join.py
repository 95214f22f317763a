"""Several artifacts `scenes` as one, so that training sees several formats together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import polars as pl

from data_prep.artifact import Artifact, ArtifactWriter, create_artifact, read_artifact
from data_prep.errors import InputError
from data_prep.scenes.prepare import ALWAYS, KIND, OPTIONAL, write_rows
from data_prep.scenes.scene_rules import SceneDestination
from data_prep.scenes.tables import DRIVER_STYLES, MAP_LINES, MAPS, SCENES
from data_prep.schema import REJECTED, TableSchema

_ROWS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class _Part:
    """One run of scenes that keep their order: its artifact, its rows, and how far numbers move."""

    artifact: int
    first: int
    count: int
    shift: int


def join_scenes(folders: Sequence[Path], destination: SceneDestination) -> None:
    """Write the scenes of several artifacts as one, numbered anew.

    The parts that recordings belong to are kept. Maps of one name and equal lines become one.

    Args:
        folders: The artifacts.
        destination: Where the joined one goes; its inputs are the artifacts' own.

    Raises:
        InputError: If there are fewer than two, their clocks differ, a scene is in two of them, a
            recording trains in one and tests in another, or the destination is taken.
        ArtifactMismatch: If a folder is no artifact of scenes.
    """
    if len(folders) < 2:
        raise InputError(f"--scenes needs two artifacts or more to join, got {len(folders)}.")
    artifacts = [read_artifact(folder, kind=KIND) for folder in folders]
    scenes = _joined_scenes(artifacts)
    with create_artifact(
        destination.out,
        kind=KIND,
        command=destination.command,
        configuration=destination.configuration,
        inputs={
            f"{at} {artifact.folder.name}": artifact.content_hash
            for at, artifact in enumerate(artifacts)
        },
        overwrite=destination.overwrite,
    ) as writer:
        maps = _write_maps(writer, artifacts)
        scenes = scenes.join(
            maps, left_on=["artifact", "map_id"], right_on=["artifact", "old_map_id"], how="left"
        ).sort("scene_id")
        writer.write_table(
            SCENES,
            scenes.with_columns(map_id=pl.col("new_map_id")).select(SCENES.polars.names()),
        )
        for schema in (*ALWAYS, *OPTIONAL):
            frames = _joined_rows(artifacts, schema, scenes)
            write_rows(writer, schema, frames, optional=schema in OPTIONAL)
        _write_dimensions(writer, artifacts)
        refused = pl.concat([artifact.table(REJECTED) for artifact in artifacts])
        writer.write_table(REJECTED, refused.unique(subset=REJECTED.key, keep="first"))
        _note(writer, artifacts, scenes)


def _joined_scenes(artifacts: Sequence[Artifact]) -> pl.DataFrame:
    """All scenes with `artifact` and `old_scene_id`, numbered by source and key."""
    tables = [
        artifact.table(SCENES).with_columns(
            artifact=pl.lit(at, pl.Int32), old_scene_id=pl.col("scene_id")
        )
        for at, artifact in enumerate(artifacts)
    ]
    scenes = pl.concat(tables).sort("source", "scene_key")
    steps = sorted(set(scenes["step_s"].to_list()))
    if len(steps) > 1:
        raise InputError(
            f"The artifacts have steps of {steps[0]:g} s and {steps[-1]:g} s; prepare them with "
            "one --step-s."
        )
    repeated = scenes.filter(pl.struct("source", "scene_key").is_duplicated())
    if repeated.height:
        raise InputError(
            f"Scene {repeated['scene_key'][0]} of {repeated['source'][0]} is in several of the "
            "artifacts; join each of them once."
        )
    parts = scenes.group_by("source", "recording_key", maintain_order=True).agg(
        pl.col("split").n_unique()
    )
    torn = parts.filter(pl.col("split") > 1)
    if torn.height:
        raise InputError(
            f"Recording {torn['recording_key'][0]} of {torn['source'][0]} belongs to several "
            "parts of the data; prepare its files together."
        )
    return scenes.with_columns(scene_id=pl.int_range(pl.len(), dtype=pl.Int32))


def _write_maps(writer: ArtifactWriter, artifacts: Sequence[Artifact]) -> pl.DataFrame:
    """Write the maps; the new number of every map, by artifact and old number."""
    kept: list[tuple[str, float, float, pl.DataFrame]] = []
    places: list[tuple[int, int, int]] = []
    for at, artifact in enumerate(artifacts):
        lines = artifact.table(MAP_LINES).partition_by("map_id", as_dict=True, include_key=False)
        none = MAP_LINES.empty().drop("map_id")
        for number, key, x_m, y_m in artifact.table(MAPS).iter_rows():
            own = (key, x_m, y_m, lines.get((number,), none))
            equal = [
                place
                for place, other in enumerate(kept)
                if other[:3] == own[:3] and other[3].equals(own[3])
            ]
            if not equal:
                kept.append(own)
            places.append((at, number, equal[0] if equal else len(kept) - 1))
    order = sorted(range(len(kept)), key=lambda place: (kept[place][0], place))
    number_of = {place: number for number, place in enumerate(order)}
    taken: dict[str, int] = {}
    rows = []
    for number, place in enumerate(order):
        key, x_m, y_m, _ = kept[place]
        taken[key] = taken.get(key, 0) + 1
        rows.append((number, key if taken[key] == 1 else f"{key}#{taken[key]}", x_m, y_m))
    writer.write_table(MAPS, pl.DataFrame(rows, schema=MAPS.polars, orient="row"))
    numbered = (
        kept[place][3].with_columns(map_id=pl.lit(number, pl.Int32))
        for number, place in enumerate(order)
    )
    write_rows(writer, MAP_LINES, (one.select(MAP_LINES.polars.names()) for one in numbered))
    return pl.DataFrame(
        [(at, old, number_of[place]) for at, old, place in places],
        schema={"artifact": pl.Int32(), "old_map_id": pl.Int32(), "new_map_id": pl.Int32()},
        orient="row",
    )


def _joined_rows(
    artifacts: Sequence[Artifact], schema: TableSchema, scenes: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Rows of one table in the order of the new numbers, a bounded number at a time."""
    tables = {}
    for at, artifact in enumerate(artifacts):
        if artifact.has(name := f"{schema.name}.parquet"):
            tables[at] = pl.scan_parquet(artifact.file(name))
    counts = {
        at: dict(table.group_by("scene_id").len().collect().iter_rows())
        for at, table in tables.items()
    }
    for part in _parts(scenes, counts):
        frame = tables[part.artifact].slice(part.first, part.count).collect()
        moved = frame.with_columns(pl.col("scene_id") + pl.lit(part.shift, pl.Int32))
        yield moved.select(schema.polars.names())


def _parts(scenes: pl.DataFrame, counts: dict[int, dict[int, int]]) -> Iterator[_Part]:
    """Runs of rows that lie together in their artifact and move by the same number."""
    begins: dict[tuple[int, int], int] = {}
    for at, of_scene in counts.items():
        place = 0
        for scene in sorted(of_scene):
            begins[at, scene] = place
            place += of_scene[scene]
    rows = [
        (at, new - old, begins[at, old], counts[at][old])
        for new, at, old in scenes.select("scene_id", "artifact", "old_scene_id").iter_rows()
        if (at, old) in begins
    ]
    for (at, shift), run in groupby(rows, key=lambda row: row[:2]):
        first = count = 0
        for _, _, begin, rows_of_scene in run:
            if count and count + rows_of_scene > _ROWS_AT_ONCE:
                yield _Part(at, first, count, shift)
                count = 0
            first = begin if not count else first
            count += rows_of_scene
        yield _Part(at, first, count, shift)


def _write_dimensions(writer: ArtifactWriter, artifacts: Sequence[Artifact]) -> None:
    styled = [one for one in artifacts if one.has(f"{DRIVER_STYLES.name}.parquet")]
    if not styled:
        return
    dimensions = [one.json("style_dimensions") for one in styled]
    if any(one != dimensions[0] for one in dimensions):
        raise InputError("The artifacts name different style dimensions; prepare them again.")
    writer.write_json("style_dimensions", dimensions[0])


def _note(writer: ArtifactWriter, artifacts: Sequence[Artifact], scenes: pl.DataFrame) -> None:
    simulated = set(scenes["simulated"].to_list())
    by_split = scenes.group_by("split").agg(
        scenes=pl.len(), recordings=pl.struct("source", "recording_key").n_unique()
    )
    writer.notes.update(
        {
            "simulated": simulated.pop() if len(simulated) == 1 else "partly",
            "scenes": scenes.height,
            "recordings": scenes.select(pl.struct("source", "recording_key").n_unique()).item(),
            "seconds": round(float((scenes["step_s"] * scenes["step_count"]).sum()), 3),
            "by_split": {
                split: {"scenes": count, "recordings": recordings}
                for split, count, recordings in by_split.sort("split").iter_rows()
            },
            "joined": {
                f"{at} {artifact.folder.name}": dict(artifact.manifest.notes)
                for at, artifact in enumerate(artifacts)
            },
        }
    )
