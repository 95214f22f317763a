"""GeoPackage layers: header, columns, projection and what is refused."""

import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest
import shapely

from data_prep.errors import InputError
from data_prep.scenes.geopackage import geometry_blob, geometry_wkb, read_layer
from tests.data_prep.scenes.synthetic_nuplan_map import write_geopackage

POINT = shapely.Point(-115.17, 36.12)


@pytest.mark.parametrize(("envelope", "size"), [(0, 0), (1, 32), (2, 48), (3, 48), (4, 64)])
@pytest.mark.parametrize("little", [0, 1])
def test_the_geometry_begins_behind_whatever_envelope_there_is(envelope, size, little):
    header = b"GP" + bytes([0, envelope << 1 | little]) + struct.pack("<i", 4326) + bytes(size)
    assert geometry_wkb(header + b"payload") == b"payload"


@pytest.mark.parametrize("blob", [b"", b"GP\x00", b"XX" + bytes(10), b"GP\x00\x0b" + bytes(80)])
def test_what_is_no_geometry_is_refused(blob):
    with pytest.raises(ValueError, match="header"):
        geometry_wkb(blob)


def test_an_extended_geometry_is_refused():
    with pytest.raises(ValueError, match="flags 0x21"):
        geometry_wkb(b"GP\x00\x21" + bytes(80))


def _package(path: Path, *, stored: int, blob: bytes | None = None) -> Path:
    layers = {"places": (("name", "size"), [(7, POINT, "north", 2.5), (9, POINT, None, None)])}
    write_geopackage(path, layers, stored, stored)
    if blob is not None:
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE places SET geom = ? WHERE fid = 9", (blob,))
    return path


def test_a_layer_keeps_its_numbers_columns_and_system(tmp_path):
    layer = read_layer(_package(tmp_path / "map.gpkg", stored=4326), "places")
    assert layer.crs == "EPSG:4326"
    assert layer.ids.tolist() == [7, 9]
    assert layer.column("name") == ("north", None)
    assert layer.column("size") == (2.5, None)
    assert layer.column("colour") == (None, None)
    assert layer.geometries[0].equals(POINT)
    assert "geom" not in layer.columns


def test_degrees_are_projected_with_longitude_first(tmp_path):
    layer = read_layer(_package(tmp_path / "map.gpkg", stored=4326), "places", crs="epsg:32611")
    x, y = shapely.get_coordinates(layer.geometries[0])[0]
    # Zone 11 has its central meridian at -117 degrees and 500 km of false easting: 1.83 degrees
    # east of it at latitude 36.12 is 1.83 * 111.32 km * cos(36.12) * 0.9996 = 164.5 km.
    assert x == pytest.approx(664_700, abs=500)
    # 36.12 degrees of meridian arc are 3998.6 km times 0.9996.
    assert y == pytest.approx(3_999_000, abs=3000)


def test_metres_in_the_same_system_stay_as_they_are(tmp_path):
    layer = read_layer(_package(tmp_path / "map.gpkg", stored=32611), "places", crs="EPSG:32611")
    assert np.array_equal(shapely.get_coordinates(layer.geometries[0])[0], [-115.17, 36.12])


def test_attributes_without_geometry_are_read_too(tmp_path):
    layer = read_layer(_package(tmp_path / "map.gpkg", stored=4326), "meta")
    assert layer.columns == {"key": ("projectedCoordSystem",), "value": ("epsg:4326",)}
    assert layer.crs is None


def test_a_missing_layer_is_named(tmp_path):
    with pytest.raises(InputError, match="has no layer lanes_polygons; is it a nuPlan map"):
        read_layer(_package(tmp_path / "map.gpkg", stored=4326), "lanes_polygons")


@pytest.mark.parametrize("blob", [b"nonsense blob", geometry_blob(b"\x01\x02\x00", 4326)])
def test_a_broken_geometry_is_named_with_its_row(tmp_path, blob):
    path = _package(tmp_path / "map.gpkg", stored=4326, blob=blob)
    with pytest.raises(
        InputError, match=r"layer places of .*map.gpkg has a broken geometry in row"
    ):
        read_layer(path, "places")


def test_an_unknown_system_is_named(tmp_path):
    path = _package(tmp_path / "map.gpkg", stored=4326)
    with pytest.raises(InputError, match="cannot go from EPSG:4326 to epsg:999999"):
        read_layer(path, "places", crs="epsg:999999")


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "map.gpkg"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(InputError, match="cannot be read as an SQLite database"):
        read_layer(path, "meta")
    with pytest.raises(InputError, match="is not there"):
        read_layer(tmp_path / "nowhere.gpkg", "meta")


def test_reading_changes_nothing(tmp_path):
    path = _package(tmp_path / "map.gpkg", stored=4326)
    before = path.read_bytes()
    read_layer(path, "places")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["map.gpkg"]
