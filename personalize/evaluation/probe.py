"""A probe of goals: which contexts are asked, what of them, and what each of them stands for.

Contexts as they come crowd around what is usual, so a plain mean over them says how well usual
outputs can be steered. The probe draws contexts so that their unsteered outputs are spread evenly
over goal space, and keeps for every row the weights that turn its means into those of an even
spread, or of contexts as they come.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from personalize.evaluation.goal_space import STRONGLY_CORRELATED
from personalize.evaluation.rank_correlation import mean_ranks
from personalize.steering.goals import Goals

LEAST_CHANGE, LARGEST_CHANGE = 0.1, 0.7
LARGEST_WEIGHT = 50.0
FEWEST_KNOWN = 8
_EDGE = 0.01
_UNIFORM_DRAWS = 2000
_PENALTY_INVERSE = 1.0


@dataclass(frozen=True)
class Dimensions:
    """Which goal dimensions are asked about, and why others are not.

    Attributes:
        kept: Numbers of the kept ones, in order.
        dropped: Why each other one was dropped, by its number.
        correlation: Spearman's rank correlation of all of them; NaN where one is constant or the
            two are hardly ever known together.
    """

    kept: Int[np.ndarray, " kept"]
    dropped: dict[int, str]
    correlation: Float[np.ndarray, "goal goal"]


@dataclass(frozen=True)
class Probe:
    """What is asked: a row is one goal in one context.

    Attributes:
        contexts: The context of every row; rows of one context stand together.
        before: Where the unsteered output lies in goal space, from 0 to 1.
        known: Which of it could be measured.
        change: How far the goal lies from there; 0 in dimensions that nothing is asked of.
        even_weight: Weight that makes contexts spread evenly over goal space.
        plain_weight: Weight that makes them as they come.
        effective_share: Effective share of all contexts that could be drawn, under the weights.
    """

    contexts: Int[np.ndarray, " row"]
    before: Float[np.ndarray, "row goal"]
    known: Bool[np.ndarray, "row goal"]
    change: Float[np.ndarray, "row goal"]
    even_weight: Float[np.ndarray, " row"]
    plain_weight: Float[np.ndarray, " row"]
    effective_share: float

    def goals(self) -> Goals:
        """The same as steering is told it: open where nothing is asked."""
        mask = self.change != 0
        values = np.where(mask, np.clip(self.before + self.change, 0.0, 1.0), 0.0)
        return Goals(torch.from_numpy(values.astype(np.float32)), torch.from_numpy(mask))

    def target(self) -> Float[np.ndarray, "row goal"]:
        """The point that is wanted: where it was, but for what is asked."""
        return self.before + self.change


def independent_dimensions(
    values: Float[np.ndarray, "context goal"],
    known: Bool[np.ndarray, "context goal"],
    names: Sequence[str],
    *,
    largest: float = STRONGLY_CORRELATED,
) -> Dimensions:
    """The dimensions that can be asked for one by one.

    Of two that rank outputs nearly alike the later one is dropped: moving one without the other is
    impossible there, and what looks like a side effect would be arithmetic.

    Args:
        values: Unsteered outputs in goal space, 0 to 1.
        known: Which of them could be measured.
        names: Names of the dimensions, for the reasons.
        largest: Absolute rank correlation above which two are nearly alike.

    Raises:
        ValueError: If no dimension is left.
    """
    correlation = rank_correlation(values, known)
    dropped: dict[int, str] = {}
    kept: list[int] = []
    for number in range(values.shape[1]):
        here = values[known[:, number], number]
        twin = next((k for k in kept if abs(correlation[k, number]) > largest), None)
        if len(here) < FEWEST_KNOWN:
            dropped[number] = f"known in {len(here)} unsteered outputs only"
        elif here.min() == here.max():
            dropped[number] = "the same in every unsteered output"
        elif twin is not None:
            dropped[number] = (
                f"ranks unsteered outputs as {names[twin]} does "
                f"(rank correlation {correlation[twin, number]:+.2f})"
            )
        else:
            kept.append(number)
    if not kept:
        raise ValueError("No goal dimension varies among unsteered outputs; nothing can be asked.")
    return Dimensions(np.array(kept), dropped, correlation)


def rank_correlation(
    values: Float[np.ndarray, "context goal"], known: Bool[np.ndarray, "context goal"]
) -> Float[np.ndarray, "goal goal"]:
    """Spearman's correlation of every two dimensions, over the rows where both are known."""
    size = values.shape[1]
    found = np.full((size, size), np.nan)
    for one in range(size):
        for two in range(one, size):
            both = known[:, one] & known[:, two]
            first, second = (mean_ranks(values[both, column]) for column in (one, two))
            if both.sum() < FEWEST_KNOWN or np.ptp(first) == 0 or np.ptp(second) == 0:
                continue
            found[one, two] = found[two, one] = np.corrcoef(first, second)[0, 1]
    return found


def even_weights(
    values: Float[np.ndarray, "context goal"],
    known: Bool[np.ndarray, "context goal"],
    *,
    seed: int = 0,
) -> Float[np.ndarray, " context"]:
    """Weights under which outputs are spread evenly over goal space: uniform over own density.

    The ratio of densities is the odds of a classifier that tells outputs from uniform draws. An
    unknown value is drawn uniformly too, so that it tells nothing.

    Args:
        values: Outputs in goal space, 0 to 1.
        known: Which of them could be measured.
        seed: Of the uniform draws.

    Returns:
        Positive, at most 50.

    Source:
        Chang et al., 2025, Measuring steerability, arXiv:2505.23816. Theirs is logistic in `z`,
        which cannot even out a density that rises and falls; ours has `z**2`, `log z` and
        `log(1 - z)` beside it, with which a product of beta densities is fitted exactly.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(seed)
    own = np.where(known, values, generator.uniform(size=values.shape))
    uniform = generator.uniform(size=(max(_UNIFORM_DRAWS, len(own)), own.shape[1]))
    features = _features(np.concatenate([own, uniform]))
    is_uniform = np.arange(len(features)) >= len(own)
    classifier = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=_PENALTY_INVERSE, class_weight="balanced", max_iter=2000),
    )
    classifier.fit(features, is_uniform)
    log_odds = classifier.decision_function(features[: len(own)])
    return np.exp(np.minimum(log_odds, np.log(LARGEST_WEIGHT)))


def _features(values: np.ndarray) -> np.ndarray:
    inner = np.clip(values, _EDGE, 1 - _EDGE)
    return np.concatenate([values, values**2, np.log(inner), np.log1p(-inner)], axis=1)


def effective_share(weights: Float[np.ndarray, " row"]) -> float:
    """Effective number of rows over their number: 1 where all weigh the same.

    Example:
        >>> effective_share(np.array([1.0, 1.0, 0.0, 0.0]))
        0.5
    """
    return float(weights.sum() ** 2 / (weights**2).sum() / len(weights))


def distance_from_even(
    values: Float[np.ndarray, " row"], weights: Float[np.ndarray, " row"]
) -> float:
    """Kolmogorov and Smirnov's distance of weighted values in [0, 1] from an even spread.

    Example:
        >>> distance_from_even(np.array([0.25, 0.75]), np.array([1.0, 3.0]))
        0.5
    """
    order = np.argsort(values, kind="stable")
    places, up_to = values[order], np.cumsum(weights[order]) / weights.sum()
    below = np.concatenate([[0.0], up_to[:-1]])
    return float(max((up_to - places).max(), (places - below).max()))


def drawn_contexts(
    weights: Float[np.ndarray, " context"], count: int, *, seed: int = 0
) -> tuple[Int[np.ndarray, " drawn"], Float[np.ndarray, " drawn"]]:
    """Contexts drawn by weight without replacement, and how likely each of them was to be drawn.

    Where few of many are drawn, the probability is proportional to the weight; where all are, it
    is 1, and the weights have still to be applied. Dividing by it is right in both.

    Args:
        weights: Positive.
        count: How many; all, where there are not more.
        seed: Of the draw.

    Returns:
        Their places in order, and their probabilities of inclusion.

    Source:
        Efraimidis and Spirakis, 2006, doi:10.1016/j.ipl.2005.11.003 (the smallest of exponential
        times with these rates); Rosen, 1997, Asymptotic theory for order sampling, for the
        probability, which is asymptotic.
    """
    count = min(count, len(weights))
    times = np.random.default_rng(seed).exponential(size=len(weights)) / weights
    chosen = np.sort(np.argsort(times, kind="stable")[:count])
    return chosen, _inclusion(weights, count)[chosen]


def _inclusion(weights: np.ndarray, count: int) -> np.ndarray:
    """`1 - exp(-rate * weight)`, at the rate at which as many as are drawn are expected."""
    if count == len(weights):
        return np.ones(len(weights))
    shares = weights / weights.sum()
    low, high = 0.0, 1e6 / shares.min()
    for _ in range(100):
        rate = (low + high) / 2
        low, high = (rate, high) if -np.expm1(-rate * shares).sum() < count else (low, rate)
    return -np.expm1(-low * shares)


def asked_changes(
    before: Float[np.ndarray, " goal"],
    may_ask: Bool[np.ndarray, " goal"],
    count: int,
    *,
    most_active: int = 3,
    seed: int | tuple[int, ...] = 0,
) -> Float[np.ndarray, "{count} goal"]:
    """Goals for one context, as changes from where it is.

    One to `most_active` dimensions are asked for at once. A change is uniform among those of 0.1
    to 0.7 in either direction that stay between 0 and 1.

    Args:
        before: Where the unsteered output lies, 0 to 1.
        may_ask: Dimensions that may be asked for.
        count: Number of goals.
        most_active: Most dimensions of one goal.
        seed: Of the draw.

    Raises:
        ValueError: If nothing may be asked for.
    """
    choices = np.flatnonzero(may_ask)
    if not len(choices):
        raise ValueError("may_ask must hold at least one dimension, got none.")
    generator = np.random.default_rng(seed)
    changes = np.zeros((count, len(before)))
    for row in changes:
        active = int(generator.integers(1, min(most_active, len(choices)) + 1))
        for dimension in generator.choice(choices, active, replace=False):
            row[dimension] = _change(float(before[dimension]), float(generator.uniform()))
    return changes


def _change(place: float, share: float) -> float:
    """The change at a share of the way through all that can be asked, from far down to far up."""
    down = max(min(LARGEST_CHANGE, place) - LEAST_CHANGE, 0.0)
    up = max(min(LARGEST_CHANGE, 1 - place) - LEAST_CHANGE, 0.0)
    along = share * (down + up)
    return -LEAST_CHANGE - (down - along) if along < down else LEAST_CHANGE + (along - down)


def drawn_probe(  # noqa: PLR0913  (what was seen, and how much is asked of it)
    contexts: Int[np.ndarray, " context"],
    values: Float[np.ndarray, "context goal"],
    known: Bool[np.ndarray, "context goal"],
    kept: Int[np.ndarray, " kept"],
    *,
    count: int,
    goals: int,
    most_active: int = 3,
    seed: int = 0,
) -> Probe:
    """A probe of so many contexts with so many goals each.

    Goals of a context depend on its number and the seed, not on which others are drawn.

    Args:
        contexts: Numbers of the contexts that may be drawn.
        values: Their unsteered outputs in goal space, 0 to 1.
        known: Which of them could be measured.
        kept: Dimensions that are asked for; the others are never known to the probe.
        count: Contexts to draw.
        goals: Goals of each.
        most_active: Most dimensions of one goal.
        seed: Of everything that is drawn.

    Raises:
        ValueError: If no context has a known dimension to ask for.
    """
    usable = np.zeros_like(known)
    usable[:, kept] = known[:, kept]
    possible = np.flatnonzero(usable.any(1))
    if not len(possible):
        raise ValueError("No context has a known goal dimension; nothing can be asked.")
    weights = even_weights(values[possible][:, kept], known[possible][:, kept], seed=seed)
    chosen, inclusion = drawn_contexts(weights, count, seed=seed)
    places = possible[chosen]
    changes = [
        asked_changes(
            values[place],
            usable[place],
            goals,
            most_active=most_active,
            seed=(seed, int(contexts[place])),
        )
        for place in places
    ]
    return Probe(
        contexts=np.repeat(contexts[places], goals),
        before=np.repeat(np.where(usable[places], values[places], 0.0), goals, axis=0),
        known=np.repeat(usable[places], goals, axis=0),
        change=np.concatenate(changes),
        even_weight=np.repeat(weights[chosen] / inclusion, goals),
        plain_weight=np.repeat(1 / inclusion, goals),
        effective_share=effective_share(weights),
    )
