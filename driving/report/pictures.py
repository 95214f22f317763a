"""Bird's-eye pictures of one scene, moving: SVG that animates itself and stands still on paper."""

import math
from collections.abc import Mapping, Sequence
from math import degrees
from typing import Any

from personalize.report.markup import Markup, element

Point = Sequence[float]
Example = Mapping[str, Any]

LINE_CLASSES = ("lane", "boundary", "edge", "crosswalk", "stop")
AGENT_CLASSES = ("vehicle", "pedestrian", "cyclist", "static", "other")
LANE = LINE_CLASSES.index("lane")
MARGIN_M = 12.0
DOT_M = 0.45
LEAST_SPAN_M = 40.0


def scene_pictures(
    example: Example, drives: Sequence[str], colours: Mapping[str, int]
) -> dict[str, Markup]:
    """One picture per drive, all of the same stretch of road and in step with each other.

    The ego's way lies under it, with a dot for every second: closer dots are slower.

    Args:
        example: Lines, step, and drives: as `driving.evaluation.examples` makes it.
        drives: Drives to draw, by name.
        colours: Number of a drive's colour in the page.
    """
    box = _box([example["drives"][name] for name in drives])
    near = [line for line in example["lines"] if _near(line["points"], box)]
    lanes = [line for line in near if line["kind"] == LANE]
    ways = [element("polyline", points=_points(lane["points"]), class_="way") for lane in lanes]
    lines = [*ways, *(_line(line) for line in near)]
    second = max(round(1 / example["step_s"]), 1)
    found = {}
    for name in drives:
        drive = example["drives"][name]
        seconds = (len(drive["ego"]) - 1) * example["step_s"]
        others = [_moving(a, seconds, f"agent {AGENT_CLASSES[a['kind']]}") for a in drive["agents"]]
        ego = {"size": example["ego_size"], "poses": drive["ego"]}
        trail = _points([pose[:2] for pose in drive["ego"]], digits=2)
        found[name] = element(
            "svg",
            element("title", f"{name}: seen from above, the ego drives to the right"),
            element(
                "g",
                *lines,
                element("polyline", points=trail, class_="trail"),
                *(_dot(pose) for pose in drive["ego"][second::second]),
                *others,
                _moving(ego, seconds, "ego"),
                transform="scale(1 -1)",
            ),
            viewBox=f"{box[0]:.1f} {-box[3]:.1f} {box[2] - box[0]:.1f} {box[3] - box[1]:.1f}",
            class_=f"road c{colours.get(name, 7) % 8}",
            role="img",
        )
    return found


def speed_curves(example: Example, drives: Sequence[str], colours: Mapping[str, int]) -> Markup:
    """Speed over time of every drive, on one scale."""
    width, height, left, foot = 520, 150, 44, 24
    step_s = example["step_s"]
    curves = {name: example["drives"][name]["speed_mps"] for name in drives}
    most_s = max(len(curve) - 1 for curve in curves.values()) * step_s
    most_mps = max(max(curve) for curve in curves.values())
    top = 2.0 * math.ceil(max(most_mps * 1.05, 5.0) / 2)  # so that half of it is a whole number

    def place(step: int, speed: float) -> list[float]:
        x = left + step * step_s / max(most_s, 1e-9) * (width - left - 16)
        return [x, (height - foot) - max(speed, 0.0) / top * (height - foot - 10)]

    ticks = [0.0, top / 2, top]
    parts = [
        element(
            "g",
            element(
                "line", x1=left, x2=width - 16, y1=place(0, v)[1], y2=place(0, v)[1], class_="grid"
            ),
            element("text", f"{v:.0f} m/s", x=left - 6, y=place(0, v)[1] + 4, class_="label tick"),
        )
        for v in ticks
    ]
    parts += [
        element("text", f"{seconds} s", x=place(round(seconds / step_s), 0.0)[0], y=height - 6,
                class_="middle tick")
        for seconds in range(0, int(most_s) + 1, max(1, int(most_s) // 4))
    ]  # fmt: skip
    parts += [
        element(
            "polyline",
            points=_points([place(step, float(speed)) for step, speed in enumerate(curve)]),
            class_=f"line c{colours.get(name, 7) % 8}",
        )
        for name, curve in curves.items()
    ]
    return element(
        "svg",
        element("title", "Speed over time of " + ", ".join(drives)),
        *parts,
        viewBox=f"0 0 {width} {height}",
        class_="figure",
        role="img",
    )


def _box(drives: Sequence[Mapping[str, Any]]) -> tuple[float, float, float, float]:
    """Left, bottom, right, top around where the egos drive."""
    places = [pose for drive in drives for pose in drive["ego"]]
    xs, ys = [pose[0] for pose in places], [pose[1] for pose in places]
    left, right = min(xs) - MARGIN_M, max(xs) + MARGIN_M
    bottom, top = min(ys) - MARGIN_M, max(ys) + MARGIN_M
    missing = max(0.0, LEAST_SPAN_M - (right - left)) / 2
    left, right = left - missing, right + missing
    least = (right - left) * 0.3
    missing = max(0.0, least - (top - bottom)) / 2
    return left, bottom - missing, right, top + missing


def _near(points: Sequence[Point], box: tuple[float, float, float, float]) -> bool:
    left, bottom, right, top = box
    return any(left <= x <= right and bottom <= y <= top for x, y in points)


def _line(line: Mapping[str, Any]) -> Markup:
    return element("polyline", points=_points(line["points"]), class_=LINE_CLASSES[line["kind"]])


def _dot(pose: Point) -> Markup:
    return element("circle", cx=f"{pose[0]:.2f}", cy=f"{pose[1]:.2f}", r=DOT_M, class_="beat")


def _moving(agent: Mapping[str, Any], seconds: float, name: str) -> Markup:
    """A box that drives through its poses, each a place and a heading, or None where unseen."""
    length, width = agent["size"]
    poses = agent["poses"]
    shown = [pose for pose in poses if pose is not None]
    if not shown:
        return element("g")
    filled = _held(poses)
    box = element(
        "rect",
        x=round(-length / 2, 2),
        y=round(-width / 2, 2),
        width=round(length, 2),
        height=round(width, 2),
        rx=round(min(width, length) * 0.25, 2),
        class_=name,
    )
    front = element(
        "rect",
        x=round(length * 0.18, 2),
        y=round(-width * 0.38, 2),
        width=round(length * 0.14, 2),
        height=round(width * 0.76, 2),
        class_="front",
    )
    x, y, heading = filled[0]
    turning = element(
        "g",
        _animation("rotate", [f"{degrees(pose[2]):.1f}" for pose in filled], seconds),
        box,
        front,
        transform=f"rotate({degrees(heading):.1f})",
    )
    parts: list[Markup] = [
        _animation("translate", [f"{pose[0]:.2f} {pose[1]:.2f}" for pose in filled], seconds)
    ]
    if len(shown) < len(poses):
        states = ["hidden" if pose is None else "visible" for pose in poses]
        parts.append(
            element(
                "animate",
                attributeName="visibility",
                values=";".join(states),
                dur=f"{seconds:.1f}s",
                calcMode="discrete",
                repeatCount="indefinite",
            )
        )
    return element(
        "g",
        *parts,
        turning,
        transform=f"translate({x:.1f} {y:.1f})",
        visibility="hidden" if poses[0] is None else None,
    )


def _animation(kind: str, values: Sequence[str], seconds: float) -> Markup:
    if len(set(values)) == 1:
        return Markup("")
    return element(
        "animateTransform",
        attributeName="transform",
        type=kind,
        values=";".join(values),
        dur=f"{seconds:.1f}s",
        repeatCount="indefinite",
    )


def _held(poses: Sequence[Point | None]) -> list[Point]:
    """Poses with the gaps filled by the last one seen, or the first one to be seen."""
    last = next(pose for pose in poses if pose is not None)
    found = []
    for pose in poses:
        last = pose if pose is not None else last
        found.append(last)
    return found


def _points(points: Sequence[Point], digits: int = 1) -> str:
    return " ".join(f"{x:.{digits}f},{y:.{digits}f}" for x, y in points)
