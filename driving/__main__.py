"""The planner's door: from scenes to styles, planners, rollouts and a report."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.front_door import Command, add_output_options, run_door
from driving.evaluation.door import EVALUATION_COMMANDS
from driving.freed_memory import keep_freed_memory
from driving.style.door import STYLE_COMMANDS
from personalize.steering.fitting_options import add_fitting_options

_FIT = Command("fit", "train a planner", "driving.fit:fit", passthrough=True)
_VALIDATE = Command(
    "validate",
    "plan the validation samples with a checkpoint",
    "driving.fit:validate",
    passthrough=True,
)
_TEST = Command(
    "test", "plan the test samples with a checkpoint", "driving.fit:test", passthrough=True
)


def _embed_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a run, whose best one is taken, or one")
    add("--scenes", type=Path, help="artifact of data-prep (default: the one trained on)")
    add("--styles", type=Path, help="artifact of driving annotate (default: the one trained on)")
    add("--splits", nargs="+", metavar="SPLIT", help="only these: train, validation, test")
    add(
        "--no-texts",
        dest="texts",
        action="store_false",
        help="leave the words out: scenes are then found by style and likeness alone",
    )
    add("--encoder", default="embedded", help="sentence model (default: %(default)s)")
    add("--device", help="torch device (default: a GPU where there is one)")
    add_output_options(parser, "the scene vectors")


_EMBED = Command(
    "embed",
    "write a vector per sample, to search for scenes",
    "driving.embed:write_scene_vectors",
    _embed_options,
    """Write a vector per sample to search by: of the words that describe it, of its driver's style,
and of what a trained planner makes of the scene before any style.

example:
  driving embed --checkpoint runs/diffusion --splits test --out artifacts/scene_vectors""",
)


def _negative_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a run, whose best one is taken, or one")
    for name in ("scenes", "styles", "style-vectors"):
        add(f"--{name}", type=Path, help="artifact (default: the one trained on)")
    add("--contexts", type=int, default=2048, help="training scenes at most (default: %(default)s)")
    add("--steps", type=int, default=300, help="steps of the optimizer (default: %(default)s)")
    add("--batch-size", type=int, default=64, help="scenes in a step (default: %(default)s)")
    add("--learning-rate", type=float, default=1e-4, help="of the optimizer (default: %(default)s)")
    add(
        "--told",
        action="store_true",
        help="tell the style to what the copy learns from; else it is told none",
    )
    add("--seed", type=int, default=0, help="of everything that is drawn (default: %(default)s)")
    add("--device", help="torch device (default: a GPU where there is one)")
    add_output_options(parser, "the checkpoint")


_NEGATIVE = Command(
    "negative",
    "write a worse copy of a planner, to be guided away from",
    "driving.negative:write_negative",
    _negative_options,
    """Fine-tune a copy of a planner on what it says itself after a few denoising steps, and write
it as a checkpoint like the one read. Only scenes are looked at, not what was driven in them.
Guidance away from the copy is `chain.guidance.negative`.

example:
  driving negative --checkpoint runs/diffusion --out runs/diffusion-negative""",
)


def _fit_edits_options(parser: argparse.ArgumentParser) -> None:
    add_fitting_options(parser)
    for name in ("scenes", "styles", "style-vectors"):
        parser.add_argument(f"--{name}", type=Path, help="default: what it was trained on")
    add_output_options(parser, "the maps")


_FIT_EDITS = Command(
    "fit-edits",
    "fit maps on a planner's scene encoder that move how it drives",
    "driving.activation_maps:write_activation_maps",
    _fit_edits_options,
    """Fit affine maps on the scene encoder of a trained planner, one set for every dimension of
style, from training scenes that were driven with little of it to those with much. The weights stay
as they are.

example:
  driving fit-edits --checkpoint runs/diffusion --dimensions speed --out runs/edits""",
)


def _critic_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a run, whose best one is taken, or one")
    add(
        "--condition",
        choices=("before", "own", "truth", "none"),
        default="before",
        help="which style of the run's style vectors it reads (default: %(default)s)",
    )
    add("--maximum-samples", type=int, metavar="N", help="most samples of a split")
    add(
        "--candidate-weight",
        type=float,
        default=1.0,
        help="how strongly what was not driven is held down (default: %(default)s)",
    )
    add("--steps", type=int, default=1500, help="gradient steps (default: %(default)s)")
    add("--width", type=int, default=128, help="of its hidden layers (default: %(default)s)")
    add("--discount", type=float, default=0.9, help="of the next sample (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of everything drawn (default: %(default)s)")
    add_output_options(parser, "the critic")


_CRITIC = Command(
    "critic",
    "learn from logs what a plan is worth in the long run, to re-rank by",
    "driving.critic_data:write_driving_critic",
    _critic_options,
    """Learn from logged drives what a plan is worth in the long run.

example:
  driving critic --checkpoint runs/diffusion --out runs/critic""",
)

COMMANDS: tuple[Command, ...] = (
    *STYLE_COMMANDS,
    _FIT,
    _VALIDATE,
    _TEST,
    _EMBED,
    _NEGATIVE,
    _FIT_EDITS,
    _CRITIC,
    *EVALUATION_COMMANDS,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    # Read once, when torch is first imported. The tensors of driving are small: on a CPU threads
    # cost more than they bring. Who sets the variable is obeyed.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    keep_freed_memory()
    return run_door("driving", "A style-conditioned trajectory planner.", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
