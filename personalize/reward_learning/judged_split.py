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
from personalize.preference_optimization.tunable import TEST, TRAINING, VALIDATION, Tunable
from personalize.rewards.feature_comparisons import FeatureTable, in_pairs

CONTEXTS_AT_ONCE, ROWS_AT_ONCE = 256, 4096
LEAST_SCALE = 1e-6
BY_CHANCE = 0.15
"""Share of the contexts that checks, and that is reported, where the half's splits hold nothing."""


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

    def response_scale(self) -> Float[Tensor, " response_width"]:
        """Deviation of every feature of a response among those compared that belong together.

        Returns:
            1 where a feature does not vary.
        """
        rows = self.comparisons.rows[self.comparisons.present].unique()
        values = self.table.response[rows].double()
        known, group = self.origin[rows].unique(return_inverse=True)
        counts = group.bincount()[:, None]
        mean = values.new_zeros(len(known), values.shape[1]).index_add(0, group, values) / counts
        squares = (values - mean[group]).square().sum(0)
        found = (squares / max(len(rows) - len(known), 1)).sqrt()
        return torch.where(found > LEAST_SCALE, found, 1.0).float()

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


def stored_splits(
    half: Tunable, stored: StoredComparisons, *, seed: int
) -> tuple[list[JudgedSplit], dict[str, str]]:
    """Comparisons that were written before, in the half's own splits, as tuning takes them.

    A comparison goes with the context it belongs with; one that is of no split is learnt from. A
    table may hold no comparison of the validation or of the test split. Those then are a part of
    what would be learnt from, by chance and by whole contexts: nothing of a split that is held out
    is ever learnt from. Qualities are not known.

    Args:
        half: Whose features are read, and whose splits count.
        stored: The comparisons.
        seed: Of what is parted by chance.

    Returns:
        What is learnt from, what checks and what is reported; and by name of the split whether it
        is the half's or was parted by chance.

    Raises:
        InputError: If nothing is left to learn from, or too few contexts to part.
    """
    origin = stored.origin
    parts = {
        split: torch.isin(origin, torch.as_tensor(half.contexts(split)).to(origin))
        for split in (VALIDATION, TEST)
    }
    learnt = ~parts[VALIDATION] & ~parts[TEST]
    if not learnt.any():
        raise InputError("no comparison belongs with a context that may be learnt from.")
    known, number = torch.unique(origin[learnt], return_inverse=True)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(known), generator=generator)
    made: dict[str, str] = dict.fromkeys((TRAINING, VALIDATION, TEST), "the half's")
    last = len(known)
    for split in (VALIDATION, TEST):
        if not parts[split].any():
            first = last - round(BY_CHANCE * len(known))
            if not 0 < first < last:
                raise InputError(f"{len(known)} contexts are too few to part comparisons of.")
            taken = (order >= first) & (order < last)
            parts[split][learnt], made[split], last = taken[number], "by chance", first
    parts[TRAINING] = ~parts[VALIDATION] & ~parts[TEST]
    table = row_features(half, stored.context, stored.responses[stored.response])
    splits = [
        JudgedSplit(table, stored.compared.some(parts[split]), stored.context) for split in made
    ]
    return splits, made


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
