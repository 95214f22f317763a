"""Contrasts of a margin: direct preference optimisation and its relatives, as TRL names them.

With `a` the log-ratio of policy and reference, `s = beta * a` and `m` the margin `s(best) -
s(other)`. A soft label (a comparison's `strength` below 1) mixes each formula with its mirror
image: `p * loss(m) + (1 - p) * loss(-m)`; `label_smoothing` does the same to all pairs alike.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from personalize.preference_optimization.compared import Scored
from personalize.preference_optimization.contrast import Contrast
from personalize.preference_optimization.pair_scores import (
    own_scores,
    pair_margin,
    pairs_only,
    require_positive,
    require_share,
)
from personalize.rewards.bradley_terry import bradley_terry_loss


@dataclass(frozen=True)
class MarginContrast(Contrast):
    """A loss of the margin alone: takes ready logits, margins and weights inside the loss.

    Attributes:
        beta: How strongly the policy is held to the reference.
        power: Of the reference: at 1 the plain log-ratio, at 0 no reference (DPO^gamma).
        label_smoothing: Share of wrong labels, on top of each pair's own `strength`.
        per_step: Average log-ratios over steps instead of summing them (TRL's `sigmoid_norm`).

    Raises:
        ValueError: If beta is not positive or label_smoothing lies outside [0, 0.5).
    """

    beta: float = 0.1
    power: float = 1.0
    label_smoothing: float = 0.0
    per_step: bool = False

    def __post_init__(self) -> None:
        require_positive(beta=self.beta)
        require_share(below=0.5, label_smoothing=self.label_smoothing)

    @abstractmethod
    def of_margin(
        self, margin: Float[Tensor, " comparison"], share: Float[Tensor, " comparison"]
    ) -> Float[Tensor, " comparison"]:
        """The loss of margins, given the share with which the best should win, not smoothed yet."""

    def smoothed(self, share: Float[Tensor, " comparison"]) -> Float[Tensor, " comparison"]:
        """A win share of which so many labels are wrong."""
        return share + self.label_smoothing * (1 - 2 * share)

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`."""
        margin = pair_margin(scored, self.beta, power=self.power, per_step=self.per_step)
        return self.of_margin(margin, scored.win_share)


@final
@dataclass(frozen=True)
class DPO(MarginContrast):
    """Direct preference optimisation: `-log sigma(m)`, TRL's `sigmoid`.

    Also the loss of a Bradley-Terry reward model (`beta` 1, no reference), with the margin and soft
    labels of Secrets of RLHF II, the smoothing per pair of RosePO (`strength = 1 - 2 epsilon`) and,
    by `logit_weight`, SmPO. Under a soft label p its best margin is `logit(p)`.

    Source:
        Rafailov et al., 2023, arXiv:2305.18290; `power` in the manner of Chen et al., 2024,
        arXiv:2405.19534; `per_step` as in TRL.

    Example:
        >>> import torch
        >>> DPO()(Scored.of(torch.tensor([[1.0, 1.0]])))
        tensor([0.6931])
    """

    def of_margin(
        self, margin: Float[Tensor, " comparison"], share: Float[Tensor, " comparison"]
    ) -> Float[Tensor, " comparison"]:
        """See `MarginContrast`."""
        return bradley_terry_loss(margin, self.smoothed(share))


@final
@dataclass(frozen=True)
class Robust(MarginContrast):
    """DPO's loss, freed of the bias that a known share of wrong labels gives it.

    `[(1 - e) loss(m) - e loss(-m)] / (1 - 2 e)`: its mean over labels of which a share e is wrong
    is the mean of DPO's loss over right ones. It may be negative and has no lower bound.

    Source:
        Chowdhury et al., 2024, arXiv:2403.00409; TRL's `robust`.
    """

    def of_margin(
        self, margin: Float[Tensor, " comparison"], share: Float[Tensor, " comparison"]
    ) -> Float[Tensor, " comparison"]:
        """See `MarginContrast`."""
        wrong = self.label_smoothing
        return bradley_terry_loss(margin, (share - wrong) / (1 - 2 * wrong))


@final
@dataclass(frozen=True)
class Hinge(MarginContrast):
    """`max(0, 1 - m)`: nothing more is asked of a pair that leads by 1.

    Source:
        Zhao et al., 2023, arXiv:2305.10425; TRL's `hinge`.
    """

    def of_margin(
        self, margin: Float[Tensor, " comparison"], share: Float[Tensor, " comparison"]
    ) -> Float[Tensor, " comparison"]:
        """See `MarginContrast`."""
        share = self.smoothed(share)
        return share * functional.relu(1 - margin) + (1 - share) * functional.relu(1 + margin)


@final
@dataclass(frozen=True)
class IPO(MarginContrast):
    """`(a(best) - a(other) - 1 / (2 beta))^2`: the margin has a target and does not run away.

    Log-ratios are averaged over their steps first, as TRL does on the word of the paper's authors;
    without `per_step` they are summed, as the paper prints it.

    Source:
        Azar et al., 2023, arXiv:2310.12036, equation 17; TRL's `ipo`.
    """

    per_step: bool = True

    def of_margin(
        self, margin: Float[Tensor, " comparison"], share: Float[Tensor, " comparison"]
    ) -> Float[Tensor, " comparison"]:
        """See `MarginContrast`."""
        share, least = self.smoothed(share), 0.5
        mixed = share * (margin - least).square() + (1 - share) * (margin + least).square()
        return mixed / self.beta**2


@final
@dataclass(frozen=True)
class EXO(MarginContrast):
    """Reverse KL divergence of the two scores' softmax from the label `(1 - e, e)`.

    Raises:
        ValueError: As for `MarginContrast`, or if label_smoothing is 0: a certain label is
            infinitely far from every score.

    Source:
        Ji et al., 2024, arXiv:2402.00856, equation 16; TRL's `exo_pair`.
    """

    label_smoothing: float = 1e-3  # ours: TRL's default is 0, where the loss is infinite

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(label_smoothing=self.label_smoothing)

    def of_margin(
        self, margin: Float[Tensor, " comparison"], share: Float[Tensor, " comparison"]
    ) -> Float[Tensor, " comparison"]:
        """See `MarginContrast`."""
        share = self.smoothed(share)
        best = margin.sigmoid() * (functional.logsigmoid(margin) - share.log())
        other = (-margin).sigmoid() * (functional.logsigmoid(-margin) - (-share).log1p())
        return best + other


@final
@dataclass(frozen=True)
class DiscoPOP(MarginContrast):
    """Logistic and exponential loss, mixed by the margin itself.

    `(1 - q) (-log sigma(m)) + q exp(-m)` with `q = sigma(m / tau)`. The product `q exp(-m)` is
    taken in logarithms: factor by factor it is 0 times infinity for a pair far on the wrong side.

    It breaks a law of the slot: its slope at margin 0 is `(1 - log 2) / (4 tau) - 3/4`, above 0 for
    a tau below 0.102, so from the reference the best is pushed down at first.

    Attributes:
        tau: How sharply the mixture turns at margin 0.

    Raises:
        ValueError: As for `MarginContrast`, or if tau lies outside (0, 1).

    Source:
        Lu et al., 2024, arXiv:2406.08414, equation 5; TRL's `discopop`.
    """

    tau: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(tau=self.tau)
        require_share(below=1.0, tau=self.tau)

    def of_margin(
        self, margin: Float[Tensor, " comparison"], share: Float[Tensor, " comparison"]
    ) -> Float[Tensor, " comparison"]:
        """See `MarginContrast`."""
        share = self.smoothed(share)
        return share * self._certain(margin) + (1 - share) * self._certain(-margin)

    def _certain(self, margin: Float[Tensor, " comparison"]) -> Float[Tensor, " comparison"]:
        logistic = (-margin / self.tau).sigmoid() * functional.softplus(-margin)
        return logistic + (functional.logsigmoid(margin / self.tau) - margin).exp()


@final
@dataclass(frozen=True)
class CPL(Contrast):
    """Contrastive preference learning: `-log sigma(s(best) - conservatism * s(other))`.

    Scores are summed over a segment, of which a response is one; with `uses_reference` the
    reference's are subtracted, as in the paper's KL variant, and at conservatism 1 this is DPO.
    Below 1 the likelihood of what was compared counts too, at the price of a biased policy. A ready
    logit stands for the whole difference.

    Attributes:
        beta: The paper's alpha.
        conservatism: The paper's lambda.
        uses_reference: Whether the reference's scores are subtracted.

    Raises:
        ValueError: If beta is not positive.

    Source:
        Hejna et al., 2024, arXiv:2310.13639, and its released `cpl` and `cpl_kl`.
    """

    beta: float = 0.1
    conservatism: float = 0.5
    uses_reference: bool = False

    def __post_init__(self) -> None:
        require_positive(beta=self.beta)

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`."""
        if scored.logit is not None:
            return bradley_terry_loss(pair_margin(scored, self.beta), scored.win_share)
        score = self.beta * pairs_only(scored).ratio(float(self.uses_reference))
        if scored.logit_weight is not None:
            score = scored.logit_weight[:, None] * score
        best, other = score.unbind(1)
        forward = best - self.conservatism * other - scored.margin
        backward = other - self.conservatism * best + scored.margin
        share = scored.win_share
        return share * functional.softplus(-forward) + (1 - share) * functional.softplus(-backward)


@final
@dataclass(frozen=True)
class SePPO(Contrast):
    """DPO whose second response, drawn from an older checkpoint, may turn out a winner.

    `-log sigma(s(best) - sign(a(best)) * s(other))`: where the policy is better than the reference
    on the anchor, which is the first, the other is pushed down, else it is pulled up as well. The
    sign is taken of what the policy is now, without a gradient. With the sign fixed at +1 it is DPO
    against one's own samples.

    Raises:
        ValueError: If beta is not positive.

    Source:
        In the manner of Zhang et al., 2024, SePPO, arXiv:2410.05255: its loss was not released.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        require_positive(beta=self.beta)

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`."""
        score = self.beta * pairs_only(own_scores(scored, "SePPO")).ratio()
        sign = score[:, 0].detach().sign()
        margin = score[:, 0] - sign * score[:, 1] - scored.margin
        return bradley_terry_loss(margin, scored.win_share)
