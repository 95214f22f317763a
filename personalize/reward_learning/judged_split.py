"""The comparisons of one split of a half, as features."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.errors import InputError
from personalize.preference_optimization.candidates import (
    Candidates,
    PairBuilder,
    joined_candidates,
)
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.tunable import Tunable
from personalize.rewards.feature_comparisons import FeatureTable, in_pairs

CONTEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class JudgedSplit:
    """Comparisons with the rows they compare.

    Attributes:
        table: All candidates, compared or not.
        comparisons: Of its rows.
        origin: Number of the context that each row belongs with.
    """

    table: FeatureTable
    comparisons: ComparedRows
    origin: Int[Tensor, " row"]

    @property
    def comparison_origin(self) -> Int[np.ndarray, " comparison"]:
        """Number of the context that each comparison belongs with."""
        return self.origin[self.comparisons.rows[:, 0]].numpy()

    def paired(self) -> "JudgedSplit":
        """The same with lists as pairs."""
        return replace(self, comparisons=in_pairs(self.comparisons))

    def scaled(
        self, mean: Float[Tensor, " dimension"], scale: Float[Tensor, " dimension"]
    ) -> "JudgedSplit":
        """The same with qualities in deviations from a mean."""
        quality = (self.table.quality - mean) / scale
        return replace(self, table=replace(self.table, quality=quality))


def judged_split(
    half: Tunable, builder: PairBuilder, split: str, *, contexts: int, seed: int
) -> JudgedSplit:
    """Candidates in some contexts of a split, compared by a builder.

    Args:
        half: Makes the candidates with its own policy.
        builder: Compares them.
        split: Name of the split.
        contexts: How many contexts at most, drawn at random.
        seed: Of contexts, candidates and comparisons.

    Raises:
        InputError: If the split is empty, or nothing was compared.
    """
    known = half.contexts(split)
    chosen = np.sort(np.random.default_rng(seed).permutation(known)[:contexts])
    if not len(chosen):
        raise InputError(f"the split {split} has no context to compare anything in.")
    candidates = joined_candidates(
        [
            half.candidates(some, half.policy, seed=seed)
            for some in torch.as_tensor(chosen).split(CONTEXTS_AT_ONCE)
        ]
    )
    found = builder(candidates, seed=seed)
    if not len(found):
        raise InputError(
            f"{type(builder).__name__} made no comparison in {len(chosen)} contexts of the split "
            f"{split}; give more contexts or another builder."
        )
    return JudgedSplit(candidate_features(half, candidates), found, candidates.origin)


def candidate_features(half: Tunable, candidates: Candidates) -> FeatureTable:
    """Features and known qualities of every candidate."""
    responses = candidates.responses[candidates.response][:, None]
    with torch.no_grad():
        parts = [
            half.features(candidates.context[rows], responses[rows])
            for rows in torch.arange(len(responses)).split(4096)
        ]
    context, response = (torch.cat([part[number] for part in parts]) for number in (0, 1))
    return FeatureTable(
        context.float(), response[:, 0].float(), candidates.reward.float(), candidates.names
    )
