"""Whether what is driven follows the style that was asked for, and nothing else moves with it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

EXPERT_FLOOR_M = 0.1
MOVING_SHARE = 0.2


def kendall_tau(
    requested: Float[np.ndarray, "*row level"], measured: Float[np.ndarray, "*row level"]
) -> tuple[Float[np.ndarray, "*row"], Bool[np.ndarray, "*row"]]:
    """Kendall's tau-b per row: 1 if the measure rises whenever the request does, -1 if it falls.

    Ties shrink the denominator, not the numerator, so a constant measure has no value at all.

    Args:
        requested: The level asked for, the same scene and seed along a row.
        measured: What came of it.

    Returns:
        The values, and where there is one; 0 beside it where there is none.

    Source:
        Kendall, 1945, doi:10.1093/biomet/33.3.239.
    """
    first, second = np.triu_indices(requested.shape[-1], 1)
    asked = np.sign(requested[..., second] - requested[..., first])
    came = np.sign(measured[..., second] - measured[..., first])
    pairs = (asked != 0).sum(-1) * (came != 0).sum(-1)
    known = np.asarray(pairs > 0)
    return np.where(known, (asked * came).sum(-1) / np.sqrt(np.maximum(pairs, 1)), 0.0), known


def monotone(
    requested: Float[np.ndarray, "*row level"],
    measured: Float[np.ndarray, "*row level"],
    *,
    slack: float = 0.0,
) -> Bool[np.ndarray, "*row"]:
    """Which rows never fall by more than `slack` where the request rises; constant ones count."""
    first, second = np.triu_indices(requested.shape[-1], 1)
    asked = np.sign(requested[..., second] - requested[..., first])
    falls = (measured[..., second] - measured[..., first]) * asked < -slack
    return np.asarray(~falls.any(-1))


@dataclass(frozen=True)
class StyleRecovery:
    """How well requested styles are recognised in what was driven.

    Attributes:
        macro_f1: Mean F1 over the styles that occur or are named.
        balanced_accuracy: Mean recall over the styles that occur.
        confusion: Rows by requested style, columns by recognised style.
    """

    macro_f1: float
    balanced_accuracy: float
    confusion: Int[np.ndarray, "style style"]


def style_recovery(
    requested: Int[np.ndarray, " row"], recognised: Int[np.ndarray, " row"], *, styles: int = 3
) -> StyleRecovery:
    """Recognition of requested styles, every style weighing the same.

    Raises:
        ValueError: If there are no rows, or a style lies outside 0 to `styles` - 1.
    """
    if not len(requested):
        raise ValueError("requested must have at least one row, got none.")
    both = np.concatenate([requested, recognised])
    if both.min() < 0 or both.max() >= styles:
        raise ValueError(f"styles must be 0 to {styles - 1}, got {both.min()} to {both.max()}.")
    confusion = np.zeros((styles, styles), dtype=np.int64)
    np.add.at(confusion, (requested, recognised), 1)
    right, asked, named = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    f1 = 2 * right / np.maximum(asked + named, 1)
    recall = right[asked > 0] / asked[asked > 0]
    return StyleRecovery(float(f1[asked + named > 0].mean()), float(recall.mean()), confusion)


def nearest_centroid(
    features: Float[np.ndarray, "row feature"],
    labels: Int[np.ndarray, " row"],
    asked: Float[np.ndarray, "other feature"],
) -> Int[np.ndarray, " other"]:
    """The label whose mean lies nearest, features in units of their spread within labels.

    Args:
        features: Rows whose label is known, which must not be those that are asked about.
        labels: Their labels.
        asked: Rows to label.

    Returns:
        The smallest of equally near labels.
    """
    known = np.unique(labels)
    means = np.stack([features[labels == label].mean(0) for label in known])
    spread = (features - means[np.searchsorted(known, labels)]).std(0)
    spread = np.where(spread > 0, spread, 1.0)
    away = np.linalg.norm((asked[:, None] - means) / spread, axis=-1)
    return known[away.argmin(1)]


@dataclass(frozen=True)
class MeanDiscrepancy:
    """Distance of two samples.

    Attributes:
        squared: Unbiased estimate of the squared maximum mean discrepancy; may be below 0.
        bandwidth: Of the Gaussian kernel: the median distance of different rows.
        p_value: Share of random splits of all rows at least as far apart, the given one included.
    """

    squared: float
    bandwidth: float
    p_value: float


def mean_discrepancy(
    first: Float[np.ndarray, "row feature"],
    second: Float[np.ndarray, "other feature"],
    *,
    permutations: int = 500,
    seed: int = 0,
) -> MeanDiscrepancy:
    """Whether two samples have one distribution, with a Gaussian kernel and a permutation test.

    Args:
        first: Rows of features in comparable units; at least two.
        second: Likewise.
        permutations: Random splits.
        seed: Of the splits.

    Raises:
        ValueError: If a sample has fewer than two rows.

    Source:
        Gretton and others, 2012, A kernel two-sample test, lemma 6.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"both samples need two rows, got {len(first)} and {len(second)}.")
    rows = np.concatenate([first, second]).astype(np.float64)
    squares = (rows**2).sum(1)
    away = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)
    bandwidth = float(np.median(np.sqrt(away[np.triu_indices(len(rows), 1)])))
    kernel = np.exp(-away / (2 * bandwidth**2)) if bandwidth > 0 else (away == 0).astype(float)
    np.fill_diagonal(kernel, 0)
    generator = np.random.default_rng(seed)
    inside = np.zeros((permutations + 1, len(rows)))
    inside[0, : len(first)] = 1
    for split in inside[1:]:
        split[generator.permutation(len(rows))[: len(first)]] = 1
    estimates = _discrepancies(kernel, inside)
    at_least = int((estimates[1:] >= estimates[0] - 1e-12).sum())
    return MeanDiscrepancy(float(estimates[0]), bandwidth, (at_least + 1) / (permutations + 1))


def _discrepancies(
    kernel: Float[np.ndarray, "row row"], inside: Float[np.ndarray, "split row"]
) -> Float[np.ndarray, " split"]:
    """The unbiased estimate for splits of the rows, from a kernel without its diagonal."""
    to_first = inside @ kernel
    within_first = (to_first * inside).sum(1)
    between = (to_first * (1 - inside)).sum(1)
    within_second = kernel.sum() - within_first - 2 * between
    first = inside.sum(1)
    second = inside.shape[1] - first
    return (
        within_first / (first * (first - 1))
        + within_second / (second * (second - 1))
        - 2 * between / (first * second)
    )


def keeps_moving(
    progress_m: Float[np.ndarray, "*row"], expert_progress_m: Float[np.ndarray, "*row"]
) -> Bool[np.ndarray, "*row"]:
    """Which rides get at least a fifth as far as the expert: cautious must not mean frozen.

    Both count as 0.1 m at least, so standing where the expert stands is no fault.

    Source:
        nuPlan's `ego_is_making_progress`.
    """
    ratio = np.maximum(progress_m, EXPERT_FLOOR_M) / np.maximum(expert_progress_m, EXPERT_FLOOR_M)
    return np.asarray(ratio >= MOVING_SHARE)


@dataclass(frozen=True)
class Response:
    """How measured dimensions answer requested ones.

    Attributes:
        slopes: Change of the measured (column) per unit of the requested (row).
        side_effects: Mean size of the others' answer over that of the requested dimension's own,
            per requested dimension; inf where its own is 0. Only meaningful in common units.
    """

    slopes: Float[np.ndarray, "style style"]
    side_effects: Float[np.ndarray, " style"]


def response(
    requested: Float[np.ndarray, "row style"],
    measured: Float[np.ndarray, "row style"],
    scenes: Int[np.ndarray, " row"],
) -> Response:
    """How much every measured dimension moves per unit of each requested one, scene by scene.

    Least squares of all requested dimensions together, with a level of its own for every scene.

    Args:
        requested: What was asked for.
        measured: The same dimensions as measured, in common units.
        scenes: Which scene (and seed) each row is of.

    Raises:
        ValueError: If requests do not vary within scenes in every dimension independently.
    """
    _, group = np.unique(scenes, return_inverse=True)
    count = np.bincount(group)[:, None]

    def within(values: np.ndarray) -> np.ndarray:
        means = np.zeros((len(count), values.shape[1]))
        np.add.at(means, group, values)
        return values - (means / count)[group]

    asked, came = within(requested), within(measured)
    slopes, _, rank, _ = np.linalg.lstsq(asked, came, rcond=1e-9)
    if rank < requested.shape[1]:
        raise ValueError(
            f"requested must vary within scenes in all {requested.shape[1]} dimensions "
            f"independently, but only {rank} can be told apart."
        )
    own = np.abs(np.diag(slopes))
    others = (np.abs(slopes).sum(1) - own) / max(len(own) - 1, 1)
    ratio = np.divide(others, own, out=np.full(len(own), np.inf), where=own > 0)
    return Response(slopes, ratio)
