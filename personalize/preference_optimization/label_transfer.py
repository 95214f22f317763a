"""Labels carried over from one task to another by the shape of the two alone."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from personalize.rewards.optimal_transport import load_transport

OUTER_STEPS, INNER_STEPS = 100, 50


@dataclass(frozen=True)
class Transfer:
    """How two tasks are matched.

    Attributes:
        starts: Random plans the search begins from. Each plan that is found is then turned round,
            every source taking the place of the one farthest from it, and the search goes on from
            there: twice as many plans.
        smoothing: Entropy of a plan, in units of squared distance; distances are at most 1.
        anchor_weight: How much the anchored features weigh beside the shape, 0 to 1.
        tolerance: A plan counts less by `exp(-excess / tolerance)`, where its excess is its
            mismatch above the best one's, as a share of that of matching all with all.
        seed: Of the starts.

    Raises:
        ValueError: If a number is out of range.
    """

    starts: int = 8
    smoothing: float = 5e-3
    anchor_weight: float = 0.0
    tolerance: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.starts < 1 or self.smoothing <= 0 or self.tolerance <= 0:
            raise ValueError(
                "starts must be at least 1 and smoothing and tolerance positive, got "
                f"{self.starts}, {self.smoothing:g} and {self.tolerance:g}."
            )
        if not 0 <= self.anchor_weight < 1:
            raise ValueError(
                f"anchor_weight must be from 0 to below 1, got {self.anchor_weight:g}."
            )


@dataclass(frozen=True)
class Plans:
    """Ways to match two tasks, found from several starts.

    Attributes:
        plans: Each adds up to 1; `plans[k, i, j]` is how much of source `i` goes to target `j`.
        weights: How much each counts; they add up to 1.
        mismatch: How badly each matches, as a share of what matching all with all gives: 0 for
            tasks of the same shape, about 1 for a plan that says nothing.
    """

    plans: Float[np.ndarray, "start source target"]
    weights: Float[np.ndarray, " start"]
    mismatch: Float[np.ndarray, " start"]


@dataclass(frozen=True)
class TransferredLabels:
    """What is said of every two targets.

    Attributes:
        probability: How probably the first (row) is preferred to the second (column); 0.5 on the
            diagonal, and `p[j, i] = 1 - p[i, j]` where the source's labels are so.
        agreement: How far the starts say the same, 0 to 1: `|sum of weight * sign|`. Where the
            shape is symmetric they do not, however sure each of them is.
        mismatch: Of the best plan.
    """

    probability: Float[np.ndarray, "target target"]
    agreement: Float[np.ndarray, "target target"]
    mismatch: float

    @property
    def confidence(self) -> float:
        """Mean agreement over pairs of different targets."""
        count = len(self.agreement)
        return float(self.agreement[~np.eye(count, dtype=bool)].mean())


def distances(features: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, "row row"]:
    """Euclidean distances between rows, the largest one 1.

    Raises:
        ValueError: If all rows are the same.
    """
    gaps = features[:, None].astype(np.float64) - features[None]
    found = np.sqrt(np.square(gaps).sum(-1))
    if not found.max() > 0:
        raise ValueError("features must have at least two different rows.")
    return found / found.max()


def matched(
    source: Float[np.ndarray, "source source"],
    target: Float[np.ndarray, "target target"],
    settings: Transfer,
    *,
    anchors: tuple[Float[np.ndarray, "source anchor"], Float[np.ndarray, "target anchor"]]
    | None = None,
) -> Plans:
    """Plans under which near rows of the source go to near rows of the target.

    Args:
        source: Distances within the source; see `distances`.
        target: Distances within the target.
        settings: How.
        anchors: Features that mean the same in both tasks, such as mean speed, in units in which
            a difference of 1 is large; used with `settings.anchor_weight`.

    Raises:
        InputError: If POT is not installed.
        ValueError: If anchors are weighed and there are none.

    Source:
        In the manner of PEARL (Liu et al., 2023, arXiv:2306.03615); the plan is that of entropic
        Gromov-Wasserstein (Peyre, Cuturi and Solomon, 2016), with anchors fused (Vayer et al.,
        2019, arXiv:1805.09114). Several starts and their agreement are ours: without them a
        symmetric shape is matched the wrong way round as often as not, and nothing tells.
    """
    if settings.anchor_weight and anchors is None:
        raise ValueError("anchor_weight needs anchors, which mean the same in both tasks.")
    ot = load_transport()
    generator = np.random.default_rng(settings.seed)
    mass = [np.full(len(side), 1 / len(side)) for side in (source, target)]
    blank = np.outer(*mass)
    apart = np.zeros_like(blank)
    if anchors is not None and settings.anchor_weight:
        gaps = anchors[0][:, None].astype(np.float64) - anchors[1][None]
        apart = np.square(gaps).mean(-1)
    farthest = source.argmax(1)
    plans: list[np.ndarray] = []
    for number in range(2 * settings.starts):
        if number < settings.starts:
            rough = ot.sinkhorn(*mass, generator.random(blank.shape), 0.1)
        else:
            rough = 0.9 * plans[number - settings.starts][farthest] + 0.1 * blank
        plan = ot.gromov.entropic_fused_gromov_wasserstein(
            apart, source, target, *mass, loss_fun="square_loss", epsilon=settings.smoothing,
            alpha=1 - settings.anchor_weight, G0=rough, max_iter=OUTER_STEPS, tol=1e-5,
            warmstart=True, numItermax=INNER_STEPS, warn=False,
        )  # fmt: skip
        plans.append(np.maximum(plan, 0) / plan.sum())
    costs = [_mismatch(source, target, apart, plan, settings.anchor_weight) for plan in plans]
    whole = _mismatch(source, target, apart, blank, settings.anchor_weight)
    mismatch = np.array(costs) / max(whole, 1e-12)
    weights = np.exp(-(mismatch - mismatch.min()) / settings.tolerance)
    return Plans(np.stack(plans), weights / weights.sum(), mismatch)


def transferred_labels(
    plans: Plans,
    labels: Float[np.ndarray, "source source"],
    known: Bool[np.ndarray, "source source"] | None = None,
) -> TransferredLabels:
    """Labels of every two targets from those of the sources they are matched with.

    Under a plan `T` it is `sum T[i, j] T[k, l] z[i, k] / sum T[i, j] T[k, l]` over pairs of
    different sources whose label is known. Without the division it could not exceed 1 / targets^2.

    Args:
        plans: As `matched` finds them.
        labels: Probability that source `i` is preferred to source `k`.
        known: Which of them are known; None knows all pairs of different sources.

    Raises:
        ValueError: If no label is known.
    """
    different = ~np.eye(len(labels), dtype=bool)
    told = (different if known is None else different & known).astype(np.float64)
    if not told.any():
        raise ValueError("known must tell at least one label of two different sources.")
    said = np.stack([_carried(plan, labels, told) for plan in plans.plans])
    weights = plans.weights[:, None, None]
    probability = (weights * said).sum(0)
    agreement = np.abs((weights * np.sign(np.round(said - 0.5, 6))).sum(0))
    return TransferredLabels(probability, agreement, float(plans.mismatch.min()))


def _carried(
    plan: Float[np.ndarray, "source target"],
    labels: Float[np.ndarray, "source source"],
    told: Float[np.ndarray, "source source"],
) -> Float[np.ndarray, "target target"]:
    mass = plan.T @ told @ plan
    said = plan.T @ (told * labels) @ plan
    found = np.where(mass > 0, said / np.where(mass > 0, mass, 1), 0.5)
    np.fill_diagonal(found, 0.5)
    return found


def _mismatch(
    source: Float[np.ndarray, "source source"],
    target: Float[np.ndarray, "target target"],
    apart: Float[np.ndarray, "source target"],
    plan: Float[np.ndarray, "source target"],
    anchor_weight: float,
) -> float:
    """`sum (source[i, k] - target[j, l])^2 T[i, j] T[k, l]`, and the anchors' cost."""
    first, second = plan.sum(1), plan.sum(0)
    squares = first @ np.square(source) @ first + second @ np.square(target) @ second
    shape = squares - 2 * float((source @ plan @ target * plan).sum())
    return float((1 - anchor_weight) * shape + anchor_weight * (apart * plan).sum())
