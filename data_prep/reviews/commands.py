"""The work behind each `data-prep` command; imports Polars only when its threads are set."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def _set_threads(threads: int | None) -> None:
    """Bound Polars's threads; it reads the variable once, when it is first imported."""
    if threads is not None:
        os.environ["POLARS_MAX_THREADS"] = str(max(1, threads))


def amazon14(*, threads: int | None, **options: Any) -> None:  # noqa: ANN401  (argparse)
    """Prepare Amazon reviews of 2014."""
    _set_threads(threads)
    from data_prep.reviews.amazon14 import REVIEWS_2014, Items2014

    _amazon("amazon14", REVIEWS_2014, Items2014(), options)


def amazon18(*, threads: int | None, **options: Any) -> None:  # noqa: ANN401  (argparse)
    """Prepare Amazon reviews of 2018."""
    _set_threads(threads)
    from data_prep.reviews.amazon18 import REVIEWS_2018, Items2018

    _amazon("amazon18", REVIEWS_2018, Items2018(), options)


def amazon23(*, threads: int | None, **options: Any) -> None:  # noqa: ANN401  (argparse)
    """Prepare Amazon reviews of 2023."""
    _set_threads(threads)
    from data_prep.reviews.amazon23 import REVIEWS_2023, Items2023

    _amazon("amazon23", REVIEWS_2023, Items2023(), options)


def _amazon(command: str, layout: Any, item_layout: Any, options: dict[str, Any]) -> None:  # noqa: ANN401
    from data_prep.reviews.amazon import AmazonSource

    paths: Sequence[Path] = options["reviews"]
    metadata: Path | None = options["metadata"]
    source = AmazonSource(paths, layout, metadata, item_layout, options["allow_truncated"])
    _write(command, source, options, [*paths, *([metadata] if metadata else [])])


def sequences(*, threads: int | None, **options: Any) -> None:  # noqa: ANN401  (argparse)
    """Prepare sequences in the format of S3-Rec."""
    _set_threads(threads)
    from data_prep.reviews.sequences import SequenceSource

    source = SequenceSource(
        options["sequences"], options["items"], allow_truncated=options["allow_truncated"]
    )
    paths = [options["sequences"], options["items"]]
    _write("sequences", source, options, paths, finish=source.write_raw_ids)


def table(*, threads: int | None, **options: Any) -> None:  # noqa: ANN401  (argparse)
    """Prepare a CSV or Parquet table with named columns."""
    _set_threads(threads)
    from data_prep.reviews.raw_review import ReviewLayout
    from data_prep.reviews.table import TableSource

    layout = ReviewLayout(
        user=options["user"],
        item=options["item"],
        timestamp=options["timestamp"],
        rating=options["rating"],
        summary=options["summary"],
        text=options["text"],
        milliseconds=options["timestamp_unit"] == "ms",
        rating_required=False,
    )
    path: Path = options["table"]
    source = TableSource(
        path,
        layout,
        timestamp_unit=options["timestamp_unit"],
        allow_truncated=options["allow_truncated"],
    )
    _write("table", source, options, [path])


def town(*, threads: int | None, **options: Any) -> None:  # noqa: ANN401  (argparse)
    """Simulate a town and prepare what its people wrote."""
    _set_threads(threads)
    from data_prep.reviews.town import TownSource

    source = TownSource(options["users"], options["items"], options["seed"])
    _write("town", source, options, [], finish=source.write_truth, notes={"simulated": True})


def _write(
    command: str,
    source: Any,  # noqa: ANN401  (its type would import Polars)
    options: dict[str, Any],
    paths: Sequence[Path],
    *,
    finish: Any = None,  # noqa: ANN401
    notes: dict[str, Any] | None = None,
) -> None:
    from data_prep.artifact import file_sha256
    from data_prep.errors import InputError
    from data_prep.reviews.prepare import Destination, rules, write_reviews

    kept = rules(
        core=options["core"],
        split=options["split"],
        split_fractions=options["split_fractions"],
        max_rejected_share=options["max_rejected_share"],
    )
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is no file; check the path.")
    shown = {
        name: _plain(value) for name, value in options.items() if name not in ("out", "overwrite")
    }
    destination = Destination(
        out=options["out"],
        overwrite=options["overwrite"],
        command=f"data-prep {command}",
        configuration=shown,
        inputs={path.name: file_sha256(path) for path in paths},
        notes=notes or {},
    )
    write_reviews(source, kept, destination, finish=finish)


def _plain(value: Any) -> Any:  # noqa: ANN401  (a JSON value)
    """A JSON value; of a path only the name, since the content hash tells the rest."""
    if isinstance(value, Path):
        return value.name
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
