"""Which preferences condition the targets of a batch, chosen while the batch is made."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from personalize.conditioning.selection import (
    All,
    Latest,
    Nothing,
    Oracle,
    PreferenceIndex,
    Question,
    SelectionPolicy,
)
from recsys.collate import Padded, RowPreferences

_BLIND = (All, Latest, Nothing, Oracle)  # policies that do not look at the history's vectors


@dataclass(frozen=True)
class Asked:
    """Targets of a batch, one row each, with what was met before them.

    Attributes:
        user_ids: Whose question it is.
        positions: Place of the target in the person's history; -1 asks nothing.
        target_item_ids: The target.
        histories: Items before it.
    """

    user_ids: Int[np.ndarray, " row"]
    positions: Int[np.ndarray, " row"]
    target_item_ids: Int[np.ndarray, " row"]
    histories: Padded


@dataclass(frozen=True)
class PreferenceSource:
    """Preferences, and vectors to compare them with histories and targets.

    Target vectors are made for `Oracle` alone, so no other policy can look at a target.

    Attributes:
        index: All preferences.
        text_vectors: Vector of every text.
        item_text_ids: Text of every item, 0 where the mask is false.
        item_text_mask: Which items have one.
        count: Most preferences per target.
        seed: Seed of the draw among several policies.
    """

    index: PreferenceIndex
    text_vectors: Float[np.ndarray, "text width"]
    item_text_ids: Int[np.ndarray, " item"]
    item_text_mask: Bool[np.ndarray, " item"]
    count: int
    seed: int = 0

    def chosen(
        self, policies: Sequence[SelectionPolicy], asked: Asked, *, draw: tuple[int, ...] = ()
    ) -> RowPreferences:
        """What the policies choose; of several, one is drawn for every row.

        Args:
            policies: At least one.
            asked: The targets.
            draw: Numbers the draw depends on beside the seed, such as the epoch: equal numbers
                draw equally.
        """
        if len(policies) == 1:
            return self._chosen(policies[0], asked)
        generator = np.random.Generator(np.random.PCG64([self.seed, *draw]))
        drawn = generator.integers(0, len(policies), size=len(asked.user_ids))
        parts = [self._chosen(policy, asked) for policy in policies]
        rows = np.arange(len(drawn))
        return RowPreferences(
            text_ids=np.stack([part.text_ids for part in parts])[drawn, rows],
            mask=np.stack([part.mask for part in parts])[drawn, rows],
            avoid=np.stack([part.avoid for part in parts])[drawn, rows],
        )

    def _chosen(self, policy: SelectionPolicy, asked: Asked) -> RowPreferences:
        target = Padded(asked.target_item_ids[:, None], asked.positions[:, None] >= 0)
        question = Question(
            subject_ids=asked.user_ids,
            positions=asked.positions,
            query_vectors=None if isinstance(policy, _BLIND) else self._about(asked.histories),
            target_vectors=self._about(target) if isinstance(policy, Oracle) else None,
        )
        found = policy.choose(
            self.index, question, text_vectors=self.text_vectors, count=self.count
        )
        return RowPreferences(text_ids=found.text_ids, mask=found.mask, avoid=found.avoid)

    def _about(self, items: Padded) -> Float[np.ndarray, "row width"]:
        """Unit mean of the vectors of items that have a text; zero where none has."""
        known = items.mask & self.item_text_mask[items.values]
        text_ids = self.item_text_ids[items.values]
        total = np.zeros((len(text_ids), self.text_vectors.shape[1]), np.float32)
        for place in range(text_ids.shape[1]):  # one place at a time keeps memory small
            total += self.text_vectors[text_ids[:, place]] * known[:, place, None]
        length = np.linalg.norm(total, axis=1, keepdims=True)
        return total / np.where(length > 0, length, 1)
