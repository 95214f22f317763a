"""A half whose responses are seen through its own rewards: what weights are learnt on."""

from typing import final

from jaxtyping import Float, Int
from torch import Tensor

from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.policy import ContextRows, Policy
from personalize.preference_optimization.tunable import Judged, Tunable, TunableSource
from personalize.preference_optimization.wrapped_tunable import WrappedTunable


@final
class JudgedFeaturesTunable(WrappedTunable[ContextRows]):
    """A reward model reads the half's features of a context, and its rewards of a response.

    Rewards are in the half's own units; what learns from them brings them to a scale.
    """

    def __init__(self, half: Tunable[ContextRows]) -> None:
        """Take the half."""
        super().__init__(half)
        self.response_names, self.response_parts = half.reward_names, 1

    def candidates(
        self, contexts: Int[Tensor, " row"], policy: Policy[ContextRows], *, seed: int
    ) -> Candidates:
        """See `Tunable`."""
        return self.half.candidates(contexts, policy, seed=seed)

    def judge(self, contexts: Int[Tensor, " row"], responses: Tensor) -> Judged:
        """See `Tunable`."""
        return self.half.judge(contexts, responses)

    def features(
        self, contexts: Int[Tensor, " row"], responses: Tensor
    ) -> tuple[Float[Tensor, "row context_width"], Float[Tensor, "row particle dimension"]]:
        """See `Tunable`."""
        context, _ = self.half.features(contexts, responses[:, :1])
        return context, self.half.judge(contexts, responses).reward


@final
class JudgedFeaturesSource(TunableSource):
    """A half whose responses a reward model sees through the half's own rewards.

    Args:
        source: The half.
    """

    def __init__(self, *, source: TunableSource) -> None:
        self.source = source

    def open(self) -> JudgedFeaturesTunable:
        """Read the half.

        Raises:
            InputError: If an artifact is not there, is damaged or does not fit.
        """
        return JudgedFeaturesTunable(self.source.open())
