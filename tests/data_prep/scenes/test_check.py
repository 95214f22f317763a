"""The laws of a raw scene: each broken one is named, and only the track that breaks it goes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.scenes.check import checked_scene, linked_map, map_fault, track_fault
from data_prep.scenes.raw_scene import RawLight, RawLine, RawMap, RawScene, RawTrack


def drive(key="a", *, speed=10.0, heading=0.0, steps=20, dt=0.1, velocity=True, **more):
    time = np.arange(steps) * dt
    way = speed * time
    stated = np.tile([speed * np.cos(heading), speed * np.sin(heading)], (steps, 1))
    track = RawTrack(
        key,
        "vehicle",
        4.5,
        1.8,
        time,
        way * np.cos(heading),
        way * np.sin(heading),
        np.full(steps, heading),
        stated if velocity else None,
    )
    return replace(track, **more)


def with_value(track, name, at, value):
    column = getattr(track, name).copy()
    column[at] = value
    return replace(track, **{name: column})


def lane(key, x=0.0, **more):
    return RawLine(key, "lane_centre", np.array([[x, 0.0], [x + 50.0, 0.0]]), **more)


def scene(*tracks, lines=(), **more):
    return RawScene(
        "s", "r", "f.xml", "somewhere", RawMap("m", tuple(lines)), tuple(tracks), **more
    )


@given(
    speed=st.floats(0, 60),
    heading=st.floats(-np.pi, np.pi),
    dt=st.sampled_from([0.04, 0.1, 0.5]),
    velocity=st.booleans(),
)
def test_a_straight_drive_breaks_no_law(speed, heading, dt, velocity):
    assert track_fault(drive(speed=speed, heading=heading, dt=dt, velocity=velocity)) is None


@given(radius=st.floats(8, 200), speed=st.floats(1, 8), velocity=st.booleans())
def test_a_circle_breaks_no_law(radius, speed, velocity):
    time = np.arange(0, 20, 0.5)
    angle = speed / radius * time
    heading = (angle + np.pi / 2 + np.pi) % (2 * np.pi) - np.pi
    track = replace(
        drive(steps=len(time)),
        time_s=time,
        x_m=radius * np.cos(angle),
        y_m=radius * np.sin(angle),
        heading_rad=heading,
        velocity_mps=speed * np.stack([np.cos(heading), np.sin(heading)], 1) if velocity else None,
    )
    assert track_fault(track) is None


@pytest.mark.parametrize(
    ("track", "reason"),
    [
        (drive(steps=0), "no states"),
        (replace(drive(), x_m=np.zeros(3)), "differ in length"),
        (with_value(drive(), "x_m", 3, np.nan), "not finite"),
        (with_value(drive(), "velocity_mps", 3, np.inf), "not finite"),
        (with_value(drive(), "time_s", 4, 0.3), "time does not increase"),
        (replace(drive(), time_s=drive().time_s - 1), "before the scene begins"),
        (replace(drive(), time_s=drive().time_s + 1e5), "or after 86,400 s"),
        (with_value(drive(), "x_m", 3, 1e200), "beyond all measure"),
        (replace(drive(), kind="tank"), "kind tank is unknown"),
        (replace(drive(), length_m=0.0), "box of 0 m x 1.8 m"),
        (replace(drive(), width_m=-1.0), "box of 4.5 m x -1 m"),
        (replace(drive(), length_m=450.0), "box of 450 m"),
        (replace(drive(), length_m=float("nan")), "box of nan m"),
        (replace(drive(), heading_rad=np.full(20, 90.0)), "are they degrees"),
        (replace(drive(), heading_rad=np.full(20, 1.2)), "off its motion by 69 degrees"),
        (replace(drive(), heading_rad=np.full(20, np.pi)), "off its motion by 180 degrees"),
        (with_value(drive(velocity=False), "x_m", 10, 30.0), "m/s to its next state"),
        (with_value(drive(), "y_m", 10, 2.0), "from where its stated velocity leads"),
        (with_value(drive(velocity=False), "y_m", 10, 2.0), "off the line of its motion"),
        (
            replace(drive(speed=30.0), velocity_mps=drive(speed=108.0).velocity_mps),
            "from where its stated velocity leads",
        ),
    ],
)
def test_each_law_is_named(track, reason):
    assert reason in (track_fault(track) or "")


def test_noise_of_a_metre_is_no_jump():
    assert track_fault(with_value(drive(), "y_m", 10, 1.4)) is None


def test_a_gap_is_no_jump():
    track = drive(velocity=False)
    time = track.time_s.copy()
    time[10:] += 2.0
    assert track_fault(replace(track, time_s=time, x_m=track.x_m + (time > 2) * 20.0)) is None


def test_standing_vehicles_may_point_anywhere():
    track = replace(drive(speed=0.0), heading_rad=np.full(20, 2.0))
    assert track_fault(track) is None


def test_a_bad_track_goes_alone():
    bad = replace(drive("b"), length_m=0.0)
    checked = checked_scene(scene(drive("a"), bad, drive("a"), ego_key="b"))
    assert checked.scene is not None
    assert [track.key for track in checked.scene.tracks] == ["a"]
    assert checked.scene.ego_key is None
    assert (checked.read_tracks, checked.refused_tracks) == (3, 2)
    reasons = [row.reason for row in checked.refused]
    assert reasons[0].startswith("scene s, track b: its box")
    assert reasons[1] == "scene s, track a: its key repeats"


def test_a_scene_without_tracks_is_refused():
    empty = checked_scene(scene())
    assert empty.scene is None
    assert empty.refused[-1].reason == "scene s: it has no tracks"
    bad = checked_scene(scene(replace(drive(), length_m=0.0)))
    assert bad.scene is None
    assert bad.refused[-1].reason == "scene s: no track is left"
    assert bad.refused_tracks == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (RawLine("l", "river", np.zeros((2, 2))), "kind river is unknown"),  # pyright: ignore
        (lane("l", road_class="canal"), "road class canal"),
        (RawLine("l", "drivable_area", np.eye(2)), "fewer than 3 points"),
        (RawLine("l", "lane_centre", np.zeros((1, 2))), "fewer than 2 points"),
        (RawLine("l", "lane_centre", np.array([[0.0, np.nan], [1, 1]])), "not finite"),
        (RawLine("l", "lane_centre", np.array([[0.0, 1e200], [1, 1]])), "beyond all measure"),
        (lane("l", speed_limit_mps=0.0), "speed limit of 0"),
    ],
)
def test_a_bad_map_refuses_the_scene(line, reason):
    checked = checked_scene(scene(drive(), lines=[line]))
    assert checked.scene is None
    assert "scene s: map m, line l: " in checked.refused[0].reason
    assert reason in checked.refused[0].reason


def test_repeated_lines_are_refused():
    assert "its key repeats" in (map_fault(RawMap("m", (lane("a"), lane("a")))) or "")


def test_unknown_links_are_dropped_and_counted():
    edge = RawLine("e", "road_edge", np.eye(2))
    raw_map = RawMap(
        "m",
        (lane("a", successors=("b", "x", "e"), left="y", right="b"), lane("b", right="q"), edge),
    )
    linked, dropped = linked_map(raw_map)
    assert dropped == 4
    assert (linked.lines[0].successors, linked.lines[0].left, linked.lines[0].right) == (
        ("b",),
        None,
        "b",
    )
    assert linked.lines[1].right is None
    assert linked_map(linked) == (linked, 0)


def test_lights_and_routes_to_nowhere_are_dropped():
    def light(key, state):
        return RawLight(key, np.array([0.0]), (state,))

    checked = checked_scene(
        scene(
            drive("a"),
            lines=[lane("l")],
            lights=(light("l", "red"), light("x", "red"), light("l", "blue")),
            routes={"a": ("l",), "b": ("l",), "c": ("x",)},
        )
    )
    assert checked.scene is not None
    assert [one.states for one in checked.scene.lights] == [("red",)]
    assert dict(checked.scene.routes) == {"a": ("l",)}
    assert checked.dropped_links == 4
