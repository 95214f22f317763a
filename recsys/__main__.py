"""The recommender's door: tokenize, benchmark, fit, predict, report."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.front_door import Command, add_output_options, run_door


def _benchmark_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tables", type=Path, required=True, help="artifact of data-prep")
    parser.add_argument(
        "--preferences", type=Path, required=True, help="artifact of personalize extract"
    )
    parser.add_argument(
        "--vectors", type=Path, required=True, help="artifact of personalize encode"
    )
    parser.add_argument(
        "--split",
        choices=("validation", "test"),
        default="test",
        help="interactions that are asked about (default: %(default)s)",
    )
    parser.add_argument(
        "--count",
        type=int,
        default=5,
        help="most preferences per question (default: %(default)s)",
    )
    parser.add_argument(
        "--cap",
        type=int,
        default=3,
        help="how often one item may be a target of one steering or sentiment axis "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=5000,
        help="most pairs of one steering or sentiment axis (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of every choice (default: 0)")
    add_output_options(parser, "the benchmark")


def _tokenize_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--vectors", type=Path, required=True, help="artifact of personalize encode")
    add(
        "--tables",
        type=Path,
        help="artifact of data-prep; names the items, for a code file and for recsys assign",
    )
    add(
        "--quantizer",
        choices=("residual-kmeans", "imported"),
        default="residual-kmeans",
        help="how codes are made (default: %(default)s)",
    )
    add("--levels", type=int, default=3, help="levels before collisions are resolved (default: 3)")
    add(
        "--codes",
        type=int,
        help="codes at each level (default: by the number of items, 256 from about 4,100 on)",
    )
    add("--seed", type=int, default=0, help="seed of the quantizer (default: 0)")
    add("--codes-file", type=Path, help="JSON, Parquet or CSV of codes (imported)")
    add(
        "--collisions",
        choices=("digit", "move"),
        default="digit",
        help="items with the same codes: add one more digit, or move the last one to a free code",
    )
    add(
        "--collision-size",
        type=int,
        help="codes of the added digit (default: twice the largest bucket, so that items that "
        "come later find room)",
    )
    add_output_options(parser, "the semantic IDs")


_TOKENIZE = Command(
    "tokenize",
    "give every item a semantic ID, and say how good the IDs are",
    "recsys.semantic_id.tokenize:run",
    _tokenize_options,
    """Give every item a semantic ID: a few codes that similar items share.

A table of quality comes before any training: codes in use, collisions, branching.

example:
  recsys tokenize --vectors runs/vectors --tables runs/tables --out runs/semantic_ids
  recsys tokenize --vectors runs/vectors --tables runs/tables --out runs/published \\
      --quantizer imported --codes-file codes.json --collisions move""",
)


_BENCHMARK = Command(
    "benchmark",
    "write every question of every evaluation axis before a model is asked",
    "recsys.benchmark:write_benchmark",
    _benchmark_options,
    """Write the questions a recommender is evaluated by: histories, preferences and targets.

Axes: recommendation, history consolidation, fine and coarse steering, sentiment following with
and without history. Evidence behind a preference always lies strictly before the target. What
could not be asked, and why, is counted in axes.json.

example:
  recsys benchmark --tables runs/tables --preferences runs/preferences --vectors runs/vectors \\
      --out runs/benchmark""",
)

_FIT = Command("fit", "train a recommender", "recsys.fit:fit", passthrough=True)
_VALIDATE = Command(
    "validate",
    "rank the validation rows with a checkpoint",
    "recsys.fit:validate",
    passthrough=True,
)
_TEST = Command("test", "rank the test rows with a checkpoint", "recsys.fit:test", passthrough=True)

COMMANDS: tuple[Command, ...] = (_TOKENIZE, _BENCHMARK, _FIT, _VALIDATE, _TEST)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    return run_door("recsys", "A preference-conditioned generative retriever.", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
