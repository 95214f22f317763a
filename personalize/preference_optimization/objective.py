"""SLOT Objective: what one step of tuning minimises."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn

from personalize.preference_optimization.compared import ComparisonBatch
from personalize.preference_optimization.policy import Drawn, Policy


@dataclass(frozen=True)
class Rollouts:
    """What a policy answered to a batch of contexts, judged.

    Attributes:
        drawn: Responses and their log-probabilities when they were drawn.
        reward: Named qualities of every response.
        gate: Whether it passes every safety gate.
        reference_reward: Qualities of the reference's likeliest response, for shaping; of none
            (`drawn` is 0) where they are not asked for.
        names: Names of the qualities.
        context_weights: How much each quality matters in each context, where an adapter says so.
    """

    drawn: Drawn
    reward: Float[Tensor, "batch particle dimension"]
    gate: Bool[Tensor, "batch particle"]
    reference_reward: Float[Tensor, "batch drawn dimension"]
    names: tuple[str, ...]
    context_weights: Float[Tensor, "batch dimension"] | None = None


class Objective(nn.Module, ABC):
    """What is minimised; it may have weights of its own, which are trained along.

    Attributes:
        uses_reference: Whether a frozen reference is needed.
        group_size: Responses to draw per context before each step; 0 for objectives that read
            comparisons, -1 for those that read logged targets alone.
        beam: Draw the likeliest responses instead of a sample.
        asks_reference: Whether the reference is asked in every step, for more than the scores of
            the comparisons, which can be made before.
        judges_reference: Whether `Rollouts.reference_reward` is read.
        updates: Steps on the same rollouts.
    """

    uses_reference: bool = True
    group_size: int = 0
    beam: bool = False
    asks_reference: bool = False
    judges_reference: bool = False
    updates: int = 1

    @abstractmethod
    def forward(
        self,
        policy: Policy,
        reference: Policy | None,
        batch: ComparisonBatch,
        rollouts: Rollouts | None = None,
    ) -> Mapping[str, Float[Tensor, ""]]:
        """What to minimise as `loss`, and its parts by name.

        Args:
            policy: What is trained.
            reference: Frozen; None where it is not used.
            batch: Comparisons. An objective that draws reads only its contexts and its targets,
                which are column 0.
            rollouts: What was drawn, for an objective that draws.
        """
