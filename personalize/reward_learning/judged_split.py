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
from personalize.preference_optimization.stored_comparisons import StoredComparisons
from personalize.preference_optimization.tunable import Tunable
from personalize.rewards.feature_comparisons import FeatureTable, in_pairs

CONTEXTS_AT_ONCE, ROWS_AT_ONCE = 256, 4096
PARTS = (0.7, 0.85)
"""Where the contexts of stored comparisons are cut: to learn from, to check, to report."""


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


def stored_splits(half: Tunable, stored: StoredComparisons, *, seed: int) -> list[JudgedSplit]:
    """Comparisons that were written before, with their contexts parted by chance.

    A comparison goes with the context of its best: seven tenths of the contexts are learnt from,
    half of the others check, and half are reported. A context under a swapped wish counts as one of
    its own. Qualities are not known.

    Args:
        half: Whose features are read.
        stored: The comparisons.
        seed: Of the parts.

    Raises:
        InputError: If there are too few contexts for three parts.
    """
    table = row_features(half, stored.context, stored.responses[stored.response])
    known, number = torch.unique(stored.origin, return_inverse=True)
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))
    ends = [round(share * len(known)) for share in (*PARTS, 1.0)]
    if len({0, *ends}) < len(ends) + 1:
        raise InputError(f"{len(known)} contexts are too few to part comparisons in three.")
    part = torch.bucketize(order, torch.tensor(ends), right=True)[number]
    return [
        JudgedSplit(table, stored.compared.some(part == place), stored.context)
        for place in range(len(ends))
    ]


def candidate_features(half: Tunable, candidates: Candidates) -> FeatureTable:
    """Features and known qualities of every candidate."""
    found = row_features(half, candidates.context, candidates.responses[candidates.response])
    return replace(found, quality=candidates.reward.float(), names=candidates.names)


def row_features(half: Tunable, context: Int[Tensor, " row"], responses: Tensor) -> FeatureTable:
    """Features of rows of a context and a response each."""
    with torch.no_grad():
        parts = [
            half.features(context[rows], responses[rows][:, None])
            for rows in torch.arange(len(context)).split(ROWS_AT_ONCE)
        ]
    contexts, found = (torch.cat([part[number] for part in parts]) for number in (0, 1))
    return FeatureTable.of(contexts.float(), found[:, 0].float())
