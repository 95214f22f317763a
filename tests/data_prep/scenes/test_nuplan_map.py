"""nuPlan's maps: lanes, limits, neighbours, routes and what is cut out around a drive."""

import sqlite3

import numpy as np
import pytest
import shapely

from data_prep.errors import InputError
from data_prep.scenes.geopackage import geometry_blob
from data_prep.scenes.nuplan_map import NuPlanMaps
from data_prep.scenes.nuplan_route import joined_routes, route_lanes
from tests.data_prep.scenes.synthetic_nuplan_map import (
    LEFT_LIMIT_MPS,
    LOCATION,
    LOCATIONS,
    RIGHT_LIMIT_MPS,
    on_road,
    placed,
    write_maps,
)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return NuPlanMaps(write_maps(tmp_path_factory.mktemp("maps")))


@pytest.fixture(scope="module")
def lines(maps):
    whole = placed([(-200.0, 0.0), (200.0, 0.0)])
    found = maps.location(LOCATION).around(whole, key="all", radius_m=200.0)
    return {line.key: line for line in found.lines}


def test_every_location_has_a_map_in_its_own_zone(maps):
    assert {name: maps.location(name).crs for name in LOCATIONS} == {
        name: f"epsg:{number}" for name, (_, number) in LOCATIONS.items()
    }
    assert len(maps.files()) == 4


def test_a_lane_has_its_centre_limit_and_width(lines):
    lane = lines["lane:1002"]
    along = on_road(lane.points_m)
    assert along[0] == pytest.approx([-200.0, -1.75], abs=1e-6)
    assert along[-1] == pytest.approx([0.0, -1.75], abs=1e-6)
    assert lane.speed_limit_mps == RIGHT_LIMIT_MPS
    assert lines["lane:1001"].speed_limit_mps == LEFT_LIMIT_MPS
    assert lane.width_m == pytest.approx(3.5, abs=1e-3)


def test_a_missing_limit_is_none_whether_null_or_nan(lines):
    assert lines["lane:1005"].speed_limit_mps is None
    assert lines["connector:3001"].speed_limit_mps is None
    assert lines["connector:3002"].speed_limit_mps == RIGHT_LIMIT_MPS


def test_connectors_lead_from_their_exit_lane_to_their_entry_lane(lines):
    assert set(lines["lane:1002"].successors) == {"connector:3002", "connector:3003"}
    assert lines["connector:3002"].successors == ("lane:1004",)
    assert lines["connector:3003"].successors == ("lane:1005",)
    assert lines["lane:1004"].successors == ()


def test_lane_indices_count_from_the_left(lines):
    assert (lines["lane:1001"].left, lines["lane:1001"].right) == (None, "lane:1002")
    assert (lines["lane:1002"].left, lines["lane:1002"].right) == ("lane:1001", None)
    assert (lines["lane:1005"].left, lines["lane:1005"].right) == (None, None)


def test_signals_crossings_and_carparks_are_marked(lines):
    assert lines["connector:3001"].has_signal
    assert lines["connector:3002"].has_signal
    assert not lines["connector:3003"].has_signal
    assert not lines["lane:1002"].has_signal
    assert lines["connector:3003"].area == "intersection"
    assert lines["lane:1002"].area == "none"
    assert (lines["lane:1006"].area, lines["lane:1006"].road_class) == ("parking", "parking")
    assert lines["carpark:8001"].area == "parking"


def test_branches_and_merges_are_no_intersections(tmp_path):
    root = write_maps(tmp_path)
    path = NuPlanMaps(root).location(LOCATION).path
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE intersections SET intersection_type_fid = 4")
    lanes = NuPlanMaps(root).location(LOCATION).lanes
    assert {line.area for key, line in lanes.lines.items() if "connector" in key} == {"none"}


def test_a_stop_polygon_becomes_the_line_across_the_road(lines):
    ends = on_road(lines["stop:6001"].points_m)
    assert sorted(ends[:, 1]) == pytest.approx([-3.5, 3.5], abs=1e-3)
    assert ends[:, 0] == pytest.approx([-1.5, -1.5], abs=1e-3)


def test_a_crosswalk_is_an_open_ring(lines):
    ring = on_road(lines["crosswalk:7001"].points_m)
    assert sorted(ring.round(6).tolist()) == [[-6, -3.5], [-6, 3.5], [-3, -3.5], [-3, 3.5]]


def test_drivable_is_the_union_of_roads_crossings_and_carparks(lines):
    pieces = [line for line in lines.values() if line.kind == "drivable_area"]
    shapes = [shapely.Polygon(on_road(line.points_m)) for line in pieces if not line.is_hole]
    area = shapely.union_all(shapes)
    # Roads of 200, 180 and 85 m; the crossing of 20 by 30; the carpark of 30 by 15 and its mouth.
    expected = 200 * 7 + 180 * 7 + 85 * 4 + 20 * 30 + 30 * 15 + 30 * 1.5
    assert area.area == pytest.approx(expected, rel=1e-3)
    assert len(shapely.get_parts(area)) == 1
    assert not any(line.is_hole for line in pieces)
    assert area.contains(shapely.Point(10.0, 10.0))
    assert not area.contains(shapely.Point(-50.0, 5.0))


def test_a_hole_in_what_is_drivable_is_cut_out(tmp_path):
    root = write_maps(tmp_path)
    path = NuPlanMaps(root).location(LOCATION).path
    island = shapely.box(5, -2, 9, 2)
    crossing = shapely.transform(shapely.box(0, -15, 20, 15).difference(island), placed)
    with sqlite3.connect(path) as connection:
        blob = geometry_blob(shapely.to_wkb(crossing), 32611)
        connection.execute("UPDATE intersections SET geom = ?", (blob,))
    near = NuPlanMaps(root).location(LOCATION).around(placed([(0, 0)]), key="k", radius_m=30.0)
    (hole,) = [line for line in near.lines if line.is_hole]
    assert shapely.Polygon(hole.points_m).area == pytest.approx(16.0, abs=0.2)


def test_a_hole_in_a_carpark_stays_a_hole_though_the_carpark_appears_twice(tmp_path):
    root = write_maps(tmp_path)
    path = NuPlanMaps(root).location(LOCATION).path
    island = shapely.box(60, -19, 64, -16)
    carpark = shapely.transform(shapely.box(50, -20, 80, -5).difference(island), placed)
    with sqlite3.connect(path) as connection:
        blob = geometry_blob(shapely.to_wkb(carpark), 32611)
        connection.execute("UPDATE carpark_areas SET geom = ?", (blob,))
    near = NuPlanMaps(root).location(LOCATION).around(placed([(60, 0)]), key="k", radius_m=60.0)
    pieces = [line for line in near.lines if line.kind == "drivable_area"]
    # With holes run the other way round, what is drivable is where the turns do not cancel out.
    turns = {
        place: sum(
            (-1 if line.is_hole else 1)
            * shapely.Polygon(on_road(line.points_m)).contains(shapely.Point(place))
            for line in pieces
        )
        for place in ((62.0, -17.5), (70.0, -17.5), (62.0, 0.0), (62.0, 10.0))
    }
    assert turns[62.0, -17.5] == 0
    assert turns[70.0, -17.5] > 0
    assert turns[62.0, 0.0] > 0
    assert turns[62.0, 10.0] == 0
    assert {line.area for line in pieces if line.key.startswith("carpark")} == {"parking"}


def test_far_lines_are_left_out_and_nothing_refers_to_them(maps):
    driven = placed([(-190.0, 0.0), (-150.0, 0.0)])
    near = maps.location(LOCATION).around(driven, key="west", radius_m=60.0)
    keys = {line.key for line in near.lines}
    assert {"lane:1001", "lane:1002"} <= keys
    assert not {"lane:1004", "connector:3002", "crosswalk:7001", "carpark:8001"} & keys
    named = {name for line in near.lines for name in (*line.successors, line.left, line.right)}
    assert named - {None} <= keys
    assert near.key == "west"


def test_maps_stored_in_degrees_are_the_same_maps(tmp_path, lines):
    degrees = NuPlanMaps(write_maps(tmp_path, stored=4326)).location(LOCATION)
    whole = placed([(-200.0, 0.0), (200.0, 0.0)])
    again = {line.key: line for line in degrees.around(whole, key="all", radius_m=200.0).lines}
    assert again.keys() == lines.keys()
    gap = np.abs(again["lane:1002"].points_m - lines["lane:1002"].points_m).max()
    assert gap < 1e-4


def test_a_route_is_the_connected_chain_that_was_driven(maps):
    lanes = maps.location(LOCATION).lanes
    right = placed([(x, -1.75) for x in np.arange(-120.0, 100.0, 5.0)])
    left = placed([(x, 1.75) for x in np.arange(-120.0, 100.0, 5.0)])
    blocks = ("2001", "4001", "2002")
    assert route_lanes(lanes, blocks, right) == ("lane:1002", "connector:3002", "lane:1004")
    assert route_lanes(lanes, blocks, left) == ("lane:1001", "connector:3001", "lane:1003")
    assert route_lanes(lanes, ("2001", "4002", "2003"), right)[1] == "connector:3003"


def test_a_route_prefers_connected_lanes_to_near_ones(maps):
    lanes = maps.location(LOCATION).lanes
    left = placed([(x, 1.75) for x in np.arange(-20.0, 0.0, 5.0)])
    # Only the right lane leads to the south, so four samples on the left do not count.
    assert route_lanes(lanes, ("2001", "4002", "2003"), left)[0] == "lane:1002"


def test_a_route_does_not_jump_from_lane_to_lane_in_a_crossing(maps):
    lanes = maps.location(LOCATION).lanes
    before = [(x, -1.75) for x in np.arange(-120.0, 20.0, 5.0)]
    after = [(x, 1.75) for x in np.arange(25.0, 100.0, 5.0)]
    route = route_lanes(lanes, ("2001", "4001", "2002"), placed(before + after))
    # The lane change is taken before the crossing, though it was driven behind it.
    assert route == ("lane:1002", "connector:3001", "lane:1003")


def test_a_route_does_not_depend_on_the_clock(maps):
    # Ten metres on the left before the crossing, then the right lane: a lane change pays off.
    lanes = maps.location(LOCATION).lanes
    for spacing_m, repeats in ((2.0, 1), (0.05, 1), (2.0, 30)):
        left = [(x, 1.75) for x in np.arange(-10.0, 0.0, spacing_m)]
        right = [(x, -1.75) for x in np.arange(0.0, 60.0, spacing_m)]
        driven = np.repeat(placed(left + right), repeats, axis=0)
        route = route_lanes(lanes, ("2001", "4001", "2002"), driven)
        assert route == ("lane:1002", "connector:3002", "lane:1004")


def test_unknown_roadblocks_are_skipped(maps):
    lanes = maps.location(LOCATION).lanes
    driven = placed([(-100.0, -1.75)])
    assert route_lanes(lanes, ("77", "2001", ""), driven) == ("lane:1002",)
    assert route_lanes(lanes, ("77",), driven) == ()


def test_routes_given_in_pieces_are_joined_at_what_they_share():
    assert joined_routes([]) == ()
    assert joined_routes([["1", "2"], ["1", "2"]]) == ("1", "2")
    assert joined_routes([["1", "2", "3"], ["3", "4"], ["9"]]) == ("1", "2", "3", "4", "9")
    assert joined_routes([["1", "2", "1"], ["2", "1", "5"]]) == ("1", "2", "1", "5")


def test_an_unknown_map_and_an_empty_folder_are_named(maps, tmp_path):
    assert maps.location("9.15.1915", f"{LOCATION}.gpkg").location == LOCATION
    with pytest.raises(InputError, match=r"is called '9\.15\.1915'; there are sg-one-north"):
        maps.location("9.15.1915", "las_vegas")
    with pytest.raises(InputError, match="give nuPlan's folder of maps"):
        NuPlanMaps(tmp_path).files()


def test_a_map_without_a_projection_is_refused(tmp_path):
    whole = NuPlanMaps(write_maps(tmp_path)).location(LOCATION)
    with sqlite3.connect(whole.path) as connection:
        connection.execute("DELETE FROM meta")
    with pytest.raises(InputError, match="has no projectedCoordSystem"):
        _ = whole.crs
