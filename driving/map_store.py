"""One map in arrays: pieces of its lines near a place, and the lanes a route leads along."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from data_prep.scenes.raw_scene import AREAS, ROAD_CLASSES, Area
from driving.lane_facts import LaneFacts, find_lane_facts
from driving.world import LINE_BOUNDARY, LINE_CROSSWALK, LINE_EDGE, LINE_LANE, LINE_STOP

PIECE_POINTS = 10
PIECE_STEP_M = 2.5
KIND_NUMBERS: Mapping[str, int] = {
    "lane_centre": LINE_LANE,
    "lane_boundary": LINE_BOUNDARY,
    "road_edge": LINE_EDGE,
    "crosswalk": LINE_CROSSWALK,
    "stop_line": LINE_STOP,
}
CLOSED = ("crosswalk", "drivable_area")


@dataclass(frozen=True)
class Lane:
    """One lane centre.

    Attributes:
        line_id: Its number in the map.
        points_m: In the scene frame.
        limit_mps: Speed limit; NaN where unknown.
        successors: Lanes that follow.
        sides: Lanes beside it, same direction.
    """

    line_id: int
    points_m: Float[np.ndarray, "point 2"]
    limit_mps: float
    successors: tuple[int, ...]
    sides: tuple[int, ...]


@dataclass(frozen=True)
class Pieces:
    """All lines of a map, resampled and cut into pieces of equally many points.

    Attributes:
        points_m: In the scene frame; 0 where masked.
        mask: Which points are there.
        kinds: One of `driving.world.LINE_...`.
        line_ids: The line each was cut from.
        limits_mps: Speed limit; NaN where unknown.
        areas: Place in `data_prep.scenes.raw_scene.AREAS`.
        road_classes: Place in `ROAD_CLASSES`.
        has_signal: A traffic light may stop traffic there.
    """

    points_m: Float[np.ndarray, "line point 2"]
    mask: Bool[np.ndarray, "line point"]
    kinds: Int[np.ndarray, " line"]
    line_ids: Int[np.ndarray, " line"]
    limits_mps: Float[np.ndarray, " line"]
    areas: Int[np.ndarray, " line"]
    road_classes: Int[np.ndarray, " line"]
    has_signal: Bool[np.ndarray, " line"]


@dataclass(frozen=True)
class MapStore:
    """One map of an artifact `scenes`, from its rows of `map_lines`."""

    lines: pl.DataFrame

    @cached_property
    def pieces(self) -> Pieces:
        """Every line but the drivable area, in pieces."""
        parts: list[Float[np.ndarray, "point 2"]] = []
        sources: list[int] = []
        rows = self.lines.filter(pl.col("kind") != "drivable_area")
        for number, (kind, x_m, y_m) in enumerate(rows.select("kind", "x_m", "y_m").iter_rows()):
            points = np.column_stack([x_m, y_m]).astype(np.float64)
            cut = cut_line(points, closed=kind in CLOSED)
            parts += cut
            sources += [number] * len(cut)
        points_m = np.zeros((len(parts), PIECE_POINTS, 2), np.float64)
        mask = np.zeros((len(parts), PIECE_POINTS), np.bool_)
        for number, part in enumerate(parts):
            points_m[number, : len(part)], mask[number, : len(part)] = part, True
        chosen = rows[np.asarray(sources, np.int64)] if sources else rows.head(0)
        kinds = [KIND_NUMBERS[kind] for kind in chosen["kind"]]
        return Pieces(
            points_m=points_m,
            mask=mask,
            kinds=np.asarray(kinds, np.int64),
            line_ids=chosen["line_id"].to_numpy().astype(np.int64),
            limits_mps=_floats(chosen["speed_limit_mps"]),
            areas=np.asarray([AREAS.index(area) for area in chosen["area"]], np.int64),
            road_classes=np.asarray(
                [ROAD_CLASSES.index(name) for name in chosen["road_class"]], np.int64
            ),
            has_signal=chosen["has_signal"].to_numpy().astype(np.bool_),
        )

    @cached_property
    def lanes(self) -> Mapping[int, Lane]:
        """Every lane centre by its number."""
        rows = self.lines.filter(pl.col("kind") == "lane_centre")
        found = {}
        for row in rows.iter_rows(named=True):
            limit = row["speed_limit_mps"]
            found[row["line_id"]] = Lane(
                line_id=row["line_id"],
                points_m=np.column_stack([row["x_m"], row["y_m"]]).astype(np.float64),
                limit_mps=float("nan") if limit is None else float(limit),
                successors=tuple(row["successor_ids"]),
                sides=tuple(i for i in (row["left_id"], row["right_id"]) if i is not None),
            )
        return found

    @cached_property
    def lane_facts(self) -> LaneFacts:
        """What is known of the lanes beyond their shape."""
        return find_lane_facts(self.lines)

    def drivable_polygons(self, area: Area | None = None) -> list[Float[np.ndarray, "point 2"]]:
        """The drivable area: counter-clockwise polygons, holes clockwise.

        Args:
            area: Only polygons of this kind of area; None takes all.
        """
        chosen = pl.col("kind") == "drivable_area"
        rows = self.lines.filter(chosen if area is None else chosen & (pl.col("area") == area))
        return [
            np.column_stack([x, y]).astype(np.float64)
            for x, y in rows.select("x_m", "y_m").iter_rows()
        ]

    def beside(self, line_id: int) -> tuple[int, ...]:
        """The lanes of the same road and direction, itself among them, in order of number."""
        found, ahead = {line_id}, [line_id]
        while ahead:
            for side in self.lanes[ahead.pop()].sides:
                if side in self.lanes and side not in found:
                    found.add(side)
                    ahead.append(side)
        return tuple(sorted(found))

    def path(
        self, route_ids: Sequence[int], place_m: Float[np.ndarray, "2"], heading_rad: float
    ) -> list[int]:
        """The lanes to follow from where a vehicle is: its own lane of the route, then onwards.

        A route says which roads to take, not in which lane: of the lanes that lie side by side
        the one goes on that continues the vehicle's own, so no lane change of a logged driver
        is given away. Where none continues it the route's own lane is taken.

        Returns:
            Lane numbers in driving order; empty where the route is.
        """
        known = [line_id for line_id in route_ids if line_id in self.lanes]
        roads: list[tuple[tuple[int, ...], int]] = []
        for line_id in known:
            beside = self.beside(line_id)
            if not roads or roads[-1][0] != beside:
                roads.append((beside, line_id))
        if not roads:
            return []
        start, own = min(
            ((place, lane) for place, road in enumerate(roads) for lane in road[0]),
            key=lambda pair: lane_cost(self.lanes[pair[1]].points_m, place_m, heading_rad),
        )
        path = [own]
        for beside, listed in roads[start + 1 :]:
            onward = [lane for lane in self.lanes[path[-1]].successors if lane in beside]
            path.append(listed if listed in onward or not onward else onward[0])
        return path


def lane_cost(
    points_m: Float[np.ndarray, "point 2"], place_m: Float[np.ndarray, "2"], heading_rad: float
) -> float:
    """Metres from a place to a lane, plus ten for each radian that its direction is off."""
    starts, vectors = points_m[:-1], np.diff(points_m, axis=0)
    lengths_2 = np.maximum((vectors**2).sum(-1), 1e-12)
    along = np.clip(((place_m - starts) * vectors).sum(-1) / lengths_2, 0, 1)
    distances = np.hypot(*(starts + along[:, None] * vectors - place_m).T)
    turn = np.arctan2(vectors[:, 1], vectors[:, 0]) - heading_rad
    off = np.abs((turn + np.pi) % (2 * np.pi) - np.pi)
    return float((distances + 10 * off).min())


def cut_line(
    points_m: Float[np.ndarray, "point 2"], *, closed: bool
) -> list[Float[np.ndarray, "part 2"]]:
    """A line at steps of about 2.5 m, in parts of at most ten points; parts share their ends."""
    if closed:
        points_m = np.concatenate([points_m, points_m[:1]])
    even = resample(points_m, PIECE_STEP_M)
    starts = range(0, max(len(even) - 1, 1), PIECE_POINTS - 1)
    return [even[start : start + PIECE_POINTS] for start in starts]


def resample(points_m: Float[np.ndarray, "point 2"], step_m: float) -> Float[np.ndarray, "even 2"]:
    """The same line with points at equal distances near `step_m`; both ends stay.

    Example:
        >>> resample(np.array([[0.0, 0.0], [5.0, 0.0]]), 2.4).tolist()
        [[0.0, 0.0], [2.5, 0.0], [5.0, 0.0]]
    """
    along = line_distances(points_m)
    count = max(round(float(along[-1]) / step_m), 1) + 1
    places = np.linspace(0.0, along[-1], count)
    return np.column_stack([np.interp(places, along, points_m[:, axis]) for axis in (0, 1)])


def line_distances(points_m: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, " point"]:
    """Metres from the beginning of a line to each of its points."""
    return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points_m, axis=0).T))])


def _floats(column: pl.Series) -> Float[np.ndarray, " line"]:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
