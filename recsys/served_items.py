"""The items that are served: what is known of each, and which ones a filter lets pass."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from data_prep.reviews.item_texts import metadata_text
from personalize.api.messages import Item, ItemFilters, ItemsPage, NewItem
from personalize.api.ports import RequestRefused
from personalize.api.retriever import EVERYTHING, IdFilter
from recsys.recommender import Filters

_MOST_FILTERS = 64  # remembered; each holds a mask over the catalogue
_NO_PRICE = -1


class ItemFacts(NamedTuple):
    """What the catalogue says of one item."""

    key: str
    title: str | None
    brand: str | None
    categories: tuple[str, ...]
    price_cents: int | None
    description: str | None

    @classmethod
    def of(cls, item: NewItem) -> "ItemFacts":
        """What a message says of an item."""
        return cls(
            item.id,
            item.title,
            item.brand,
            tuple(item.categories),
            item.price_cents,
            item.description,
        )

    @property
    def text(self) -> str | None:
        """The text the item is known by, composed as for the items of the tables."""
        return metadata_text(*self[1:])


@dataclass(frozen=True, eq=False)
class Allowed:
    """Which items may be found, in the forms that searches ask for.

    Attributes:
        mask: One flag per item; None lets all pass.
        ids: The same for a search by vectors.
    """

    mask: Bool[np.ndarray, " item"] | None = None
    ids: IdFilter = EVERYTHING

    def filters(self, *, exclude_history: bool) -> Filters:
        """The same for a search over semantic IDs."""
        mask = None if self.mask is None else torch.from_numpy(self.mask)
        return Filters(exclude_history=exclude_history, allowed_items=mask)

    def among(self, item_ids: Int[np.ndarray, " item_id"]) -> IdFilter:
        """Those of some items that may be found."""
        return IdFilter(item_ids if self.mask is None else item_ids[self.mask[item_ids]])


ALL = Allowed()


class ServedItems:
    """All items by number; made anew where one is added or changed.

    Args:
        facts: What is known of each.
        codes: Their semantic IDs.
        trained: How many of them, the first ones, the model was trained on.
    """

    def __init__(
        self, facts: Sequence[ItemFacts], codes: Int[Tensor, "item level"], *, trained: int
    ) -> None:
        self.facts = list(facts)
        self.trained = trained
        self._codes = codes
        self._numbers = {entry.key: number for number, entry in enumerate(self.facts)}
        self._messages: dict[int, Item] = {}
        self._filters: OrderedDict[str, Allowed] = OrderedDict()

    @classmethod
    def from_table(cls, items: pl.DataFrame, codes: Int[Tensor, "item level"]) -> "ServedItems":
        """The items of the table of that name."""
        columns = ("item_key", "title", "brand", "categories", "price_cents", "description")
        rows = items.sort("item_id").select(columns).iter_rows()
        facts = [ItemFacts(k, t, b, tuple(c), p, d) for k, t, b, c, p, d in rows]
        return cls(facts, codes, trained=len(facts))

    def __len__(self) -> int:
        """Number of items."""
        return len(self.facts)

    def changed(
        self, facts: Mapping[int, ItemFacts], codes: Int[Tensor, "item level"]
    ) -> "ServedItems":
        """The items with some of them changed and others at the end."""
        entries = self.facts + [facts[n] for n in sorted(facts) if n >= len(self)]
        for number, entry in facts.items():
            entries[number] = entry
        return ServedItems(entries, codes, trained=self.trained)

    def number(self, key: str, *, param: str | None = None) -> int:
        """The number of an item.

        Raises:
            RequestRefused: If there is none of this id.
        """
        number = self._numbers.get(key)
        if number is None:
            raise RequestRefused(f"There is no item {key!r}.", param=param, status=404)
        return number

    def numbers(self, keys: Iterable[str], *, param: str) -> Int[np.ndarray, " item_id"]:
        """The numbers of items, in their order.

        Raises:
            RequestRefused: If there is none of one of these ids.
        """
        return np.fromiter((self.number(key, param=param) for key in keys), np.int64)

    def known(self, key: str) -> int | None:
        """The number of an item, if there is one."""
        return self._numbers.get(key)

    def item(self, number: int) -> Item:
        """One item as a message."""
        found = self._messages.get(number)
        if found is None:
            entry = self.facts[number]
            found = self._messages[number] = Item(
                id=entry.key,
                title=entry.title,
                brand=entry.brand,
                categories=list(entry.categories),
                price_cents=entry.price_cents,
                description=entry.description,
                semantic_id=self._codes[number].tolist(),
                added=number >= self.trained,
            )
        return found

    def page(self, query: str, *, start: int, count: int) -> ItemsPage:
        """Items whose id, title, brand or category has these words; all where there are none."""
        found = pl.Series(np.ones(len(self), np.bool_))
        for word in query.casefold().split():
            found &= self._words.str.contains(word, literal=True)
        numbers = np.flatnonzero(found.to_numpy())
        chosen = numbers[start : start + count].tolist()
        return ItemsPage(total=len(numbers), items=[self.item(number) for number in chosen])

    def allowed(self, filters: ItemFilters) -> Allowed:
        """Which items the filters let pass, those of the history aside.

        Raises:
            RequestRefused: If a filter names what does not exist.
        """
        if not (
            filters.deny
            or filters.allow is not None
            or filters.categories is not None
            or filters.brands is not None
            or filters.least_price_cents is not None
            or filters.most_price_cents is not None
        ):
            return ALL
        name = filters.model_dump_json(exclude={"seen"})
        found = self._filters.get(name)
        if found is None:
            found = self._filters[name] = self._new_filter(filters)
        self._filters.move_to_end(name)
        if len(self._filters) > _MOST_FILTERS:
            self._filters.popitem(last=False)
        return found

    def _new_filter(self, filters: ItemFilters) -> Allowed:
        mask = np.ones(len(self), np.bool_)
        if filters.allow is not None:
            mask &= self._members([self.numbers(filters.allow, param="filters.allow")])
        for index, names, param in (
            (self._by_category, filters.categories, "filters.categories"),
            (self._by_brand, filters.brands, "filters.brands"),
        ):
            if names is not None:
                mask &= self._members([_named(index, name, param) for name in names])
        if filters.least_price_cents is not None or filters.most_price_cents is not None:
            mask &= self._prices != _NO_PRICE
            mask &= self._prices >= (filters.least_price_cents or 0)
        if filters.most_price_cents is not None:
            mask &= self._prices <= filters.most_price_cents
        mask[self.numbers(filters.deny, param="filters.deny")] = False
        return Allowed(mask, IdFilter(only=np.flatnonzero(mask)))

    def _members(self, groups: Sequence[Int[np.ndarray, " _"]]) -> Bool[np.ndarray, " item"]:
        mask = np.zeros(len(self), np.bool_)
        for group in groups:
            mask[group] = True
        return mask

    @cached_property
    def _words(self) -> pl.Series:
        """What a search by words looks at."""
        parts = ((e.key, e.title or "", e.brand or "", *e.categories) for e in self.facts)
        return pl.Series([" ".join(part).casefold() for part in parts], dtype=pl.String)

    @cached_property
    def _by_category(self) -> Mapping[str, Int[np.ndarray, " _"]]:
        return _index((n, name) for n, e in enumerate(self.facts) for name in set(e.categories))

    @cached_property
    def _by_brand(self) -> Mapping[str, Int[np.ndarray, " _"]]:
        return _index((n, e.brand) for n, e in enumerate(self.facts) if e.brand is not None)

    @cached_property
    def _prices(self) -> Int[np.ndarray, " item"]:
        prices = (_NO_PRICE if e.price_cents is None else e.price_cents for e in self.facts)
        return np.fromiter(prices, np.int64, count=len(self))


def _index(pairs: Iterable[tuple[int, str]]) -> Mapping[str, Int[np.ndarray, " _"]]:
    """Numbers by name."""
    found: dict[str, list[int]] = {}
    for number, name in pairs:
        found.setdefault(name, []).append(number)
    return {name: np.array(numbers) for name, numbers in found.items()}


def _named(
    index: Mapping[str, Int[np.ndarray, " _"]], name: str, param: str
) -> Int[np.ndarray, " _"]:
    if name not in index:
        kind = param.rsplit(".", maxsplit=1)[-1]
        raise RequestRefused(f"No item has {name!r} among its {kind}.", param=param)
    return index[name]
