"""A recommender steered by a chain towards goals, in the one order of its components."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from personalize.evaluation.goal_space import GoalSpace
from personalize.steering.calibration import calibrated
from personalize.steering.chain import Chain
from personalize.steering.goals import Goals
from personalize.steering.particles import neighbours
from recsys.batch import HistoryBatch
from recsys.goal_words import GoalTeller
from recsys.goals import DIVERSITY, ItemGoals, normalized_items
from recsys.opened_chain import Critique, OpenedChain
from recsys.proposals import Candidates, Proposer
from recsys.recommender import Filters, Recommendations

PLAIN = OpenedChain(Chain())
LIST_FROM = 100
"""Diversity is sought among so many of the best candidates."""


@dataclass(frozen=True)
class ItemRequest:
    """What is asked of a steered recommender.

    Attributes:
        batch: The rows.
        aspects: The aspect each row cares about most, for the matched sentiment; -1 is none.
        goals: What is wanted of each row's list.
        count: Items per row.
        filters: Items that must not be returned.
        seed: Of what is drawn.
    """

    batch: HistoryBatch
    aspects: Int[Tensor, " batch"]
    goals: Goals
    count: int
    filters: Filters = field(default_factory=Filters)
    seed: int = 0


@dataclass(frozen=True)
class SteeredList:
    """Lists with what they took.

    Attributes:
        found: The items.
        calls: Rows of predictions per row, those of the unsteered list included, which the change
            asked for is counted from; see `Candidates`.
    """

    found: Recommendations
    calls: int


class SteeredItems:
    """Steers a recommender: told, edited, guided, looked ahead, masked, sampled, selected.

    The reward of an item is the product of its normalised goal values with the change asked for:
    the goal less what the recommender alone would give. Without a goal, or where the chain is
    neutral, the answer is the recommender's own.
    """

    def __init__(
        self,
        proposer: Proposer,
        goals: ItemGoals,
        space: GoalSpace,
        chain: Chain | OpenedChain,
        *,
        teller: GoalTeller | None = None,
    ) -> None:
        """Hold what steers.

        Args:
            proposer: Where candidates come from; see `recsys.proposals.proposer`.
            goals: Goal values of the items.
            space: Their limits.
            chain: What steers; one that names files must have been opened.
            teller: Tells goals in words; without one nothing is told.
        """
        self._proposer, self._goals, self._space = proposer, goals, space
        self._opened = chain if isinstance(chain, OpenedChain) else OpenedChain(chain)
        self._chain, self._teller = self._opened.chain, teller

    def recommend(self, request: ItemRequest) -> SteeredList:
        """The best items of every row, steered."""
        own = self._proposer.propose(request.batch, None, PLAIN, filters=request.filters)
        plain = Recommendations(own.items[:, : request.count], own.scores[:, : request.count])
        if self._chain == Chain() or not bool(request.goals.mask.any()):
            return SteeredList(plain, own.calls)
        there, known = self._goals.of_lists(plain.item_ids, request.aspects)
        gap = request.goals.values - self._space.normalized(there)
        change = gap * (request.goals.mask & known)
        found = self._proposed(request, request.goals, change)
        if self._chain.neighbourhood.largest_angle_rad > 0:
            found = self._around(request, change, found)
        calls = own.calls + found.calls
        if self._chain.selection.calibrate:
            # Where the recommender's own search scores raw, items that it alone found lie lower by
            # the probability that goes to codes without an item: little beside a multiplier.
            found = found.united(own)
        if self._opened.critique is not None:
            found = self._judged(request, found, self._opened.critique)
        wanted = request.goals
        if self._chain.selection.hold:
            open_ones = ~wanted.mask & known
            held = torch.where(open_ones, self._space.normalized(there), wanted.values)
            wanted = Goals(held, wanted.mask | open_ones)
        return SteeredList(self._selected(request, wanted, change, found), calls)

    def _proposed(self, request: ItemRequest, goals: Goals, change: Tensor) -> Candidates:
        """What the recommender proposes, told of the goals and tilted towards a change."""
        told = request.batch
        if self._teller is not None:
            told = self._teller.tell(told, goals, strength=self._chain.telling.strength)
        every = torch.arange(len(self._goals.values)).expand(len(change), -1)
        rewards = torch.einsum("big,bg->bi", self._features(every, request.aspects), change)
        proposer = self._proposer
        guided = self._chain.guidance.weight != 1.0 and self._opened.negative is None
        copies = 2 if guided and proposer.stacks else 1
        with self._opened.editing(proposer.model, self._goals.names, change, copies=copies):
            return proposer.propose(
                told, rewards, self._opened, filters=request.filters, seed=request.seed
            )

    def _judged(self, request: ItemRequest, found: Candidates, critique: Critique) -> Candidates:
        """With a critic's value of every candidate, in units of its spread within the row."""
        there = found.items >= 0
        value = critique(request.batch, found.items).masked_fill(~there, torch.nan)
        centred = value - value.nanmean(1, keepdim=True)
        spread = centred.square().nanmean(1, keepdim=True).sqrt().clamp_min(1e-9)
        added = self._chain.selection.critic_weight * torch.where(there, centred / spread, 0.0)
        return replace(found, scores=found.scores + added)

    def _around(self, request: ItemRequest, change: Tensor, found: Candidates) -> Candidates:
        """With candidates for changes near the one asked for, which picks among all of them."""
        hood, goals = self._chain.neighbourhood, request.goals
        length = change.norm(dim=1, keepdim=True)
        near = neighbours(
            normalize(change, dim=1),
            hood.count - 1,
            largest_angle_rad=hood.largest_angle_rad,
            seed=request.seed,
        )
        for other in near.unbind(1):
            moved = other * length * goals.mask
            wanted = (goals.values - change + moved).clamp(0, 1) * goals.mask
            found = found.united(self._proposed(request, Goals(wanted, goals.mask), moved))
        return found

    def _selected(
        self, request: ItemRequest, wanted: Goals, change: Tensor, found: Candidates
    ) -> Recommendations:
        """The list with the highest tilted scores, calibrated if wanted."""
        selection = self._chain.selection
        features = self._features(found.items, request.aspects)
        particles = self._chain.particles
        strength = self._chain.lookahead.strength + selection.strength
        strength += 0.0 if particles is None else particles.strength
        multipliers = strength * change
        if selection.calibrate:
            multipliers = calibrated(
                wanted,
                lambda tried: self._reached(request, found, features, tried),
                largest=selection.strength,
            )
        place = self._taken(found, features, multipliers, request.count)
        tilted = found.scores + torch.einsum("bcg,bg->bc", features, multipliers)
        return Recommendations(found.items.gather(1, place), tilted.gather(1, place))

    def _reached(
        self, request: ItemRequest, found: Candidates, features: Tensor, multipliers: Tensor
    ) -> Float[Tensor, "batch goal"]:
        place = self._taken(found, features, multipliers, request.count)
        values, known = self._goals.of_lists(found.items.gather(1, place), request.aspects)
        reached = self._space.normalized(values)
        return torch.where(known, reached, request.goals.values)  # what is not known is not moved

    def _taken(
        self, found: Candidates, features: Tensor, multipliers: Tensor, count: int
    ) -> Int[Tensor, "batch rank"]:
        """Places of the items taken, best first.

        Without a multiplier of diversity they are the best; with one each next item also counts
        its mean distance to those taken.
        """
        tilted = found.scores + torch.einsum("bcg,bg->bc", features, multipliers)
        count = min(count, tilted.shape[1])
        if DIVERSITY not in self._goals.names:
            return tilted.topk(count, 1).indices
        weight = multipliers[:, self._goals.names.index(DIVERSITY), None]
        tilted, place = tilted.topk(min(max(LIST_FROM, count), tilted.shape[1]), 1)
        tilted = tilted.clamp_min(torch.finfo(tilted.dtype).min)  # no item, but not taken yet
        texts = self._goals.text_vectors[found.items.gather(1, place).clamp_min(0)]
        alike = torch.zeros_like(tilted)
        taken = []
        for number in range(count):
            away = 1 - alike / max(number, 1) if number else torch.zeros_like(tilted)
            best = (tilted + weight * away).argmax(1, keepdim=True)
            taken.append(best)
            tilted = tilted.scatter(1, best, -torch.inf)
            chosen = texts.take_along_dim(best.unsqueeze(-1), 1)
            alike = alike + (texts * chosen).sum(-1)
        return place.gather(1, torch.cat(taken, 1))

    def _features(self, items: Tensor, aspects: Tensor) -> Float[Tensor, "batch candidate goal"]:
        """Normalised goal values of items; diversity, which belongs to lists, is 0."""
        values, mask = self._goals.of_items(items, aspects)
        features = normalized_items(values, mask, self._space)
        if DIVERSITY in self._goals.names:
            features[..., self._goals.names.index(DIVERSITY)] = 0.0
        return features
