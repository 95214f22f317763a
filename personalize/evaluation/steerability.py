"""How well an output was steered: how near the goal, how far along it, what moved beside it.

In goal space, `change` is the way that was asked for and `move` the way that was made. Everything
is in the continuous units of goal space; nothing is put into bins.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from jaxtyping import Bool, Float

WORST_SHARE = 0.1
_STILL = 1e-4
"""Share of the asked way that is added to the way made, so that standing still has no angle."""


@dataclass(frozen=True)
class RowMeasures:
    """Measures of every row; NaN in rows where nothing that was asked for could be measured.

    Attributes:
        steering_error: Distance from the goal; what nothing is asked of is wanted where it was.
        asked_error: The same in the dimensions that are asked for alone.
        gain: The way made along the asked one, as a share of it: 1 is exact, more overshoots,
            negative goes the wrong way.
        miscalibration: `|1 - gain|`.
        side_effects: Share of the way made that is across the asked one, 0 to 1: the sine of the
            angle between the two. It is 0 where nothing moves, so it says nothing on its own.
        asked: Length of the asked way.
        known: Which dimensions were measured, before and after.
    """

    steering_error: Float[np.ndarray, " row"]
    asked_error: Float[np.ndarray, " row"]
    gain: Float[np.ndarray, " row"]
    miscalibration: Float[np.ndarray, " row"]
    side_effects: Float[np.ndarray, " row"]
    asked: Float[np.ndarray, " row"]
    known: Bool[np.ndarray, "row goal"]


def row_measures(
    change: Float[np.ndarray, "row goal"],
    move: Float[np.ndarray, "row goal"],
    known: Bool[np.ndarray, "row goal"],
) -> RowMeasures:
    """The measures of every row; dimensions that are not known are left out of it.

    `steering_error ** 2` is `(miscalibration * asked) ** 2` plus the square of what is across.

    Args:
        change: Goal less unsteered output; 0 in dimensions that nothing is asked of.
        move: Steered output less unsteered one.
        known: Which could be measured in both.

    Source:
        Chang et al., 2025, Measuring steerability, arXiv:2505.23816, in its continuous form. The
        released code computes side effects from binned directions unless told otherwise.

    Example:
        >>> asked, made = np.array([[0.4, 0.0]]), np.array([[0.2, 0.2]])
        >>> found = row_measures(asked, made, np.ones((1, 2), dtype=bool))
        >>> found.gain.round(2).tolist(), found.side_effects.round(2).tolist()
        ([0.5], [0.71])
    """
    wanted, made = np.where(known, change, 0.0), np.where(known, move, 0.0)
    squared = (wanted**2).sum(1)
    squared = np.where(squared > 0, squared, np.nan)
    asked = np.sqrt(squared)
    gain = (made * wanted).sum(1) / squared
    across = np.linalg.norm(made - np.nan_to_num(gain)[:, None] * wanted, axis=1)
    missing = wanted - made
    return RowMeasures(
        steering_error=np.where(np.isnan(asked), np.nan, np.linalg.norm(missing, axis=1)),
        asked_error=np.where(
            np.isnan(asked), np.nan, np.linalg.norm(missing * (wanted != 0), axis=1)
        ),
        gain=gain,
        miscalibration=np.abs(1 - gain),
        side_effects=across / (np.linalg.norm(made, axis=1) + _STILL * asked),
        asked=asked,
        known=known,
    )


def worst_mean(
    values: Float[np.ndarray, " row"],
    weights: Float[np.ndarray, " row"],
    *,
    share: float = WORST_SHARE,
) -> float:
    """Mean of the largest values that make up a share of the weight (conditional value at risk).

    Source:
        Rockafellar and Uryasev, 2002, doi:10.1016/S0378-4266(02)00271-6.

    Example:
        >>> worst_mean(np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4), share=0.5)
        3.5
    """
    order = np.argsort(-values, kind="stable")
    up_to = np.cumsum(weights[order]) / weights.sum()
    parts = np.diff(np.minimum(up_to, share), prepend=0.0)
    return float((parts * values[order]).sum() / share)


def oracle_error(
    target: Float[np.ndarray, "row goal"],
    known: Bool[np.ndarray, "row goal"],
    pool: Float[np.ndarray, "candidate goal"],
    pool_known: Bool[np.ndarray, "candidate goal"],
) -> Float[np.ndarray, " row"]:
    """Distance of each goal of one context from the nearest output that is possible there.

    Args:
        target: The goals.
        known: Dimensions that count in each row.
        pool: Possible outputs in goal space.
        pool_known: Which of them could be measured; a candidate is looked at only where all that
            counts is known of it, since a hidden value is not a near one.

    Returns:
        NaN where no candidate could be looked at.
    """
    gaps = (pool[None] - target[:, None]) * known[:, None]
    gaps = np.where(known[:, None] & pool_known[None], gaps, 0.0)
    hidden = (known[:, None] & ~pool_known[None]).any(-1)
    distances = np.where(hidden, np.inf, np.linalg.norm(gaps, axis=-1))
    nearest = distances.min(1, initial=np.inf)
    return np.where(np.isinf(nearest), np.nan, nearest)


def response_terms(
    change: Float[np.ndarray, "row goal"],
    move: Float[np.ndarray, "row goal"],
    known: Bool[np.ndarray, "row goal"],
    asked: int,
    seen: int,
) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
    """Numerators and denominators, row by row, of how far `seen` moves when `asked` is asked for.

    Their sums' quotient is the least-squares slope of the move over the asked change through 0. A
    quotient of plain means would not do: asked for up and down alike, both are near 0.

    Returns:
        0 and 0 in rows that ask for anything else, or where one of the two is not known.
    """
    counts = (change[:, asked] != 0) & ((change != 0).sum(1) == 1)
    counts &= known[:, asked] & known[:, seen]
    along = np.where(counts, change[:, asked], 0.0)
    return np.where(counts, move[:, seen], 0.0) * along, along**2


def response_matrix(
    change: Float[np.ndarray, "row goal"],
    move: Float[np.ndarray, "row goal"],
    known: Bool[np.ndarray, "row goal"],
    weights: Float[np.ndarray, " row"],
) -> Float[np.ndarray, "goal goal"]:
    """How far each dimension (column) moves per unit asked of one alone (row).

    The identity is perfect steering; NaN where one was never asked for alone.
    """
    size = change.shape[1]
    found = np.full((size, size), np.nan)
    for asked, seen in product(range(size), repeat=2):
        above, below = response_terms(change, move, known, asked, seen)
        if (total := float(weights @ below)) > 0:
            found[asked, seen] = float(weights @ above) / total
    return found


def side_to_target(matrix: Float[np.ndarray, "goal goal"]) -> float:
    """Frobenius norm of a response matrix off its diagonal over that on it; NaN where it is 0.

    Example:
        >>> side_to_target(np.array([[1.0, 0.3], [0.4, 0.0]]))
        0.5
    """
    filled = np.nan_to_num(matrix)
    target = float(np.linalg.norm(np.diag(filled)))
    side = float(np.linalg.norm(filled - np.diag(np.diag(filled))))
    return side / target if target else float("nan")


def along_correlation(
    change: Float[np.ndarray, "row goal"], correlation: Float[np.ndarray, "goal goal"]
) -> Float[np.ndarray, " row"]:
    """Whether dimensions are asked to move as they usually do together, or against it.

    Returns:
        Sum over pairs of asked dimensions of their correlation, negated where they are asked to
        move apart; 0 where fewer than two are asked for.
    """
    signs, found = np.sign(change), np.zeros(len(change))
    for one, two in combinations(range(change.shape[1]), 2):
        found += signs[:, one] * signs[:, two] * np.nan_to_num(correlation[one, two])
    return found


def request_cells(
    change: Float[np.ndarray, "row goal"],
) -> Iterator[tuple[tuple[tuple[int, int], ...], Bool[np.ndarray, " row"]]]:
    """Every sign pattern of one or two dimensions, and the rows that ask for it among others.

    Yields:
        Pairs of dimension and sign, and the rows.
    """
    signs = np.sign(change)
    for size in (1, 2):
        for dimensions in combinations(range(change.shape[1]), size):
            for pattern in product((1, -1), repeat=size):
                rows = np.all(signs[:, dimensions] == pattern, axis=1)
                if rows.any():
                    yield tuple(zip(dimensions, pattern, strict=True)), rows
