"""The `data-prep` commands of driving: a raw format each, simulated traffic, and `join`."""

import argparse
from pathlib import Path

from data_prep.front_door import Command, add_output_options

ROADS = ("motorway", "grid", "roundabout", "rural")


def _shared_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--step-s",
        type=float,
        default=0.1,
        metavar="SECONDS",
        help="seconds from one step to the next (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed, another split (default: %(default)s)"
    )
    parser.add_argument(
        "--split-fractions",
        type=float,
        nargs=2,
        default=(0.15, 0.15),
        metavar=("VALIDATION", "TEST"),
        help="shares of the vehicle states, by whole recordings, where the source has no split "
        "of its own (default: 0.15 0.15)",
    )
    parser.add_argument(
        "--max-rejected-share",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="stop when more than this share of the tracks is refused (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads to use (default: all)")
    add_output_options(parser, "the tables")


def _log_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--logs",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="files, or folders that are searched for them",
    )
    _shared_options(parser)


def _mapped_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--maps", type=Path, required=True, metavar="FOLDER", help="folder of nuPlan's maps (GPKG)"
    )
    parser.add_argument(
        "--tokens",
        type=Path,
        metavar="FILE",
        help="YAML scene filter of NAVSIM or StyleDrive; without it everything is read",
    )
    _log_options(parser)


def _traffic_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--roads",
        nargs="+",
        choices=ROADS,
        default=ROADS,
        help="kinds of road network (default: all)",
    )
    parser.add_argument(
        "--scenes", type=int, default=40, metavar="N", help="scenes (default: %(default)s)"
    )
    parser.add_argument(
        "--duration-s",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="seconds of each scene (default: %(default)s)",
    )
    _shared_options(parser)


def _join_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scenes",
        type=Path,
        nargs="+",
        required=True,
        metavar="FOLDER",
        help="artifacts of scenes, two or more",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads to use (default: all)")
    add_output_options(parser, "the joined tables")


SCENE_COMMANDS: tuple[Command, ...] = (
    Command(
        "commonroad",
        "CommonRoad scenarios (XML 2018b and 2020a)",
        "data_prep.scenes.commands:commonroad",
        _log_options,
        "Prepare CommonRoad scenarios. An INDEX.csv beside them with the columns file and\n"
        "traffic_group says which belong together; files that hold the same vehicles always do.\n"
        "Needs the extra [commonroad].\n\nExample:\n"
        "  data-prep commonroad --logs scenarios --out scenes",
    ),
    Command(
        "scenarionet",
        "ScenarioNet files (pkl; read by a restricted unpickler)",
        "data_prep.scenes.commands:scenarionet",
        _log_options,
        "Prepare ScenarioNet files.\n\nExample:\n"
        "  data-prep scenarionet --logs nuscenes_mini --out scenes",
    ),
    Command(
        "argoverse2-sensor",
        "Argoverse 2 sensor logs (feather boxes, JSON map)",
        "data_prep.scenes.commands:argoverse2_sensor",
        _log_options,
        "Prepare Argoverse 2 sensor logs.\n\nExample:\n"
        "  data-prep argoverse2-sensor --logs sensor/val --out scenes",
    ),
    Command(
        "argoverse2-forecasting",
        "Argoverse 2 motion-forecasting scenarios (parquet, JSON map)",
        "data_prep.scenes.commands:argoverse2_forecasting",
        _log_options,
        "Prepare Argoverse 2 motion-forecasting scenarios.\n\nExample:\n"
        "  data-prep argoverse2-forecasting --logs motion-forecasting/val --out scenes",
    ),
    Command(
        "nuplan",
        "nuPlan databases (db) with their maps (GPKG)",
        "data_prep.scenes.commands:nuplan",
        _mapped_options,
        "Prepare nuPlan databases. Needs no nuplan-devkit.\n\nExample:\n"
        "  data-prep nuplan --logs nuplan-v1.1/mini --maps maps --out scenes",
    ),
    Command(
        "openscene",
        "OpenScene and NAVSIM logs (pkl) with nuPlan's maps",
        "data_prep.scenes.commands:openscene",
        _mapped_options,
        "Prepare OpenScene logs, as NAVSIM and StyleDrive use them.\n\nExample:\n"
        "  data-prep openscene --logs navsim_logs/test --maps maps --tokens styletest.yaml "
        "--out scenes",
    ),
    Command(
        "traffic",
        "simulated traffic of drivers whose true style is written down",
        "data_prep.scenes.commands:traffic",
        _traffic_options,
        "Simulate traffic with SUMO. Everything in it is simulated. Needs the extra [traffic].\n\n"
        "Example:\n  data-prep traffic --roads motorway grid --scenes 40 --seed 0 --out scenes",
    ),
    Command(
        "join",
        "several artifacts of scenes as one",
        "data_prep.scenes.commands:join",
        _join_options,
        "Join artifacts of scenes, numbered anew; recordings keep their part of the data.\n\n"
        "Example:\n  data-prep join --scenes commonroad nuscenes traffic --out scenes",
    ),
)
