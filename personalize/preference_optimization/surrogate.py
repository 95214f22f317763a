"""SLOT Surrogate: how log-probabilities and advantages become a loss of policy optimisation."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor


class Surrogate(ABC):
    """A formula whose gradient improves a policy; a variant is a frozen dataclass.

    Laws, held by `tests/personalize/preference_optimization/test_surrogate_slot.py` for every
    variant: no advantage, no gradient; where new and old are equal the gradient is REINFORCE's up
    to a factor; permuting contexts permutes losses; finite for finite inputs.
    """

    @abstractmethod
    def __call__(
        self,
        new: Float[Tensor, "batch particle step"],
        old: Float[Tensor, "batch particle step"],
        advantage: Float[Tensor, "batch particle"],
    ) -> Float[Tensor, "batch particle step"]:
        """The loss of every step; their sum over steps, averaged over particles, is minimised.

        Args:
            new: Log-probabilities under the policy that is trained.
            old: The same when the responses were drawn, without a gradient.
            advantage: Of every response within its context, without a gradient.
        """
