"""SLOT Contrast: how scores of what is better and what is worse become a loss."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from personalize.preference_optimization.compared import Scored


class Contrast(ABC):
    """A formula from scores to a loss per comparison; lower is better.

    One family for every score: a policy's log-probabilities beside a reference, a reward model's
    output, minus a regret, a sum of advantages. A variant is a frozen dataclass whose fields are
    its parameters. It does not apply `weight` or look at what is absent: callers weigh, and absent
    responses take no part. What a soft label, a margin or a weight inside the loss means to it, if
    anything, is in its docstring.

    Laws, held by `tests/personalize/preference_optimization/test_contrast_slot.py` for every
    variant: at equal scores the gradient raises the best above the others (but for `DiscoPOP`);
    permuting comparisons permutes losses; what is absent changes nothing and has no gradient;
    finite for finite scores.

    Attributes:
        uses_reference: Whether the reference's scores enter; callers may save computing them.
        uses_mismatched: Whether `Scored.mismatched` is needed.
    """

    uses_reference: bool = True
    uses_mismatched: bool = False

    @abstractmethod
    def __call__(self, scored: Scored) -> Float[Tensor, " comparison"]:
        """The loss of every comparison."""
