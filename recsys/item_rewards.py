"""SLOT ItemReward: what an item is worth in a context, as a named number of about unit size.

That a generated semantic ID is one of an item, which others reward as its format, is no reward
here: on the trie it is true of all of them.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from data_prep.errors import InputError
from personalize.rewards.combination import Combination, Parts
from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.cooccurrence import CooccurrencePrior
from recsys.follow_ups import FollowUps
from recsys.goals import shares_of, unit_texts
from recsys.retriever.generative import last_preferences


@final
@dataclass(frozen=True)
class ItemWorld:
    """What is known of the items, apart from any recommender that is tuned.

    Attributes:
        item_vectors: Unit vector of every item's text, 0 where it has none; no columns without
            texts.
        text_vectors: Unit vectors of all texts, those of preferences among them.
        popularity: Rank of each item's number of training interactions, 0 to 1.
        prior: Co-occurrence, counted on training interactions.
        item_codes: Semantic ID of every item; no columns where there are none.
        follow_ups: What is likely to follow an item; None where no reward asks for it.
    """

    item_vectors: Float[Tensor, "item width"]
    text_vectors: Float[Tensor, "text width"]
    popularity: Float[Tensor, " item"]
    prior: CooccurrencePrior
    item_codes: Int[Tensor, "item level"]
    follow_ups: FollowUps | None = None

    @classmethod
    def of(cls, catalogue: Catalogue, prior: CooccurrencePrior) -> "ItemWorld":
        """The world of a catalogue, with a prior that was counted."""
        texts = F.normalize(catalogue.text_vectors, dim=1)
        known = catalogue.item_text_mask
        vectors = texts.new_zeros(catalogue.item_count, texts.shape[1])
        if len(texts):
            vectors = unit_texts(texts[catalogue.item_text_ids], known)
        popularity = shares_of(prior.popularity, torch.ones_like(known))
        return cls(vectors, texts, popularity, prior, catalogue.item_codes.long())

    @property
    def has_texts(self) -> bool:
        """Whether items are known by their texts."""
        return bool(len(self.text_vectors))

    def to(self, device: torch.device | str) -> "ItemWorld":
        """The same on another device."""
        return replace(
            self,
            item_vectors=self.item_vectors.to(device),
            text_vectors=self.text_vectors.to(device),
            popularity=self.popularity.to(device),
            prior=copy.deepcopy(self.prior).to(device),
            item_codes=self.item_codes.to(device),
            follow_ups=None if self.follow_ups is None else self.follow_ups.to(device),
        )

    def history_vectors(self, batch: HistoryBatch) -> Float[Tensor, "batch width"]:
        """Unit mean of the texts of every history."""
        met = self.item_vectors[batch.history_item_ids] * batch.history_mask.unsqueeze(-1)
        return F.normalize(met.sum(1), dim=1)

    def wishes(self, batch: HistoryBatch) -> Float[Tensor, "batch width"]:
        """Mean of the texts of what is preferred, what is avoided counting as minus; 0 for none."""
        text_ids, mask, avoid = last_preferences(batch)
        if not self.has_texts:
            return self.text_vectors.new_zeros(len(batch), self.text_vectors.shape[1])
        signs = torch.where(avoid, -1.0, 1.0) * mask
        total = (self.text_vectors[text_ids] * signs.unsqueeze(-1)).sum(1)
        return total / mask.sum(1, keepdim=True).clamp_min(1)

    def matches(
        self, wishes: Float[Tensor, "batch width"], item_ids: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle"]:
        """Mean cosine of items with what is preferred, about the mean of all items.

        What all items have in common says nothing about any of them, so their mean is taken off.
        """
        centred = F.normalize(self.item_vectors - self.item_vectors.mean(0), dim=1)
        return (centred[item_ids] @ wishes.unsqueeze(-1))[..., 0]


class ItemReward(ABC):
    """A reward of items; a variant is a frozen dataclass, chosen by `class_path`.

    Laws, held by `tests/recsys/test_item_rewards.py` for every variant: finite and within 0 to 1,
    but for logarithms of probabilities (`FollowUp`), which are at most 0, and a count of levels
    (`KeptCodes`); an item's reward does not depend on the others; permuting items or rows permutes
    rewards.

    Attributes:
        name: What it is called in reports and by builders of comparisons.
        needs_texts: Whether items must be known by texts.
        needs_codes: Whether they must have semantic IDs.
    """

    name: ClassVar[str]
    needs_texts: ClassVar[bool] = False
    needs_codes: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self, world: ItemWorld, batch: HistoryBatch, item_ids: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle"]:
        """What items are worth to each row, whose targets are what was met next."""


@final
@dataclass(frozen=True)
class Hit(ItemReward):
    """1 for the item that was met next, else 0."""

    name = "hit"

    def __call__(
        self, world: ItemWorld, batch: HistoryBatch, item_ids: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle"]:
        """See `ItemReward`."""
        return (item_ids == batch.target_item_ids[:, :1]).float()


@final
@dataclass(frozen=True)
class TargetLikeness(ItemReward):
    """Cosine with the text of the item that was met next, from 0 (opposite) to 1 (the same).

    Source:
        In the manner of the semantic reward of MiniOneRec (arXiv:2510.24431).
    """

    name, needs_texts = "target_likeness", True

    def __call__(
        self, world: ItemWorld, batch: HistoryBatch, item_ids: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle"]:
        """See `ItemReward`; 1/2 where an item has no text."""
        target = world.item_vectors[batch.target_item_ids[:, :1]]
        cosine = (world.item_vectors[item_ids] * target).sum(-1)
        return ((1 + cosine) / 2).clamp(0.0, 1.0)


@final
@dataclass(frozen=True)
class Collaborative(ItemReward):
    """Share of the catalogue that a co-occurrence model ranks below the item; ties count half.

    Source:
        In the manner of the collaborative reward of MiniOneRec (arXiv:2510.24431), which asks a
        trained SASRec; the rank makes it comparable between histories.
    """

    name = "collaborative"

    def __call__(
        self, world: ItemWorld, batch: HistoryBatch, item_ids: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle"]:
        """See `ItemReward`."""
        scores = world.prior(batch)
        ordered, asked = scores.sort(-1).values, scores.gather(1, item_ids)
        below = torch.searchsorted(ordered, asked)
        not_above = torch.searchsorted(ordered, asked, right=True)
        return (below + not_above) / (2 * scores.shape[1])


@final
@dataclass(frozen=True)
class PreferenceMatch(ItemReward):
    """Mean cosine of the item with the texts of what is preferred, avoided ones as minus.

    1/2 where nothing is preferred. Texts are compared as they are: that somebody who met the item
    would say so is not checked.
    """

    name, needs_texts = "preference_match", True

    def __call__(
        self, world: ItemWorld, batch: HistoryBatch, item_ids: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle"]:
        """See `ItemReward`."""
        return ((1 + world.matches(world.wishes(batch), item_ids)) / 2).clamp(0.0, 1.0)


@final
@dataclass(frozen=True)
class Novelty(ItemReward):
    """How seldom the item was met in training: 1 for the least popular, 0 for the most."""

    name = "novelty"

    def __call__(
        self, world: ItemWorld, batch: HistoryBatch, item_ids: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle"]:
        """See `ItemReward`."""
        return 1 - world.popularity[item_ids]


@final
@dataclass(frozen=True)
class KeptCodes(ItemReward):
    """How many leading codes an item shares with the one that was met next: 0 to all levels.

    A count and no share, so that it falls by 1 with every degree to which `ItemCandidates.spoilt`
    spoils, which is how `PreferenceDegree` counts degrees.
    """

    name, needs_codes = "kept_codes", True

    def __call__(
        self, world: ItemWorld, batch: HistoryBatch, item_ids: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle"]:
        """See `ItemReward`."""
        same = world.item_codes[item_ids] == world.item_codes[batch.target_item_ids[:, :1]]
        return same.cumprod(-1).sum(-1).float()


USUAL: tuple[ItemReward, ...] = (
    Hit(),
    TargetLikeness(),
    Collaborative(),
    PreferenceMatch(),
    Novelty(),
)


def chosen_judges(chosen: Sequence[ItemReward] | None, world: ItemWorld) -> tuple[ItemReward, ...]:
    """The rewards that were chosen; without a choice the usual ones that the world has data for.

    Raises:
        InputError: If there is none, one is there twice, or one needs texts or semantic IDs that
            are not there.
    """
    if chosen is None:
        return tuple(judge for judge in USUAL if world.has_texts or not judge.needs_texts)
    if not chosen or len({judge.name for judge in chosen}) < len(chosen):
        raise InputError("judges must hold at least one reward, and none of them twice.")
    for judge in chosen:
        if judge.needs_texts and not world.has_texts:
            raise InputError(f"The reward {judge.name} needs texts of items; pass vectors.")
        if judge.needs_codes and not world.item_codes.shape[1]:
            raise InputError(
                f"The reward {judge.name} needs semantic IDs, and this recommender has none."
            )
    return tuple(chosen)


def rank_penalty(hit: Float[Tensor, "batch particle"]) -> Float[Tensor, "batch particle"]:
    """What misses of a beam are worth, best first: the higher placed, the worse.

    With `w[i] = 1 / log2(i + 2)` at place `i` from 0, a miss is worth `-w[i] / sum(w)`, the hit 0,
    and all are 0 where the beam has no hit. Added to the hits it is MiniOneRec's `ranking` reward.
    It depends on the whole beam, so it is no `ItemReward`; see `RankedHits`.

    Args:
        hit: 1 for the item that was met next, else 0; a beam's, best first.

    Source:
        The rank-aware reward of MiniOneRec (arXiv:2510.24431).

    Example:
        >>> rank_penalty(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
        tensor([[-0.6131,  0.0000],
                [ 0.0000,  0.0000]])
    """
    place = torch.arange(hit.shape[1], device=hit.device, dtype=hit.dtype)
    weight = 1 / torch.log2(place + 2)
    found = (hit > 0).any(1, keepdim=True)
    return torch.where(found & (hit <= 0), -weight / weight.sum(), 0.0)


@final
@dataclass(frozen=True)
class RankedHits(Combination):
    """MiniOneRec's `ranking` reward for beams: hits, less `rank_penalty`; others as they are.

    Unlike other combinations it depends on the order of responses, so it is for objectives that
    draw beams, best first.

    Attributes:
        hit: Place of `Hit` among the rewards.

    Source:
        The script of MiniOneRec (arXiv:2510.24431), which adds the two and normalises in the group.
    """

    hit: int = 0

    def __call__(
        self,
        reward: Float[Tensor, "batch particle dimension"],
        context_weights: Float[Tensor, "batch dimension"] | None = None,
    ) -> Parts:
        """See `Combination`."""
        hits = reward[..., self.hit]
        ranked = reward.clone()
        ranked[..., self.hit] = hits + rank_penalty(hits)
        weight = torch.ones_like(reward[:, 0]) if context_weights is None else context_weights
        return Parts(ranked, weight)
