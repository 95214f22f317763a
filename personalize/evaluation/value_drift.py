"""Value drift: how the mass of answers moves between categories while a policy is tuned."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from personalize.evaluation.intervals import Interval, bootstrap_interval


@dataclass(frozen=True)
class CategoryDrift:
    """What became of one category.

    Attributes:
        name: Of the category.
        first: Mean mass before tuning.
        change: Mass of the last policy less that of the first, over contexts.
        magnitude: Largest absolute change of the mean mass on the way.
        time: Share of the steps after which it was reached, 0 to 1.
        drifted: Whether the change is larger than what chance makes of any category.
    """

    name: str
    first: float
    change: Interval
    magnitude: float
    time: float
    drifted: bool


@dataclass(frozen=True)
class DriftReport:
    """Drift on fixed contexts.

    Attributes:
        categories: In the order given.
        total: Half the sum of absolute mean changes: the mass that changed its category.
        noise: What 95 % of the totals stay below if changes had random signs, context by context.
        category_noise: The same for the largest change of any category.
        p_value: Share of random signs with at least this total, the real ones included.
    """

    categories: tuple[CategoryDrift, ...]
    total: float
    noise: float
    category_noise: float
    p_value: float


def drift_report(
    mass: Float[np.ndarray, "checkpoint context category"],
    steps: Int[np.ndarray, " checkpoint"] | Float[np.ndarray, " checkpoint"],
    names: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> DriftReport:
    """Magnitude, time and size beside chance of the drift of a policy's answers.

    Args:
        mass: Share of each policy's answers in every category, by context; the contexts are the
            same for all policies and the first one is the policy before tuning.
        steps: Steps of tuning at each, growing.
        names: Of the categories.
        resamples: Random signs, and resamples of the intervals.
        seed: Of both.

    Raises:
        ValueError: If there are fewer than two policies, names are not as many as categories, or
            steps do not grow.

    Source:
        In the manner of Value Drifts (Bhatia et al., 2025), which follows stances on topics:
        magnitude as change of a category's probability, time as the share of steps to the
        extremum. Chance by random signs is ours.
    """
    if len(mass) < 2 or len(names) != mass.shape[2]:
        raise ValueError(
            f"mass must be of 2 policies or more and of {len(names)} categories, got "
            f"{len(mass)} and {mass.shape[2]}."
        )
    if (np.diff(steps) <= 0).any():
        raise ValueError("steps must grow.")
    change = mass[-1] - mass[0]
    totals, largest = _by_chance(change, resamples, seed)
    total = float(np.abs(change.mean(0)).sum() / 2)
    bound = float(np.quantile(largest, 0.95))
    course = np.abs(mass.mean(1) - mass[0].mean(0))
    extreme = course.argmax(0)
    gone = (steps[extreme] - steps[0]) / (steps[-1] - steps[0])
    return DriftReport(
        categories=tuple(
            CategoryDrift(
                name=name,
                first=float(mass[0, :, number].mean()),
                change=bootstrap_interval(change[:, number], resamples=resamples, seed=seed),
                magnitude=float(course[extreme[number], number]),
                time=float(gone[number]),
                drifted=bool(abs(change[:, number].mean()) > bound),
            )
            for number, name in enumerate(names)
        ),
        total=total,
        noise=float(np.quantile(totals, 0.95)),
        category_noise=bound,
        p_value=float(((totals >= total - 1e-12).sum() + 1) / (resamples + 1)),
    )


def value_gap(
    winner: Int[np.ndarray, " pair"],
    loser: Int[np.ndarray, " pair"],
    names: Sequence[str],
    *,
    contexts: Int[np.ndarray, " pair"] | None = None,
    seed: int = 0,
) -> dict[str, Interval]:
    """Share of winners less share of losers in every category: what pairs ask a policy to move to.

    Args:
        winner: Category of each winner.
        loser: Category of each loser.
        names: Of the categories.
        contexts: Context of each pair, drawn together; None draws pairs.
        seed: Of the bootstrap.
    """
    return {
        name: bootstrap_interval(
            (winner == number).astype(np.float64) - (loser == number), groups=contexts, seed=seed
        )
        for number, name in enumerate(names)
    }


def _by_chance(
    change: Float[np.ndarray, "context category"], resamples: int, seed: int
) -> tuple[Float[np.ndarray, " resample"], Float[np.ndarray, " resample"]]:
    """Totals, and largest changes of any category, with a random sign for every context."""
    signs = np.random.default_rng(seed).integers(0, 2, (resamples, len(change))) * 2.0 - 1.0
    means = np.abs(signs @ change) / len(change)
    return means.sum(1) / 2, means.max(1)
