"""Maps of Argoverse 2: a small one worked by hand, damaged ones, and centres the dataset states."""

import json

import numpy as np
import pytest
import shapely

from data_prep.errors import InputError
from data_prep.scenes.argoverse2_map import centre_line, read_argoverse2_map
from tests.data_prep.scenes.small_argoverse2 import lane, points, small_map, write_map


def read(folder, archive):
    return read_argoverse2_map(write_map(folder, archive, "x"), "city")


def test_a_small_map(tmp_path):
    result = read(tmp_path, small_map())
    assert result.problems == []
    assert result.map.key == "city"
    lines = {line.key: line for line in result.map.lines}
    first = lines["1"]
    assert first.points_m[0] == pytest.approx([0, 2])
    assert first.points_m[-1] == pytest.approx([20, 2])
    assert len(first.points_m) == 21
    assert first.width_m == pytest.approx(4.0)
    assert first.successors == ("3",)  # 77 lies outside the map
    assert (first.left, first.right) == ("2", None)
    assert (lines["2"].left, lines["2"].right) == (None, "1")  # 4 comes the other way
    assert (first.area, lines["3"].area) == ("none", "intersection")
    assert first.speed_limit_mps is None
    assert lines["3"].width_m == pytest.approx(50 / np.hypot(10, 1))


def test_paint_is_kept_once_and_bicycle_lanes_have_no_centre(tmp_path):
    result = read(tmp_path, small_map())
    lines = {line.key: line for line in result.map.lines}
    painted = {key for key, line in lines.items() if line.kind == "lane_boundary"}
    assert painted == {"1/left", "2/left", "3/left", "4/left", "5/left"}  # 2/right repeats 1/left
    assert "5" not in lines
    assert result.notes == {"left_out_bike_lanes": 1}


def test_areas_are_open_rings_and_crossings_do_not_twist(tmp_path):
    lines = {line.key: line for line in read(tmp_path, small_map()).map.lines}
    assert lines["area/9"].kind == "drivable_area"
    assert len(lines["area/9"].points_m) == 4
    for key in ("crossing/6", "crossing/7"):
        polygon = shapely.Polygon(lines[key].points_m)
        assert polygon.is_valid
        assert polygon.area == pytest.approx(24.0)


def test_the_centre_lies_between_boundaries_of_different_points():
    left = np.array([[0.0, 2.0], [1.0, 2.0], [10.0, 2.0]])
    right = np.array([[0.0, 0.0], [10.0, 0.0]])
    centre = centre_line(left, right, spacing_m=5.0)
    assert centre == pytest.approx(np.array([[0, 1], [5, 1], [10, 1]]))


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        ('{"lane_segments": {', "is truncated or no JSON"),
        ("[" * 100_000, "is truncated or no JSON"),
        ([1], "is no table of names but a list"),
        ({"lane_segments": {}}, "has no drivable_areas, pedestrian_crossings"),
        (small_map() | {"lane_segments": [1]}, "lane_segments is no table"),
    ],
)
def test_a_map_that_cannot_be_used_is_one_sentence(tmp_path, archive, reason):
    with pytest.raises(InputError, match=reason):
        read(tmp_path, archive)


def test_a_bad_element_leaves_the_others(tmp_path):
    archive = small_map()
    archive["lane_segments"] |= {
        "20": lane(20, points((0, 0)), points((0, 1), (1, 1))),
        "21": lane(21, points((0, 0), (float("nan"), 1)), points((0, 1), (1, 1))),
        "22": 5,
        "23": lane(23, [[0, 0], [1, 1]], points((0, 1), (1, 1))),
    }
    archive["drivable_areas"]["24"] = {"area_boundary": points((0, 0), (1, 1), (0, 0))}
    archive["pedestrian_crossings"]["25"] = {"edge1": points((0, 0), (1, 1))}
    result = read(tmp_path, archive)
    assert result.problems == [
        "lane 20 of the map: its left boundary has 1 distinct points, fewer than 2.",
        "lane 21 of the map: its left boundary has a point that is not finite or 100,000 km away.",
        "lane 22 of the map: it is no table of names but a int.",
        "lane 23 of the map: its left boundary has a point that is not finite or 100,000 km away.",
        "drivable area 24 of the map: its border has fewer than 3 distinct points.",
        "crossing 25 of the map: its second edge is missing.",
    ]
    assert {line.key for line in result.map.lines} >= {"1", "2", "3", "4", "area/9"}


def test_computed_centres_are_near_the_stated_ones(argoverse2_folder):
    """The forecasting set states centres; from its boundaries ours must come out the same."""
    (file,) = argoverse2_folder.glob("forecasting/*/log_map_archive_*.json")
    stated = {line.key: line for line in read_argoverse2_map(file, "a").map.lines}
    archive = json.loads(file.read_text())
    distances = []
    for key, line in stated.items():
        if line.kind == "lane_centre":
            sides = [
                np.array(
                    [[point["x"], point["y"]] for point in archive["lane_segments"][key][side]]
                )
                for side in ("left_lane_boundary", "right_lane_boundary")
            ]
            ours = shapely.LineString(centre_line(*sides))
            distances.append(ours.hausdorff_distance(shapely.LineString(line.points_m)))
    assert len(distances) == 34
    assert np.median(distances) < 0.1
    assert max(distances) < 1.0
