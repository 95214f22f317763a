"""Raw reviews on disk, sorted roughly by person, so that histories are read back in one pass."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from data_prep.reviews.spool import CONTENT, Spool, in_order

BUFFER_BYTES = 64 << 20
RANGES = 32

_KEYS = ["review_id", "user_key", "item_key"]


@dataclass
class UserSpool:
    """Texts by ranges of user keys, each a spool of its own; keys of all reviews by number.

    The first buffer that is full decides where the ranges part. If people come in the order of
    their keys, one range holds nearly all; it is then put in order by a second pass over its files.

    Attributes:
        folder: An empty folder that belongs to the spool.
    """

    folder: Path
    _keys: Spool = field(init=False)
    _ranges: list[Spool] = field(init=False, default_factory=list)
    _bounds: pl.Series | None = None
    _waiting: list[pl.DataFrame] = field(default_factory=list)
    _waiting_bytes: int = 0

    def __post_init__(self) -> None:
        """Make the folder of the keys."""
        self._keys = self._spool("keys")

    def append(self, frame: pl.DataFrame) -> None:
        """Take one block of `RAW_REVIEWS`; review numbers rise from block to block."""
        self._waiting.append(frame)
        self._waiting_bytes += int(frame.estimated_size())
        if self._waiting_bytes >= BUFFER_BYTES:
            self._flush(RANGES)

    def pick(self, review_ids: pl.Series, columns: list[str]) -> pl.DataFrame:
        """Keys of some reviews; see `Spool.pick`."""
        self._flush(1)
        return self._keys.pick(review_ids, columns)

    def in_order(
        self, order: pl.DataFrame, user_keys: pl.Series, folder: Path
    ) -> Iterator[pl.DataFrame]:
        """The content of the wanted reviews, in frames of bounded size; the spool is emptied.

        Args:
            order: Columns `review_id` and `user_id`, sorted by user; its other columns are kept.
            user_keys: Key of every user in the order of their numbers, which is that of the keys.
            folder: An empty folder for intermediate files.
        """
        self._flush(1)
        self._keys.drop()
        bounds = pl.Series([], dtype=pl.String) if self._bounds is None else self._bounds
        first_users = pl.Series([0, *user_keys.search_sorted(bounds)], dtype=order["user_id"].dtype)
        starts = [*order["user_id"].search_sorted(first_users), order.height]
        for number, spool in enumerate(self._ranges):
            part = order[starts[number] : starts[number + 1]]
            if part.height:
                yield from in_order(spool, part, folder)
            spool.drop()

    def _flush(self, ranges: int) -> None:
        if not self._waiting:
            return
        frame = pl.concat(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._keys.append(frame.select(_KEYS))
        if self._bounds is None:
            self._bounds = _quantiles(frame["user_key"], ranges)
            self._ranges = [self._spool(f"{n:02d}") for n in range(len(self._bounds) + 1)]
        place = self._bounds.search_sorted(frame["user_key"], side="right")
        groups = frame.select(CONTENT).with_columns(place.alias("range"))
        parts = groups.partition_by("range", as_dict=True, include_key=False)
        for (number,), part in parts.items():
            self._ranges[int(number)].append(part)

    def _spool(self, name: str) -> Spool:
        (self.folder / name).mkdir()
        return Spool(self.folder / name)


def _quantiles(keys: pl.Series, ranges: int) -> pl.Series:
    """Keys that divide the sorted keys into so many parts of about equal size, each key once."""
    ordered = keys.sort()
    places = [len(ordered) * number // ranges for number in range(1, ranges)]
    return ordered[places].unique(maintain_order=True) if places else ordered[:0]
