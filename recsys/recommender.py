"""The interface every recommender implements, from popularity to the generative retriever."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from recsys.batch import HistoryBatch


@dataclass(frozen=True)
class Filters:
    """Which items may be returned.

    Attributes:
        exclude_history: Leave out items of the row's own history.
        allowed_items: Only these items may be returned; None allows the whole catalogue.
    """

    exclude_history: bool = False
    allowed_items: Bool[Tensor, " item"] | None = None


@dataclass(frozen=True)
class Recommendations:
    """Items found for each row, best first.

    Attributes:
        item_ids: Distinct, real items; -1 only where fewer items are allowed than were asked for.
        scores: Higher is better; `-inf` beside -1.
    """

    item_ids: Int[Tensor, "batch rank"]
    scores: Float[Tensor, "batch rank"]


class Recommender(nn.Module, ABC):
    """A model that learns from histories and returns items.

    Laws, held by `tests/test_recommender_slot.py` for every variant: every returned item is
    distinct and real; permuting the rows of a batch permutes the answers; a batch equals its rows
    one by one; padding changes nothing; a filtered item is never returned.

    A counting recommender has no parameters: its `loss` counts what it sees into its buffers.

    Attributes:
        uses_preferences: Whether answers depend on preferences; where they do not, the recommender
            is only asked without any.
        weighs_preferences: Whether it reads `preference_vectors` and `preference_strength`; where
            it does not, preferences are texts of the catalogue and matter equally.
        surveys: Whether `survey` is to be called before training.
    """

    uses_preferences: ClassVar[bool] = False
    weighs_preferences: ClassVar[bool] = False
    surveys: ClassVar[bool] = False

    def survey(self, batches: Iterable[HistoryBatch]) -> None:
        """Look over all training rows once, before the first step; most recommenders need not.

        A run that is resumed surveys again, so the result may depend on the rows alone.

        Args:
            batches: Every training row once, without shuffling.
        """

    @abstractmethod
    def loss(self, batch: HistoryBatch) -> Float[Tensor, ""]:
        """Mean loss per real target; lower is better."""

    @abstractmethod
    def recommend(
        self, batch: HistoryBatch, *, count: int, filters: Filters | None = None
    ) -> Recommendations:
        """The best `count` items after each row's last real step.

        Preferences are those of the batch's last real target. Runs without gradients and in
        evaluation mode; the caller sets both.
        """


@runtime_checkable
class ReadsHistoriesApart(Protocol):
    """A recommender that reads a history without its preferences.

    One history under several preferences is then read once: what was read travels in the batch as
    `history_states`, and the recommender answers as if it had read it again.
    """

    def read_histories(self, batch: HistoryBatch) -> Float[Tensor, "batch model"]:
        """What is known after each row's last real step, before any preference."""
        ...
