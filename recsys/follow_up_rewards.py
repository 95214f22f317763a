"""Rewards of items by what is likely to follow them, as `FollowUpPairs` compares by."""

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, final

from jaxtyping import Float, Int
from torch import Tensor

from recsys.batch import HistoryBatch
from recsys.follow_ups import (
    LOW_RATING,
    NOTHING,
    OF_ANOTHER_KIND,
    OF_THE_KIND,
    ItemKinds,
    learnt_follow_ups,
)
from recsys.item_rewards import ItemReward, ItemWorld


@dataclass(frozen=True)
class FollowUp(ItemReward, ABC):
    """Logarithm of how likely an event is to follow an item, so at most 0; see `FollowUps`.

    It does not read what is preferred, nor what was met next.

    Attributes:
        event: Of `FollowUps`.

    Source:
        As for `FollowUps`.
    """

    event: ClassVar[str]
    needs_texts = True

    def __call__(
        self, world: ItemWorld, batch: HistoryBatch, item_ids: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle"]:
        """See `ItemReward`.

        Raises:
            ValueError: If nothing was learnt of what follows.
        """
        if world.follow_ups is None:
            raise ValueError(f"{self.name} needs a world with what was learnt of follow-ups.")
        return world.follow_ups.log_likelihood(
            self.event, batch.history_item_ids, batch.history_mask, item_ids
        )


@final
@dataclass(frozen=True)
class FollowedByKind(FollowUp):
    """That something of its kind is met soon after; a good sign."""

    name, event = "followed_by_kind", OF_THE_KIND


@final
@dataclass(frozen=True)
class FollowedByOtherKind(FollowUp):
    """That what is met after it is of another kind; a bad sign."""

    name, event = "followed_by_other_kind", OF_ANOTHER_KIND


@final
@dataclass(frozen=True)
class FollowedByNothing(FollowUp):
    """That nothing is met after it; a bad sign where training ends when people leave."""

    name, event = "followed_by_nothing", NOTHING


@final
@dataclass(frozen=True)
class FollowedByLowRating(FollowUp):
    """That it is given two stars or fewer; a bad sign. It needs ratings."""

    name, event = "followed_by_low_rating", LOW_RATING


def with_follow_ups(
    world: ItemWorld, judges: Sequence[ItemReward], tables: Path, *, maximum_history: int
) -> ItemWorld:
    """The world with what judges ask of follow-ups, learnt from training interactions.

    Args:
        world: On the CPU.
        judges: Where none asks, the world stays as it is and nothing is read.
        tables: Artifact `reviews`.
        maximum_history: Newest steps of a history.

    Raises:
        InputError: If no training interaction tells of an event.
    """
    events = [judge.event for judge in judges if isinstance(judge, FollowUp)]
    if not events:
        return world
    items = ItemKinds.of(world.item_vectors, world.popularity)
    learnt = learnt_follow_ups(tables, items, events, maximum_history=maximum_history)
    return replace(world, follow_ups=learnt)
