"""A half whose responses are seen beside what else the context offers: what regret is read from."""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.policy import ContextRows, Policy, frozen_copy
from personalize.preference_optimization.tunable import Judged, Tunable, TunableSource
from personalize.preference_optimization.wrapped_tunable import WrappedTunable
from personalize.rewards.regret import regret_features

CONTEXTS_AT_ONCE = 256


@final
class RegretFeaturesTunable(WrappedTunable[ContextRows]):
    """A response's features, those of some candidates of its context, and zeros.

    Nothing follows a response, so what could have been gained is the best of the candidates, as in
    `candidate_regret`. They are the likeliest answers of the policy as it was when it was opened,
    found once per context. The response itself is not among them unless it is one, so a response
    that is better than all has a regret below 0; otherwise the maximum would not be that of the
    context alone.
    """

    def __init__(self, half: Tunable[ContextRows], candidates: int) -> None:
        """Take the half.

        Args:
            half: Whose features are read.
            candidates: How many of a context.

        Raises:
            ValueError: If there is no candidate.
        """
        if candidates < 1:
            raise ValueError(f"candidates must be 1 or more, got {candidates}.")
        super().__init__(half)
        self.response_names, self.response_parts = (), 1 + 2 * candidates
        self._count, self._frozen = candidates, frozen_copy(half.policy)
        self._known: dict[int, Tensor] = {}

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
    ) -> tuple[Float[Tensor, "row context_width"], Float[Tensor, "row particle response_width"]]:
        """See `Tunable` and `regret_features`."""
        context, collected = self.half.features(contexts, responses)
        asked, place = contexts.cpu().unique(return_inverse=True)
        _, offered = self.half.features(asked, self.offered(asked).to(responses.device))
        start = offered[place.to(offered.device), None].expand(-1, responses.shape[1], -1, -1)
        return context, regret_features(collected, start, torch.zeros_like(start))

    def offered(self, contexts: Int[Tensor, " row"]) -> Tensor:
        """Candidates of contexts, `[row, candidate, ...]`, on the CPU."""
        missing = [number for number in contexts.tolist() if number not in self._known]
        for part in torch.tensor(missing, dtype=torch.long).split(CONTEXTS_AT_ONCE):
            if len(part):
                batch = self.half.batch(part)
                found = self._frozen.sample(batch, self._count, seed=0, beam=True).responses
                self._known.update(zip(part.tolist(), found.cpu(), strict=True))
        return torch.stack([self._known[number] for number in contexts.tolist()])


@final
class RegretFeaturesSource(TunableSource):
    """A half whose responses a reward model sees beside what else their context offers.

    There are `1 + 2 * candidates` times as many numbers for every response. Around
    `JudgedFeaturesSource` they are few, and the reward is linear in the half's own rewards.

    Args:
        source: The half.
        candidates: Likeliest answers of a context that its best is taken of.
    """

    def __init__(self, *, source: TunableSource, candidates: int = 5) -> None:
        self.source, self.candidates = source, candidates

    def open(self) -> RegretFeaturesTunable:
        """Read the half.

        Raises:
            InputError: If an artifact is not there, is damaged or does not fit, or there are not so
                many candidates.
        """
        from data_prep.errors import InputError

        half = self.source.open()
        try:
            found = RegretFeaturesTunable(half, self.candidates)
            found.offered(torch.as_tensor(half.contexts("train")[:1]))
        except ValueError as error:
            raise InputError(f"candidates: {error}") from error
        return found
