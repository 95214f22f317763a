"""The comparisons of one split of a half, as features."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from data_prep.errors import InputError
from personalize.preference_optimization.candidates import Candidates, PairBuilder
from personalize.preference_optimization.compared_rows import ComparedRows, joined
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
        InputError: If nothing was compared.
    """
    known = half.contexts(split)
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(known)[:contexts])
    tables, compared, origins, before = [], [], [], 0
    for at in range(0, len(chosen), CONTEXTS_AT_ONCE):
        some = torch.as_tensor(chosen[at : at + CONTEXTS_AT_ONCE])
        candidates = half.candidates(some, half.policy, seed=seed + at)
        found = builder(candidates, seed=seed + at)
        tables.append(candidate_features(half, candidates))
        compared.append(replace(found, rows=found.rows + before))
        origins.append(candidates.origin)
        before += len(candidates.context)
    found = joined(compared) if compared else None
    if found is None or not len(found):
        raise InputError(
            f"{type(builder).__name__} made no comparison in {len(chosen)} contexts of the split "
            f"{split}; give more contexts or another builder."
        )
    table = FeatureTable(
        torch.cat([part.context for part in tables]),
        torch.cat([part.response for part in tables]),
        torch.cat([part.quality for part in tables]),
        tables[0].names,
    )
    return JudgedSplit(table, _one_source_each(found), torch.cat(origins))


def candidate_features(half: Tunable, candidates: Candidates) -> FeatureTable:
    """Features and known qualities of every candidate."""
    responses = candidates.responses[candidates.response][:, None]
    with torch.no_grad():
        context, response = half.features(candidates.context, responses)
    return FeatureTable(context, response[:, 0], candidates.reward, candidates.names)


def _one_source_each(comparisons: ComparedRows) -> ComparedRows:
    """The same where blocks named a source again and again."""
    names = tuple(dict.fromkeys(comparisons.sources))
    numbers = torch.tensor([names.index(name) for name in comparisons.sources])
    return replace(comparisons, provenance=numbers[comparisons.provenance], sources=names)
