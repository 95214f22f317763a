"""Candidates sorted into blocks whose rows may be compared, whatever order they came in."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.compared_rows import ComparedRows


@dataclass(frozen=True)
class Blocks:
    """Rows in blocks of different sizes, filled up to the largest.

    Attributes:
        rows: Numbers of rows; 0 where nothing is present.
        present: Which places are filled: the first ones of every block.
    """

    rows: Int[Tensor, "block place"]
    present: Bool[Tensor, "block place"]


def blocks(keys: Int[Tensor, "row key"]) -> Blocks:
    """Rows of equal keys, block by block in the order of the keys; inside as they stand.

    Example:
        >>> blocks(torch.tensor([[7], [3], [7]])).rows
        tensor([[1, 0],
                [0, 2]])
    """
    if not len(keys):
        return Blocks(torch.zeros(0, 1, dtype=torch.long), torch.zeros(0, 1, dtype=torch.bool))
    _, number, sizes = torch.unique(keys, dim=0, return_inverse=True, return_counts=True)
    order = torch.argsort(number, stable=True)
    place = torch.arange(len(order)) - (sizes.cumsum(0) - sizes)[number[order]]
    rows = torch.zeros(len(sizes), int(sizes.max()), dtype=torch.long)
    rows[number[order], place] = order
    return Blocks(rows, torch.arange(rows.shape[1]) < sizes[:, None])


def distinct_rows(candidates: Candidates) -> Int[Tensor, " kept"]:
    """One row for every response in a context, sorted: the same whatever order rows come in.

    Where a response was both logged and drawn, the logged row is the one.
    """
    known = [candidates.origin, candidates.context, candidates.response]
    keys = np.stack([key.numpy() for key in [*known, ~candidates.target]])
    order = np.lexsort(keys[::-1])
    first = np.ones(len(order), bool)
    first[1:] = (keys[:3, order[1:]] != keys[:3, order[:-1]]).any(0)
    return torch.as_tensor(order[first])


def context_blocks(candidates: Candidates, *, passing: bool = False) -> Blocks:
    """The responses to each context, without repeats.

    Args:
        candidates: Rows in any order.
        passing: Leave out what fails a gate.
    """
    rows = distinct_rows(candidates)
    if passing:
        rows = rows[candidates.gate[rows]]
    found = blocks(torch.stack([candidates.origin[rows], candidates.context[rows]], -1))
    return Blocks(rows[found.rows] if len(rows) else found.rows, found.present)


def pairs_in_blocks(
    found: Blocks,
) -> tuple[Int[Tensor, "pair 2"], Int[Tensor, " pair"]]:
    """Every two rows of a block once, the earlier first, and the number of their block."""
    places = found.rows.shape[1]
    first, second = torch.triu_indices(places, places, offset=1)
    there = found.present[:, first] & found.present[:, second]
    pairs = torch.stack([found.rows[:, first], found.rows[:, second]], -1)
    return pairs[there], torch.arange(len(found.rows))[:, None].expand_as(there)[there]


def winner_first(
    pairs: Int[Tensor, "pair 2"], value: Float[Tensor, " row"], least_gap: float
) -> tuple[Int[Tensor, "pair 2"], Bool[Tensor, " pair"]]:
    """Pairs with the row of higher value first, and which of them are decided.

    Args:
        pairs: Of rows.
        value: Of every row.
        least_gap: A pair is decided where the values differ by more than this.
    """
    gap = value[pairs[:, 0]] - value[pairs[:, 1]]
    return torch.where((gap < 0)[:, None], pairs.flip(-1), pairs), gap.abs() > least_gap


def some_per_block(
    block: Int[Tensor, " pair"], most: int, generator: Generator
) -> Int[Tensor, " kept"]:
    """Numbers of at most so many pairs of every block, drawn at random; in order.

    Raises:
        ValueError: If `most`, which builders call `per_context`, is below 1.
    """
    if most < 1:
        raise ValueError(f"per_context must be 1 or more, got {most}.")
    draw = torch.rand(len(block), generator=generator, dtype=torch.float64)
    order = torch.as_tensor(np.lexsort((draw.numpy(), block.numpy())))
    ordered = block[order]
    starts = torch.searchsorted(ordered, ordered)
    return order[torch.arange(len(order)) - starts < most].sort().values


def weighted(candidates: Candidates, weights: Mapping[str, float]) -> Float[Tensor, " row"]:
    """The weighted sum of some of the rewards.

    Raises:
        ValueError: If there is no weight, or no reward of a name.
    """
    if not weights:
        raise ValueError("weights must name at least one reward, got none.")
    return torch.stack([weight * candidates.named(name) for name, weight in weights.items()]).sum(0)


def best_and_worst(
    found: Blocks, value: Float[Tensor, " row"], least_gap: float
) -> Int[Tensor, "pair 2"]:
    """The best and the worst row of every block whose values differ by more than `least_gap`.

    Among equals it is the first.
    """
    there = value[found.rows]
    best = there.masked_fill(~found.present, -torch.inf).argmax(-1, keepdim=True)
    worst = there.masked_fill(~found.present, torch.inf).argmin(-1, keepdim=True)
    places = torch.cat([best, worst], -1)
    gap = there.gather(1, places)
    return found.rows.gather(1, places)[gap[:, 0] - gap[:, 1] > least_gap]


def graded_pairs(
    pairs: Int[Tensor, "pair response"],
    source: str,
    candidates: Candidates,
    value: Float[Tensor, " row"],
) -> ComparedRows:
    """Comparisons of whole lists of rows with their values as grades and their group as judge."""
    grade = value[pairs].to(torch.float32)
    return ComparedRows.of(pairs, source, grade=grade, annotator=candidates.group[pairs[:, 0]])
