"""Rides scored per second, ours in batches beside a loop over rides with shapely.

Both score the same rides in the same run; the best of several turns counts, for both.

- One thread: processor time of this process, so that a busy machine does not blur it.
- Two cores: wall clock, once with two threads in one process, once with two processes of one
  thread that score half of the scenes each. Both are compared with the loop in two processes,
  likewise half of its scenes each; that is the fair comparison, since the loop gets both cores too.
- A GPU: wall clock until it has finished. No loop runs there, but its verdicts are compared with
  those of the CPU, and where they differ it is said why.

The scenes are made up but of the size of real ones: a grid of streets with a polygon per lane and
crossing, parked and moving road users around an ego that follows a street. With --argoverse the
maps are real: drivable areas of Argoverse 2 logs, with the same road users.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.score_agreement import CONTINUOUS, DISCRETE, agreement
from benchmarks.score_scenes import argoverse_maps, moved, rows_of, scenes, town
from driving.metrics.drivable_area import DrivableArea
from driving.metrics.score import Scores, pdm_score, style_pdm_score
from driving.simulation.state import Motion
from driving.world import World

AIM = 100.0
VERSIONS = ("navsim", "released", "fine")
SIZES = {"cpu": (1, 16, 128), "cuda": (1, 16, 128, 512)}
HOW = {"cpu": "one thread", "cuda": "whole GPU"}
LOOP_TURNS, SHOWN = 2, 12
LONGEST_S = 1.5
HEADER = "score     device  how            scenes   rides/s  us per ride  loop rides/s  times  aim"

Maps = list[list[np.ndarray]]


def main() -> None:
    """Measure, print the table and, with `--json`, one line of JSON."""
    options = chosen_options()
    torch.set_num_threads(1)
    maps = maps_of(options)
    begun = time.perf_counter()
    area = DrivableArea.from_polygons(maps)
    build_s = time.perf_counter() - begun
    print(
        f"{len(maps)} maps, {sum(map(len, maps))} polygons; {len(area.windings)} cells, "
        f"{len(area.edges_m)} edges in cells, at most {area.most_edges_per_cell}; {build_s:.1f} s"
    )
    found: dict[str, Any] = {"build_s": build_s, "torch": torch.__version__, "same": {}}
    loop: dict[str, float] = {}
    if options.loop_scenes:
        loop, found["same"], found["largest"] = measure_loop(maps, area, options)
        shares = (f"{name} {share:.1%}" for name, share in found["same"].items())
        print("same as the loop: " + ", ".join(shares))
        gaps = (f"{name} {gap:.1e}" for name, gap in found["largest"].items())
        print("apart from the loop by at most: " + ", ".join(gaps))
    print(HEADER)
    rows = []
    for device in options.devices:
        for version in VERSIONS:
            for count in options.scenes or SIZES[device]:
                speed = measure(maps, area.to(device), version, device, (count, options))
                rows.append(row(version, device, HOW[device], count, speed, loop.get(version)))
    if "cpu" in options.devices and options.two_cores:
        rows += two_cores(maps, area, options, loop)
    found["rows"] = rows
    if "cuda" in options.devices:
        found["devices"] = devices_agree(maps, area, options)
    if options.json:
        print(json.dumps(found))


def chosen_options() -> argparse.Namespace:
    """What was asked for; the loop is left out where it cannot run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], help="only this; else what there is")
    parser.add_argument("--scenes", type=int, nargs="+", help="at once")
    parser.add_argument("--candidates", type=int, default=20, help="rides per scene")
    parser.add_argument("--agents", type=int, default=30, help="road users per scene")
    parser.add_argument("--turns", type=int, default=5, help="turns per cell; the best one counts")
    parser.add_argument(
        "--loop-scenes",
        type=int,
        help="scenes the loop scores; 0 for no loop (and no shapely), as on a GPU alone",
    )
    parser.add_argument(
        "--two-cores",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure two threads and two processes too, on a CPU",
    )
    parser.add_argument("--argoverse", type=Path, help="folder with log_map_archive_*.json files")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    options.devices = [options.device] if options.device else there
    if options.device == "cuda" and "cuda" not in there:
        parser.error("--device cuda needs a GPU that torch can use, and there is none.")
    if options.loop_scenes is None:
        options.loop_scenes = 2 if "cpu" in options.devices else 0
        if options.loop_scenes and not has_loop():
            options.loop_scenes = 0
            print("no loop: it needs shapely and scipy")
    return options


def has_loop() -> bool:
    """Whether the libraries of the loop are installed."""
    try:
        import tests.oracles.shapely_scorer  # noqa: F401
    except ImportError:
        return False
    return True


def maps_of(options: argparse.Namespace) -> Maps:
    """Real maps or the made-up one."""
    return argoverse_maps(options.argoverse) if options.argoverse else [town()]


def row(
    version: str, device: str, how: str, count: int, speed: float, loop: float | None
) -> dict[str, Any]:
    """One row, which is printed too; `how` says what ran, ours and the loop alike."""
    slow = loop or 0.0
    times = speed / slow if slow else 0.0
    print(
        f"{version:9} {device:6}  {how:13}  {count:6}  {speed:8.0f}  {1e6 / speed:11.1f}  "
        f"{slow:12.1f}  {times:5.0f}  {AIM:3.0f}"
    )
    return {
        "version": version, "device": device, "how": how, "scenes": count, "rides_per_s": speed,
        "loop_rides_per_s": slow, "times": times, "aim": AIM,
    }  # fmt: skip


def measure(
    maps: Maps, area: DrivableArea, version: str, device: str, how: tuple[int, argparse.Namespace]
) -> float:
    """Rides per second of ours: processor time on a CPU, wall clock on a GPU."""
    count, options = how
    world, rides = scenes(maps, count, options.candidates, options.agents)
    world, rides = world.to(device), moved(rides, device)
    on_gpu = device == "cuda"

    def action() -> None:
        score(world, rides, area, version)
        if on_gpu:
            torch.cuda.synchronize()

    turns = 4 * options.turns if on_gpu else turns_of(count, options)
    clock = time.perf_counter if on_gpu else time.process_time
    return count * options.candidates / best_time(action, turns, clock)


def measure_loop(
    maps: Maps, area: DrivableArea, options: argparse.Namespace
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Rides per second of the loop, the share of equal verdicts in float32, the largest gaps."""
    has_loop()  # its imports are not to be timed
    world, rides = scenes(maps, options.loop_scenes, options.candidates, options.agents)
    speeds, equal = {}, {name: [] for name in DISCRETE}
    gaps: dict[str, float] = dict.fromkeys(CONTINUOUS, 0.0)
    for version in VERSIONS:
        answers: list[dict[str, np.ndarray]] = []
        spent = best_time(
            lambda: answers.append(slow_score(world, rides, maps, version)),  # noqa: B023
            LOOP_TURNS, time.process_time, warm_up=False,
        )  # fmt: skip
        expected = answers[0]
        speeds[version] = options.loop_scenes * options.candidates / spent
        found = score(world, rides, area, version)
        for name in DISCRETE:
            equal[name].append(float((getattr(found, name).numpy() == expected[name]).mean()))
        for name in CONTINUOUS:
            away = np.abs(getattr(found, name).double().numpy() - expected[name])
            gaps[name] = max(gaps[name], float(away.max()))
    return speeds, {name: float(np.mean(shares)) for name, shares in equal.items()}, gaps


def two_cores(
    maps: Maps, area: DrivableArea, options: argparse.Namespace, alone: dict[str, float]
) -> list[dict[str, Any]]:
    """Rows on two cores, by the wall clock, beside the loop in two processes."""
    counts = [max(count, 2) for count in options.scenes or SIZES["cpu"]]
    shared = in_two_processes(options, counts)
    rows = []
    for version in VERSIONS:
        slow = shared.get((version, "loop", 0))
        for count in counts:
            with_threads = measure_threads(maps, area, version, (count, options))
            for how, speed in (
                ("two threads", with_threads), ("two processes", shared[version, "ours", count]),
            ):  # fmt: skip
                rows.append(row(version, "cpu", how, count, speed, slow))
                rows[-1]["one_process_loop_rides_per_s"] = alone.get(version, 0.0)
    print(
        "two cores: wall clock; the loop runs in two processes as well, each with half of its "
        "scenes, which is the fair comparison"
    )
    return rows


def measure_threads(
    maps: Maps, area: DrivableArea, version: str, how: tuple[int, argparse.Namespace]
) -> float:
    """Rides per second of one process whose operations may use two threads, by the wall clock."""
    count, options = how
    world, rides = scenes(maps, count, options.candidates, options.agents)
    torch.set_num_threads(2)
    turns = turns_of(count, options)
    spent = best_time(lambda: score(world, rides, area, version), turns, time.perf_counter)
    torch.set_num_threads(1)
    return count * options.candidates / spent


def in_two_processes(
    options: argparse.Namespace, counts: Sequence[int]
) -> dict[tuple[str, str, int], float]:
    """Rides per second of two processes that begin together, until the later one has finished."""
    context = get_context("spawn")
    together = context.Barrier(2, timeout=300)
    with context.Pool(2, initializer=_share, initargs=(together,)) as pool:
        halves = [pool.apply_async(half, (place, options, counts)) for place in (0, 1)]
        first, second = (answer.get() for answer in halves)
    return {
        job: count * options.candidates / best_wall(turns, second[job][1])
        for job, (count, turns) in first.items()
    }


def best_wall(first: Sequence[tuple[float, float]], second: Sequence[tuple[float, float]]) -> float:
    """Of the turns of two processes, begin and end each, the shortest: from first to last."""
    return min(
        max(one[1], other[1]) - min(one[0], other[0])
        for one, other in zip(first, second, strict=True)
    )


_together: list[Any] = []


def _share(barrier: Any) -> None:  # noqa: ANN401  (what a context makes has no public type)
    _together.append(barrier)


def half(
    place: int, options: argparse.Namespace, counts: Sequence[int]
) -> dict[tuple[str, str, int], tuple[int, list[tuple[float, float]]]]:
    """What one of two processes does: every second scene; when its turns began and ended."""
    torch.set_num_threads(1)
    maps = maps_of(options)
    area = DrivableArea.from_polygons(maps)
    if options.loop_scenes:
        has_loop()
    taken = {}
    for version in VERSIONS:
        for count in counts:
            world, rides = every_second(maps, count, place, options)
            action = lambda: score(world, rides, area, version)  # noqa: B023, E731
            action()
            spans = begun_together(action, turns_of(count, options))
            taken[version, "ours", count] = (count, spans)
        if options.loop_scenes:
            count = 2 * options.loop_scenes
            world, rides = every_second(maps, count, place, options)
            action = lambda: slow_score(world, rides, maps, version)  # noqa: B023, E731
            spans = begun_together(action, LOOP_TURNS)
            taken[version, "loop", 0] = (count, spans)
    return taken


def every_second(
    maps: Maps, count: int, place: int, options: argparse.Namespace
) -> tuple[World, Motion]:
    """The scenes 0, 2, 4, ... or 1, 3, 5, ..."""
    world, rides = scenes(maps, count, options.candidates, options.agents)
    chosen = slice(place, None, 2)
    return world.rows(chosen), rows_of(rides, chosen)


def begun_together(action: Callable[[], object], turns: int) -> list[tuple[float, float]]:
    """Begin and end of every turn; each waits for the other process."""
    spans = []
    for _ in range(turns):
        _together[0].wait()
        begun = time.perf_counter()
        action()
        spans.append((begun, time.perf_counter()))
    return spans


def devices_agree(
    maps: Maps, area: DrivableArea, options: argparse.Namespace, *, other: str = "cuda"
) -> dict[str, dict[str, Any]]:
    """How alike the CPU and another device score as many scenes as are scored at once."""
    count = max(options.scenes or SIZES["cuda"])
    world, rides = scenes(maps, count, options.candidates, options.agents)
    there_too = (world.to(other), moved(rides, other), area.to(other))
    found = {}
    for version in VERSIONS:
        here = score(world, rides, area, version)
        there = score(*there_too, version)
        there = Scores(**{field.name: getattr(there, field.name).cpu() for field in fields(there)})
        result = agreement(
            here, there, world, rides, lambda some, few: score(some, few, area, version)  # noqa: B023
        )  # fmt: skip
        found[version] = print_agreement(version, result)
    return found


def print_agreement(version: str, result: dict[str, Any]) -> dict[str, Any]:
    """Print how alike two devices are; the same ready for JSON."""
    different, why = result["different"], result["why"]
    print(
        f"{version}: {len(different)} of {result['rides']} rides differ between CPU and GPU ("
        + ", ".join(f"{count} {reason}" for reason, count in why.items())
        + "); elsewhere by at most "
        + ", ".join(f"{name} {gap:.1e}" for name, gap in result["largest"].items())
    )
    for one in different[:SHOWN]:
        values = ", ".join(f"{name} {a:g} / {b:g}" for name, (a, b) in one.values.items())
        print(f"  scene {one.scene}, ride {one.ride}: {values}: {one.why}")
    return result | {"different": [asdict(one) for one in different[:SHOWN]]}


def score(world: World, rides: Motion, area: DrivableArea, version: str) -> Scores:
    """One call of ours."""
    if version == "navsim":
        return pdm_score(world, rides, area)
    return style_pdm_score(
        world, rides, area, styles_of(world), first(rides),
        version="fine" if version == "fine" else "released",
    )  # fmt: skip


def slow_score(world: World, rides: Motion, maps: Maps, version: str) -> dict[str, np.ndarray]:
    """The same with the loop."""
    from tests.oracles.shapely_scorer import score_rides

    if version == "navsim":
        return score_rides(world, rides, maps, version)
    styles = styles_of(world).numpy()
    return score_rides(world, rides, maps, version, styles=styles, human=first(rides))


def styles_of(world: World) -> torch.Tensor:
    """Styles in turn."""
    return world.sample_ids % 3


def first(rides: Motion) -> Motion:
    """The first candidate, as the human."""
    return Motion(**{field.name: getattr(rides, field.name)[:, 0] for field in fields(rides)})


def turns_of(count: int, options: argparse.Namespace) -> int:
    """More turns for few scenes, which are quick."""
    return max(options.turns, 64 // count) if count < 64 else min(options.turns, 3)


def best_time(
    action: Callable[[], object],
    turns: int,
    clock: Callable[[], float],
    *,
    warm_up: bool = True,
) -> float:
    """Seconds of one call: the best of several, after one to warm up; fewer where they last."""
    if warm_up:
        action()
    times = []
    for _ in range(turns):
        begun = clock()
        action()
        times.append(clock() - begun)
        if sum(times) > LONGEST_S:
            break
    return min(times)


if __name__ == "__main__":
    main()
