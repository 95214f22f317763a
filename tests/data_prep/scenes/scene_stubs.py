"""Made-up scenes, and a source that hands them over."""

from dataclasses import replace

import numpy as np

from data_prep.scenes.raw_scene import (
    AgentKind,
    RawDriverStyle,
    RawLine,
    RawMap,
    RawScene,
    RawTrack,
)
from data_prep.scenes.source import SceneSource


class Stub(SceneSource):
    """Hands over what it is given."""

    def __init__(self, found, name="stub"):
        self.found, self.name = found, name

    def files(self):
        return []

    def scenes(self):
        yield from self.found


SQUARE = np.array([[0.0, -2], [0, 2], [200, 2], [200, -2], [0, -2]])  # clockwise and closed
ROAD = RawMap(
    "road",
    (
        RawLine("z", "lane_centre", np.array([[0.0, 0], [100, 0]]), 13.9, 3.5, ("a", "gone")),
        RawLine("a", "lane_centre", np.array([[100.0, 0], [200, 0]])),
        RawLine("area", "drivable_area", SQUARE),
        RawLine("hole", "drivable_area", SQUARE[::-1] / 10, is_hole=True),
    ),
)


def moved(raw_map, key, by):
    lines = (replace(line, points_m=line.points_m + by) for line in raw_map.lines)
    return RawMap(key, tuple(lines))


def drive(key, *, speed=10.0, steps=60, x=5.0, y=0.0, kind: AgentKind = "vehicle"):
    time = np.arange(steps) * 0.1
    return RawTrack(
        key,
        kind,
        4.5,
        1.8,
        time,
        x + speed * time,
        np.full(steps, y),
        np.zeros(steps),
        np.tile([speed, 0.0], (steps, 1)),
    )


def scene(key, *tracks, recording=None, raw_map=ROAD, **more):
    return RawScene(
        key,
        recording or f"r-{key}",
        f"{key}.log",
        "nowhere",
        raw_map,
        tracks or (drive("1"),),
        **more,
    )


def style(preset="normal"):
    return RawDriverStyle(preset, (0.5,) * 8, {"tau": 1.2})
