"""The door to raw data: one command per raw format, a simulated town and simulated traffic."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.front_door import Command, add_output_options, run_door
from data_prep.scenes.door import SCENE_COMMANDS


def _shared_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--core",
        type=int,
        default=5,
        metavar="K",
        help="keep users and items with at least K interactions, iterated; 0 keeps all "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--split",
        choices=("leave-last-out", "global-time"),
        default="leave-last-out",
        help="last interaction tests and the one before validates, or two moments cut the data "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--split-fractions",
        type=float,
        nargs=2,
        default=(0.1, 0.1),
        metavar=("VALIDATION", "TEST"),
        help="global-time only: shares of the interactions after each cut (default: 0.1 0.1)",
    )
    parser.add_argument(
        "--max-rejected-share",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="stop when more than this share of the rows is refused (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads to use (default: all)")
    add_output_options(parser, "the tables")


def _truncated_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-truncated",
        action="store_true",
        help="accept a compressed file that was cut off and keep the whole lines before the cut",
    )


def _amazon_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reviews",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="files of reviews; .gz, .zst or plain",
    )
    parser.add_argument("--metadata", type=Path, metavar="FILE", help="file of item metadata")
    _truncated_option(parser)
    _shared_options(parser)


def _sequence_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sequences",
        type=Path,
        required=True,
        metavar="FILE",
        help="one user a line: the user's number, then item numbers, oldest first",
    )
    parser.add_argument(
        "--items",
        type=Path,
        required=True,
        metavar="FILE",
        help="JSON lines with item_id, asin, title, categories",
    )
    _truncated_option(parser)
    _shared_options(parser)


def _table_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table",
        type=Path,
        required=True,
        metavar="FILE",
        help="CSV (plain, .gz, .zst; the first line names the columns) or Parquet",
    )
    for role, needed, meaning in (
        ("user", True, "the person's key"),
        ("item", True, "the item's key"),
        ("timestamp", False, "the time; without it, order is file order"),
        ("rating", False, "stars from 1 to 5"),
        ("summary", False, "headlines"),
        ("text", False, "texts of the reviews"),
    ):
        parser.add_argument(
            f"--{role}", required=needed, metavar="COLUMN", help=f"column that holds {meaning}"
        )
    parser.add_argument(
        "--timestamp-unit",
        choices=("s", "ms", "iso"),
        default="s",
        help="seconds or milliseconds since 1970, or ISO 8601 (default: %(default)s)",
    )
    _truncated_option(parser)
    _shared_options(parser)


def _town_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--users", type=int, default=600, metavar="N", help="people (default: %(default)s)"
    )
    parser.add_argument(
        "--items", type=int, default=400, metavar="N", help="items (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed, another town (default: %(default)s)"
    )
    _shared_options(parser)


COMMANDS: tuple[Command, ...] = (
    Command(
        "amazon14",
        "Amazon reviews of 2014 (reviews_*.json.gz, meta_*.json.gz)",
        "data_prep.reviews.commands:amazon14",
        _amazon_options,
        "Prepare Amazon reviews of 2014.\n\nExample:\n  data-prep amazon14 "
        "--reviews reviews_Beauty.json.gz --metadata meta_Beauty.json.gz --out tables",
    ),
    Command(
        "amazon18",
        "Amazon reviews of 2018 (jsonl, meta jsonl)",
        "data_prep.reviews.commands:amazon18",
        _amazon_options,
        "Prepare Amazon reviews of 2018.\n\nExample:\n  data-prep amazon18 "
        "--reviews Books_5.json.gz --metadata meta_Books.json.gz --out tables",
    ),
    Command(
        "amazon23",
        "Amazon reviews of 2023 (jsonl with parent_asin, meta jsonl)",
        "data_prep.reviews.commands:amazon23",
        _amazon_options,
        "Prepare Amazon reviews of 2023.\n\nExample:\n  data-prep amazon23 "
        "--reviews All_Beauty.jsonl.gz --metadata meta_All_Beauty.jsonl.gz --out tables",
    ),
    Command(
        "table",
        "any CSV or Parquet table with named columns",
        "data_prep.reviews.commands:table",
        _table_options,
        "Prepare a table whose columns are named.\n\nExample:\n  data-prep table --table "
        "ratings.csv --user user --item movie --timestamp time --rating stars --out tables",
    ),
    Command(
        "sequences",
        "item sequences in the format of S3-Rec, with an item file",
        "data_prep.reviews.commands:sequences",
        _sequence_options,
        "Prepare item sequences, of which only the order is known.\n\nExample:\n  data-prep "
        "sequences --sequences sequences.txt --items items.jsonl.gz --out tables",
    ),
    Command(
        "town",
        "a simulated town: catalogue, people, reviews, and the truth behind them",
        "data_prep.reviews.commands:town",
        _town_options,
        "Simulate a town whose people choose and review by preferences that are written down.\n"
        "Everything in it is simulated.\n\nExample:\n  data-prep town --users 600 --items 400 "
        "--seed 0 --out tables",
    ),
    *SCENE_COMMANDS,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    return run_door("data-prep", "Raw files to typed tables.", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
