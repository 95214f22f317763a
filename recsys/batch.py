"""The batch every recommender reads: numbers of users, items and texts, and masks."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from jaxtyping import Bool, Float, Int
from torch import Tensor, device


@dataclass(frozen=True)
class HistoryBatch:
    """Histories with the targets to learn or to find; padded at the end, masks say what is real.

    A batch of *prefixes* has one target per row, the item after the history. A batch of
    *sequences* has one target per step: the target of step `t` follows the history up to and
    including step `t`, and the preferences of target `t` use evidence strictly before it.

    Attributes:
        row_ids: Number of each row within its epoch or benchmark axis.
        history_item_ids: Items met, oldest first, 0 where the mask is false.
        history_mask: Which steps are real; real steps come first.
        target_item_ids: The item after the history (prefixes) or after each step (sequences).
        target_mask: Which targets are real.
        preference_text_ids: Texts that may condition each target, 0 where the mask is false.
        preference_mask: Which of them are real; all false runs without preferences.
        preference_avoid: Which of them are to be avoided rather than liked.
        preference_vectors: Vectors that stand in for those of the texts, such as those of words
            that have no number; None takes the texts'.
        preference_strength: How much each matters, 0 (as if it were masked) to 1 (as trained);
            None is 1 throughout.
        history_states: What the recommender made of the histories when it read them before; None
            where they are still to be read. See `recsys.recommender.ReadsHistoriesApart`.
    """

    row_ids: Int[Tensor, " batch"]
    history_item_ids: Int[Tensor, "batch step"]
    history_mask: Bool[Tensor, "batch step"]
    target_item_ids: Int[Tensor, "batch target"]
    target_mask: Bool[Tensor, "batch target"]
    preference_text_ids: Int[Tensor, "batch target preference"]
    preference_mask: Bool[Tensor, "batch target preference"]
    preference_avoid: Bool[Tensor, "batch target preference"]
    preference_vectors: Float[Tensor, "batch target preference width"] | None = None
    preference_strength: Float[Tensor, "batch target preference"] | None = None
    history_states: Float[Tensor, "batch model"] | None = None

    def to(self, target: device | str) -> "HistoryBatch":
        """The same batch on another device."""
        return self.each(lambda tensor: tensor.to(target, non_blocking=True))

    def rows(self, numbers: Int[Tensor, " chosen"] | slice) -> "HistoryBatch":
        """Some of the rows, in the order given."""
        return self.each(lambda tensor: tensor[numbers])

    def each(self, change: Callable[[Tensor], Tensor]) -> "HistoryBatch":
        """The batch with every tensor changed alike; what is None stays None."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return replace(self, **{name: change(value) for name, value in values if value is not None})

    def __len__(self) -> int:
        """Number of rows."""
        return self.row_ids.shape[0]
