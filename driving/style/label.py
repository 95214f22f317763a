"""Aggressive, normal or conservative: one label per window, with the rule that fired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from data_prep.scenes.style_dimensions import AGGRESSIVE_SIGNS, STYLE_DIMENSIONS, StyleLabel
from driving.style.measures import PLACE
from driving.style.thresholds import Thresholds


@dataclass(frozen=True)
class Cut:
    """Where the labels of one scenario type are cut.

    Attributes:
        conservative: Aggressiveness below which a window is conservative.
        aggressive: Aggressiveness above which it is aggressive.
        origin: Whose percentiles these are: the type's, or those of all types.
        samples: Training windows they were read from.
    """

    conservative: float
    aggressive: float
    origin: str
    samples: int


@dataclass(frozen=True)
class Labelled:
    """The label of one window and the rule that says so."""

    label: StyleLabel
    rule: str


def aggressiveness(
    style: Float[np.ndarray, "sample style"],
    there: Bool[np.ndarray, "sample style"],
    scenario_types: Sequence[str],
    thresholds: Thresholds,
) -> tuple[Float[np.ndarray, " sample"], Bool[np.ndarray, " sample"]]:
    """Weighted mean of the dimensions, each turned so that its aggressive end is positive.

    Returns:
        Values in (-1, 1), and whether enough was measured to speak of it.
    """
    weights = np.array([thresholds.of_type(name) for name in scenario_types])
    weights = weights.reshape(len(style), len(STYLE_DIMENSIONS))
    counted = weights * there
    total = counted.sum(1)
    turned = style * np.array(AGGRESSIVE_SIGNS)
    mean = (counted * turned).sum(1) / np.maximum(total, 1e-9)
    enough = (total > 0) & (total >= thresholds.least_share * weights.sum(1))
    return np.where(enough, mean, 0.0), enough


def fit_cuts(
    scores: Float[np.ndarray, " sample"],
    enough: Bool[np.ndarray, " sample"],
    scenario_types: Sequence[str],
    thresholds: Thresholds,
) -> dict[str, Cut]:
    """The cuts of every scenario type that has enough training windows, and of all together.

    Args:
        scores: Aggressiveness of the training windows.
        enough: Which of them can be judged.
        scenario_types: Their types.
        thresholds: Percentiles, and how many windows a type needs.

    Returns:
        Cuts by scenario type, with `all` for the others.
    """
    types = np.array(scenario_types, dtype=object)
    percentiles = (thresholds.conservative_percentile, thresholds.aggressive_percentile)
    cuts = {}
    for name in ("all", *sorted(set(scenario_types))):
        kept = scores[enough & ((types == name) | (name == "all"))]
        if len(kept) and (name == "all" or len(kept) >= thresholds.fewest_samples):
            low, high = np.percentile(kept, percentiles)
            cuts[name] = Cut(float(low), float(high), name, len(kept))
    cuts.setdefault("all", Cut(-1.0, 1.0, "all", 0))
    return cuts


def labels(
    scores: Float[np.ndarray, " sample"],
    enough: Bool[np.ndarray, " sample"],
    style: Float[np.ndarray, "sample style"],
    scenario_types: Sequence[str],
    measures: tuple[Float[np.ndarray, "sample measure"], Bool[np.ndarray, "sample measure"]],
    *,
    cuts: Mapping[str, Cut],
    thresholds: Thresholds,
) -> list[Labelled]:
    """The label of every window: by the first absolute bound that holds, else by the cuts.

    Args:
        scores: Aggressiveness.
        enough: Which windows can be judged.
        style: Their style vectors, for the words of the rule.
        scenario_types: Their types.
        measures: Their measures and masks.
        cuts: What `fit_cuts` found on training windows.
        thresholds: The absolute bounds, and the weights for the words.
    """
    values, mask = measures
    found = []
    for row, scenario_type in enumerate(scenario_types):
        bound = _first_bound(values[row], mask[row], thresholds)
        if bound is not None:
            found.append(bound)
        elif not enough[row]:
            found.append(Labelled("normal", "too little was measured"))
        else:
            cut = cuts.get(scenario_type, cuts["all"])
            why = _main_dimensions(style[row], thresholds.of_type(scenario_type))
            found.append(_by_cut(float(scores[row]), cut, thresholds, why))
    return found


def _first_bound(
    values: Float[np.ndarray, " measure"],
    mask: Bool[np.ndarray, " measure"],
    thresholds: Thresholds,
) -> Labelled | None:
    for bound in thresholds.bounds:
        place = PLACE[bound.measure]
        if mask[place] and bound.holds(float(values[place])):
            return Labelled(bound.label, bound.words(float(values[place])))
    return None


def _by_cut(score: float, cut: Cut, thresholds: Thresholds, why: str) -> Labelled:
    origin = "all types" if cut.origin == "all" else cut.origin
    if score > cut.aggressive:
        at, bound = thresholds.aggressive_percentile, cut.aggressive
        rule = f"aggressiveness {score:.2f} is above {bound:.2f}, percentile {at:g} of {origin}"
        return Labelled("aggressive", f"{rule}: {why}")
    if score < cut.conservative:
        at, bound = thresholds.conservative_percentile, cut.conservative
        rule = f"aggressiveness {score:.2f} is below {bound:.2f}, percentile {at:g} of {origin}"
        return Labelled("conservative", f"{rule}: {why}")
    return Labelled(
        "normal",
        f"aggressiveness {score:.2f} lies between {cut.conservative:.2f} and "
        f"{cut.aggressive:.2f} of {origin}: {why}",
    )


def _main_dimensions(style: Float[np.ndarray, " style"], weights: Sequence[float]) -> str:
    """The three dimensions that weigh most, with their values."""
    weight = np.abs(style) * np.array(weights)
    order = np.argsort(-weight, kind="stable")[:3]
    named = [f"{STYLE_DIMENSIONS[place]} {style[place]:+.2f}" for place in order if weight[place]]
    return ", ".join(named) or "nothing stands out"
