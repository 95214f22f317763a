"""How good a tuned recommender is, context by context, on the same questions as before tuning."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from personalize.preference_optimization.policy import Policy
from personalize.preference_optimization.tunable import TEST, VALIDATION, Evaluation
from recsys.batch import HistoryBatch
from recsys.dense_policy import DensePolicy
from recsys.item_rewards import ItemWorld
from recsys.policy import RetrieverPolicy
from recsys.ranking import ndcg_at_k, recall_at_k, target_ranks
from recsys.recommender import Filters
from recsys.semantic_id.k_means import k_means, nearest_centre
from recsys.tuning_contexts import OF_ANOTHER, ItemContexts

NEGATIVES, LIST_LENGTH, ROWS_AT_ONCE = 20, 10, 256
LENGTHS = ("short history", "middle history", "long history")
MAIN = "ndcg@10"


@dataclass(frozen=True)
class Rivals:
    """Items to compare in the contexts of a split; the same whatever is evaluated.

    Attributes:
        negatives: What the generator found likeliest before it was tuned.
        mine: The item among them, and among those of the other preferences, that suits a context's
            own preferences most, compared with the other ones.
        other: The item that suits the other preferences most.
        contested: Whether both contexts prefer something and the two items differ.
    """

    negatives: Int[Tensor, "row negative"]
    mine: Int[Tensor, " row"]
    other: Int[Tensor, " row"]
    contested: Bool[Tensor, " row"]


class ItemEvaluation:
    """Measures of a recommender per context.

    - `ndcg@10` and `recall@10` of its own list over the whole catalogue.
    - `log_likelihood` of the item that was met next.
    - `ranking_accuracy`: share of the items the generator found likeliest before tuning, the one
      that was met left out, that are less likely than that one; ties count half.
    - `follows_preferences`: whether the log-ratio of two items moves towards the one that suits
      the preferences, when another person's take their place; 1/2 where it stays.
    - `reversal_rate`: whether it even changes its sign, so that each of the two items is the
      likelier one under the preferences it suits.

    The last two are NaN where a context or its partner prefers nothing, and not measured where that
    is so everywhere. Which item suits which
    preferences is read off the texts (`ItemWorld.matches`), which no person confirmed.

    Args:
        original: The generator before it is tuned, in evaluation mode.
        contexts: All contexts.
        world: What is known of the items, on the CPU.
        filters: What evaluated lists leave out.
        tastes: Number of clusters of histories that are the groups; 0 groups by length.
        seed: Of the clusters.
    """

    def __init__(
        self,
        original: Policy[HistoryBatch],
        contexts: ItemContexts,
        world: ItemWorld,
        *,
        filters: Filters,
        tastes: int,
        seed: int,
    ) -> None:
        self._original, self._contexts, self._world = original, contexts, world
        self._filters = filters
        self._rivals: dict[str, Rivals] = {}
        self._numbers, self.group_names = _groups(contexts, world, tastes, seed)

    def group_numbers(self, contexts: Int[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
        """Number of each context's group among `group_names`."""
        return self._numbers[contexts % len(self._contexts)]

    @torch.no_grad()
    def __call__(self, policy: Policy[HistoryBatch], split: str) -> Evaluation:
        """Every measure for every context of a split."""
        rows = self._contexts.of_split(split)
        rivals = self._rivals_of(split, next(policy.parameters()).device)
        found: dict[str, list[Tensor]] = {}
        numbers = torch.from_numpy(rows)
        for places in torch.arange(len(rows)).split(ROWS_AT_ONCE):
            for name, values in self._part(policy, numbers[places], rivals, places).items():
                found.setdefault(name, []).append(values.double().cpu())
        values = {name: torch.cat(parts).numpy() for name, parts in found.items()}
        values = {name: each for name, each in values.items() if not np.isnan(each).all()}
        names = [self.group_names[number] for number in self.group_numbers(rows)]
        return Evaluation(values, MAIN, names)

    def _part(
        self,
        policy: Policy[HistoryBatch],
        contexts: Int[Tensor, " row"],
        rivals: Rivals,
        places: Int[Tensor, " row"],
    ) -> dict[str, Tensor]:
        device = next(policy.parameters()).device
        batch = self._contexts.batch(contexts).to(device)
        listed = tuned_policy(policy).recommender.recommend(
            batch, count=LIST_LENGTH, filters=self._filters
        )
        target = batch.target_item_ids
        ranks = target_ranks(listed.item_ids, target[:, 0])
        pair = torch.stack([rivals.mine[places], rivals.other[places]], 1).to(device)
        negatives = rivals.negatives[places].to(device)
        items = torch.cat([target, negatives, pair], 1)
        scores = policy.log_prob(batch, items).sum(-1)
        mine, beaten = scores[:, :1], scores[:, 1:-2]
        real = negatives != target
        wins = ((mine > beaten).float() + (mine == beaten).float() / 2) * real
        swapped = self._contexts.batch(self._contexts.under(contexts, OF_ANOTHER)).to(device)
        there = policy.log_prob(swapped, pair).sum(-1).diff(dim=1)[:, 0]
        here = scores[:, -2:].diff(dim=1)[:, 0]
        contested = rivals.contested[places].to(device)
        moves = (there > here).float() + (there == here).float() / 2
        reverses = ((here < 0) & (there > 0)).float()
        return {
            MAIN: ndcg_at_k(ranks.ranks, ranks.found, k=LIST_LENGTH),
            "recall@10": recall_at_k(ranks.ranks, ranks.found, k=LIST_LENGTH),
            "log_likelihood": mine[:, 0],
            "ranking_accuracy": wins.sum(1) / real.sum(1).clamp_min(1),
            "follows_preferences": torch.where(contested, moves, torch.nan),
            "reversal_rate": torch.where(contested, reverses, torch.nan),
        }

    def _rivals_of(self, split: str, device: torch.device) -> Rivals:
        if split not in self._rivals:
            self._original.to(device)
            numbers = torch.from_numpy(self._contexts.of_split(split))
            parts = [self._rivals_in(part) for part in numbers.split(ROWS_AT_ONCE)]
            names = ("negatives", "mine", "other", "contested")
            joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
            self._rivals[split] = Rivals(**joined)
        return self._rivals[split]

    def _rivals_in(self, contexts: Int[Tensor, " row"]) -> Rivals:
        own = self._contexts.batch(contexts)
        others = self._contexts.batch(self._contexts.under(contexts, OF_ANOTHER))
        count = min(NEGATIVES, len(self._world.popularity))
        device = next(self._original.parameters()).device
        negatives, theirs = (
            self._original.sample(batch.to(device), count, seed=0, beam=True).responses.cpu()
            for batch in (own, others)
        )
        pool, wishes = torch.cat([negatives, theirs], 1), self._world.wishes(own)
        lead = self._world.matches(wishes - self._world.wishes(others), pool)
        best, worst = lead.max(1), lead.min(1)
        both = own.preference_mask.any(-1)[:, 0] & others.preference_mask.any(-1)[:, 0]
        contested = both & (best.values > worst.values + 1e-6)
        mine = pool.gather(1, best.indices[:, None])[:, 0]
        return Rivals(negatives, mine, pool.gather(1, worst.indices[:, None])[:, 0], contested)


def tuned_policy(policy: Policy[HistoryBatch]) -> RetrieverPolicy | DensePolicy:
    """The policy itself, which must be a recommender's.

    Raises:
        TypeError: If it is another.
    """
    if not isinstance(policy, RetrieverPolicy | DensePolicy):
        raise TypeError(f"a recommender's policy is needed, got {type(policy).__name__}.")
    return policy


def _groups(
    contexts: ItemContexts, world: ItemWorld, tastes: int, seed: int
) -> tuple[Int[np.ndarray, " row"], tuple[str, ...]]:
    """Group of every row: by thirds of the history's length, or by clusters of its texts.

    Thirds of those that are evaluated: the histories of training rows are shorter.
    """
    if not tastes or not world.has_texts:
        length = contexts.rows.history_mask.sum(1).double().numpy()
        asked = np.concatenate([contexts.of_split(split) for split in (VALIDATION, TEST)])
        low, high = np.quantile(length[asked], [1 / 3, 2 / 3])
        return (length > low).astype(np.int64) + (length > high), LENGTHS
    vectors = world.history_vectors(contexts.rows)
    generator = torch.Generator().manual_seed(seed)
    trained = vectors[torch.from_numpy(contexts.of_split("train"))]
    centres = k_means(trained, centre_count=tastes, generator=generator)
    numbers, _ = nearest_centre(vectors, centres)
    return numbers.numpy(), tuple(f"taste {number + 1}" for number in range(len(centres)))
