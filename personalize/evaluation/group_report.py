"""What groups of people get: each group's utility, the worst-off, the gap, and who pays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from personalize.evaluation.intervals import Interval, bootstrap_interval

LEAST_PEOPLE = 2


@dataclass(frozen=True)
class GroupUtility:
    """What one group gets.

    Attributes:
        name: Of the group.
        utility: Mean over its people.
        change: Mean over its people of utility minus utility before; None without a before.
    """

    name: str
    utility: Interval
    change: Interval | None


@dataclass(frozen=True)
class GroupReport:
    """Groups side by side.

    Attributes:
        groups: In the order of their names.
        worst: Name of the group with the least mean utility.
        worst_utility: The least of the groups' means, with the interval of that least.
        gap: Largest minus least of the groups' means. It is above 0 for any groups at all.
        chance_gap: Mean gap of groups of these sizes drawn at random among the same people.
        gap_p_value: Share of random groups with at least this gap, the real ones included.
        pays: Names of the groups whose change lies below 0 with its whole interval.
    """

    groups: tuple[GroupUtility, ...]
    worst: str
    worst_utility: Interval
    gap: Interval
    chance_gap: float
    gap_p_value: float
    pays: tuple[str, ...]


def group_report(
    utilities: Float[np.ndarray, " person"],
    groups: Sequence[str],
    *,
    before: Float[np.ndarray, " paired"] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> GroupReport:
    """Utilities per group with bootstrap intervals.

    People are resampled within their group, so that a small group's interval is wide and its size
    stays. The least and the gap are taken anew in every resample: their intervals lean, as the
    numbers themselves do, to a worse least and a wider gap than the truth. `chance_gap` says how
    much of the gap that alone explains.

    Args:
        utilities: One value per person (or context); average what belongs to one person first.
        groups: Group of each.
        before: Utilities of the same people without what is judged, for the change.
        resamples: Resamples and random groupings.
        seed: Of everything drawn.

    Raises:
        ValueError: If lengths differ, there are fewer than two groups, or a group has fewer than
            two people.

    Source:
        The worst-group view of Chakraborty et al., 2024, MaxMin-RLHF, arXiv:2402.08925; intervals
        and the random groups are ours.
    """
    names, number = np.unique(np.asarray(groups), return_inverse=True)
    _check(utilities, before, names, number)
    own = [utilities[number == place] for place in range(len(names))]
    means = np.array([values.mean() for values in own])
    generator = np.random.default_rng(seed)
    drawn = np.stack([_resampled_means(values, resamples, generator) for values in own], 1)
    chance = _random_gaps(utilities, number, resamples, generator)
    gap = float(means.max() - means.min())
    reported = tuple(
        _utility(str(name), number == place, utilities, before, resamples=resamples, seed=seed)
        for place, name in enumerate(names)
    )
    return GroupReport(
        groups=reported,
        worst=str(names[means.argmin()]),
        worst_utility=_interval(float(means.min()), drawn.min(1), len(utilities)),
        gap=_interval(gap, drawn.max(1) - drawn.min(1), len(utilities)),
        chance_gap=float(chance.mean()),
        gap_p_value=float(((chance >= gap - 1e-12).sum() + 1) / (resamples + 1)),
        pays=tuple(one.name for one in reported if one.change is not None and one.change.high < 0),
    )


def _check(
    utilities: np.ndarray, before: np.ndarray | None, names: np.ndarray, number: np.ndarray
) -> None:
    if len(utilities) != len(number) or (before is not None and len(before) != len(number)):
        raise ValueError("utilities, groups and before must have one entry per person.")
    if len(names) < LEAST_PEOPLE:
        raise ValueError(f"There must be at least two groups, got {len(names)}.")
    small = names[np.bincount(number) < LEAST_PEOPLE]
    if len(small):
        raise ValueError(f"A group needs at least two people, {small[0]} has one.")


def _utility(
    name: str,
    members: np.ndarray,
    utilities: np.ndarray,
    before: np.ndarray | None,
    *,
    resamples: int,
    seed: int,
) -> GroupUtility:
    def interval(values: Float[np.ndarray, " person"]) -> Interval:
        return bootstrap_interval(values[members], resamples=resamples, seed=seed)

    change = None if before is None else interval(utilities - before)
    return GroupUtility(name, interval(utilities), change)


def _resampled_means(
    values: np.ndarray, resamples: int, generator: np.random.Generator
) -> Float[np.ndarray, " resample"]:
    means = np.empty(resamples)
    for row in range(resamples):
        means[row] = values[generator.integers(0, len(values), len(values))].mean()
    return means


def _random_gaps(
    utilities: np.ndarray,
    number: Int[np.ndarray, " person"],
    resamples: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, " resample"]:
    sizes = np.bincount(number)
    gaps = np.empty(resamples)
    for row in range(resamples):
        means = np.bincount(number, weights=generator.permutation(utilities)) / sizes
        gaps[row] = means.max() - means.min()
    return gaps


def _interval(value: float, drawn: np.ndarray, rows: int) -> Interval:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(value, float(low), float(high), rows)
