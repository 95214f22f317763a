"""Layers of a GeoPackage as columns and shapely geometries, without GDAL."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, Shaped

from data_prep.errors import InputError
from data_prep.scenes.read_only_sqlite import columns_of, quoted, read_only_sqlite

if TYPE_CHECKING:
    import sqlite3

_ENVELOPE_BYTES = (0, 32, 48, 48, 64)
_HEADER_BYTES = 8


@dataclass(frozen=True)
class Layer:
    """One layer of a GeoPackage.

    Attributes:
        name: Its name.
        crs: Coordinate system of the geometries, as `EPSG:4326`; None where it has none.
        ids: The feature ids, which are the primary key.
        columns: Values per attribute, None where there is none.
        geometries: One shapely geometry per feature, or None; all None in a layer of attributes.
    """

    name: str
    crs: str | None
    ids: Int[np.ndarray, " feature"]
    columns: Mapping[str, tuple[Any, ...]]
    geometries: Shaped[np.ndarray, " feature"]

    def column(self, name: str) -> tuple[Any, ...]:
        """Values of an attribute; all None where the layer has no such attribute."""
        return self.columns.get(name, (None,) * len(self.ids))


def geometry_wkb(blob: bytes) -> bytes:
    """The well-known binary inside a GeoPackage geometry.

    The header is the letters GP, a version, flags (bit 0: byte order, bits 1 to 3: which
    envelope follows, bit 5: not a standard geometry), the number of the coordinate system and
    the envelope.

    Args:
        blob: A value of a geometry column.

    Raises:
        ValueError: If it is no such value.

    Source:
        OGC 12-128r18, GeoPackage Encoding Standard, clause 2.1.3.

    Example:
        >>> geometry_wkb(b"GP" + bytes([0, 1]) + bytes(4) + b"wkb")
        b'wkb'
    """
    if len(blob) < _HEADER_BYTES or blob[:2] != b"GP":
        raise ValueError("it does not begin with a GeoPackage header")
    flags = blob[3]
    envelope = flags >> 1 & 0b111
    if envelope >= len(_ENVELOPE_BYTES) or flags >> 5 & 1:
        raise ValueError(f"its header has flags {flags:#04x}, which no standard geometry has")
    return bytes(blob[_HEADER_BYTES + _ENVELOPE_BYTES[envelope] :])


def geometry_blob(wkb: bytes, crs_number: int) -> bytes:
    """A value of a geometry column: the shortest header before well-known binary.

    Args:
        wkb: A geometry as well-known binary.
        crs_number: `srs_id` of its coordinate system in `gpkg_spatial_ref_sys`.
    """
    return b"GP\x00\x01" + struct.pack("<i", crs_number) + wkb


def read_layer(path: Path, name: str, *, crs: str | None = None) -> Layer:
    """A whole layer, projected where another coordinate system is asked for.

    Args:
        path: The GeoPackage.
        name: The layer, which is a table of the same name.
        crs: Coordinate system to come out in, such as `epsg:32611`; None keeps the file's.

    Raises:
        InputError: If the file is no GeoPackage, the layer is missing, a geometry is broken or
            the coordinate system is unknown; or if the extra [nuplan] is missing.
    """
    with read_only_sqlite(path) as connection:
        if name not in _tables(connection):
            raise InputError(f"{path} has no layer {name}; is it a nuPlan map?")
        geometry_column, stored_crs = _geometry_column(connection, name)
        key = _primary_key(connection, name)
        rows = connection.execute(f"SELECT * FROM {quoted(name)}").fetchall()
        names = columns_of(connection, name)
    ids = np.array([row[key] if key else at for at, row in enumerate(rows)], dtype=np.int64)
    columns = {
        column: tuple(row[column] for row in rows)
        for column in names
        if column not in (key, geometry_column)
    }
    geometries = np.full(len(rows), None, dtype=object)
    if geometry_column is not None:
        blobs = [row[geometry_column] for row in rows]
        geometries = _geometries(blobs, f"layer {name} of {path}")
        geometries = _projected(geometries, stored_crs, crs, f"layer {name} of {path}")
    return Layer(name, crs or stored_crs, ids, columns, geometries)


def _tables(connection: "sqlite3.Connection") -> set[str]:
    query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
    return {row["name"] for row in connection.execute(query)}


def _primary_key(connection: "sqlite3.Connection", name: str) -> str | None:
    query = "SELECT name FROM pragma_table_info(?) WHERE pk = 1 AND upper(type) LIKE '%INT%'"
    row = connection.execute(query, (name,)).fetchone()
    return None if row is None else row["name"]


def _geometry_column(connection: "sqlite3.Connection", name: str) -> tuple[str | None, str | None]:
    if "gpkg_geometry_columns" not in _tables(connection):
        return None, None
    row = connection.execute(
        "SELECT g.column_name, s.organization, s.organization_coordsys_id AS number "
        "FROM gpkg_geometry_columns AS g LEFT JOIN gpkg_spatial_ref_sys AS s USING (srs_id) "
        "WHERE g.table_name = ?",
        (name,),
    ).fetchone()
    if row is None:
        return None, None
    known = row["organization"] is not None and row["organization"].upper() == "EPSG"
    return row["column_name"], f"EPSG:{row['number']}" if known else None


def _geometries(blobs: Sequence[bytes | None], where: str) -> Shaped[np.ndarray, " feature"]:
    shapely = _shapely()
    geometries = np.full(len(blobs), None, dtype=object)
    for at, blob in enumerate(blobs):
        if blob is None:
            continue
        try:
            geometries[at] = shapely.force_2d(shapely.from_wkb(geometry_wkb(blob)))
        except (ValueError, TypeError, shapely.errors.ShapelyError) as error:
            raise InputError(f"{where} has a broken geometry in row {at}: {error}.") from error
    return geometries


def _projected(
    geometries: Shaped[np.ndarray, " feature"], stored: str | None, wanted: str | None, where: str
) -> Shaped[np.ndarray, " feature"]:
    if wanted is None or stored is None or stored.upper() == wanted.upper():
        return geometries
    try:
        import pyproj
        from pyproj.exceptions import CRSError
    except ImportError as error:
        raise InputError("Projecting a nuPlan map needs pyproj; install the extra [nuplan].") from (
            error
        )
    try:
        transformer = pyproj.Transformer.from_crs(stored, wanted, always_xy=True)
    except CRSError as error:
        raise InputError(f"{where} cannot go from {stored} to {wanted}: {error}.") from error

    def project(points: np.ndarray) -> np.ndarray:
        return np.stack(transformer.transform(points[:, 0], points[:, 1]), -1)

    return np.asarray(_shapely().transform(geometries, project), dtype=object)


def _shapely():  # noqa: ANN202  (a module)
    try:
        import shapely
    except ImportError as error:
        raise InputError("Reading a map needs shapely; install the extra [nuplan].") from error
    return shapely
