"""The grid behind a drivable area: winding numbers of cells, and the edges that touch them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_PLACES = ((0.53, 0.47), (0.29, 0.71), (0.73, 0.31), (0.17, 0.23), (0.83, 0.79), (0.41, 0.89))
"""Where in a cell its anchor may lie, as shares of the cell."""
_MARGIN = 1e-6


@dataclass(frozen=True)
class EdgeGrid:
    """The grid of one map. Row-major cells; a cell's edges are those that touch it.

    Attributes:
        origin_m: Corner of the first cell.
        shape: Rows and columns.
        anchors_m: A place of every cell, away from the lines its edges lie on.
        windings: Winding number there.
        first_edge: Where a cell's edges begin; one more entry than cells.
        edges_m: Start (x, y) and end (x, y) of an edge, relative to the cell's anchor.
    """

    origin_m: Float[np.ndarray, "2"]
    shape: tuple[int, int]
    anchors_m: Float[np.ndarray, "cell 2"]
    windings: Int[np.ndarray, " cell"]
    first_edge: Int[np.ndarray, " bound"]
    edges_m: Float[np.ndarray, "edge 4"]


def build_edge_grid(polygons: Sequence[Float[np.ndarray, "_ 2"]], cell_m: float) -> EdgeGrid:
    """The grid of the polygons of one map.

    An anchor is the best of six places: the one farthest from all lines along its cell's edges,
    so that which side of an edge it lies on never hangs on rounding.
    """
    edges = _edges(polygons)
    if not len(edges):
        anchor, winding = np.full((1, 2), cell_m / 2), np.zeros(1, dtype=np.int64)
        no_edges = np.zeros(2, dtype=np.int64), np.zeros((0, 4))
        return EdgeGrid(np.zeros(2), (1, 1), anchor, winding, *no_edges)
    low = edges.reshape(-1, 2).min(0) - 0.137 * cell_m
    high = edges.reshape(-1, 2).max(0) + 0.137 * cell_m
    columns, rows = (np.floor((high - low) / cell_m).astype(int) + 1).tolist()
    cells, owners = _touched(edges - np.tile(low, 2), cell_m, rows, columns)
    order = np.argsort(cells, kind="stable")
    cells, owners = cells[order], owners[order]
    first_edge = np.searchsorted(cells, np.arange(rows * columns + 1))
    anchors, windings = _anchors(edges - np.tile(low, 2), (cells, owners), (rows, columns), cell_m)
    relative = edges[owners] - np.tile(anchors[cells] + low, 2)
    return EdgeGrid(low, (rows, columns), anchors + low, windings, first_edge, relative)


def _edges(polygons: Sequence[np.ndarray]) -> Float[np.ndarray, "edge 4"]:
    """Directed edges; an edge that two polygons run along in opposite directions cancels."""
    parts = [
        np.concatenate([points, np.roll(points, -1, 0)], 1)
        for points in (np.asarray(polygon, dtype=np.float64) for polygon in polygons)
        if len(points) >= 3
    ]
    if not parts:
        return np.zeros((0, 4))
    edges = np.concatenate(parts)
    edges = edges[(edges[:, :2] != edges[:, 2:]).any(1)]
    backwards = (edges[:, 0] > edges[:, 2]) | (
        (edges[:, 0] == edges[:, 2]) & (edges[:, 1] > edges[:, 3])
    )
    upright = np.where(backwards[:, None], edges[:, [2, 3, 0, 1]], edges)
    distinct, number = np.unique(upright, axis=0, return_inverse=True)
    net = np.bincount(number.reshape(-1), weights=np.where(backwards, -1, 1)).round().astype(int)
    directed = np.where((net < 0)[:, None], distinct[:, [2, 3, 0, 1]], distinct)
    return np.repeat(directed, np.abs(net), axis=0)


def _touched(
    edges: Float[np.ndarray, "edge 4"], cell_m: float, rows: int, columns: int
) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
    """Pairs of cell and edge that touch: per edge the rows it passes, per row its columns."""
    scaled = edges / cell_m
    low_row = np.floor(scaled[:, [1, 3]].min(1) - _MARGIN).astype(int).clip(0, rows - 1)
    high_row = np.floor(scaled[:, [1, 3]].max(1) + _MARGIN).astype(int).clip(0, rows - 1)
    owner, row = _ranges(low_row, high_row)
    x0, y0, x1, y1 = scaled[owner].T
    rise = np.where(y1 == y0, 1.0, y1 - y0)
    enters = np.where(y1 == y0, 0.0, np.clip((row - _MARGIN - y0) / rise, 0, 1))
    leaves = np.where(y1 == y0, 1.0, np.clip((row + 1 + _MARGIN - y0) / rise, 0, 1))
    ends = np.stack([x0 + enters * (x1 - x0), x0 + leaves * (x1 - x0)])
    low_column = np.floor(ends.min(0) - _MARGIN).astype(int).clip(0, columns - 1)
    high_column = np.floor(ends.max(0) + _MARGIN).astype(int).clip(0, columns - 1)
    part, column = _ranges(low_column, high_column)
    return row[part] * columns + column, owner[part]


def _ranges(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every integer from low to high, and whose range it is in."""
    counts = high - low + 1
    owner = np.repeat(np.arange(len(low)), counts)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return owner, low[owner] + within


def _anchors(
    edges: Float[np.ndarray, "edge 4"],
    pairs: tuple[np.ndarray, np.ndarray],
    shape: tuple[int, int],
    cell_m: float,
) -> tuple[Float[np.ndarray, "cell 2"], Int[np.ndarray, " cell"]]:
    """The place of every cell that is farthest from its edges' lines, and its winding number."""
    cells, owners = pairs
    rows, columns = shape
    corners = np.stack(np.divmod(np.arange(rows * columns), columns)[::-1], 1).astype(np.float64)
    direction = edges[:, 2:] - edges[:, :2]
    normal = np.stack([-direction[:, 1], direction[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    best = np.full(rows * columns, -1.0)
    anchors, windings = np.zeros((rows * columns, 2)), np.zeros(rows * columns, dtype=np.int64)
    for place in _PLACES:
        places = (corners + place) * cell_m
        offsets = places[cells] - edges[owners, :2]
        away = np.abs((offsets * normal[owners]).sum(1))
        nearest = np.full(rows * columns, np.inf)
        np.minimum.at(nearest, cells, away)
        better = nearest > best
        best = np.where(better, nearest, best)
        anchors[better] = places[better]
        windings[better] = _windings(edges / cell_m, shape, place).reshape(-1)[better]
    return anchors, windings


def _windings(
    edges: Float[np.ndarray, "edge 4"], shape: tuple[int, int], place: tuple[float, float]
) -> Int[np.ndarray, "row column"]:
    """Winding numbers at one place of every cell: signed crossings to its left, row by row."""
    rows, columns = shape
    x0, y0, x1, y1 = edges.T
    low, high = np.minimum(y0, y1), np.maximum(y0, y1)
    first = np.ceil(low - place[1]).astype(int).clip(0, rows)
    last = (np.ceil(high - place[1]) - 1).astype(int).clip(-1, rows - 1)
    owner, row = _ranges(first, np.maximum(last, first - 1))
    level = row + place[1]
    share = (level - y0[owner]) / (y1 - y0)[owner]
    crossing = x0[owner] + share * (x1 - x0)[owner]
    column = np.ceil(crossing - place[0]).astype(int).clip(0, columns)
    changes = np.zeros((rows, columns + 1), dtype=np.int64)
    np.add.at(changes, (row, column), np.where(y1 > y0, -1, 1)[owner])
    return changes.cumsum(1)[:, :-1]
