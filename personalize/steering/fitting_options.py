"""The options of the commands that fit edits; imports nothing heavy."""

import argparse
from pathlib import Path


def add_fitting_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that both commands have."""
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a run, whose best one is taken, or one")
    add("--dimensions", nargs="+", metavar="NAME", help="only these (default: all that are known)")
    add("--rows", type=int, default=32, help="rows of each end (default: %(default)s)")
    add("--share", type=float, default=0.25, help="what makes an end (default: %(default)s)")
    add("--modules", default=None, help="regular expression of their names (default: the encoder)")
    add("--steps", type=int, default=300, help="steps of the fit (default: %(default)s)")
    add("--sparsity", type=float, default=0.8, help="pull to the identity (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the draw of rows (default: %(default)s)")
