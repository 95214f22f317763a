"""SLOT TokenWeight: how much the steps of a response count in the gradient of its surrogate."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.preference_optimization.divergence import entropy, finite_log_softmax


class TokenWeight(ABC):
    """Weights of steps from what the policy says there; a variant is a frozen dataclass.

    Laws, held by `tests/personalize/preference_optimization/test_token_weights.py` for every
    variant: finite, not negative, also where choices are closed; permuting responses permutes
    weights; the same logits up to a constant give the same weights.
    """

    @abstractmethod
    def __call__(
        self,
        logits: Float[Tensor, "batch particle step choice"],
        chosen: Int[Tensor, "batch particle step"],
        advantage: Float[Tensor, "batch particle"],
    ) -> Float[Tensor, "batch particle step"]:
        """The weight of every step, without a gradient."""


@final
@dataclass(frozen=True)
class EntropyStabilized(TokenWeight):
    """STEER: steps that would change the entropy most count least, by the exact first order.

    Choices are few here, so the change is taken exactly (`entropy_change`) where the paper
    approximates it.

    Attributes:
        least: Weight of the step with the largest change in the batch.
        most: Weight of the step with the smallest.

    Raises:
        ValueError: If not `0 <= least <= most`.

    Source:
        STEER (Stabilizing Token-level Entropy-changE via Reweighting): the released code's linear
        weights in [0.8, 1.2].
    """

    least: float = 0.8
    most: float = 1.2

    def __post_init__(self) -> None:
        _check_range(self.least, self.most)

    @torch.no_grad()
    def __call__(
        self,
        logits: Float[Tensor, "batch particle step choice"],
        chosen: Int[Tensor, "batch particle step"],
        advantage: Float[Tensor, "batch particle"],
    ) -> Float[Tensor, "batch particle step"]:
        """See `TokenWeight`."""
        return _falling(entropy_change(logits, chosen, advantage), self.least, self.most)


@final
@dataclass(frozen=True)
class ReleasedEntropyStabilized(TokenWeight):
    """STEER as it was released, for comparison; see `released_entropy_change`.

    Attributes:
        least: See `EntropyStabilized`.
        most: See `EntropyStabilized`.

    Raises:
        ValueError: As for `EntropyStabilized`.

    Source:
        The released code of STEER.
    """

    least: float = 0.8
    most: float = 1.2

    def __post_init__(self) -> None:
        _check_range(self.least, self.most)

    @torch.no_grad()
    def __call__(
        self,
        logits: Float[Tensor, "batch particle step choice"],
        chosen: Int[Tensor, "batch particle step"],
        advantage: Float[Tensor, "batch particle"],
    ) -> Float[Tensor, "batch particle step"]:
        """See `TokenWeight`."""
        return _falling(released_entropy_change(logits, chosen, advantage), self.least, self.most)


@final
@dataclass(frozen=True)
class TopEntropy(TokenWeight):
    """1 for the share of the batch's steps with the highest entropy, 0 for all others.

    Attributes:
        share: In (0, 1]; at least one step is kept.

    Raises:
        ValueError: If the share lies outside (0, 1].

    Source:
        Wang et al., 2025, Beyond the 80/20 Rule, arXiv:2506.01939, as TRL's
        `top_entropy_quantile`.
    """

    share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {self.share:g}.")

    @torch.no_grad()
    def __call__(
        self,
        logits: Float[Tensor, "batch particle step choice"],
        chosen: Int[Tensor, "batch particle step"],
        advantage: Float[Tensor, "batch particle"],
    ) -> Float[Tensor, "batch particle step"]:
        """See `TokenWeight`."""
        found = entropy(logits)
        kept = max(1, round(self.share * found.numel()))
        return (found >= found.flatten().topk(kept).values[-1]).to(found)


def entropy_change(
    logits: Float[Tensor, "*batch step choice"],
    chosen: Int[Tensor, "*batch step"],
    advantage: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch step"]:
    """How fast the entropy of each step changes with the rate of a policy-gradient step on it.

    `-A * (p_a (ln p_a + H) - sum over v of p_v^2 (ln p_v + H))`, exact to first order for a step on
    the logits themselves; shared weights add the influence of steps on one another.

    Source:
        Our derivation: the logits move by `rate * A * (one-hot - p)` and the entropy by
        `-p_v (ln p_v + H)` per unit of each.
    """
    log_share = finite_log_softmax(logits)
    share = log_share.exp()
    surprise = log_share + entropy(logits)[..., None]
    taken = (share * surprise).gather(-1, chosen[..., None])[..., 0]
    return -advantage[..., None] * (taken - (share.square() * surprise).sum(-1))


def released_entropy_change(
    logits: Float[Tensor, "*batch step choice"],
    chosen: Int[Tensor, "*batch step"],
    advantage: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch step"]:
    """The score of STEER's released code, `A / p * p (1 - p) (ln p + H)`, at the time of drawing.

    The sign is that code's: it takes the absolute value. Where the paper's theorem has the ratio of
    new and old the code divides by the old probability alone, so rare choices weigh more than they
    change.

    Source:
        The released code of STEER.
    """
    log_share = finite_log_softmax(logits).gather(-1, chosen[..., None])[..., 0]
    return advantage[..., None] * (1 - log_share.exp()) * (log_share + entropy(logits))


def weighted_gradient(
    log_prob: Float[Tensor, "batch particle step"], weight: Float[Tensor, "batch particle step"]
) -> Float[Tensor, "batch particle step"]:
    """The same numbers, with the gradient of every step multiplied by its weight.

    Multiplying a loss that is a sum over steps by weights does the same to its gradient; this works
    for surrogates of whole responses and of pairs as well.
    """
    return log_prob.detach() + weight * (log_prob - log_prob.detach())


def _falling(
    change: Float[Tensor, "batch particle step"], least: float, most: float
) -> Float[Tensor, "batch particle step"]:
    """From `most` for the smallest change to `least` for the largest; between them if all equal."""
    size = change.abs()
    low, high = size.amin(), size.amax()
    width = high - low
    place = torch.where(width > 0, (size - low) / torch.where(width > 0, width, 1), 0.5)
    return most - (most - least) * place


def _check_range(least: float, most: float) -> None:
    if not 0 <= least <= most:
        raise ValueError(f"weights must have 0 <= least <= most, got {least:g} and {most:g}.")
