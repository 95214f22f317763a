"""Three stretches of road that answer as driving does: by arithmetic, so that a test knows it.

A style changes the speed that is driven and how far beside the middle; nothing else of it counts.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from personalize.api.messages import (
    AgentTrack,
    Box,
    Conditioning,
    MapLine,
    PlanAnswer,
    PlanRequest,
    PreferencesAnswer,
    Quote,
    ReadPreference,
    ReadRequest,
    Ride,
    Scene,
    SceneFound,
    SceneQuery,
    ScenesFound,
    ScenesPage,
    SceneView,
    StyleAsked,
    StylePlanned,
    Trajectory,
)
from personalize.api.ports import Answers, RequestRefused, ScenesHalf
from tests.page import fake_steering

STYLE_DIMENSIONS = (
    "speed",
    "time_gap",
    "acceleration",
    "braking",
    "jerk",
    "lateral_acceleration",
    "lane_change_assertiveness",
    "yielding_margin",
)
PRESETS: Mapping[str, Mapping[str, float]] = {
    "conservative": {"speed": -0.8, "time_gap": 0.8, "acceleration": -0.6},
    "normal": {"speed": 0.0, "time_gap": 0.0},
    "aggressive": {"speed": 0.8, "time_gap": -0.8, "acceleration": 0.7},
}
_SCENES = (
    ("country road 1:4:20", "lane_following", "normal", 0.0, "A country road, one vehicle ahead."),
    ("roundabout 2:9:35", "roundabout", "aggressive", 0.045, "A roundabout with many vehicles."),
    ("long bend 3:1:10", "turning", "conservative", -0.018, "A long bend to the right."),
)
_BASE_MPS = 9.0
GOALS = (
    {
        "name": "mean_speed",
        "unit": "m/s",
        "meaning": "faster in the mean",
        "low": 5.0,
        "high": 13.0,
    },
)
_LOG_S = 5.1


class FakeScenes(ScenesHalf):
    """Three scenes: a straight road, a tight left bend, a wide right bend."""

    def __init__(self) -> None:
        self.curvature_per_m = {name: bend for name, _, _, bend, _ in _SCENES}

    def facts(self) -> Mapping[str, Any]:
        return {
            "planner": "arithmetic",
            "scenes": len(_SCENES),
            "style_dimensions": list(STYLE_DIMENSIONS),
            "steering": fake_steering.facts(GOALS),
        }

    def self_query(self) -> None:
        self.scene(_SCENES[0][0])

    def retrieve(self, queries: Sequence[SceneQuery]) -> Answers[ScenesFound]:
        answers: Answers[ScenesFound] = []
        for query in queries:
            if query.like is not None and query.like not in self.curvature_per_m:
                answers.append(RequestRefused(f"There is no scene {query.like!r}.", param="like"))
                continue
            words = set((query.text or "").lower().split())
            found = []
            for number, row in enumerate(_SCENES):
                if row[0] == query.like:
                    continue
                text = row[4].lower().rstrip(".").replace(",", "").split()
                near = len(words & set(text)) / max(len(words), 1) if words else 0.5
                similarities = {"text": near} if words else {"like": near - 0.1 * number}
                score = sum(similarities.values()) / len(similarities)
                found.append(
                    SceneFound(scene=_scene(number), score=score, similarities=similarities)
                )
            found.sort(key=lambda one: -one.score)
            answers.append(ScenesFound(scenes=found[: query.k]))
        return answers

    def plan(self, requests: Sequence[PlanRequest]) -> Answers[PlanAnswer]:
        answers: Answers[PlanAnswer] = []
        for request in requests:
            try:
                answers.append(self._planned(request))
            except RequestRefused as refused:
                answers.append(refused)
        return answers

    def read(self, request: ReadRequest) -> PreferencesAnswer:
        if request.scene is None:
            raise RequestRefused("Reviews are read by the other half.", param="reviews")
        view = self.scene(request.scene)
        text = view.scene.description
        return PreferencesAnswer(
            extractor="arithmetic",
            extractor_version="1",
            preferences=[
                ReadPreference(
                    text="The driver drives faster than most in the same situation.",
                    polarity="like",
                    aspect="speed",
                    strength=0.4,
                    confidence=0.2,
                    evidence=[Quote(source=0, start=0, end=len(text), quote=text)],
                )
            ],
            conditioning=Conditioning(
                encoder="style",
                dimensions=list(STYLE_DIMENSIONS),
                values=[0.4] + [0.0] * 7,
                mask=[True] + [False] * 7,
            ),
        )

    def scenes(self, query: str, *, start: int, count: int) -> ScenesPage:
        words = query.lower().split()
        rows = [_scene(number) for number in range(len(_SCENES))]
        found = [
            row
            for row in rows
            if all(word in f"{row.id} {row.description} {row.label}".lower() for word in words)
        ]
        return ScenesPage(total=len(found), scenes=found[start : start + count])

    def scene(self, scene: str) -> SceneView:
        bend = self._bend(scene)
        number = [row[0] for row in _SCENES].index(scene)
        across = [_pose(bend, 58.0, beside) for beside in (-1.9, 1.7)]
        lines = [
            _line("drivable_area", bend, -2.0, 5.4),
            _line("lane_centre", bend, 0.0),
            _line("lane_centre", bend, 3.5),
            _line("lane_boundary", bend, 1.75),
            _line("road_edge", bend, -2.0),
            _line("road_edge", bend, 5.4),
            MapLine(kind="stop_line", x_m=[p[0] for p in across], y_m=[p[1] for p in across]),
        ]
        return SceneView(
            scene=_scene(number),
            lines=lines,
            agents=[
                _box(kind, *_pose(bend, away, beside, turned))
                for kind, away, beside, turned in _OTHERS
            ],
            ego=_box("vehicle", 0.0, 0.0, 0.0),
            ego_past=_trajectory(bend, _BASE_MPS, 0.0, step_s=0.1, steps=20, start_s=-2.0),
            ego_future=_trajectory(bend, _BASE_MPS, 0.0, step_s=0.5, steps=8, start_s=0.5),
        )

    def _bend(self, scene: str) -> float:
        if scene not in self.curvature_per_m:
            raise RequestRefused(f"There is no scene {scene!r}.", param="scene", status=404)
        return self.curvature_per_m[scene]

    def _planned(self, request: PlanRequest) -> PlanAnswer:
        bend = self._bend(request.scene)
        if request.closed_loop and request.ride_s > _LOG_S:
            raise RequestRefused(f"The log goes on for {_LOG_S} s only.", param="ride_s")
        return PlanAnswer(
            scene=request.scene,
            planner="arithmetic",
            styles=[_styled(asked, bend, request) for asked in request.styles],
        )


_OTHERS = (
    ("vehicle", 26.0, 0.0, 0.0),
    ("vehicle", 40.0, 3.5, math.pi),
    ("cyclist", 15.0, -1.6, 0.0),
    ("pedestrian", 54.0, -3.2, math.pi / 2),
)
_OTHERS_MPS = (7.0, -8.0, 4.0, 0.0)
_SIZES = {"vehicle": (4.6, 1.9), "cyclist": (1.8, 0.7), "pedestrian": (0.6, 0.6)}


def _scene(number: int) -> Scene:
    name, kind, label, _, description = _SCENES[number]
    return Scene(
        id=name,
        source="arithmetic",
        split="test",
        location="nowhere",
        scenario_type=kind,
        label=label,
        description=description,
        style={"speed": 0.4, "time_gap": -0.2},
        simulated=True,
    )


def _styled(asked: StyleAsked, bend: float, request: PlanRequest) -> StylePlanned:
    style = dict(asked.style or {})
    if asked.preset is not None:
        style = dict(PRESETS[asked.preset])
    for name in style:
        if name not in STYLE_DIMENSIONS:
            raise RequestRefused(f"There is no style dimension {name!r}.", param="styles")
    speed_mps = _BASE_MPS * (1.0 + 0.4 * style.get("speed", 0.05))
    steered = None
    if asked.steering is not None:
        firm = fake_steering.firmness(asked.steering, GOALS, "styles")
        own_mps = speed_mps
        wanted_mps = 5.0 + 8.0 * asked.steering.goals.get("mean_speed", (own_mps - 5.0) / 8.0)
        speed_mps += firm * (wanted_mps - own_mps)
        raws = ({"mean_speed": own_mps}, {"mean_speed": speed_mps})
        steered = fake_steering.told(asked.steering, GOALS, *raws)
    beside_m = 0.8 * style.get("lane_change_assertiveness", 0.0)
    safe = 1.0 if speed_mps < 1.3 * _BASE_MPS else 0.0
    progress = min(1.0, speed_mps / (1.4 * _BASE_MPS))
    comfort = 1.0 if style.get("jerk", 0.0) < 0.5 else 0.0
    scores = {
        "score": (5 * progress + 5 * safe + 2 * comfort) / 12,
        "no_collision": 1.0,
        "drivable_area": 1.0,
        "progress": progress,
        "time_to_collision": safe,
        "comfort": comfort,
        "driving_direction": 1.0,
        "progress_m": speed_mps * 4.0,
    }
    ride = None
    if request.closed_loop:
        steps = round(request.ride_s / 0.1) + 1
        ride = Ride(
            ego=_trajectory(bend, speed_mps, beside_m, step_s=0.1, steps=steps, start_s=0.0),
            agents=[_track(row, bend, steps) for row in range(len(_OTHERS))],
            sub_scores=scores,
        )
    return StylePlanned(
        name=asked.name,
        style=style,
        plan=_trajectory(bend, speed_mps, beside_m, step_s=0.5, steps=8, start_s=0.5),
        sub_scores=scores,
        ride=ride,
        steered=steered,
    )


def _track(row: int, bend: float, steps: int) -> AgentTrack:
    kind, away, beside, turned = _OTHERS[row]
    poses = [
        _pose(bend, away + _OTHERS_MPS[row] * 0.1 * step, beside, turned) for step in range(steps)
    ]
    gone = row == 2  # one that leaves half-way
    shown = [step < steps // 2 or not gone for step in range(steps)]
    length_m, width_m = _SIZES[kind]
    return AgentTrack(
        kind=kind,
        length_m=length_m,
        width_m=width_m,
        x_m=[pose[0] if there else None for pose, there in zip(poses, shown, strict=True)],
        y_m=[pose[1] if there else None for pose, there in zip(poses, shown, strict=True)],
        heading_rad=[pose[2] if there else None for pose, there in zip(poses, shown, strict=True)],
    )


def _pose(
    bend: float, away_m: float, beside_m: float, turned_rad: float = 0.0
) -> tuple[float, float, float]:
    """Place and heading so far along a road of constant curvature, so far to its left."""
    if bend == 0.0:
        return away_m, beside_m, turned_rad
    heading = bend * away_m
    x, y = math.sin(heading) / bend, (1.0 - math.cos(heading)) / bend
    return x - beside_m * math.sin(heading), y + beside_m * math.cos(heading), heading + turned_rad


def _box(kind: str, x_m: float, y_m: float, heading_rad: float) -> Box:
    length_m, width_m = _SIZES[kind]
    return Box(
        kind=kind, length_m=length_m, width_m=width_m, x_m=x_m, y_m=y_m, heading_rad=heading_rad
    )


def _line(kind: str, bend: float, *beside_m: float) -> MapLine:
    """A line along the road; with two sides, the area between them."""
    far = [-25.0 + 2.5 * n for n in range(44)]
    points = [_pose(bend, away, beside_m[0]) for away in far]
    if len(beside_m) == 2:
        points += [_pose(bend, away, beside_m[1]) for away in reversed(far)]
    return MapLine(kind=kind, x_m=[p[0] for p in points], y_m=[p[1] for p in points])


def _trajectory(
    bend: float, speed_mps: float, beside_m: float, *, step_s: float, steps: int, start_s: float
) -> Trajectory:
    times = [start_s + step_s * step for step in range(steps)]
    speeds = [max(0.0, _BASE_MPS + (speed_mps - _BASE_MPS) * min(1.0, t / 2)) for t in times]
    poses = []
    for t in times:
        eased = t * t / 4 if 0 <= t < 2 else t - 1.0  # the integral of the speed that is eased in
        away = _BASE_MPS * t + (speed_mps - _BASE_MPS) * max(0.0, eased) if t > 0 else _BASE_MPS * t
        poses.append(_pose(bend, away, beside_m * min(1.0, max(0.0, t) / 3)))
    return Trajectory(
        step_s=step_s,
        start_s=start_s,
        x_m=[pose[0] for pose in poses],
        y_m=[pose[1] for pose in poses],
        heading_rad=[pose[2] for pose in poses],
        speed_mps=speeds,
    )
