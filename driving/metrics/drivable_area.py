"""Where one may drive: unions of polygons that answer quickly whether points lie inside."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from driving.metrics.edge_grid import EdgeGrid, build_edge_grid


@dataclass(frozen=True)
class DrivableArea:
    """The drivable areas of several maps, ready to be asked about points.

    Every map lies under a grid of square cells. A cell knows the winding number of all polygons
    at its anchor, and the edges that touch the cell; the winding number at a point of the cell
    differs by the signed crossings on the way there, and only those edges can be crossed. So an
    answer is exact, up to the rounding of coordinates relative to a cell: in float32 about 1e-6 m
    next to edges of ordinary length. A point exactly on an edge may go either way.

    Make one with `from_polygons`; the attributes are its tables.

    Attributes:
        cell_m: Side of a cell.
        origins_m: Corner of every map's grid, float64.
        rows: Rows of every map's grid.
        columns: Columns.
        first_cell: Where a map's cells begin.
        anchors_m: A place in every cell, float64.
        windings: Winding number at the anchor.
        first_edge: Where a cell's edges begin, one more entry than cells.
        edges_m: Start and end of an edge relative to the anchor of the cell it is listed in.
        intersections: Areas of intersections on the same maps, where they are known.
    """

    cell_m: float
    origins_m: Float[Tensor, "map 2"]
    rows: Int[Tensor, " map"]
    columns: Int[Tensor, " map"]
    first_cell: Int[Tensor, " map"]
    anchors_m: Float[Tensor, "cell 2"]
    windings: Int[Tensor, " cell"]
    first_edge: Int[Tensor, " bound"]
    edges_m: Float[Tensor, "edge 4"]
    intersections: "DrivableArea | None" = None

    @classmethod
    def from_polygons(
        cls,
        maps: Sequence[Sequence[Float[np.ndarray, "_ 2"]]],
        *,
        intersections: Sequence[Sequence[Float[np.ndarray, "_ 2"]]] | None = None,
        cell_m: float = 2.0,
        dtype: torch.dtype = torch.float32,
    ) -> "DrivableArea":
        """The areas of maps given as polygons.

        A point lies inside where the winding numbers of all polygons add up to anything but 0:
        exteriors run counter-clockwise, holes clockwise, overlaps do no harm.

        Args:
            maps: Polygons of every map in metres, their last point not repeated; a map may have
                none. Polygons of fewer than three points have no inside.
            intersections: Likewise, the areas of intersections of every map.
            cell_m: Side of a cell. Memory grows with the area over its square, about 50 bytes
                a cell; the time of an answer with the edges per cell.
            dtype: Of the edges; float64 where float32 is too coarse.

        Raises:
            ValueError: If there is no map, the cell has no size, a point is not finite, or
                `intersections` are those of another number of maps.
        """
        if not maps:
            raise ValueError("maps must have at least one map, got none.")
        if not cell_m > 0:
            raise ValueError(f"cell_m must be positive, got {cell_m}.")
        for number, polygons in enumerate(maps):
            if not all(np.isfinite(polygon).all() for polygon in polygons):
                raise ValueError(f"maps[{number}] has a polygon with a point that is not finite.")
        crossings = None
        if intersections is not None:
            if len(intersections) != len(maps):
                raise ValueError(
                    f"intersections must be those of {len(maps)} maps, got {len(intersections)}."
                )
            crossings = cls.from_polygons(intersections, cell_m=cell_m, dtype=dtype)
        grids = [build_edge_grid(polygons, cell_m) for polygons in maps]
        return cls(cell_m=cell_m, **_flat(grids, dtype), intersections=crossings)

    @property
    def most_edges_per_cell(self) -> int:
        """Edges of the fullest cell."""
        return int(self.first_edge.diff().amax())

    def to(self, device: torch.device | str) -> "DrivableArea":
        """The same on a device."""
        tables = {
            field.name: getattr(self, field.name).to(device)
            for field in fields(self)
            if isinstance(getattr(self, field.name), Tensor | DrivableArea)
        }
        return replace(self, **tables)

    def contains(
        self, points_m: Float[Tensor, "batch *place 2"], map_index: Int[Tensor, " batch"]
    ) -> Bool[Tensor, "batch *place"]:  # noqa: F821  (jaxtyping)
        """Which points lie in the drivable area of their sample's map.

        On a GPU this waits for the device twice: only points of cells with edges are looked at
        again, and their number is not known before.

        Args:
            points_m: In the frame of the map (the scene frame, not a sample's world frame);
                float64 where coordinates are large.
            map_index: Which map each sample lies on.

        Returns:
            Outside the grid is outside; so is a point that is not finite.
        """
        if not points_m.numel():
            return torch.zeros(points_m.shape[:-1], dtype=torch.bool, device=points_m.device)
        points = points_m.reshape(len(points_m), -1, 2).to(self.origins_m.dtype)
        cells, known = self._cells(points, map_index)
        once = known.to(torch.int64)
        winding = self.windings.index_select(0, cells) * once
        starts = self.first_edge.index_select(0, cells)
        counts = (self.first_edge.index_select(0, cells + 1) - starts) * once
        chosen = counts.nonzero().squeeze(1)
        if len(chosen):
            anchors = self.anchors_m.index_select(0, cells[chosen])
            offsets = (points.reshape(-1, 2)[chosen] - anchors).to(self.edges_m.dtype)
            changes = self._crossings(offsets, starts[chosen], counts[chosen])
            winding = winding.index_add(0, chosen, changes)
        return (winding != 0).reshape(points_m.shape[:-1])

    def _cells(
        self, points: Float[Tensor, "batch place 2"], map_index: Tensor
    ) -> tuple[Int[Tensor, " point"], Bool[Tensor, " point"]]:
        """The cell of every point, one sample after the other, and whether it is on the grid."""
        place = (points - self.origins_m[map_index][:, None]) / self.cell_m
        column, row = place.floor().unbind(-1)
        columns = self.columns[map_index][:, None].to(place.dtype)
        rows = self.rows[map_index][:, None].to(place.dtype)
        known = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        cells = self.first_cell[map_index][:, None] + row * columns + column
        return torch.where(known, cells, 0).to(torch.int64).reshape(-1), known.reshape(-1)

    def _crossings(self, points: Tensor, starts: Tensor, counts: Tensor) -> Tensor:
        """How the winding number changes from a cell's anchor to points relative to it."""
        pair = torch.repeat_interleave(counts)
        before = counts.cumsum(0) - counts
        edge = torch.arange(len(pair), device=points.device) - (before - starts)[pair]
        ax, ay, bx, by = self.edges_m[edge].unbind(-1)
        px, py = points[pair].unbind(-1)
        straddles = (px * ay >= py * ax) != (px * by >= py * bx)
        anchor_left = ax * by > ay * bx
        point_left = (bx - ax) * (py - ay) > (by - ay) * (px - ax)
        change = torch.where(straddles, point_left.long() - anchor_left.long(), 0)
        return torch.zeros_like(counts).index_add(0, pair, change)


def _flat(grids: Sequence[EdgeGrid], dtype: torch.dtype) -> dict[str, Tensor]:
    """The tables of all grids, one behind the other."""
    cells = np.cumsum([0, *(len(grid.windings) for grid in grids)])
    edges = np.cumsum([0, *(len(grid.edges_m) for grid in grids)])
    first_edge = [grid.first_edge[:-1] + base for grid, base in zip(grids, edges, strict=False)]
    return {
        "origins_m": torch.from_numpy(np.stack([grid.origin_m for grid in grids])),
        "rows": torch.tensor([grid.shape[0] for grid in grids]),
        "columns": torch.tensor([grid.shape[1] for grid in grids]),
        "first_cell": torch.from_numpy(cells[:-1].astype(np.int64)),
        "anchors_m": torch.from_numpy(np.concatenate([grid.anchors_m for grid in grids])),
        "windings": torch.from_numpy(np.concatenate([grid.windings for grid in grids])),
        "first_edge": torch.from_numpy(np.concatenate([*first_edge, edges[-1:]]).astype(np.int64)),
        "edges_m": torch.from_numpy(np.concatenate([grid.edges_m for grid in grids])).to(dtype),
    }
