"""What was logged against a sample of an older checkpoint, which need not be the worse one."""

from dataclasses import dataclass
from typing import final

from personalize.preference_optimization.candidates import Candidates, PairBuilder
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.target_pairs import Drawn, TargetAgainstOthers


@final
@dataclass(frozen=True)
class CheckpointOpponents(PairBuilder):
    """What was logged against one sample of the policy that made the candidates.

    Give it candidates of an older checkpoint: it needs winners alone, and the checkpoint answers
    for the losers. A checkpoint's sample need not be the worse one. Whether it is, is decided while
    training and not here: a contrast with the sign of the anchor asks whether the policy has passed
    the checkpoint by, with the checkpoint as the reference.

    Source:
        In the manner of SePPO (Zhang et al., 2024, arXiv:2410.05255), which draws from up to seven
        checkpoints. With one checkpoint and a contrast without the sign, such as DPO, it is SPIN
        (Chen et al., 2024, arXiv:2401.01335).
    """

    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        """See `PairBuilder`."""
        found = TargetAgainstOthers(negatives=1, choice=Drawn())(candidates, seed=seed)
        return ComparedRows.of(
            found.rows, "checkpoint_opponents", grade=found.grade, annotator=found.annotator
        )
