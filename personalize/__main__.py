"""The door to preferences, vectors, steerability and the server."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.front_door import Command, add_output_options, run_door


def _extract_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--tables", type=Path, required=True, help="reviews artifact, as data-prep writes it")
    add_output_options(parser, "the preferences")
    add(
        "--extractor",
        choices=("extractive", "chat", "local"),
        default="extractive",
        help="who reads: the embedded extractor, a chat server, or a model in this process",
    )
    add(
        "--source",
        choices=("auto", "reviews", "items"),
        default="auto",
        help="what is read: review texts, or titles and categories of past items",
    )
    add("--aspects", type=Path, help="YAML file of aspects; the built-in list when not given")
    add("--most", type=int, default=12, help="preferences kept at one position (default: 12)")
    model = parser.add_argument_group("language model (chat and local)")
    add = model.add_argument
    add("--url", help="OpenAI-compatible server, such as http://localhost:8000/v1 (chat)")
    add("--model", help="name of the server's model (chat), or folder of a model (local)")
    add("--api-key-env", metavar="NAME", help="environment variable that holds the key (chat)")
    add(
        "--concurrency",
        type=int,
        default=16,
        help="calls in flight (chat) or reviews in a batch (local); default: 16",
    )
    add("--max-calls", type=int, help="stop calling after so many; the rest is read embedded")
    add("--dry-run", action="store_true", help="print the calls and tokens it would take, and stop")
    add("--cache", type=Path, help="file of answers; default: beside --out, kept between runs")


def _encode_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--tables", type=Path, required=True, help="reviews artifact, as data-prep writes it")
    add("--preferences", type=Path, help="preferences artifact; only item texts when not given")
    add_output_options(parser, "the vectors")
    add(
        "--encoder",
        default="embedded",
        metavar="MODEL",
        help="embedded (no download), or folder or name of a sentence-transformers model "
        "(default: %(default)s)",
    )
    add("--batch-size", type=int, default=32, help="texts at a time (default: %(default)s)")


def _key_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="whose key it is; stands in the log")
    parser.add_argument("--admin", action="store_true", help="may also reload the server")


def _index_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--vectors", type=Path, required=True, help="artifact with one vector per id")
    add_output_options(parser, "the index")
    add("--config", type=Path, help="YAML file with class_path and init_args of an index kind")
    add(
        "--kind",
        metavar="CLASS",
        help="FlatIndex, HnswIndex, IvfIndex or IvfPqIndex with its defaults; by the number of "
        "vectors when neither is given",
    )
    add(
        "--least-recall",
        type=float,
        default=0.95,
        help="recall at 10 below which nothing is written (default: %(default)s)",
    )


def _upload_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--vectors", type=Path, required=True, help="artifact with one vector per id")
    add("--url", required=True, help="Qdrant server, such as http://localhost:6333")
    add("--collection", required=True, help="name of the collection to make")
    add("--api-key-file", type=Path, help="file that holds the server's key")
    add("--timeout-s", type=int, default=60, help="seconds per call (default: %(default)s)")
    add("--overwrite", action="store_true", help="remove a collection of this name first")


def _steerability_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", type=Path, required=True, help="YAML file of a source, chains and numbers")
    add_output_options(parser, "the report")
    _add_changes(parser)


def _compare_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", type=Path, required=True, help="YAML file of a source and a builder or table")
    add_output_options(parser, "the comparisons")
    _add_changes(parser)


def _add_changes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one setting of the file, by dotted name; may be given several times",
    )


def _diagnose_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--after",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="run folders that tune made",
    )
    add(
        "--before",
        type=Path,
        metavar="RUN",
        help="run or checkpoint to begin from, if not the half's",
    )
    add("--config", type=Path, help="YAML file of settings; by default the first run's half")
    add_output_options(parser, "the report")
    add(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one setting, by dotted name; may be given several times",
    )


COMMANDS: tuple[Command, ...] = (
    Command(
        name="extract",
        summary="Read what people like and avoid from their reviews.",
        run="personalize.preferences.extract:run",
        configure=_extract_options,
        description=(
            "Read what people like and avoid, position by position, only from what lies before.\n\n"
            "example:\n"
            "  personalize extract --tables runs/tables --out runs/preferences\n"
            "  personalize extract --tables runs/tables --out runs/chat --extractor chat \\\n"
            "      --url http://localhost:8000/v1 --model my-model --dry-run"
        ),
    ),
    Command(
        name="encode",
        summary="Turn the texts of items and preferences into vectors.",
        run="personalize.conditioning.encode:run",
        configure=_encode_options,
        description=(
            "Turn the texts of items and preferences into vectors, every distinct text once.\n\n"
            "example:\n"
            "  personalize encode --tables runs/tables --preferences runs/preferences \\\n"
            "      --out runs/vectors"
        ),
    ),
    Command(
        name="index",
        summary="Build an index of vectors, to search them while serving.",
        run="personalize.api.build_index:run",
        configure=_index_options,
        description=(
            "Build a FAISS index of vectors, measured against exact search before it is kept.\n\n"
            "example:\n"
            "  personalize index --vectors runs/item_vectors --out runs/item_index"
        ),
    ),
    Command(
        name="upload",
        summary="Fill a collection of a Qdrant server with vectors.",
        run="personalize.api.upload_vectors:run",
        configure=_upload_options,
        description=(
            "Fill a collection of a Qdrant server with vectors, to search them while serving.\n\n"
            "example:\n"
            "  personalize upload --vectors runs/item_vectors --url http://localhost:6333 \\\n"
            "      --collection items"
        ),
    ),
    Command(
        name="reward",
        summary="Learn from comparisons what is preferred: a reward model.",
        run="personalize.reward_learning.command:reward",
        passthrough=True,
    ),
    Command(
        name="tune",
        summary="Tune a trained recommender or planner by preferences.",
        run="personalize.tuning.command:tune",
        passthrough=True,
    ),
    Command(
        name="diagnose",
        summary="Measure what tuning changed, and report.",
        run="personalize.diagnosis.command:run",
        configure=_diagnose_options,
        description=(
            "Score held-out comparisons before and after tuning: rankings, likelihood, reversals,\n"
            "groups, drift along the run, reward hacking, and the health of the loop.\n\n"
            "example:\n"
            "  personalize diagnose --after runs/items_dpo --out runs/diagnosis\n"
            "  personalize diagnose --after runs/items_dpo runs/items_grpo --out runs/both \\\n"
            "      --set proxy=hit --set meant=match"
        ),
    ),
    Command(
        name="steerability",
        summary="Measure how well a recommender or planner can be steered, and report.",
        run="personalize.steerability.command:run",
        configure=_steerability_options,
        description=(
            "Ask a trained recommender or planner for many goals, steer it by each of several\n"
            "chains, and report how near it comes, what moves beside it, and what it costs.\n\n"
            "example:\n"
            "  personalize steerability --config configs/personalize/steerability.yaml \\\n"
            "      --out runs/steerability --set contexts=32"
        ),
    ),
    Command(
        name="compare",
        summary="Compare answers of a recommender or planner, or take comparisons of one's own.",
        run="personalize.compare:run",
        configure=_compare_options,
        description=(
            "Compare what a trained recommender or planner answers, by a rule, and write the\n"
            "comparisons to tune it or to train a reward with; or check a table of one's own.\n"
            "Its columns: comparison, place (0 is the best), context, response; and if known\n"
            "grade, strength, margin, weight, annotator, origin, provenance.\n\n"
            "example:\n"
            "  personalize compare --config compare.yaml --out runs/comparisons \\\n"
            "      --set 'splits=[test]'"
        ),
    ),
    Command(
        name="serve",
        summary="Answer requests over HTTP, and show the page to steer by hand.",
        run="personalize.api.serve:run",
        passthrough=True,
    ),
    Command(
        name="key",
        summary="Make an API key and the line that lets it in.",
        run="personalize.api.keys:make_key",
        configure=_key_options,
        description=(
            "Make an API key. The key is shown once; only its hash goes into the file.\n\n"
            "example:\n"
            "  personalize key --name team-a >> keys.yaml"
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    return run_door(
        "personalize", "Preferences from text, vectors from them, and a server.", COMMANDS, argv
    )


if __name__ == "__main__":
    sys.exit(main())
