"""A half whose rewards are weighed by context, with weights that were learnt from comparisons."""

from dataclasses import replace
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.policy import ContextRows, Policy
from personalize.preference_optimization.tunable import Judged, Tunable, TunableSource
from personalize.preference_optimization.wrapped_tunable import WrappedTunable
from personalize.rewards.preference_model import PreferenceModel
from personalize.rewards.weight_adapter_head import ORCHESTRATED, WeightAdapterHead


@final
class OrchestratedTunable(WrappedTunable[ContextRows]):
    """The half's rewards in units of their deviations, their weights per context, and their sum.

    The weighed sum comes first, `orchestrated`, for what knows no weights: builders of comparisons.
    Among the weights its own is 0. `WeightedSum` of the rewards with these weights is that sum;
    `Separate` weighs each reward in deviations of its group instead.
    """

    def __init__(self, half: Tunable[ContextRows], model: PreferenceModel, model_hash: str) -> None:
        """Take the half, the model and the content hash of the model's artifact.

        Raises:
            TypeError: If the model has no weights.
            ValueError: If it weighs other rewards than the half has.
        """
        super().__init__(half, {"reward_weights": model_hash})
        head = model.head
        if not isinstance(head, WeightAdapterHead):
            raise TypeError(
                f"{type(head).__name__} has no weights per context; learn a model with "
                "WeightAdapterHead."
            )
        if head.reward_names != half.reward_names or ORCHESTRATED in half.reward_names:
            raise ValueError(
                f"The model weighs {', '.join(head.reward_names)}, but the half's rewards are "
                f"{', '.join(half.reward_names)}; name the same judges in the same order."
            )
        self._head = head.eval().requires_grad_(requires_grad=False)
        self.reward_names = (ORCHESTRATED, *half.reward_names)

    def candidates(
        self, contexts: Int[Tensor, " row"], policy: Policy[ContextRows], *, seed: int
    ) -> Candidates:
        """See `Tunable`; with the weighed sum, in units of deviations."""
        found = self.half.candidates(contexts, policy, seed=seed)
        weights = self.weights(found.context, found.responses[found.response][:, None])
        reward = self._weighed(found.reward[:, None], weights.to(found.reward))[:, 0]
        return replace(found, reward=reward, names=self.reward_names)

    def judge(self, contexts: Int[Tensor, " row"], responses: Tensor) -> Judged:
        """See `Tunable`."""
        known = self.half.judge(contexts, responses)
        weights = self.weights(contexts, responses).to(known.reward)
        reward = self._weighed(known.reward, weights)
        return Judged(
            reward, known.gate, torch.cat([weights.new_zeros(len(weights), 1), weights], 1)
        )

    def features(
        self, contexts: Int[Tensor, " row"], responses: Tensor
    ) -> tuple[Float[Tensor, "row context_width"], Float[Tensor, "row particle response_width"]]:
        """See `Tunable`."""
        return self.half.features(contexts, responses)

    @torch.no_grad()
    def weights(
        self, contexts: Int[Tensor, " row"], responses: Tensor
    ) -> Float[Tensor, "row dimension"]:
        """How much each of the half's rewards matters in each context.

        Args:
            contexts: Numbers.
            responses: Any in those contexts; weights do not depend on them.
        """
        context, _ = self.half.features(contexts, responses[:, :1])
        context = context.to(responses.device)
        return self._head.to(responses.device).weights(context)

    def _weighed(
        self,
        reward: Float[Tensor, "row particle dimension"],
        weights: Float[Tensor, "row dimension"],
    ) -> Float[Tensor, "row particle all"]:
        scaled = reward / self._head.scale.to(reward)
        return torch.cat([(scaled * weights[:, None]).sum(-1, keepdim=True), scaled], -1)


@final
class OrchestratedSource(TunableSource):
    """A half whose rewards are weighed in each context by a model of `personalize reward`.

    Args:
        source: The half; with the same judges as the weights were learnt for.
        reward_model: Folder of the artifact, learnt with `WeightAdapterHead` on
            `JudgedFeaturesSource` around the same half.
    """

    def __init__(self, *, source: TunableSource, reward_model: Path) -> None:
        self.source, self.reward_model = source, reward_model

    def open(self) -> OrchestratedTunable:
        """Read both.

        Raises:
            InputError: If one is not there, is damaged or does not fit, or the model has no
                weights, or weighs other rewards.
        """
        from data_prep.errors import InputError
        from personalize.rewards.stored_reward_model import read_reward_model

        half = self.source.open()
        stored = read_reward_model(self.reward_model)
        some = torch.as_tensor(half.contexts("train")[:1])
        context, _ = half.features(some, half.targets(some))
        try:
            found = OrchestratedTunable(half, stored.model, stored.content_hash)
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.reward_model}: {error}") from error
        stored.for_widths(context.shape[-1], len(half.reward_names))
        return found
