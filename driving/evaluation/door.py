"""The doors to evaluation: teach, simulate, report."""

import argparse
from pathlib import Path

from data_prep.front_door import Command, add_output_options

RULE_NAMES = ("log", "constant_velocity", "idm", "idm_lane_change", "pdm")
TEACHERS = ("idm_lane_change", "idm", "pdm")
PRESET_CONDITIONS = ("conservative", "normal", "aggressive")


def _teach_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--scenes", type=Path, required=True, help="scenes artifact, as data-prep writes it")
    add("--styles", type=Path, required=True, help="styles artifact, as driving annotate writes it")
    add_output_options(parser, "the teacher's drives")
    add(
        "--rules",
        choices=TEACHERS,
        default=TEACHERS[0],
        help="who drives (default: %(default)s; pdm costs twenty times as much)",
    )
    add("--variants", type=int, default=5, help="drawn styles beside the presets (default: 5)")
    add("--maximum-samples", type=int, metavar="N", help="most training samples, evenly spread")
    add("--batch-size", type=int, default=64, help="samples at a time (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the drawn styles (default: %(default)s)")


def _simulate_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    who = parser.add_argument_group("who drives")
    who.add_argument("--checkpoint", type=Path, help="a run, whose best one is taken, or one")
    who.add_argument("--rules", choices=RULE_NAMES, help="rules, or the log itself")
    who.add_argument("--name", help="its name in the report")
    who.add_argument(
        "--set",
        dest="changes",
        nargs="+",
        default=(),
        metavar="NAME=VALUE",
        help="change an option of a trained planner, such as guidance=2",
    )
    add("--scenes", type=Path, required=True, help="scenes artifact, as data-prep writes it")
    add("--styles", type=Path, required=True, help="styles artifact, as driving annotate writes it")
    add("--style-vectors", type=Path, help="style vectors, for own, before, truth and shuffled")
    add_output_options(parser, "the rollouts")
    add("--split", default="test", choices=("train", "validation", "test"), help="which samples")
    add(
        "--conditions",
        nargs="*",
        default=("none", *PRESET_CONDITIONS),
        metavar="STYLE",
        help="styles asked for in open loop: none, before, own, truth, shuffled, conservative, "
        "normal, aggressive, or a dimension with a value such as time_gap+0.8",
    )
    add(
        "--closed-conditions",
        nargs="*",
        default=("none", *PRESET_CONDITIONS),
        metavar="STYLE",
        help="the same for closed loop",
    )
    add("--sweep", action="store_true", help="also ask for each dimension alone, in closed loop")
    add(
        "--ride-s",
        type=float,
        default=4.0,
        metavar="SECONDS",
        help="how long closed-loop rides last, at least 4; samples whose log ends before are left "
        "out (default: %(default)s)",
    )
    add("--maximum-samples", type=int, metavar="N", help="most samples, evenly spread")
    add(
        "--gate",
        action="store_true",
        help="pass over candidates that seem unsafe in closed loop, whatever the planner's scores",
    )
    add("--reactive", action="store_true", help="other vehicles react in closed loop")
    add("--batch-size", type=int, default=64, help="samples at a time (default: %(default)s)")
    add("--examples", type=int, default=6, help="scenes kept for pictures (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of everything drawn (default: %(default)s)")
    add("--device", help="torch device (default: a GPU where there is one)")


def _report_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--rollouts", type=Path, nargs="+", required=True, help="rollouts of the same samples")
    add_output_options(parser, "the report")
    add("--scenes", type=Path, help="scenes artifact, where it was moved")
    add("--styles", type=Path, help="styles artifact, where it was moved")
    add("--resamples", type=int, default=2000, help="of every interval (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the intervals (default: %(default)s)")


EVALUATION_COMMANDS: tuple[Command, ...] = (
    Command(
        "teach",
        "drive the training samples in several styles by rules, for a planner to learn from",
        "driving.evaluation.teach:write_teacher",
        _teach_options,
        "Drive the training samples in several styles: a log shows one per scene.\n\n"
        "example:\n"
        "  driving teach --scenes runs/scenes --styles runs/styles --out runs/teacher",
    ),
    Command(
        "simulate",
        "let one planner drive the samples of a split in several styles, and score it",
        "driving.evaluation.simulate:write_rollouts",
        _simulate_options,
        "Let one planner drive the samples of a split in several styles, and score every ride.\n\n"
        "example:\n"
        "  driving simulate --checkpoint runs/diffusion --scenes runs/scenes \\\n"
        "      --styles runs/styles --out runs/rollouts/diffusion\n"
        "  driving simulate --rules idm --scenes runs/scenes --styles runs/styles \\\n"
        "      --out runs/rollouts/idm",
    ),
    Command(
        "report",
        "compare rollouts in one page",
        "driving.report.write:write_report",
        _report_options,
        "Compare the rollouts of several planners in one page with moving pictures.\n\n"
        "example:\n"
        "  driving report --rollouts runs/rollouts/idm runs/rollouts/diffusion --out runs/report",
    ),
)
