"""Contrasts of lists: one best among several others, or a whole ranking.

Each response's own score is needed, so no ready logit will do. A label's strength is not read, but
by the formula inside `OverPairs`; absent responses take no part.
"""

from dataclasses import dataclass, field, replace
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from personalize.preference_optimization.compared import Scored
from personalize.preference_optimization.contrast import Contrast
from personalize.preference_optimization.pair_scores import own_scores, require_positive


@final
@dataclass(frozen=True)
class SDPO(Contrast):
    """Softmax-DPO: `-log sigma(-log sum_j exp(s_j - s(best) + margin))` over all others.

    This is the cross-entropy of a softmax over the list whose target is the best, and is taken as
    one: summing exponentials first overflows. The gradient on another j is `exp(s_j - s(best)) /
    (1 + sum_k exp(s_k - s(best)))`, so hard ones count most. With one other it is DPO.

    Raises:
        ValueError: If beta is not positive.

    Source:
        Chen et al., 2024, arXiv:2406.09215.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        require_positive(beta=self.beta)

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`."""
        score = self.beta * own_scores(scored, "SDPO").ratio()
        lead = (score - score[:, :1] + scored.margin[:, None])[:, 1:]
        return functional.softplus(
            lead.masked_fill(~scored.present[:, 1:], -torch.inf).logsumexp(1)
        )


@final
@dataclass(frozen=True)
class DMPO(Contrast):
    """The best against the mean of all others: `-log sigma(s(best) - mean_j s_j - margin)`.

    Raises:
        ValueError: If beta is not positive.

    Source:
        In the manner of Bai et al., 2024, DMPO, arXiv:2405.16127. The released trainer passes the
        reference's score of the best twice; here each other has its own.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        require_positive(beta=self.beta)

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`."""
        score = self.beta * own_scores(scored, "DMPO").ratio()
        others = scored.present[:, 1:]
        mean = (score[:, 1:] * others).sum(1) / others.sum(1)
        return functional.softplus(scored.margin + mean - score[:, 0])


@final
@dataclass(frozen=True)
class OverPairs(Contrast):
    """A contrast of pairs over a list: the best against each other, summed or averaged.

    The control of every loss of lists: summed it has about the step size of `SDPO`, averaged that
    of `DPO`. Formulas of a whole batch see absent pairs too and do not belong in here.

    Attributes:
        contrast: Of each pair.
        mean: Average over the others instead of summing.
        uses_reference: As the contrast of each pair.
        uses_mismatched: As the contrast of each pair.
    """

    contrast: Contrast
    mean: bool = False
    uses_reference: bool = field(init=False)
    uses_mismatched: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "uses_reference", self.contrast.uses_reference)
        object.__setattr__(self, "uses_mismatched", self.contrast.uses_mismatched)

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`."""
        rows, count = scored.score.shape[0], scored.score.shape[1] - 1
        wide = ("score", "reference", "steps", "present", "grade")
        pairs = {
            name: torch.stack([value[:, :1].expand(-1, count), value[:, 1:]], -1).flatten(0, 1)
            for name, value in ((name, getattr(scored, name)) for name in wide)
        }
        narrow = {
            name: value.repeat_interleave(count)
            for name, value in vars(scored).items()
            if name in ("strength", "margin", "weight", "logit_weight") and value is not None
        }
        losses = self.contrast(replace(scored, **pairs, **narrow)).unflatten(0, (rows, count))
        others = scored.present[:, 1:]
        total = losses.where(others, torch.zeros_like(losses)).sum(1)
        return total / others.sum(1) if self.mean else total


@final
@dataclass(frozen=True)
class PreferenceRanking(Contrast):
    """Every response of a ranking against all below it, at temperatures that grades set.

    With `p` the mean log-probability per step and `r` the grade, response k adds
    `-log[exp(p_k T_k) / (exp(p_k T_k) + sum_{i below k} exp(p_i (r_k - r_i)))]`, `T_k` the largest
    of those differences; `imitation * (n - 1)^2 * NLL(best)`, summed over steps, comes on top.
    Grades rank, not columns; equal ones are not compared. Where all are equal the first has grade
    1 and the others 0, so a plain pair is a logistic loss of mean log-probabilities.

    Attributes:
        imitation: The paper's `sft_weight`.

    Source:
        Song et al., 2024, Preference Ranking Optimization, arXiv:2306.17492, and its released
        loss, in which equal grades still count as `exp(0)`.
    """

    imitation: float = 0.05
    uses_reference = False

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`."""
        mean = own_scores(scored, "PreferenceRanking").score / scored.steps
        grade, below = _ranking(scored)
        gap = (grade[:, :, None] - grade[:, None]).where(below, torch.zeros_like(mean)[:, None])
        own = mean * gap.amax(2)
        others = (mean[:, None] * gap).masked_fill(~below, -torch.inf)
        every = torch.cat([own[:, :, None], others], 2).logsumexp(2)
        others_there = scored.present[:, 1:].sum(1).to(mean)
        imitated = self.imitation * others_there.square() * scored.score[:, 0]
        return (every - own).sum(1) - imitated


@final
@dataclass(frozen=True)
class PlackettLuce(Contrast):
    """Likelihood of a ranking that is drawn from the top: softmax of each over all not above it.

    Each response is compared with those of lower grades; equal grades are not compared, and where
    all are equal the first is above the others. With two it is DPO.

    Raises:
        ValueError: If beta is not positive.

    Source:
        Plackett, 1975, doi:10.2307/2346567; with log-ratios as Rafailov et al., 2023,
        arXiv:2305.18290, appendix A.3.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        require_positive(beta=self.beta)

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`."""
        score = self.beta * own_scores(scored, "PlackettLuce").ratio()
        _, below = _ranking(scored)
        others = score[:, None].expand_as(below).masked_fill(~below, -torch.inf)
        every = torch.cat([score[:, :, None], others], 2).logsumexp(2)
        return (every - score).sum(1)


def _ranking(
    scored: Scored,
) -> tuple[Float[Tensor, "comparison response"], Bool[Tensor, "comparison response response"]]:
    """Grades, and which response (last) ranks below which; neither where one is absent."""
    present = scored.present
    low = scored.grade.masked_fill(~present, torch.inf).amin(1, keepdim=True)
    high = scored.grade.masked_fill(~present, -torch.inf).amax(1, keepdim=True)
    first = torch.zeros_like(scored.grade)
    first[:, 0] = 1.0
    grade = torch.where(low == high, first, scored.grade)
    both = present[:, :, None] & present[:, None]
    return grade, both & (grade[:, None] < grade[:, :, None])
