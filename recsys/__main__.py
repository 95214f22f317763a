"""The recommender's door: tokenize, benchmark, fit, predict, report."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.front_door import Command, add_output_options, run_door
from personalize.steering.fitting_options import add_fitting_options


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
        choices=("residual-kmeans", "rqvae", "imported"),
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
    add = parser.add_argument_group("residual-kmeans only").add_argument
    add("--components", type=int, help="principal components that are clustered (default: 32)")
    add = parser.add_argument_group("rqvae only").add_argument
    add("--steps", type=int, help="training steps (default: 2000)")
    add("--learning-rate", type=float, help="step size of AdamW (default: 0.001)")
    add("--commitment", type=float, help="pull of an encoding towards its codes (default: 0.25)")
    add(
        "--codebook-update",
        choices=("gradient", "ema"),
        help="how codebooks learn: by gradient, or as moving averages of what they are given "
        "(default: gradient)",
    )


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
      --quantizer imported --codes-file codes.json --collisions move
  recsys tokenize --vectors runs/vectors --tables runs/tables --out runs/learnt \\
      --quantizer rqvae --steps 4000 --codebook-update ema""",
)


def _assign_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--semantic-ids", type=Path, required=True, help="artifact of recsys tokenize")
    add("--vectors", type=Path, required=True, help="vectors of the new catalogue")
    add("--tables", type=Path, required=True, help="tables of the new catalogue")
    add_output_options(parser, "the semantic IDs")


_ASSIGN = Command(
    "assign",
    "give items that came later their semantic IDs; known items keep theirs",
    "recsys.semantic_id.assign:run",
    _assign_options,
    """Give items that came later their semantic IDs, by the quantizer that made the others.

Known items keep their IDs and level sizes stay, so a trained model can still read them.

example:
  recsys assign --semantic-ids runs/semantic_ids --tables runs/new_tables \\
      --vectors runs/new_vectors --out runs/new_semantic_ids""",
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


def _predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="a run, whose best one is taken, or one"
    )
    parser.add_argument("--benchmark", type=Path, required=True, help="artifact of benchmark")
    moved = "where it is now, if no longer where the run found it"
    parser.add_argument("--tables", type=Path, help=moved)
    parser.add_argument("--vectors", type=Path, help=moved)
    parser.add_argument("--semantic-ids", type=Path, help=moved)
    parser.add_argument(
        "--count", type=int, default=50, help="items per question (default: %(default)s)"
    )
    parser.add_argument(
        "--exclude-history", action="store_true", help="leave out items of the history"
    )
    parser.add_argument(
        "--conditions", nargs="+", metavar="CONDITION", help="only these, such as none latest"
    )
    parser.add_argument("--axes", nargs="+", metavar="AXIS", help="only these axes")
    parser.add_argument(
        "--batch-size",
        type=int,
        default=256,
        help="questions at once; changes the speed, not the answers (default: %(default)s)",
    )
    parser.add_argument("--device", help="torch device (default: a GPU where there is one)")
    parser.add_argument("--name", help="name in the report (default: the run folder's)")
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change an option of the recommender that shapes no weights; may be repeated",
    )
    add_output_options(parser, "the predictions")


_PREDICT = Command(
    "predict",
    "ask a trained recommender the questions of a benchmark",
    "recsys.predict:write_predictions",
    _predict_options,
    """Ask one trained recommender every question of a benchmark and keep its answers.

A recommender that reads no preferences is only asked under the condition none. The same question
on several axes is answered once.

example:
  recsys predict --checkpoint runs/fit/tiger --benchmark runs/benchmark \\
      --out runs/predictions/tiger
  recsys predict --checkpoint runs/fit/causal --benchmark runs/benchmark \\
      --set ranking.guidance=2 --name causal-guided --out runs/predictions/guided""",
)


def _report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--predictions",
        type=Path,
        nargs="+",
        required=True,
        metavar="FOLDER",
        help="artifacts of predict, all for one benchmark",
    )
    parser.add_argument(
        "--baseline",
        metavar="NAME",
        help="what the others are compared with (default: the strongest yardstick)",
    )
    moved = "where it is now, if no longer where it was used"
    for name in ("benchmark", "tables", "preferences", "vectors"):
        parser.add_argument(f"--{name}", type=Path, help=moved)
    parser.add_argument(
        "--resamples",
        type=int,
        default=10_000,
        help="resamples of every interval (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of intervals and examples (default: 0)"
    )
    add_output_options(parser, "the report")


_REPORT = Command(
    "report",
    "compare any number of predictions in one page",
    "recsys.report:write_report",
    _report_options,
    """Compare predictions in one self-contained page that opens from disk: report.html.

Beside it stand metrics.json, with every number of the page, and rows.parquet, with every row.

example:
  recsys report --predictions runs/predictions/* --out runs/report""",
)


def _embed_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a run, whose best one is taken, or one")
    moved = "where it is now, if no longer where the run found it"
    for name in ("tables", "vectors", "semantic-ids"):
        add(f"--{name}", type=Path, help=moved)
    add_output_options(parser, "the item vectors")


_EMBED = Command(
    "embed",
    "write a vector per item, to search items by",
    "recsys.embed:write_item_vectors",
    _embed_options,
    """Write what a trained recommender finds every item by: the keys of its dense head, or the
vectors of the items' texts where it has none.

example:
  recsys embed --checkpoint runs/fit/causal --out runs/item_vectors""",
)


def _negative_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a run, whose best one is taken, or one")
    moved = "where it is now, if no longer where the run found it"
    for name in ("tables", "vectors", "semantic-ids"):
        add(f"--{name}", type=Path, help=moved)
    add("--steps", type=int, default=300, help="steps of the optimizer (default: %(default)s)")
    add("--batch-size", type=int, default=128, help="histories in a step (default: %(default)s)")
    add("--learning-rate", type=float, default=2e-4, help="of the optimizer (default: %(default)s)")
    add("--top-p", type=float, default=0.9, help="share of what is drawn from (default: 0.9)")
    add("--candidates", type=int, default=50, help="items to draw among (default: %(default)s)")
    add("--seed", type=int, default=0, help="of everything that is drawn (default: %(default)s)")
    add("--device", help="torch device (default: a GPU where there is one)")
    add_output_options(parser, "the checkpoint")


_NEGATIVE = Command(
    "negative",
    "write a worse copy of a recommender, to be guided away from",
    "recsys.negative:write_negative",
    _negative_options,
    """Fine-tune a copy of a recommender on its own answers to training histories without
preferences, and write it as a checkpoint like the one read. What people chose after a history is
not looked at. Guidance away from the copy is `chain.guidance.negative`.

example:
  recsys negative --checkpoint runs/fit/mender --out runs/fit/mender-negative""",
)


def _fit_edits_options(parser: argparse.ArgumentParser) -> None:
    add_fitting_options(parser)
    moved = "where it is now, if no longer where the run found it"
    for name in ("tables", "vectors", "semantic-ids"):
        parser.add_argument(f"--{name}", type=Path, help=moved)
    add_output_options(parser, "the maps")


_FIT_EDITS = Command(
    "fit-edits",
    "fit maps on a retriever's encoder that move what it recommends",
    "recsys.activation_maps:write_activation_maps",
    _fit_edits_options,
    """Fit affine maps on the encoder of a trained retriever, one set for every attribute of items
(popularity, rating, recency, price), from training contexts whose next items are low on it to
those whose next items are high. The weights stay as they are.

example:
  recsys fit-edits --checkpoint runs/fit/causal --out runs/edits
  recsys fit-edits --checkpoint runs/fit/mender_emb --dimensions popularity --out runs/edits""",
)


def _critic_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a run, whose best one is taken, or one")
    add("--preferences", type=Path, help="artifact of personalize extract (default: the run's)")
    add("--candidates", type=int, default=10, help="items offered at every row (default: 10)")
    add(
        "--candidate-weight",
        type=float,
        default=1.0,
        help="how strongly what was not tried is held down (default: %(default)s)",
    )
    add("--steps", type=int, default=1500, help="gradient steps (default: %(default)s)")
    add("--width", type=int, default=128, help="of its hidden layers (default: %(default)s)")
    add("--discount", type=float, default=0.9, help="of the next rating (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of everything drawn (default: %(default)s)")
    add_output_options(parser, "the critic")


_CRITIC = Command(
    "critic",
    "learn from ratings what an item is worth in the long run, to re-rank by",
    "recsys.critic_data:write_recommender_critic",
    _critic_options,
    """Learn from logged ratings what an item is worth to somebody in the long run.

example:
  recsys critic --checkpoint runs/fit/causal --out runs/critic""",
)

COMMANDS: tuple[Command, ...] = (
    _TOKENIZE,
    _ASSIGN,
    _BENCHMARK,
    _FIT,
    _VALIDATE,
    _TEST,
    _PREDICT,
    _EMBED,
    _NEGATIVE,
    _FIT_EDITS,
    _CRITIC,
    _REPORT,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    return run_door("recsys", "A preference-conditioned generative retriever.", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
