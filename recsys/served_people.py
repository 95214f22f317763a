"""The people who are served: their histories, their reviews and what was read in them."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from jaxtyping import Int

from data_prep.artifact import Artifact
from data_prep.schema import INTERACTIONS, ITEM_TEXTS, PREFERENCES, USERS
from personalize.api.messages import HistoryItem, Quote, ReadPreference, UserPage, UserView
from personalize.api.ports import RequestRefused
from recsys.served_items import ServedItems


class ServedPeople:
    """Users by key, with their interactions and the newest preferences read in them.

    A quote is cut from the text its evidence counts: the body of a review, or, where preferences
    were read from items, the text of the item.

    Args:
        tables: Artifact `reviews`.
        preferences: Artifact `preferences` extracted from it, or None.
    """

    def __init__(self, tables: Artifact, preferences: Artifact | None) -> None:
        users = tables.table(USERS).sort("user_id")
        self._keys: list[str] = users["user_key"].to_list()
        self._numbers = {key: number for number, key in enumerate(self._keys)}
        self._lower = users["user_key"].str.to_lowercase()
        self._interactions = tables.table(INTERACTIONS).sort("user_id", "position")
        owners = self._interactions["user_id"].to_numpy()
        self._starts = np.searchsorted(owners, np.arange(len(self._keys) + 1))
        self._items = self._interactions["item_id"].to_numpy().astype(np.int64)
        self._preferences: Mapping[int, Sequence[ReadPreference]] = {}
        if preferences is not None:
            self._preferences = _newest(preferences, self._quoted(tables, preferences))

    def __len__(self) -> int:
        """Number of users."""
        return len(self._keys)

    def number(self, key: str) -> int:
        """The number of a user.

        Raises:
            RequestRefused: If there is none of this id.
        """
        number = self._numbers.get(key)
        if number is None:
            raise RequestRefused(f"There is no user {key!r}.", param="user", status=404)
        return number

    def history(self, user: int) -> Int[np.ndarray, " step"]:
        """Items of a user, oldest first."""
        return self._items[self._starts[user] : self._starts[user + 1]]

    def preferences(self, user: int) -> Sequence[ReadPreference]:
        """What was read last in a user's reviews, strongest first."""
        return self._preferences.get(user, ())

    def page(self, query: str, *, start: int, count: int) -> UserPage:
        """Users whose id has this text in it; all where it is empty."""
        found = self._lower.str.contains(query.strip().lower(), literal=True)
        numbers = np.flatnonzero(found.to_numpy())
        chosen = numbers[start : start + count].tolist()
        return UserPage(total=len(numbers), users=[self._keys[number] for number in chosen])

    def view(self, key: str, items: ServedItems) -> UserView:
        """A user's history and what was read in it.

        Raises:
            RequestRefused: If there is none of this id.
        """
        user = self.number(key)
        begin, end = self._starts[user : user + 2].tolist()
        met = self._interactions[begin:end]
        history = [
            HistoryItem(
                item=items.item(item),
                position=position,
                rating=rating,
                review_id=review_id,
                review=text,
            )
            for item, position, rating, review_id, text in met.select(
                "item_id", "position", "rating", "review_id", "text"
            ).iter_rows()
        ]
        return UserView(id=key, history=history, preferences=list(self.preferences(user)))

    def _quoted(self, tables: Artifact, preferences: Artifact) -> Mapping[int, str]:
        """What the evidence counts, by review."""
        if preferences.manifest.configuration.get("source") == "items":
            texts = tables.table(ITEM_TEXTS).select("item_id", quoted="text")
            found = self._interactions.join(texts, on="item_id", how="left")
        else:
            found = self._interactions.with_columns(quoted="text")
        return dict(found.select("review_id", pl.col("quoted").fill_null("")).iter_rows())


def _newest(
    preferences: Artifact, quoted: Mapping[int, str]
) -> Mapping[int, Sequence[ReadPreference]]:
    """The preferences of everybody's last position, strongest first."""
    table = preferences.table(PREFERENCES)
    newest = table.filter(pl.col("valid_from") == pl.col("valid_from").max().over("subject_id"))
    found: dict[int, list[ReadPreference]] = {}
    for row in newest.sort("subject_id", "preference_number").iter_rows(named=True):
        quotes = [
            quote(span["source_id"], span["start"], span["end"], quoted)
            for span in row["evidence"]
            if span["source_id"] in quoted
        ]
        found.setdefault(row["subject_id"], []).append(
            ReadPreference(
                text=row["text"],
                polarity=row["polarity"],
                aspect=row["aspect"],
                strength=row["strength"],
                confidence=row["confidence"],
                evidence=quotes,
            )
        )
    return found


def quote(source: int, start: int, end: int, quoted: Mapping[int, str]) -> Quote:
    """The characters of a text that say something."""
    return Quote(source=source, start=start, end=end, quote=quoted[source][start:end])
