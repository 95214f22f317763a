"""The contexts a recommender is tuned in: one row per interaction, also under other preferences."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_prep.artifact import read_artifact
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS, PREFERENCES, SPLITS, TEXTS
from personalize.conditioning.selection import PreferenceIndex, SelectionPolicy
from recsys.alike_histories import AlikeHistories
from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.collate import prefix_batch, windows
from recsys.histories import Histories, Stretches
from recsys.row_preferences import Asked, PreferenceSource

AS_STATED, OF_ANOTHER, REVERSED, UNSAID = range(4)
INFERRED, INFERRED_OF_ANOTHER, INFERRED_REVERSED = range(4, 7)
_INFERRED_FOR = (INFERRED, INFERRED_OF_ANOTHER, INFERRED_REVERSED, INFERRED)
_SHIFTS = 16


@dataclass(frozen=True)
class RowLimits:
    """Most contexts of each split; where there are more, some are drawn. None takes all.

    Attributes:
        train: Interactions to learn from.
        validation: Interactions to choose by.
        test: Interactions to report on.

    Raises:
        ValueError: If a limit is below 1.
    """

    train: int | None = None
    validation: int | None = None
    test: int | None = None

    def __post_init__(self) -> None:
        for name, limit in vars(self).items():
            if limit is not None and limit < 1:
                raise ValueError(f"{name} must be at least 1, got {limit}.")


@dataclass(frozen=True)
class ItemContexts:
    """Histories with the item that followed each, and whose preferences could stand in.

    With `n` rows, context `c` is row `c % n` under its own preferences (`c < n`), under those of
    another person of the same split (`n <= c < 2 n`), with likes and avoids exchanged
    (`2 n <= c < 3 n`), without any (`3 n <= c < 4 n`), or under what is inferred in place of
    the first three: of the person, of the other one, and of the person with both exchanged.

    Attributes:
        rows: All histories, with their preferences and targets.
        split_numbers: Split of each row, a place in `SPLITS`.
        user_ids: Whose row it is.
        partners: Row whose preferences stand in for each; the row itself where there is no other.
        alike: What preferences are inferred from; None infers nothing.
    """

    rows: HistoryBatch
    split_numbers: Int[np.ndarray, " row"]
    user_ids: Int[np.ndarray, " row"]
    partners: Int[Tensor, " row"]
    alike: AlikeHistories | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def of_split(self, split: str) -> Int[np.ndarray, " context"]:
        """Contexts of a split under their own preferences."""
        return np.flatnonzero(self.split_numbers == SPLITS.index(split))

    def under(self, contexts: Int[Tensor, " row"], preferences: int) -> Int[Tensor, " row"]:
        """The same histories, preferences `AS_STATED`, `OF_ANOTHER`, `REVERSED` or `UNSAID`."""
        return contexts % len(self) + preferences * len(self)

    def inferred(self, contexts: Int[Tensor, " row"]) -> Int[Tensor, " row"] | None:
        """The same contexts with inferred preferences in place of stated ones, whose ever they are.

        Those of another person are inferred from that person's history, those that were exchanged
        are exchanged. None where nothing can be inferred.
        """
        if self.alike is None:
            return None
        row, kind = contexts % len(self), contexts // len(self)
        known = torch.tensor([*_INFERRED_FOR, *_INFERRED_FOR[:-1]], device=contexts.device)
        return row + known[kind] * len(self)

    def batch(self, contexts: Int[Tensor, " row"]) -> HistoryBatch:
        """Contexts with their targets, padded to the longest history among them."""
        contexts = contexts.cpu()
        row, kind = contexts % len(self), contexts // len(self)
        chosen = self.rows.rows(row)
        another = (kind == OF_ANOTHER) | (kind == INFERRED_OF_ANOTHER)
        stated = self._stated(torch.where(another, self.partners[row], row), kind >= INFERRED)
        exchanged = (kind == REVERSED) | (kind == INFERRED_REVERSED)
        flip = exchanged[:, None, None] & stated.preference_mask
        steps = max(1, int(chosen.history_mask.sum(1).max())) if len(row) else 1
        return replace(
            chosen,
            row_ids=contexts,
            history_item_ids=chosen.history_item_ids[:, :steps],
            history_mask=chosen.history_mask[:, :steps],
            preference_text_ids=stated.preference_text_ids,
            preference_mask=stated.preference_mask & (kind != UNSAID)[:, None, None],
            preference_avoid=stated.preference_avoid ^ flip,
        )

    def _stated(self, people: Int[Tensor, " row"], inferred: Bool[Tensor, " row"]) -> HistoryBatch:
        """Rows with what is preferred in them, or what is inferred of it."""
        stated = self.rows.rows(people)
        places = inferred.nonzero()[:, 0]
        if self.alike is None or not len(places):
            return stated
        users = torch.from_numpy(self.user_ids)[people[places]]
        told = self.alike.told(stated.rows(places), users)
        names = ("preference_text_ids", "preference_mask", "preference_avoid")
        return replace(
            stated,
            **{n: getattr(stated, n).index_copy(0, places, getattr(told, n)) for n in names},
        )


@dataclass(frozen=True)
class Preferences:
    """How preferences of the contexts are chosen.

    Attributes:
        source: Everybody's preferences.
        training: How those of training rows are chosen.
        evaluation: The same for validation and test.
    """

    source: PreferenceSource
    training: SelectionPolicy
    evaluation: SelectionPolicy


def item_contexts(
    tables: Path,
    preferences: Preferences | None,
    *,
    maximum_history: int,
    limits: RowLimits,
    seed: int,
    item_vectors: Float[Tensor, "item width"] | None = None,
) -> ItemContexts:
    """Contexts of all splits, in the order of the table.

    Args:
        tables: Artifact `reviews`.
        preferences: Where preferences come from; None has none.
        maximum_history: Newest steps of a history.
        limits: Most contexts of each split.
        seed: Of what is drawn.
        item_vectors: Vector of every item's text, to infer preferences by; None infers none.

    Raises:
        InputError: If a split has no interaction with another one before it.
    """
    histories = Histories.from_interactions(
        read_artifact(tables, kind="reviews").table(INTERACTIONS)
    )
    generator = np.random.default_rng(seed)
    batches, numbers, people = [], [], []
    for number, split in enumerate(SPLITS):
        stretches = histories.prefixes((split,), maximum_history=maximum_history)
        rows = np.arange(len(stretches))
        limit = getattr(limits, split)
        if limit is not None and limit < len(rows):
            rows = np.sort(generator.choice(rows, limit, replace=False))
        if not len(rows):
            raise InputError(
                f"{tables} has no interaction of the split {split} with another one before it; "
                "split it again."
            )
        policy = None
        if preferences is not None:
            policy = preferences.training if split == "train" else preferences.evaluation
        batch, users = _cut(histories, stretches, rows, preferences, policy)
        batches.append(batch)
        numbers.append(np.full(len(rows), number))
        people.append(users)
    whole, splits, users = joined_rows(batches), np.concatenate(numbers), np.concatenate(people)
    stated = whole.preference_mask.any(-1)[:, 0].numpy()
    alike = None
    if preferences is not None and item_vectors is not None:
        alike = _alike(histories, preferences, item_vectors, maximum_history)
    return ItemContexts(whole, splits, users, _partners(splits, users, stated, generator), alike)


def _cut(
    histories: Histories,
    stretches: Stretches,
    rows: Int[np.ndarray, " row"],
    preferences: Preferences | None,
    policy: SelectionPolicy | None,
) -> tuple[HistoryBatch, Int[np.ndarray, " row"]]:
    """Some stretches with their preferences, and whose they are."""
    starts, lengths = stretches.starts[rows], stretches.lengths[rows]
    targets = starts + lengths
    past = windows(histories.item_ids, starts, lengths)
    users, items = histories.user_ids[targets], histories.item_ids[targets]
    known = None
    if preferences is not None and policy is not None:
        asked = Asked(users, histories.positions[targets], items, past)
        known = preferences.source.chosen((policy,), asked)
    return prefix_batch(rows, past, items, known), users


def _alike(
    histories: Histories,
    preferences: Preferences,
    item_vectors: Float[Tensor, "item width"],
    maximum_history: int,
) -> AlikeHistories:
    """The newest training row of every person, whatever rows are drawn as contexts.

    Preferences are chosen as for evaluation, which does not look at a target.
    """
    stretches = histories.prefixes(("train",), maximum_history=maximum_history)
    users = histories.user_ids[stretches.starts + stretches.lengths]
    newest = np.flatnonzero(np.append(users[1:] != users[:-1], True)) if len(users) else users
    batch, people = _cut(histories, stretches, newest, preferences, preferences.evaluation)
    return AlikeHistories.of(batch, torch.from_numpy(people), item_vectors)


def preference_source(
    preferences: Path, vectors: Path, catalogue: Catalogue, *, count: int
) -> PreferenceSource:
    """Preferences of an artifact, with the vectors of their texts."""
    stated = read_artifact(preferences, kind="preferences").table(PREFERENCES)
    texts = read_artifact(vectors, kind="vectors", verify=False).table(TEXTS)
    return PreferenceSource(
        PreferenceIndex.from_frames(stated, texts),
        catalogue.text_vectors.numpy(),
        catalogue.item_text_ids.numpy(),
        catalogue.item_text_mask.numpy(),
        count,
    )


def joined_rows(batches: Sequence[HistoryBatch]) -> HistoryBatch:
    """Batches of prefixes one after another, padded alike; row numbers run on."""
    names = [name for name, value in vars(batches[0]).items() if isinstance(value, Tensor)]
    joined = {}
    for name in names:
        parts = [getattr(batch, name) for batch in batches]
        width = max(part.shape[-1] for part in parts) if parts[0].dim() > 1 else 0
        padded = [
            torch.nn.functional.pad(part, (0, width - part.shape[-1])) if width else part
            for part in parts
        ]
        joined[name] = torch.cat(padded)
    joined["row_ids"] = torch.arange(len(joined["row_ids"]))
    return HistoryBatch(**joined)


def _partners(
    splits: Int[np.ndarray, " row"],
    users: Int[np.ndarray, " row"],
    stated: Bool[np.ndarray, " row"],
    generator: np.random.Generator,
) -> Int[Tensor, " row"]:
    """For every row one of its split, of somebody else who prefers something."""
    partners = np.arange(len(users))
    for split in range(len(SPLITS)):
        rows = np.flatnonzero(splits == split)
        others = generator.permutation(rows[stated[rows]])
        if not len(others):
            continue
        place = generator.integers(0, len(others), len(rows))
        open_ = np.ones(len(rows), np.bool_)
        for shift in range(_SHIFTS):
            found = others[(place + shift) % len(others)]
            taken = open_ & (users[found] != users[rows])
            partners[rows[taken]] = found[taken]
            open_ &= ~taken
    return torch.from_numpy(partners)
