"""Run the whole recommender path, command by command, and end with its report.

    make demo                              a simulated town, offline
    make demo REVIEWS=reviews.json.gz      real reviews (Amazon 2014, 2018 or 2023)

Every command is shown before it runs, and can be typed as it stands. What a command made is kept:
a second run begins where the first one stopped. Standard library only.
"""

import argparse
import ast
import gzip
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "recsys"


class DemoError(Exception):
    """The demo cannot go on; the message is one sentence for the person at the terminal."""


@dataclass(frozen=True)
class Step:
    """One command of the path.

    Attributes:
        says: What it does, for a newcomer.
        words: The command line, program first.
        makes: The file or folder that is there when it is done.
        reads: Files and artifacts it depends on; when one changes, the step runs again.
    """

    says: str
    words: tuple[str, ...]
    makes: Path
    reads: tuple[Path, ...] = ()


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


def fingerprint(step: Step) -> str:
    """Hash of a step's command and of what it reads; equal hashes, equal result."""
    digest = hashlib.sha256(json.dumps(step.words).encode())
    for path in step.reads:
        digest.update(f"\n{_state(path)}".encode())
    return digest.hexdigest()


def _state(path: Path) -> str:
    """An artifact by its manifest, a run folder by its step's own hash, a file by size and time."""
    for inner in (path / "manifest.json", _memory(path)):
        if inner.is_file():
            return hashlib.sha256(inner.read_bytes()).hexdigest()
    if path.is_file():
        return f"{path.stat().st_size} {path.stat().st_mtime_ns}"
    return "none"


def _memory(made: Path) -> Path:
    """Where the demo remembers what a result was made from."""
    return made.with_name(f".{made.name}.step")


def run_step(step: Step, programs: Path) -> bool:
    """Run one step unless its result is there; return whether it ran.

    Raises:
        DemoError: If the command fails; its own message stands above.
    """
    memory = _memory(step.makes)
    found = fingerprint(step)
    if step.makes.exists() and memory.is_file() and memory.read_text() == found:
        print(f"  {step.makes} is there; it is kept.", flush=True)
        return False
    if step.makes.exists():
        if not memory.is_file():
            raise DemoError(f"{step.makes} is not of this demo; choose another --out.")
        goes_on = step.words[1] == "fit" and memory.read_text() == f"begun {found}"
        if not goes_on:  # training that was cut off goes on by itself
            shutil.rmtree(step.makes)
    step.makes.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(f"begun {found}")
    program = programs / step.words[0]
    started = time.monotonic()
    try:
        status = subprocess.run([str(program), *step.words[1:]], check=False).returncode
    except OSError as error:
        raise DemoError(
            f"{program} does not start ({error.strerror}); run `make setup`."
        ) from error
    if status:
        raise DemoError(f"this step failed with status {status}; its message stands above.")
    print(f"  {time.monotonic() - started:.1f} s", flush=True)
    memory.write_text(found)
    return True


def forget(path: Sequence[Step]) -> None:
    """Let every step of an earlier demo run again; what the demo did not make is left alone."""
    for step in path:
        if _memory(step.makes).is_file():
            _memory(step.makes).write_text("forgotten")


def run(path: Sequence[Step], programs: Path) -> None:
    """Run all steps, each shown before it begins."""
    for number, step in enumerate(path, 1):
        print(f"\n[{number}/{len(path)}] {step.says}\n$ {shlex.join(step.words)}", flush=True)
        run_step(step, programs)


def headline(report: Path) -> str:
    """The report's headline table as text.

    Raises:
        DemoError: If `metrics.json` is not there or holds no table.
    """
    try:
        metrics = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
        rows = metrics["headline"]
        columns = list(rows[0])
        cells = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DemoError(f"{report}/metrics.json holds no headline table: {error!r}.") from error
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


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
    out = options.out
    started = time.monotonic()
    try:
        path = steps(options.reviews, out, tiny=options.tiny)
        if options.fresh:
            forget(path)
        run(path, options.bin if options.bin.is_absolute() else ROOT / options.bin)
        print(f"\n{headline(out / 'report')}")
    except DemoError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("demo: interrupted; call again to go on.\n")
        return 130
    print(f"\nThe report: {out / 'report' / 'report.html'}")
    print(f"Everything took {time.monotonic() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
