"""Run the whole recommender path, command by command, and end with its report.

    make demo                              a simulated town, offline
    make demo REVIEWS=reviews.json.gz      real reviews (Amazon 2014, 2018 or 2023)

Every command is shown before it runs, and can be typed as it stands. What a command made is kept:
a second run begins where the first one stopped. Standard library only.
"""

import argparse
import ast
import gzip
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_steps import ROOT, DemoError, Step, perform

CONFIGS = ROOT / "configs" / "recsys"


@dataclass(frozen=True)
class Model:
    """One recommender of the demo.

    Attributes:
        name: Name of its configuration, and its row in the report.
        reads_preferences: It needs preferences and their text vectors.
        reads_codes: It needs semantic IDs.
    """

    name: str
    reads_preferences: bool = False
    reads_codes: bool = False


MODELS = (
    Model("popularity"),
    Model("markov"),
    Model("cooccurrence"),
    Model("sasrec"),
    Model("tiger", reads_codes=True),
    Model("causal", reads_preferences=True, reads_codes=True),
    Model("mender_emb", reads_preferences=True, reads_codes=True),
)


def raw_format(reviews: Path) -> str:
    """The `data-prep` command that reads a file of Amazon reviews, by its first line.

    Raises:
        DemoError: If the file cannot be read or its fields are of no known year.
    """
    try:
        opened = gzip.open if reviews.suffix == ".gz" else open
        with opened(reviews, "rt", encoding="utf-8", errors="replace") as stream:
            line = stream.readline(10_000_000)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DemoError(f"{reviews} cannot be read: {reason}.") from error
    fields = set(_record(line))
    if {"parent_asin", "user_id"} <= fields:
        return "amazon23"
    if {"reviewerID", "asin"} <= fields:
        return "amazon18" if fields & {"verified", "vote", "style", "image"} else "amazon14"
    raise DemoError(
        f"the first line of {reviews} is no Amazon review of 2014, 2018 or 2023; prepare other "
        "files with `data-prep table` and see README.md for the commands after it."
    )


def _record(line: str) -> dict:
    """The fields of a line that is JSON or, in old files, a Python literal."""
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(line)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, dict):
            return found
    return {}


def metadata_beside(reviews: Path) -> Path | None:
    """The file of item metadata that belongs to a file of reviews, where it lies beside it."""
    stem = reviews.name.split(".")[0].removeprefix("reviews_")
    category = stem.removesuffix("_5")
    for name in (f"meta_{category}", f"meta_{stem}"):
        for ending in (".json.gz", ".jsonl.gz", ".json", ".jsonl"):
            if (reviews.parent / (name + ending)).is_file():
                return reviews.parent / (name + ending)
    return None


def first_step(reviews: Path | None, out: Path, *, tiny: bool) -> Step:
    """The command that makes the tables: from real reviews, or of the simulated town."""
    tables = out / "tables"
    if reviews is None:
        size = ("--users", "60", "--items", "40") if tiny else ()
        words = ("data-prep", "town", *size, "--out", str(tables))
        return Step("Simulate a town whose people write reviews.", words, tables)
    metadata = metadata_beside(reviews)
    words = ("data-prep", raw_format(reviews), "--reviews", str(reviews))
    if metadata:
        words += ("--metadata", str(metadata))
    reads = (reviews, *([metadata] if metadata else []))
    return Step("Read the raw reviews into tables.", (*words, "--out", str(tables)), tables, reads)


def steps(reviews: Path | None, out: Path, *, tiny: bool = False) -> list[Step]:
    """The whole path, in order."""
    first = first_step(reviews, out, tiny=tiny)
    tables, preferences, vectors = first.makes, out / "preferences", out / "vectors"
    codes, benchmark = out / "semantic_ids", out / "benchmark"
    path = [
        first,
        _step(
            "Read from the reviews what people like and avoid.",
            "personalize extract",
            {"--tables": tables},
            preferences,
        ),
        _step(
            "Turn items and preferences into text vectors.",
            "personalize encode",
            {"--tables": tables, "--preferences": preferences},
            vectors,
        ),
        _step(
            "Give every item a semantic ID.",
            "recsys tokenize",
            {"--vectors": vectors, "--tables": tables},
            codes,
        ),
        _step(
            "Write the questions every recommender will be asked.",
            "recsys benchmark",
            {"--tables": tables, "--preferences": preferences, "--vectors": vectors},
            benchmark,
        ),
    ]
    predictions = []
    for model in MODELS:
        run = out / "fit" / model.name
        path.append(_fit(model, path[:4], run, tiny=tiny))
        predictions.append(out / "predictions" / model.name)
        path.append(
            _step(
                f"Ask {model.name} the questions.",
                "recsys predict",
                {"--checkpoint": run, "--benchmark": benchmark},
                predictions[-1],
            )
        )
    report = out / "report"
    words = ("recsys", "report", "--predictions", *map(str, predictions), "--out", str(report))
    path.append(Step("Compare the answers in one report.", words, report, tuple(predictions)))
    return path


def _step(says: str, command: str, reads: dict[str, Path], makes: Path) -> Step:
    words = command.split()
    for option, path in reads.items():
        words += [option, str(path)]
    return Step(says, (*words, "--out", str(makes)), makes, tuple(reads.values()))


def _fit(model: Model, made: Sequence[Step], run: Path, *, tiny: bool) -> Step:
    tables, preferences, vectors, codes = (step.makes for step in made)
    config = CONFIGS / f"{model.name}.yaml"
    words = ["recsys", "fit", "--config", os.path.relpath(config)]
    inputs = {"--data.tables": tables}
    if model.reads_preferences:
        inputs |= {"--data.preferences": preferences, "--data.vectors": vectors}
    if model.reads_codes:
        inputs["--data.semantic_ids"] = codes
    for option, path in inputs.items():
        words += [option, str(path)]
    if tiny:
        words += ["--trainer.max_epochs", "2"]
    words += ["--run-folder", str(run)]
    return Step(f"Train {model.name}.", tuple(words), run, (config, *inputs.values()))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit status."""
    parser = argparse.ArgumentParser(
        description="Run the whole recommender path and end with its report.",
    )
    parser.add_argument("--reviews", type=Path, help="raw Amazon reviews instead of the town")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder for everything")
    parser.add_argument(
        "--bin", type=Path, default=Path(".venv/bin"), help="folder of the console scripts"
    )
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--tiny", action="store_true", help="the smallest town, a few steps")
    options = parser.parse_args(argv)
    return perform(
        lambda: steps(options.reviews, options.out, tiny=options.tiny),
        options.out / "report",
        options.bin,
        fresh=options.fresh,
    )


if __name__ == "__main__":
    sys.exit(main())
