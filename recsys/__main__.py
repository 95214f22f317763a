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

COMMANDS: tuple[Command, ...] = (_BENCHMARK, _FIT, _VALIDATE, _TEST)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    return run_door("recsys", "A preference-conditioned generative retriever.", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
