"""The table of comparisons: how they are written, and how a user brings their own."""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Int
from torch import Tensor

from data_prep.errors import InputError
from data_prep.schema import Column, TableSchema
from personalize.preference_optimization.compared_rows import ComparedRows

_text, _int32, _int64, _float32 = pl.String(), pl.Int32(), pl.Int64(), pl.Float32()

COMPARISONS = TableSchema(
    "comparisons",
    "one place of a comparison; what stands at place 0 was preferred to all others",
    ("comparison", "place"),
    (
        Column("comparison", _int64, "which comparison; any numbers"),
        Column("place", _int32, "0 is the best; then 1, 2, ... without a gap"),
        Column("context", _int64, "number of the context, as the half counts them"),
        Column("response", _int64, "number of the response, a row of the array `responses`"),
        Column("grade", _float32, "graded relevance, higher is better; 0 where not known"),
        Column("strength", _float32, "0 (as good) to 1 (certain): 2 p - 1 of a win share p"),
        Column("margin", _float32, "what the best should lead by, in units of the score"),
        Column("weight", _float32, "how much the comparison counts"),
        Column("origin", _int64, "the context of a split that the comparison belongs with"),
        Column("annotator", _int64, "who judged: a person, a driver, a group"),
        Column("provenance", _text, "what made the comparison, such as near_misses"),
    ),
)
REQUIRED = ("comparison", "place", "context", "response")
NEUTRAL: dict[str, float | int | str] = {
    "grade": 0.0, "strength": 1.0, "margin": 0.0, "weight": 1.0, "annotator": 0,
    "provenance": "given",
}  # fmt: skip
PER_COMPARISON = ("strength", "margin", "weight", "annotator", "origin", "provenance")


def comparison_table(
    compared: ComparedRows,
    context: Int[Tensor, " row"],
    response: Int[Tensor, " row"],
    origin: Int[Tensor, " comparison"],
) -> pl.DataFrame:
    """Comparisons as rows of `COMPARISONS`.

    Args:
        compared: Comparisons of rows.
        context: Number of the context of every row.
        response: Number of the response of every row.
        origin: Number of the context that every comparison belongs with.
    """
    number, place = compared.present.nonzero(as_tuple=True)
    row = compared.rows[number, place]
    sources = np.array(compared.sources, dtype=object)
    return pl.DataFrame(
        {
            "comparison": number.numpy(),
            "place": place.numpy().astype(np.int32),
            "context": context[row].numpy(),
            "response": response[row].numpy(),
            "grade": compared.grade[number, place].numpy(),
            "strength": compared.strength[number].numpy(),
            "margin": compared.margin[number].numpy(),
            "weight": compared.weight[number].numpy(),
            "annotator": compared.annotator[number].numpy(),
            "origin": origin[number].numpy(),
            "provenance": sources[compared.provenance[number].numpy()].astype(str),
        },
        schema=COMPARISONS.polars,
    )


def comparisons_of_table(
    frame: pl.DataFrame,
) -> tuple[ComparedRows, Int[Tensor, " row"], Int[Tensor, " row"], Int[Tensor, " comparison"]]:
    """Comparisons of a table; context and response of each row they speak of; their origins.

    Args:
        frame: As `COMPARISONS` says, in any order.

    Raises:
        InputError: If the table does not fit the schema, a comparison has one place or a gap in its
            places, is told different things at different places, or compares a row with itself.
    """
    frame = COMPARISONS.conform(frame)
    if not frame.height:
        raise InputError("The table comparisons is empty.")
    first = frame["comparison"].is_first_distinct().to_numpy()
    number = torch.as_tensor(np.cumsum(first) - 1)
    place = torch.as_tensor(frame["place"].to_numpy().astype(np.int64))
    _check_places(frame, number, place)
    pairs = np.stack([frame["context"].to_numpy(), frame["response"].to_numpy()], 1)
    known, row = np.unique(pairs, axis=0, return_inverse=True)
    rows = torch.zeros(int(number[-1]) + 1, int(place.max()) + 1, dtype=torch.long)
    present, grade = rows.bool(), rows.float()
    rows[number, place] = torch.as_tensor(row.reshape(-1))
    present[number, place] = True
    grade[number, place] = torch.tensor(frame["grade"].to_numpy())
    leading = frame.filter(first)
    sources = leading["provenance"].unique().sort().to_list()
    try:
        compared = ComparedRows(
            rows=rows,
            present=present,
            grade=grade,
            provenance=torch.tensor([sources.index(name) for name in leading["provenance"]]),
            sources=tuple(sources),
            **{name: torch.tensor(leading[name].to_numpy()) for name in PER_COMPARISON[:4]},
        )
    except ValueError as error:
        raise InputError(f"The table comparisons does not fit: {error}") from error
    origin = torch.tensor(leading["origin"].to_numpy())
    return compared, torch.as_tensor(known[:, 0]), torch.as_tensor(known[:, 1]), origin


def own_comparisons(path: Path) -> pl.DataFrame:
    """A user's own table of comparisons, with everything that it does not tell neutral.

    It needs the columns `comparison`, `place`, `context` and `response`; the others of
    `COMPARISONS` may be left out. Without `origin` it is the context of place 0.

    Args:
        path: A Parquet or CSV file.

    Raises:
        InputError: If it cannot be read, lacks a column, has an unknown one, or one holds what it
            should not.
    """
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} cannot be read as a table: {reason}") from error
    missing = [name for name in REQUIRED if name not in frame.columns]
    unknown = [name for name in frame.columns if name not in COMPARISONS.polars]
    if missing or unknown:
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has unknown {', '.join(unknown)}"] if unknown else []
        raise InputError(f"{path} {' and '.join(parts)}.")
    added = [pl.lit(value).alias(n) for n, value in NEUTRAL.items() if n not in frame.columns]
    frame = frame.with_columns(added)
    if "origin" not in frame.columns:
        best = pl.col("context").sort_by("place").first().over("comparison")
        frame = frame.with_columns(best.alias("origin"))
    typed = [pl.col(column.name).cast(column.dtype) for column in COMPARISONS.columns]
    try:
        return COMPARISONS.conform(frame.select(typed))
    except pl.exceptions.PolarsError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} holds what does not fit: {reason}") from error


def _check_places(
    frame: pl.DataFrame, number: Int[Tensor, " place"], place: Int[Tensor, " place"]
) -> None:
    """That places run from 0 without a gap, at least to 1, and a comparison is told one thing."""
    expected = torch.arange(len(number)) - torch.searchsorted(number, number)
    wrong = (place != expected) | (torch.bincount(number)[number] < 2)
    if wrong.any():
        which = frame["comparison"][int(wrong.nonzero()[0, 0])]
        raise InputError(
            f"The table comparisons must number the places of a comparison 0, 1, ...; comparison "
            f"{which} does not."
        )
    for name in PER_COMPARISON:
        told = frame.group_by("comparison").agg(pl.col(name).n_unique()).filter(pl.col(name) > 1)
        if told.height:
            raise InputError(
                f"The table comparisons tells more than one {name} of comparison "
                f"{told['comparison'].min()}."
            )
