"""nuPlan's maps, which OpenScene and NAVSIM share, cut out around where a log drives."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import Float
from shapely.geometry.base import BaseGeometry

from data_prep.errors import InputError
from data_prep.scenes.geopackage import read_layer
from data_prep.scenes.nuplan_lanes import NuPlanLanes, read_lanes
from data_prep.scenes.raw_scene import LineKind, RawLine, RawMap

_DRIVABLE_LAYERS = ("road_segments", "intersections", "generic_drivable_areas", "carpark_areas")
_SMALLEST_HOLE_M2 = 0.5
_SEAM_M = 0.01  # neighbours that were drawn apart by less than this are one


@dataclass(frozen=True)
class NuPlanMap:
    """One location's whole map, read once.

    What is drivable is the union of the layers `road_segments`, `intersections`,
    `generic_drivable_areas` and `carpark_areas`; the layer named `drivable_area` is a picture.

    Attributes:
        path: The GeoPackage.
        location: Its name, such as `us-nv-las-vegas-strip`.
    """

    path: Path
    location: str

    @cached_property
    def crs(self) -> str:
        """Coordinate system that logs use, such as `epsg:32611`."""
        meta = read_layer(self.path, "meta")
        pairs = dict(zip(meta.column("key"), meta.column("value"), strict=True))
        crs = pairs.get("projectedCoordSystem")
        if not crs:
            raise InputError(f"layer meta of {self.path} has no projectedCoordSystem.")
        return str(crs)

    @cached_property
    def lanes(self) -> NuPlanLanes:
        """Lane centres, as of `nuplan_lanes`."""
        return read_lanes(self.path, self.crs, tuple(shape for _, shape in self._carparks))

    def around(
        self, driven_m: Float[np.ndarray, "point 2"], *, key: str, radius_m: float
    ) -> RawMap:
        """What lies within a distance of where somebody drove; lines are kept whole.

        Lanes are named `lane:` or `connector:` and their number. Walkways are left out. A stop
        polygon becomes the line across its longer side. Carparks appear a second time, with their
        holes, as drivable areas of their own, so that `area` says where they are.

        Args:
            driven_m: Positions in the map's frame.
            key: Name of the result.
            radius_m: The distance.
        """
        trail = driven_m if len(driven_m) > 1 else np.repeat(driven_m, 2, axis=0)
        near = shapely.LineString(trail).simplify(1.0).buffer(radius_m)
        shapely.prepare(near)
        lanes = [line for line in self._lane_lines if near.intersects(line.shape)]
        kept = {line.line.key for line in lanes}
        lines = [_within(line.line, kept) for line in lanes]
        lines += self._plain("boundaries", "lane_boundary", near)
        lines += self._plain("crosswalks", "crosswalk", near)
        lines += self._stop_lines(near)
        lines += self._drivable(near)
        return RawMap(key=key, lines=tuple(lines))

    @cached_property
    def _lane_lines(self) -> list["_ShapedLine"]:
        return [
            _ShapedLine(line, shapely.LineString(line.points_m))
            for line in self.lanes.lines.values()
        ]

    @cached_property
    def _shapes(self) -> Mapping[str, list[tuple[str, BaseGeometry]]]:
        names = ("boundaries", "crosswalks", "stop_polygons", *_DRIVABLE_LAYERS)
        shapes = {}
        for name in names:
            layer = read_layer(self.path, name, crs=self.crs)
            shapes[name] = [
                (f"{own}" if part == 0 else f"{own}.{part}", shape)
                for own, geometry in zip(layer.ids, layer.geometries, strict=True)
                if geometry is not None
                for part, shape in enumerate(shapely.get_parts(geometry))
                if not shape.is_empty
            ]
        return shapes

    @property
    def _carparks(self) -> list[tuple[str, BaseGeometry]]:
        return self._shapes["carpark_areas"]

    def _near(self, layer: str, near: BaseGeometry) -> list[tuple[str, BaseGeometry]]:
        return [(own, shape) for own, shape in self._shapes[layer] if near.intersects(shape)]

    def _plain(self, layer: str, kind: LineKind, near: BaseGeometry) -> list[RawLine]:
        singular = "boundary" if layer == "boundaries" else kind
        lines = []
        for own, shape in self._near(layer, near):
            points = (
                _ring(shape) if shape.geom_type == "Polygon" else shapely.get_coordinates(shape)
            )
            lines.append(RawLine(key=f"{singular}:{own}", kind=kind, points_m=points))
        return lines

    def _stop_lines(self, near: BaseGeometry) -> list[RawLine]:
        return [
            RawLine(key=f"stop:{own}", kind="stop_line", points_m=_long_axis(shape))
            for own, shape in self._near("stop_polygons", near)
        ]

    def _drivable(self, near: BaseGeometry) -> list[RawLine]:
        shapes = [shape for layer in _DRIVABLE_LAYERS for _, shape in self._near(layer, near)]
        valid = [shapely.make_valid(shape) for shape in shapes]
        union = shapely.union_all(valid, grid_size=_SEAM_M)
        lines: list[RawLine] = []
        for at, part in enumerate(shapely.get_parts(union)):
            if part.geom_type != "Polygon":
                continue
            lines += [
                RawLine(key, "drivable_area", ring, is_hole=hole)
                for key, ring, hole in _rings(f"drivable:{at}", part)
            ]
        return lines + [
            RawLine(key, "drivable_area", ring, road_class="parking", area="parking", is_hole=hole)
            for own, shape in self._near("carpark_areas", near)
            for key, ring, hole in _rings(f"carpark:{own}", shape)
        ]


@dataclass(frozen=True)
class NuPlanMaps:
    """The map folder of nuPlan: `<version>.json` and `<location>/<version>/map.gpkg`.

    Attributes:
        root: The folder, such as `nuplan/dataset/maps`.
    """

    root: Path
    _read: dict[str, NuPlanMap] = field(default_factory=dict, init=False, compare=False, repr=False)

    @cached_property
    def paths(self) -> Mapping[str, Path]:
        """The map file of every location that is there.

        Raises:
            InputError: If there is none.
        """
        found = {path.parent.parent.name: path for path in sorted(self.root.glob("*/*/map.gpkg"))}
        for listing in sorted(self.root.glob("*.json")):
            for location, version in _versions(listing).items():
                path = self.root / location / version / "map.gpkg"
                if path.is_file():
                    found[location] = path
        if not found:
            raise InputError(
                f"{self.root} has no <location>/<version>/map.gpkg; give nuPlan's folder of maps."
            )
        return dict(sorted(found.items()))

    def files(self) -> Sequence[Path]:
        """Every map file."""
        return tuple(self.paths.values())

    def location(self, *names: object) -> NuPlanMap:
        """The map of the first name that is one, for logs that name it in different columns.

        Raises:
            InputError: If none of them is.
        """
        for name in names:
            plain = str(name).removesuffix(".gpkg")
            if plain in self.paths:
                if plain not in self._read:
                    self._read[plain] = NuPlanMap(self.paths[plain], plain)
                return self._read[plain]
        known = ", ".join(self.paths)
        raise InputError(f"no map in {self.root} is called {names[0]!r}; there are {known}.")


@dataclass(frozen=True)
class _ShapedLine:
    line: RawLine
    shape: BaseGeometry


def _versions(listing: Path) -> dict[str, str]:
    try:
        content = json.loads(listing.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{listing} is no JSON file: {error}.") from error
    if not isinstance(content, dict):
        return {}
    return {
        name: str(entry["version"])
        for name, entry in content.items()
        if isinstance(entry, dict) and "version" in entry
    }


def _within(line: RawLine, kept: set[str]) -> RawLine:
    return replace(
        line,
        successors=tuple(key for key in line.successors if key in kept),
        left=line.left if line.left in kept else None,
        right=line.right if line.right in kept else None,
    )


def _ring(polygon: BaseGeometry) -> Float[np.ndarray, "point 2"]:
    return shapely.get_coordinates(shapely.get_exterior_ring(polygon))[:-1]


def _rings(
    key: str, polygon: BaseGeometry
) -> Iterator[tuple[str, Float[np.ndarray, "point 2"], bool]]:
    """The outside of a polygon, then its holes unless they are mere seams."""
    yield key, _ring(polygon), False
    holes = map(shapely.Polygon, shapely.get_rings(polygon)[1:])
    for at, hole in enumerate(hole for hole in holes if hole.area >= _SMALLEST_HOLE_M2):
        yield f"{key}:hole:{at}", _ring(hole), True


def _long_axis(shape: BaseGeometry) -> Float[np.ndarray, "point 2"]:
    """From the middle of one short side of the tightest box to the middle of the other."""
    box = shapely.minimum_rotated_rectangle(shape)
    corners = shapely.get_coordinates(box)
    if len(corners) != 5:
        return corners[[0, -1]]
    sides = np.hypot(*np.diff(corners, axis=0).T)
    first = 0 if sides[0] <= sides[1] else 1
    return np.stack([corners[at : at + 2].mean(0) for at in (first, first + 2)])
