"""Contrasts of a pair that hold each response to a level of its own, and those of a whole batch.

In the terms of `contrasts`; each response's own score is needed, so no ready logit will do, and a
margin between the two has no meaning here and is not read. Soft labels mix as there.
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
    pairs_only,
    require_positive,
    require_share,
)
from personalize.rewards.bradley_terry import bradley_terry_loss


@dataclass(frozen=True)
class ScoreContrast(Contrast):
    """A loss of the implicit rewards `s` of two responses.

    Attributes:
        beta: How strongly the policy is held to the reference.

    Raises:
        ValueError: If beta is not positive.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        require_positive(beta=self.beta)

    @abstractmethod
    def of_scores(
        self, best: Float[Tensor, " comparison"], other: Float[Tensor, " comparison"]
    ) -> Float[Tensor, " comparison"]:
        """The loss of pairs that are labelled for certain."""

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`."""
        score = self.beta * pairs_only(own_scores(scored, type(self).__name__)).ratio()
        best, other, share = score[:, 0], score[:, 1], scored.win_share
        return share * self.of_scores(best, other) + (1 - share) * self.of_scores(other, best)


@final
@dataclass(frozen=True)
class NCA(ScoreContrast):
    """Noise contrastive alignment: the best goes up for sure, the other down by half as much.

    `-log sigma(s(best)) - log sigma(-s(best)) / 2 - log sigma(-s(other)) / 2`.

    Source:
        Chen et al., 2024, arXiv:2402.05369; TRL's `nca_pair`.
    """

    def of_scores(
        self, best: Float[Tensor, " comparison"], other: Float[Tensor, " comparison"]
    ) -> Float[Tensor, " comparison"]:
        """See `ScoreContrast`."""
        pushed = functional.softplus(best) + functional.softplus(other)
        return functional.softplus(-best) + pushed / 2


@final
@dataclass(frozen=True)
class BCO(ScoreContrast):
    """Binary classification: `-log sigma(s(best)) - log sigma(-s(other))`.

    Without the running shift of the scores that TRL's trainer for single answers adds.

    Source:
        Jung et al., 2024, arXiv:2404.04656; TRL's `bco_pair`.
    """

    def of_scores(
        self, best: Float[Tensor, " comparison"], other: Float[Tensor, " comparison"]
    ) -> Float[Tensor, " comparison"]:
        """See `ScoreContrast`."""
        return functional.softplus(-best) + functional.softplus(other)


@final
@dataclass(frozen=True)
class SPPO(ScoreContrast):
    """Self-play with hard labels: `(a(best) - 1 / (2 beta))^2 + (a(other) + 1 / (2 beta))^2`.

    Source:
        Wu et al., 2024, arXiv:2405.00675; TRL's `sppo_hard`.
    """

    def of_scores(
        self, best: Float[Tensor, " comparison"], other: Float[Tensor, " comparison"]
    ) -> Float[Tensor, " comparison"]:
        """See `ScoreContrast`."""
        return ((best - 0.5).square() + (other + 0.5).square()) / self.beta**2


@final
@dataclass(frozen=True)
class AnchoredZero(ScoreContrast):
    """Best up, other down, each against the reference: `1 - sigma(s(best)) + sigma(s(other))`.

    For comparisons whose best is better than what the policy says by itself.

    Source:
        D'Oosterlinck et al., 2024, Anchored preference optimization, arXiv:2408.06266, equation 7;
        TRL's `apo_zero`.
    """

    def of_scores(
        self, best: Float[Tensor, " comparison"], other: Float[Tensor, " comparison"]
    ) -> Float[Tensor, " comparison"]:
        """See `ScoreContrast`."""
        return (-best).sigmoid() + other.sigmoid()


@final
@dataclass(frozen=True)
class AnchoredDown(ScoreContrast):
    """Both down, the other more: `sigma(s(best)) + 1 - sigma(m)`.

    For comparisons whose best is worse than what the policy says by itself. At equal scores of 0
    the best's two pulls cancel and only the other moves.

    Source:
        As for `AnchoredZero`, equation 8; TRL's `apo_down`.
    """

    def of_scores(
        self, best: Float[Tensor, " comparison"], other: Float[Tensor, " comparison"]
    ) -> Float[Tensor, " comparison"]:
        """See `ScoreContrast`."""
        return best.sigmoid() + (other - best).sigmoid()


@final
@dataclass(frozen=True)
class AlignmentByTransport(Contrast):
    """DPO on sorted margins: the policy's as a whole batch should exceed the reference's.

    The k-th largest of the batch is compared with the k-th largest: paired, log-probability margins
    of the policy with those of the reference; unpaired, log-ratios of the best with those of the
    others. The loss of a rank belongs to the comparison whose margin, or best, has it. A batch of
    one is DPO. Weights and label strengths do not take part in the sorting.

    Attributes:
        beta: How strongly the policy is held to the reference.
        label_smoothing: Share of wrong labels.
        paired: Whether best and other of a comparison belong together.

    Raises:
        ValueError: If beta is not positive or label_smoothing lies outside [0, 0.5).

    Source:
        Melnyk et al., 2024, arXiv:2406.05882; TRL's `aot` and `aot_unpaired`.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    paired: bool = True

    def __post_init__(self) -> None:
        require_positive(beta=self.beta)
        require_share(below=0.5, label_smoothing=self.label_smoothing)

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`."""
        scored = pairs_only(own_scores(scored, "AlignmentByTransport"))
        if self.paired:
            upper = scored.score[:, 0] - scored.score[:, 1]
            lower = scored.reference[:, 0] - scored.reference[:, 1]
        else:
            upper, lower = scored.ratio().unbind(1)
        rank = upper.argsort(stable=True).argsort(stable=True)
        margin = self.beta * (upper - lower.sort().values[rank])
        share = scored.win_share
        return bradley_terry_loss(margin, share + self.label_smoothing * (1 - 2 * share))
