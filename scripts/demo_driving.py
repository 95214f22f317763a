"""Run the whole driving path, command by command, and end with its report.

    make demo-driving                      simulated traffic, offline
    make demo-driving LOGS=folder          real logs: CommonRoad, ScenarioNet or Argoverse 2
    make demo-driving STYLEDRIVE=folder    StyleDrive's benchmark, on OpenScene's logs

Every command is shown before it runs, and can be typed as it stands. What a command made is kept:
a second run begins where the first one stopped. Standard library only.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from demo_steps import ROOT, DemoError, Step, perform

CONFIGS = ROOT / "configs" / "driving"
FORMATS = (
    ("commonroad", "*.xml"),
    ("scenarionet", "sd_*.pkl"),
    ("argoverse2-sensor", "annotations*.feather"),
    ("argoverse2-forecasting", "scenario_*.parquet"),
)
"""Command of `data-prep`, and the files by which its format is known."""
STYLEDRIVE_FILES = (
    *("logs/trainval", "logs/test", "maps"),
    *("styletrain.yaml", "styletest.yaml", "styletrain.json", "styletest.json"),
)


@dataclass(frozen=True)
class Planner:
    """One planner of the demo.

    Attributes:
        name: Its row in the report, and of a trained one its configuration.
        trained: It is trained; else it follows rules.
        learns_from_teacher: Its configuration reads the teacher's drives.
        reads_style: It is asked for every style.
        gated: Name of a trained planner that drives behind the safety gate under this name.
    """

    name: str
    trained: bool = False
    learns_from_teacher: bool = False
    reads_style: bool = True
    gated: str = ""


TEACHER = "idm"
"""Whose answers to single dimensions stand beside those of the planner that it taught."""
PLANNERS = (
    Planner("log", reads_style=False),
    Planner("constant_velocity", reads_style=False),
    Planner("idm"),
    Planner("ego_mlp", trained=True),
    Planner("diffusion_no_style", trained=True, reads_style=False),
    Planner("diffusion_one_hot", trained=True),
    Planner("diffusion", trained=True, learns_from_teacher=True),
    Planner("diffusion_gated", gated="diffusion"),
)
SIDE_BY_SIDE = "side by side"
DRIVING_ORDER = (
    *("idm", "diffusion_one_hot", "diffusion", "diffusion_gated", "ego_mlp"),
    *("diffusion_no_style", "constant_velocity", "log"),
)
"""The longest first, but the first two do not wait for the longest training."""


@dataclass(frozen=True)
class Size:
    """How much the demo does.

    Attributes:
        traffic: Options of the simulated traffic.
        stride_s: Time between two samples of a vehicle.
        taught: Training samples the teacher drives.
        epochs: Passes of training.
        driven: Test samples every planner drives.
        ride_s: How long closed-loop rides last in simulated traffic; real logs are short.
    """

    traffic: tuple[str, ...]
    stride_s: str
    taught: str
    epochs: str
    driven: str
    ride_s: str


WHOLE = Size(("--scenes", "40", "--duration-s", "30"), "6", "6000", "15", "240", "8")
TINY = Size(("--scenes", "4", "--duration-s", "12"), "4", "64", "1", "16", "4")


def formats_below(logs: Path) -> list[str]:
    """The `data-prep` commands that can read something below a folder.

    Raises:
        DemoError: If there is no such folder, or nothing below it is of a known format.
    """
    if not logs.exists():
        raise DemoError(f"{logs} is not there; give the folder of the logs.")
    found = [command for command, files in FORMATS if next(logs.rglob(files), None) is not None]
    if not found:
        raise DemoError(
            f"{logs} holds no CommonRoad, ScenarioNet or Argoverse 2 logs; nuPlan's need their "
            "maps: see `data-prep nuplan --help`."
        )
    return found


def scene_steps(logs: Path | None, out: Path, size: Size) -> list[Step]:
    """The commands that make the scenes: of simulated traffic, or of every format found."""
    scenes = out / "scenes"
    if logs is None:
        words = ("data-prep", "traffic", *size.traffic, "--out", str(scenes))
        return [Step("Simulate traffic whose drivers have styles that are written down.", words,
                     scenes)]  # fmt: skip
    commands = formats_below(logs)
    if len(commands) == 1:
        words = ("data-prep", commands[0], "--logs", str(logs), "--out", str(scenes))
        return [Step("Read the logs into tables.", words, scenes)]
    path = []
    for command in commands:
        part = out / "parts" / command
        words = ("data-prep", command, "--logs", str(logs), "--out", str(part))
        path.append(Step(f"Read the logs of {command} into tables.", words, part))
    parts = tuple(step.makes for step in path)
    words = ("data-prep", "join", "--scenes", *map(str, parts), "--out", str(scenes))
    return [*path, Step("Join the tables of all formats.", words, scenes, parts)]


def styledrive_steps(folder: Path, out: Path) -> list[Step]:
    """The commands that read StyleDrive's benchmark: train and test logs, with the same maps.

    Raises:
        DemoError: If something of it is not there.
    """
    wanted = [folder / name for name in STYLEDRIVE_FILES]
    missing = [str(path) for path in wanted if not path.exists()]
    if missing:
        raise DemoError(
            f"{missing[0]} is not there; README.md says what StyleDrive's folder holds."
        )
    path = []
    for part, logs in (("train", "trainval"), ("test", "test")):
        words = (
            *("data-prep", "openscene", "--logs", str(folder / "logs" / logs)),
            *("--maps", str(folder / "maps"), "--tokens", str(folder / f"style{part}.yaml")),
        )
        makes = out / "parts" / part
        path.append(
            Step(f"Read the {part} logs into tables.", (*words, "--out", str(makes)), makes)
        )
    parts = tuple(step.makes for step in path)
    words = ("data-prep", "join", "--scenes", *map(str, parts), "--out", str(out / "scenes"))
    return [*path, Step("Join training and test.", words, out / "scenes", parts)]


def steps(
    logs: Path | None, out: Path, *, styledrive: Path | None = None, tiny: bool = False
) -> list[Step]:
    """The whole path, in order."""
    size = TINY if tiny else WHOLE
    path = styledrive_steps(styledrive, out) if styledrive else scene_steps(logs, out, size)
    scenes = path[-1].makes
    styles, vectors, teacher = out / "styles", out / "style_vectors", out / "teacher"
    how: tuple[str, ...] = ("--stride-s", size.stride_s if logs is None else "1")
    if styledrive:
        how = ("--labels", *(str(styledrive / f"style{part}.json") for part in ("train", "test")))
        size = replace(size, taught="30000", epochs="40", driven="100000")
    if logs is not None or styledrive:
        size = replace(size, ride_s="4")
    path += [
        _step(
            "Measure how everybody drives, and name the styles.",
            ("driving", "annotate", *how),
            {"--scenes": scenes},
            styles,
        ),
        _step(
            "Turn styles into the vectors a planner is conditioned on.",
            ("driving", "encode"),
            {"--styles": styles, "--scenes": scenes},
            vectors,
        ),
    ]
    runs = {each.name: out / "fit" / (each.gated or each.name) for each in PLANNERS}
    made = (scenes, styles, vectors, teacher)
    teach = _step(
        "Drive the training samples in several styles by rules: a log shows one.",
        ("driving", "teach", "--maximum-samples", size.taught),
        {"--scenes": scenes, "--styles": styles},
        teacher,
    )
    path.append(replace(teach, together=SIDE_BY_SIDE))
    path += [
        _fit(planner, made, runs[planner.name], size)
        for planner in sorted(PLANNERS, key=lambda each: each.learns_from_teacher)
        if planner.trained
    ]
    rollouts = [out / "rollouts" / planner.name for planner in PLANNERS]  # as the report has them
    by_name = {planner.name: planner for planner in PLANNERS}
    path += [
        _simulate(by_name[name], made[:3], runs[name], out / "rollouts" / name, size)
        for name in DRIVING_ORDER
    ]
    report = out / "report"
    words = ("driving", "report", "--rollouts", *map(str, rollouts), "--out", str(report))
    path.append(Step("Compare the planners in one report.", words, report, tuple(rollouts)))
    return path


def _step(says: str, words: tuple[str, ...], reads: dict[str, Path], makes: Path) -> Step:
    options = [word for option, path in reads.items() for word in (option, str(path))]
    return Step(says, (*words, *options, "--out", str(makes)), makes, tuple(reads.values()))


def _fit(planner: Planner, made: Sequence[Path], run: Path, size: Size) -> Step:
    scenes, styles, vectors, teacher = made
    config = CONFIGS / f"{planner.name}.yaml"
    inputs = {"--data.scenes": scenes, "--data.styles": styles, "--data.style_vectors": vectors}
    if planner.learns_from_teacher:
        inputs["--data.teacher"] = teacher
    words = ["driving", "fit", "--config", os.path.relpath(config)]
    for option, path in inputs.items():
        words += [option, str(path)]
    words += ["--trainer.max_epochs", size.epochs, "--run-folder", str(run)]
    reads = (config, *inputs.values())
    return Step(f"Train {planner.name}.", tuple(words), run, reads, together=SIDE_BY_SIDE)


def _simulate(planner: Planner, made: Sequence[Path], run: Path, makes: Path, size: Size) -> Step:
    scenes, styles, vectors = made
    learned = planner.trained or bool(planner.gated)
    who = {"--checkpoint": run} if learned else {}
    words: tuple[str, ...] = ("driving", "simulate", "--name", planner.name)
    if not learned:
        words += ("--rules", planner.name)
    if planner.gated:
        words += ("--gate",)
    presets = ("conservative", "normal", "aggressive")
    asked = ("none", "before", "own", "shuffled", *presets) if planner.reads_style else ("none",)
    closed = ("none", *presets) if planner.reads_style else ("none",)
    words += ("--conditions", *asked, "--closed-conditions", *closed)
    if planner.learns_from_teacher or planner.name == TEACHER:
        words += ("--sweep",)
    words += ("--ride-s", size.ride_s, "--maximum-samples", size.driven)
    inputs = who | {"--scenes": scenes, "--styles": styles, "--style-vectors": vectors}
    step = _step(f"Let {planner.name} drive the test samples.", words, inputs, makes)
    return replace(step, together=SIDE_BY_SIDE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit status."""
    parser = argparse.ArgumentParser(
        description="Run the whole driving path and end with its report.",
    )
    parser.add_argument("--logs", type=Path, help="folder of real logs instead of traffic")
    parser.add_argument("--styledrive", type=Path, help="folder of StyleDrive's benchmark")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo-driving"), help="folder for everything"
    )
    parser.add_argument(
        "--bin", type=Path, default=Path(".venv/bin"), help="folder of the console scripts"
    )
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--tiny", action="store_true", help="little traffic, one pass")
    options = parser.parse_args(argv)
    return perform(
        lambda: steps(options.logs, options.out, styledrive=options.styledrive, tiny=options.tiny),
        options.out / "report",
        options.bin,
        fresh=options.fresh,
    )


if __name__ == "__main__":
    sys.exit(main())
