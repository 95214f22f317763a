"""A contrast for tests: Bradley and Terry's loss of a difference or a ready logit."""

from dataclasses import dataclass

from personalize.preference_optimization.compared import Scored
from personalize.preference_optimization.contrast import Contrast
from personalize.rewards.bradley_terry import bradley_terry_loss


@dataclass(frozen=True)
class Logistic(Contrast):
    """`-log sigma` of the margin, of lists against each of the others."""

    uses_reference = False

    def __call__(self, scored: Scored):
        if scored.logit is not None:
            return bradley_terry_loss(scored.logit - scored.margin, scored.win_share)
        margin = scored.score[:, :1] - scored.score[:, 1:] - scored.margin[:, None]
        each = bradley_terry_loss(margin, scored.win_share[:, None].expand_as(margin))
        there = scored.present[:, 1:]
        return (each * there).sum(-1) / there.sum(-1)
