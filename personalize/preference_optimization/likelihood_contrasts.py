"""Contrasts of likelihoods: without a reference, or against an estimate of the divergence from it.

Each response's own score is needed, so no ready logit will do. Soft labels mix a formula with its
mirror image only where its docstring says so.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from personalize.preference_optimization.compared import Scored
from personalize.preference_optimization.contrast import Contrast
from personalize.preference_optimization.pair_scores import (
    own_scores,
    pairs_only,
    require_positive,
    require_share,
)
from personalize.rewards.bradley_terry import bradley_terry_loss

_LEAST = 1e-6


@final
@dataclass(frozen=True)
class CPO(Contrast):
    """Contrastive preference optimisation: DPO without a reference, with imitation of the best.

    `-log sigma(beta (log p(best) - log p(other)) - margin) + alpha * NLL(best)`, the last averaged
    over steps. Soft labels and smoothing mix the first part.

    Attributes:
        beta: Factor of the log-probabilities.
        alpha: Weight of imitation; TRL's `cpo_alpha`.
        label_smoothing: Share of wrong labels.

    Raises:
        ValueError: If beta is not positive or label_smoothing lies outside [0, 0.5).

    Source:
        Xu et al., 2024, arXiv:2401.08417; TRL's `CPOTrainer`.
    """

    beta: float = 0.1
    alpha: float = 1.0
    label_smoothing: float = 0.0
    uses_reference = False

    def __post_init__(self) -> None:
        require_positive(beta=self.beta)
        require_share(below=0.5, label_smoothing=self.label_smoothing)

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`."""
        score = pairs_only(own_scores(scored, "CPO")).score
        margin = self.beta * (score[:, 0] - score[:, 1]) - scored.margin
        share = scored.win_share
        share = share + self.label_smoothing * (1 - 2 * share)
        return bradley_terry_loss(margin, share) - self.alpha * (score / scored.steps)[:, 0]


@final
@dataclass(frozen=True)
class SimPO(Contrast):
    """Log-probabilities per step, with a margin.

    `-log sigma(beta (mean(best) - mean(other)) - gamma)`. A comparison's own margin adds to gamma.
    Soft labels and smoothing mix.

    Attributes:
        beta: Factor of the mean log-probabilities.
        gamma: What the best should lead by; TRL's `simpo_gamma`.
        label_smoothing: Share of wrong labels.

    Raises:
        ValueError: If beta is not positive or label_smoothing lies outside [0, 0.5).

    Source:
        Meng et al., 2024, arXiv:2405.14734; TRL's `simpo` with `cpo_alpha` 0, whose defaults these
        are: the paper takes a beta of 2 and more.
    """

    beta: float = 0.1
    gamma: float = 0.5
    label_smoothing: float = 0.0
    uses_reference = False

    def __post_init__(self) -> None:
        require_positive(beta=self.beta)
        require_share(below=0.5, label_smoothing=self.label_smoothing)

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`."""
        mean = pairs_only(own_scores(scored, "SimPO")).score / scored.steps
        margin = self.beta * (mean[:, 0] - mean[:, 1]) - self.gamma - scored.margin
        share = scored.win_share
        return bradley_terry_loss(margin, share + self.label_smoothing * (1 - 2 * share))


@final
@dataclass(frozen=True)
class ORPO(Contrast):
    """Imitation of the best, with an odds ratio.

    `NLL(best) - beta log sigma(log odds(best) - log odds(other))`, with `p = exp(mean
    log-probability per step)` and `odds = p / (1 - p)`; imitation is averaged over steps. A score
    of 0 or more, which is no log-probability of a discrete choice, counts as one just below. Soft
    labels mix the second part.

    Attributes:
        beta: Weight of the odds ratio; the paper's lambda.

    Raises:
        ValueError: If beta is not positive.

    Source:
        Hong et al., 2024, arXiv:2403.07691; TRL's `ORPOTrainer`.
    """

    beta: float = 0.1
    uses_reference = False

    def __post_init__(self) -> None:
        require_positive(beta=self.beta)

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`."""
        mean = pairs_only(own_scores(scored, "ORPO")).score / scored.steps
        mean = mean.clamp(max=-_LEAST)
        log_odds = mean - _log_complement(mean)
        ratio = bradley_terry_loss(log_odds[:, 0] - log_odds[:, 1], scored.win_share)
        return self.beta * ratio - mean[:, 0]


@final
@dataclass(frozen=True)
class KTO(Contrast):
    """Kahneman-Tversky optimisation: each response against the divergence, no pairs needed.

    The first is desirable, `1 - sigma(beta (a - KL))`; the others that are present are undesirable,
    `1 - sigma(beta (KL - a))`; the loss is the mean over responses. The divergence is
    `Scored.mismatched`, the batch's mean log-ratio of responses in contexts that are not theirs, no
    less than 0 and without a gradient. Takes lists; a label's strength is not read: use weights.

    Attributes:
        beta: How strongly the policy is held to the reference.
        desirable_weight: Of the first.
        undesirable_weight: Of the others.

    Raises:
        ValueError: If beta is not positive.

    Source:
        Ethayarajh et al., 2024, arXiv:2402.01306; TRL's `KTOTrainer`, loss `kto`.
    """

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    uses_mismatched = True

    def __post_init__(self) -> None:
        require_positive(beta=self.beta)

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`.

        Raises:
            ValueError: If the mismatched log-ratio is missing.
        """
        ratio = own_scores(scored, "KTO").ratio()
        if scored.mismatched is None:
            raise ValueError("KTO needs the log-ratio of mismatched responses: score them first.")
        divergence = scored.mismatched.detach().clamp(min=0)
        above = self.beta * (ratio - divergence)
        best = self.desirable_weight * (-above[:, :1]).sigmoid()
        others = self.undesirable_weight * above[:, 1:].sigmoid()
        losses = torch.cat([best, others], 1) * scored.present
        return losses.sum(1) / scored.present.sum(1)


def _log_complement(log_prob: Float[Tensor, "*row"]) -> Float[Tensor, "*row"]:
    """`log(1 - exp(x))` for x below 0, without losing digits at either end."""
    half = -0.6931471805599453
    small = torch.log1p(-torch.exp(log_prob.clamp(max=half)))
    large = torch.log(-torch.expm1(log_prob.clamp(min=half)))
    return torch.where(log_prob < half, small, large)
