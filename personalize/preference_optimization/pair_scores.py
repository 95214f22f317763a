"""What the formulas of contrasts share: the margin of a pair, and scores response by response."""

from jaxtyping import Float
from torch import Tensor

from personalize.preference_optimization.compared import Scored


def pair_margin(
    scored: Scored, beta: float, *, power: float = 1.0, per_step: bool = False
) -> Float[Tensor, " comparison"]:
    """The logit with which the best is preferred: what every loss of a difference reads.

    `logit_weight * beta * (ratio of the best - ratio of the other) - margin`, where a ready logit
    stands for `beta * (...)`. So the margin is in units of the implicit reward, and not weighed.

    Args:
        scored: Pairs.
        beta: Factor of the log-ratios.
        power: Of the reference.
        per_step: Divide each log-ratio by its number of steps first.

    Raises:
        ValueError: If there are more than two responses.
    """
    if scored.logit is None:
        ratio = pairs_only(scored).ratio(power)
        ratio = ratio / scored.steps if per_step else ratio
        margin = beta * (ratio[:, 0] - ratio[:, 1])
    else:
        margin = scored.logit
    weight = scored.logit_weight
    return (margin if weight is None else weight * margin) - scored.margin


def own_scores(scored: Scored, needed_by: str) -> Scored:
    """The same, where every response has a score of its own.

    Raises:
        ValueError: If there is a ready logit, which belongs to no response, or a weight of it.
    """
    if scored.logit is not None or scored.logit_weight is not None:
        raise ValueError(
            f"{needed_by} needs a score of every response: it takes no ready logit and no weight "
            "inside the loss."
        )
    return scored


def pairs_only(scored: Scored) -> Scored:
    """The same, where each comparison is of two.

    Raises:
        ValueError: If there are more.
    """
    if scored.score.shape[1] != 2:
        raise ValueError(
            f"this contrast compares two responses, got {scored.score.shape[1]}: wrap it in "
            "OverPairs, or take one for lists."
        )
    return scored


def require_positive(**values: float) -> None:
    """Refuse a parameter that is not above 0.

    Raises:
        ValueError: If one is not.
    """
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value:g}.")


def require_share(*, below: float, **values: float) -> None:
    """Refuse a parameter outside [0, below).

    Raises:
        ValueError: If one is outside.
    """
    for name, value in values.items():
        if not 0 <= value < below:
            raise ValueError(f"{name} must lie in [0, {below:g}), got {value:g}.")
