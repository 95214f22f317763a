"""What was logged against a sample of an older checkpoint, which need not be the worse one."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from personalize.preference_optimization.candidates import Candidates, PairBuilder
from personalize.preference_optimization.compared import Scored
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.contrast import Contrast
from personalize.preference_optimization.target_pairs import Drawn, TargetAgainstOthers


@final
@dataclass(frozen=True)
class CheckpointOpponents(PairBuilder):
    """What was logged against one sample of the policy that made the candidates.

    Give it candidates of an older checkpoint: it needs winners alone, and the checkpoint answers
    for the losers.

    Source:
        In the manner of SePPO (Zhang et al., 2024, arXiv:2410.05255), which draws from up to seven
        checkpoints; without the sign of `SignedByAnchor` it is SPIN (Chen et al., 2024,
        arXiv:2401.01335).
    """

    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        """See `PairBuilder`."""
        found = TargetAgainstOthers(negatives=1, choice=Drawn())(candidates, seed=seed)
        return ComparedRows.of(
            found.rows, "checkpoint_opponents", grade=found.grade, annotator=found.annotator
        )


@final
@dataclass(frozen=True)
class SignedByAnchor(Contrast):
    """DPO whose opponent is pushed down only where the policy has passed it by.

    `-log sigma(beta (a_w - s a_l))` with log-ratios `a` to the checkpoint that drew the opponent,
    averaged over opponents. The winner is the anchor: `s` is the sign of `a_w`, without a gradient.
    Where the policy holds the anchor for likelier than the checkpoint did, the opponent loses;
    where it does not, the checkpoint was the better one and its sample is raised as well. This is
    no swap of winner and loser: the anchor is always raised. At 0, where training begins, it is +1.

    Attributes:
        beta: How far the policy may go from the checkpoint.
        indicator: Leave an opponent that is not the worse one out instead of raising it.

    Source:
        In the manner of SePPO (Zhang et al., 2024, arXiv:2410.05255); the loss was not seen in
        code. The sign and the indicator are reported to perform the same.
    """

    beta: float = 0.1
    indicator: bool = False

    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """See `Contrast`.

        Raises:
            ValueError: If there are no scores but a logit.
        """
        if scored.logit is not None:
            raise ValueError("SignedByAnchor needs a score of each response, not one logit.")
        ratio = self.beta * scored.ratio()
        anchor = ratio[:, :1]
        other = 0.0 if self.indicator else -1.0
        sign = torch.where(anchor.detach() >= 0, 1.0, other)
        there = scored.present[:, 1:]
        margin = torch.where(there, anchor - sign * ratio[:, 1:], 0.0)
        share = scored.win_share[:, None]
        loss = -share * functional.logsigmoid(margin) - (1 - share) * functional.logsigmoid(-margin)
        return torch.where(there, loss, 0.0).sum(-1) / there.sum(-1).clamp_min(1)
