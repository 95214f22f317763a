"""Simulated traffic: valid networks, drivable tracks, the same from the same seed."""

import builtins
import hashlib
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import InputError
from data_prep.scenes.raw_scene import LIGHTS, RawScene
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS, STYLE_LABELS
from data_prep.scenes.traffic import Road, TrafficSource
from data_prep.scenes.traffic_networks import build_network
from data_prep.scenes.traffic_roads import ROADS
from data_prep.scenes.traffic_simulation import load_libsumo

PROJECT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def scenes() -> dict[str, RawScene]:
    pytest.importorskip("libsumo", reason="the extra [traffic] is not installed")
    found = list(TrafficSource(tuple(ROADS), 4, 12.0, 1).scenes())
    return {scene.map.key: scene for scene in found if isinstance(scene, RawScene)}


@pytest.fixture(scope="module")
def roads(tmp_path_factory) -> dict[str, Road]:
    pytest.importorskip("libsumo", reason="the extra [traffic] is not installed")
    folder = tmp_path_factory.mktemp("roads")
    return {name: Road(name, folder) for name in ROADS}


def _digest(scene: RawScene) -> str:
    digest = hashlib.sha256(repr((scene.key, scene.routes, scene.driver_styles)).encode())
    for track in scene.tracks:
        for values in (track.time_s, track.x_m, track.y_m, track.heading_rad, track.velocity_mps):
            digest.update(np.asarray(values).tobytes())
    for light in scene.lights:
        digest.update(repr((light.line_key, light.time_s.tolist(), light.states)).encode())
    for line in scene.map.lines:
        digest.update(line.points_m.tobytes())
    return digest.hexdigest()


def test_every_route_is_drivable_and_every_map_is_whole(roads):
    for name, road in roads.items():
        lines = {line.key: line for line in road.map.lines}
        assert len(lines) == len(road.map.lines)
        for line in lines.values():
            for other in (*line.successors, line.left, line.right):
                assert other is None or lines[other].kind == "lane_centre"
            if line.left is not None:
                assert lines[line.left].right == line.key
            for end in line.successors:
                assert np.linalg.norm(lines[end].points_m[0] - line.points_m[-1]) < 0.1
        for flow in road.network.plan.flows:
            path = road.network.lane_path(flow.edges, {})
            for one, other in pairwise(path):
                assert other in (*lines[one].successors, lines[one].left, lines[one].right)
            assert len(road.bends[flow.edges].curvature_per_m) > 200, name


def test_roads_are_what_their_names_say(roads):
    kinds = {
        name: {(line.kind, line.area) for line in road.map.lines} for name, road in roads.items()
    }
    controlled = {line.key.rsplit("_", 2)[0] for line in roads["grid"].map.lines if line.has_signal}
    assert controlled == {":n00", ":n01", ":n10", ":n11"}
    assert ("crosswalk", "intersection") in kinds["grid"]
    assert ("stop_line", "intersection") in kinds["grid"]
    assert ("lane_centre", "roundabout") in kinds["roundabout"]
    tightest_m = {
        name: 1 / max(bends.curvature_per_m.max() for bends in road.bends.values())
        for name, road in roads.items()
    }
    assert tightest_m["motorway"] > 100
    assert 5 < tightest_m["rural"] < 20  # the side road's turn
    limits = {line.speed_limit_mps for line in roads["motorway"].map.lines} - {None}
    assert max(limits) == pytest.approx(120 / 3.6, abs=0.01)
    left = {line.key: line.left for line in roads["motorway"].map.lines}
    assert (left["a_b_0"], left["a_b_2"]) == ("a_b_1", None)


def test_the_same_plan_gives_the_same_network(tmp_path):
    pytest.importorskip("libsumo", reason="the extra [traffic] is not installed")
    texts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        text = build_network(ROADS["rural"](), tmp_path / name).read_text("utf-8")
        texts.append(text[text.index("<location") :])
    assert texts[0] == texts[1]


def test_scenes_are_told_in_full(scenes):
    assert list(scenes) == list(ROADS)
    for name, scene in scenes.items():
        assert scene.simulated
        assert scene.location == f"simulated {name}"
        assert scene.notes["collisions"] == 0
        assert len(scene.tracks) >= 12
        lines = {line.key: line for line in scene.map.lines}
        assert {line.road_class for line in lines.values()} >= {ROADS[name]().road_class}
        for track in scene.tracks:
            style = scene.driver_styles[track.key]
            assert len(style.values) == len(STYLE_DIMENSIONS)
            assert style.preset in STYLE_LABELS
            route = scene.routes[track.key]
            for one, other in pairwise(route):
                assert other in (*lines[one].successors, lines[one].left, lines[one].right)
    assert len({scene.recording_key for scene in scenes.values()}) == len(scenes)


def test_lights_hold_from_the_beginning_and_belong_to_controlled_lanes(scenes):
    lines = {line.key: line for line in scenes["grid"].map.lines}
    lights = scenes["grid"].lights
    assert {light.line_key for light in lights} == {
        key for key, line in lines.items() if line.has_signal
    }
    for light in lights:
        assert light.time_s[0] == 0.0
        assert (np.diff(light.time_s) > 0).all()
        assert light.time_s[-1] <= 12.0
        assert set(light.states) <= set(LIGHTS) - {"unknown"}
    assert {state for light in lights for state in light.states} == {"green", "yellow", "red"}
    assert not scenes["rural"].lights


def test_nobody_drives_into_a_junction_long_after_red(scenes):
    scene = scenes["grid"]
    lines = {line.key: line for line in scene.map.lines}
    entries = 0
    for light in scene.lights:
        start_m = lines[light.line_key].points_m[0]
        for track in scene.tracks:
            if light.line_key not in scene.routes[track.key]:
                continue
            ahead = np.stack([np.cos(track.heading_rad), np.sin(track.heading_rad)], axis=1)
            front_m = np.stack([track.x_m, track.y_m], axis=1) + track.length_m / 2 * ahead
            passed = ((front_m - start_m) * ahead).sum(axis=1) > 0
            at = int(passed.argmax())
            if at > 0:
                entries += 1
                shown = np.searchsorted(light.time_s, track.time_s[at] - 0.3, side="right") - 1
                assert light.states[shown] != "red"
    assert entries >= 5


def test_tracks_are_smooth_and_drivable(scenes):
    for scene in scenes.values():
        for track in scene.tracks:
            assert np.diff(track.time_s) == pytest.approx(0.1)
            centre_m = np.stack([track.x_m, track.y_m], axis=1)
            speed_mps = np.hypot(*track.velocity_mps.T)
            moved_m = np.linalg.norm(np.diff(centre_m, axis=0), axis=1)
            assert moved_m == pytest.approx((speed_mps[1:] + speed_mps[:-1]) / 20, abs=0.03)
            yaw_rate = np.diff(track.heading_rad) / 0.1
            assert np.abs(yaw_rate).max() < 1.0
            lateral_mps2 = np.abs(yaw_rate * (speed_mps[1:] + speed_mps[:-1]) / 2)
            assert lateral_mps2.max() < 4.6
            acceleration_mps2 = np.diff(speed_mps) / 0.1
            assert acceleration_mps2.min() > -8.0
            assert acceleration_mps2.max() < 3.0
            direction = np.arctan2(track.velocity_mps[:, 1], track.velocity_mps[:, 0])
            slip = np.abs(np.angle(np.exp(1j * (direction - track.heading_rad))))
            assert slip[speed_mps > 2].max(initial=0.0) < 0.25


def test_boxes_stay_on_the_road(scenes):
    shapely = pytest.importorskip("shapely", reason="shapely is not installed")
    for scene in scenes.values():
        road = shapely.unary_union(
            [
                shapely.Polygon(line.points_m)
                for line in scene.map.lines
                if line.kind == "drivable_area"
            ]
        )
        outside = states = 0
        for track in scene.tracks:
            cos, sin = np.cos(track.heading_rad), np.sin(track.heading_rad)
            inside = np.ones(len(cos), dtype=bool)
            for ahead, left in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                along_m, beside_m = ahead * track.length_m / 2, left * track.width_m / 2
                x_m = track.x_m + along_m * cos - beside_m * sin
                y_m = track.y_m + along_m * sin + beside_m * cos
                inside &= shapely.contains_xy(road, x_m, y_m)
            outside += int((~inside).sum())
            states += len(inside)
        assert outside <= 0.01 * states


def test_boxes_do_not_overlap(scenes):
    shapely = pytest.importorskip("shapely", reason="shapely is not installed")
    for scene in scenes.values():
        for at_s in (3.0, 9.0):
            boxes = []
            for track in scene.tracks:
                at = np.flatnonzero(np.abs(track.time_s - at_s) < 0.01)
                if len(at):
                    cos, sin = np.cos(track.heading_rad[at[0]]), np.sin(track.heading_rad[at[0]])
                    centre_m = np.array([track.x_m[at[0]], track.y_m[at[0]]])
                    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
                    corners = corners * (track.length_m, track.width_m)
                    turned = corners @ np.array([[cos, sin], [-sin, cos]])
                    boxes.append(shapely.Polygon(turned + centre_m))
            assert len(boxes) >= 8
            total = sum(box.area for box in boxes)
            assert shapely.unary_union(boxes).area == pytest.approx(total)


def test_the_same_seed_gives_the_same_scenes_also_in_another_process(scenes):
    again = list(TrafficSource(("rural", "grid"), 2, 3.0, 5).scenes())
    here = [_digest(scene) for scene in again if isinstance(scene, RawScene)]
    script = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n"
        f"import runpy; names = runpy.run_path({__file__!r})\n"
        "source = names['TrafficSource'](('rural', 'grid'), 2, 3.0, 5)\n"
        "print(*[names['_digest'](scene) for scene in source.scenes()])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert done.stdout.split() == here
    other = next(TrafficSource(("rural", "grid"), 2, 3.0, 6).scenes())
    assert isinstance(other, RawScene)
    assert _digest(other) != here[0]


def test_bad_options_are_refused():
    with pytest.raises(InputError, match="roads must be some of motorway, grid"):
        TrafficSource(("highway",), 1, 10.0, 0)
    with pytest.raises(InputError, match="each once"):
        TrafficSource(("grid", "grid"), 1, 10.0, 0)
    with pytest.raises(InputError, match="at least 1"):
        TrafficSource(("grid",), 0, 10.0, 0)
    with pytest.raises(InputError, match=r"1 to 3600 seconds, got 0\.5"):
        TrafficSource(("grid",), 1, 0.5, 0)


def test_without_the_extra_one_sentence_names_it(monkeypatch, tmp_path):
    real_import = builtins.__import__

    def without_sumo(name, *arguments, **options):
        if name in ("sumo", "libsumo", "sumolib"):
            raise ImportError(name)
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_sumo)
    for action in (
        lambda: next(TrafficSource(("grid",), 1, 10.0, 0).scenes()),
        load_libsumo,
    ):
        with pytest.raises(InputError, match=r"personalize\[traffic\]"):
            action()


def test_a_senseless_road_is_refused(tmp_path):
    pytest.importorskip("libsumo", reason="the extra [traffic] is not installed")
    from dataclasses import replace

    plan = ROADS["rural"]()
    broken = replace(plan, nodes=plan.nodes[1:])
    with pytest.raises(InputError, match="netconvert refused the road 'rural'"):
        build_network(broken, tmp_path)
