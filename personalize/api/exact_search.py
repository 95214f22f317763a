"""The nearest vectors found by comparing with all of them, and how answers are put in order."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from personalize.api.retriever import Found, IdFilter

SCORES_AT_ONCE = 1 << 24  # 64 MiB of inner products
NUMBERS_AT_ONCE = 1 << 22  # 32 MiB in 64 bit
GATHER_SHARE = 0.3


@dataclass(frozen=True)
class VectorTable:
    """Vectors and their ids.

    Attributes:
        ids: Distinct, not negative.
        values: One vector per id.
        longest: Length of the longest vector, or more.
    """

    ids: Int64[np.ndarray, " item"]
    values: Float32[np.ndarray, "item width"]
    longest: float


def exact_search(
    table: VectorTable,
    queries: Float32[np.ndarray, "row width"],
    *,
    count: int,
    rows: Int64[np.ndarray, " allowed"] | None = None,
) -> Found:
    """The `count` largest inner products of each query; equal ones in the order of their ids.

    A first pass in 32 bit keeps all that can be among the best; these are compared again in 64
    bit and rounded. So neither the number of queries nor that of vectors shows in a score.

    Args:
        table: The vectors, finite as `check_vectors` asks.
        queries: Finite as `check_vectors` asks.
        count: Vectors wanted.
        rows: Which rows of the table may be found. Default: all.

    Returns:
        `count` columns, filled up with -1 and `-inf` where there are fewer vectors.

    Example:
        >>> table = VectorTable(np.array([7, 9]), np.eye(2, dtype=np.float32), 1.0)
        >>> found = exact_search(table, np.array([[1, 2]], np.float32), count=1)
        >>> found.ids.tolist(), found.scores.tolist()
        ([[9]], [[2.0]])
    """
    ids, values, columns = table.ids, table.values, None
    if rows is not None:
        ids = ids[rows]
        if len(rows) < GATHER_SHARE * len(values):  # copying a few beats comparing with all
            values = values[rows]
        else:
            columns = rows
    parts = [nothing_found(0, count)]
    at_once = max(1, SCORES_AT_ONCE // max(1, len(values)))
    for start in range(0, len(queries), at_once):
        part = queries[start : start + at_once]
        for query, every in zip(part, part @ values.T, strict=True):
            scores = every if columns is None else every[columns]
            possible = np.arange(len(scores))
            if len(scores) > count:
                worst = np.partition(scores, len(scores) - count)[len(scores) - count]
                error = rounding_error(query[None], table.longest)[0]
                possible = np.flatnonzero(scores >= worst - 2 * error)
            places = possible if columns is None else columns[possible]
            found = inner_products(values, places[None], query[None])
            parts.append(in_order(ids[possible][None], found, count=count))
    return stacked(parts)


def rounding_error(
    queries: Float32[np.ndarray, "row width"], longest: float
) -> Float32[np.ndarray, " row"]:
    """How far an inner product in 32 bit can lie from the true one, rounded to 32 bit.

    Source:
        |fl(x.y) - x.y| <= width u |x| |y| with u = 2**-24, but for terms of u squared (Higham,
        2002, doi:10.1137/1.9780898718027, section 3.1). Twice that covers these and the rounding.
    """
    lengths = np.sqrt(np.einsum("rd,rd->r", queries, queries))
    return (queries.shape[1] * 2.0**-23 * longest * lengths).astype(np.float32)


def inner_products(
    values: Float32[np.ndarray, "item width"],
    rows: Int64[np.ndarray, "row rank"],
    queries: Float32[np.ndarray, "row width"],
) -> Float32[np.ndarray, "row rank"]:
    """Inner products of each query with its own rows, summed in 64 bit; `-inf` for row -1."""
    scores = np.full(rows.shape, -np.inf, np.float32)
    at_once = max(1, NUMBERS_AT_ONCE // max(1, values.shape[1]))
    for row, query in enumerate(queries.astype(np.float64)):
        for start in range(0, rows.shape[1], at_once):
            part = rows[row, start : start + at_once]
            there = np.flatnonzero(part >= 0)
            chosen = values[part[there]].astype(np.float64)
            scores[row, start + there] = np.einsum("nd,d->n", chosen, query)
    return scores


def in_order(
    ids: Int64[np.ndarray, "row candidate"],
    scores: Float32[np.ndarray, "row candidate"],
    *,
    count: int,
) -> Found:
    """The `count` best candidates, higher scores first, equal ones by id, the rest filled up.

    Example:
        >>> in_order(np.array([[5, 3, -1]]), np.array([[1, 1, -np.inf]], np.float32), count=2).ids
        array([[3, 5]])
    """
    order = np.lexsort((ids, -scores), axis=1)[:, :count]
    best = nothing_found(len(ids), count)
    best.ids[:, : order.shape[1]] = np.take_along_axis(ids, order, axis=1)
    best.scores[:, : order.shape[1]] = np.take_along_axis(scores, order, axis=1)
    return best


def merged(first: Found, second: Found) -> Found:
    """The best of two answers to the same queries, of which no id is in both."""
    return in_order(
        np.concatenate([first.ids, second.ids], axis=1),
        np.concatenate([first.scores, second.scores], axis=1),
        count=first.ids.shape[1],
    )


def stacked(parts: list[Found]) -> Found:
    """Answers to some queries, then to others."""
    return Found(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )


def nothing_found(rows: int, count: int) -> Found:
    """An answer without any id."""
    return Found(np.full((rows, count), -1), np.full((rows, count), -np.inf, np.float32))


def allowed_rows(
    ids: Int64[np.ndarray, " item"], only: IdFilter
) -> Int64[np.ndarray, " allowed"] | None:
    """Rows whose id passes a filter; None where all of them do."""
    if only.only is None and (only.never is None or not len(only.never)):
        return None
    passes = np.ones(len(ids), np.bool_) if only.only is None else np.isin(ids, only.only)
    if only.never is not None:
        passes &= ~np.isin(ids, only.never)
    return np.flatnonzero(passes)


def check_query(queries: Float32[np.ndarray, "row width"], *, width: int, count: int) -> None:
    """Refuse what no retriever answers.

    Raises:
        ValueError: If `count` is not positive, or a query has another width or is not finite.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}.")
    check_vectors(queries, width=width, what="query")


def check_put(
    ids: Int64[np.ndarray, " row"], vectors: Float32[np.ndarray, "row width"], *, width: int
) -> None:
    """Refuse what no retriever keeps.

    Raises:
        ValueError: If an id is negative or comes twice, or a vector has another width or is not
            finite.
    """
    if len(ids) and ids.min() < 0:
        raise ValueError(f"an id must not be negative, got {ids.min()}.")
    if len(np.unique(ids)) != len(ids):
        raise ValueError("an id comes twice; put it once.")
    check_vectors(vectors, width=width, what="vector")


def check_vectors(
    vectors: Float32[np.ndarray, "row width"], *, width: int, what: str
) -> Float32[np.ndarray, " row"]:
    """The lengths of vectors that are finite, and whose inner products are.

    Raises:
        ValueError: If they have another width, or one is not finite or too long.
    """
    if vectors.shape[1] != width:
        raise ValueError(f"a {what} must have {width} numbers, got {vectors.shape[1]}.")
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("rd,rd->r", vectors, vectors)
    if not np.isfinite(squares).all():
        row = int(np.flatnonzero(~np.isfinite(squares))[0])
        raise ValueError(f"{what} {row} is not finite, or too long to be squared.")
    return np.sqrt(squares)
