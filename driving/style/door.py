"""The doors to styles: annotate, encode."""

import argparse
from pathlib import Path

from data_prep.front_door import Command, add_output_options


def _annotate_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--scenes", type=Path, required=True, help="scenes artifact, as data-prep writes it")
    add_output_options(parser, "the styles")
    add("--thresholds", type=Path, help="YAML file of thresholds; the embedded one when not given")
    add("--scale", type=Path, help="styles artifact whose statistics are used instead of fitting")
    add("--stride-s", type=float, default=1.0, help="time between two windows of one vehicle")
    add("--history-s", type=float, default=1.0, help="past every sample needs (default: 1.0)")
    add("--future-s", type=float, default=4.0, help="length of the window (default: 4.0)")
    add("--recorded-egos-only", action="store_true", help="only the recording vehicle is an ego")
    add(
        "--labels",
        type=Path,
        nargs="+",
        help="StyleDrive's label files; only the scenes they name are taken",
    )
    add(
        "--reader",
        choices=("none", "chat", "local"),
        default="none",
        help="a language model that judges beside the rules: a chat server, or one in this process",
    )
    model = parser.add_argument_group("language model (chat and local)")
    add = model.add_argument
    add("--url", help="OpenAI-compatible server, such as http://localhost:8000/v1 (chat)")
    add("--model", help="name of the server's model (chat), or folder of a model (local)")
    add("--api-key-env", metavar="NAME", help="environment variable that holds the key (chat)")
    add("--concurrency", type=int, default=16, help="calls in flight, or scenes in a batch")
    add("--max-calls", type=int, help="stop calling after so many; the rules read the rest")
    add("--cache", type=Path, help="file of answers; default: beside --out, kept between runs")


def _encode_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--styles", type=Path, required=True, help="styles artifact, as driving annotate writes it")
    add("--scenes", type=Path, required=True, help="scenes artifact it was made from")
    add_output_options(parser, "the style vectors")


STYLE_COMMANDS: tuple[Command, ...] = (
    Command(
        name="annotate",
        summary="Measure how vehicles drive, and name their styles.",
        run="driving.style.annotate:run",
        configure=_annotate_options,
        description=(
            "Measure how vehicles drive, and name their styles with the rule that fired.\n\n"
            "example:\n"
            "  driving annotate --scenes runs/scenes --out runs/styles"
        ),
    ),
    Command(
        name="encode",
        summary="Turn styles into the vectors a planner is conditioned on.",
        run="driving.style.encode:run",
        configure=_encode_options,
        description=(
            "Turn styles into the vectors a planner is conditioned on.\n\n"
            "example:\n"
            "  driving encode --styles runs/styles --scenes runs/scenes --out runs/style-vectors"
        ),
    ),
)
