"""A learnt reward where rewards are asked for: while steering, and as a judge of tuning."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.generator import Context, Reward, X
from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.policy import ContextRows, Policy
from personalize.preference_optimization.tunable import Judged, Tunable, TunableSource
from personalize.preference_optimization.wrapped_tunable import WrappedTunable
from personalize.rewards.preference_model import PreferenceModel

PREFIX = "learned_"


@final
class LearnedReward(Reward[X, Context]):
    """The scores of a preference model, each with mean 0 and deviation 1 over its reference rows.

    Raises:
        ValueError: If the model only compares.
    """

    def __init__(
        self,
        model: PreferenceModel,
        features: Callable[
            [X, Context],
            tuple[
                Float[Tensor, "batch context_width"], Float[Tensor, "batch particle response_width"]
            ],
        ],
    ) -> None:
        """Take the model, and what turns particles into features of contexts and responses."""
        self.names = learned_names(model)
        self._model, self._features = model, features

    def __call__(self, x: X, context: Context) -> Float[Tensor, "batch particle dimension"]:
        """Rewards of every particle."""
        return self._model.reward(*self._features(x, context))


def learned_names(model: PreferenceModel) -> tuple[str, ...]:
    """Names of a model's scores as rewards.

    Raises:
        ValueError: If the model only compares.
    """
    if not model.names:
        raise ValueError(
            "A model that only compares has no rewards; take the row means of its win matrix."
        )
    return tuple(f"{PREFIX}{name}" for name in model.names)


@final
class LearnedTunable(WrappedTunable[ContextRows]):
    """A half that is judged by a reward model as well: its scores come first, `learned_*`.

    What the half itself knows of responses stays beside them, so that a tuning that exploits the
    model shows: the learnt reward rises and the known ones do not.
    """

    def __init__(self, half: Tunable[ContextRows], model: PreferenceModel, model_hash: str) -> None:
        """Take the half, the model and the content hash of the model's artifact.

        Raises:
            ValueError: If the model only compares.
        """
        super().__init__(half, {"reward_model": model_hash})
        self._model = model.eval().requires_grad_(requires_grad=False)
        self.reward_names = (*learned_names(model), *half.reward_names)

    def candidates(
        self, contexts: Int[Tensor, " row"], policy: Policy[ContextRows], *, seed: int
    ) -> Candidates:
        """See `Tunable`; with the learnt rewards."""
        found = self.half.candidates(contexts, policy, seed=seed)
        own = found.responses[found.response][:, None]
        learned = self._learned(found.context, own)[:, 0].to(found.reward)
        return replace(
            found,
            reward=torch.cat([learned, found.reward], -1),
            names=(*learned_names(self._model), *found.names),
        )

    def judge(self, contexts: Int[Tensor, " row"], responses: Tensor) -> Judged:
        """See `Tunable`."""
        known = self.half.judge(contexts, responses)
        learned = self._learned(contexts, responses).to(known.reward)
        return Judged(torch.cat([learned, known.reward], -1), known.gate)

    def features(
        self, contexts: Int[Tensor, " row"], responses: Tensor
    ) -> tuple[Float[Tensor, "row context_width"], Float[Tensor, "row particle response_width"]]:
        """See `Tunable`."""
        return self.half.features(contexts, responses)

    @torch.no_grad()
    def _learned(
        self, contexts: Int[Tensor, " row"], responses: Tensor
    ) -> Float[Tensor, "row particle dimension"]:
        context, response = self.half.features(contexts, responses)
        return self._model.to(response.device).reward(context.to(response.device), response)


@final
class LearnedSource(TunableSource):
    """A half with a reward model of `personalize reward` as a judge.

    Args:
        source: The half.
        reward_model: Folder of the artifact.
    """

    def __init__(self, *, source: TunableSource, reward_model: Path) -> None:
        self.source, self.reward_model = source, reward_model

    def open(self) -> LearnedTunable:
        """Read both.

        Raises:
            InputError: If one is not there, is damaged or does not fit, the model only compares, or
                the half has weights per context, which would not know of the learnt rewards.
        """
        from data_prep.errors import InputError
        from personalize.rewards.stored_reward_model import read_reward_model

        half = self.source.open()
        stored = read_reward_model(self.reward_model)
        some = torch.as_tensor(half.contexts("train")[:1])
        if half.judge(some, half.targets(some)).context_weights is not None:
            raise InputError(
                "the half has weights for its own rewards in each context and none for the learnt "
                "ones; put OrchestratedSource around LearnedSource instead."
            )
        context, response = half.features(some, half.targets(some))
        model = stored.for_widths(context.shape[-1], response.shape[-1])
        try:
            return LearnedTunable(half, model, stored.content_hash)
        except ValueError as error:
            raise InputError(f"{self.reward_model}: {error}") from error
