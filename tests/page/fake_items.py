"""A small shop that answers as recommendations do: by arithmetic, so that a test knows the answer.

An item has a value from -1 to 1 on each of six attributes, and a popularity. A wish moves an item
by its strength times the item's value; a wish in words is about the attributes whose words it
holds, or else about the items whose title holds one of its longer words.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from personalize.api.messages import (
    AddedItem,
    Conditioning,
    HistoryItem,
    Item,
    ItemFilters,
    ItemFound,
    ItemQuery,
    ItemsFound,
    ItemsPage,
    NewItem,
    PreferencesAnswer,
    Quote,
    ReadPreference,
    ReadRequest,
    Reason,
    Steering,
    UsedWish,
    UserPage,
    UserView,
    Wish,
)
from personalize.api.ports import Answers, ItemsHalf, RequestRefused
from tests.page import fake_steering

HOSTILE = "<img src=x onerror=\"document.title='taken over'\"> Nice 🎒 bag. It is light to carry."
ATTRIBUTES: Mapping[str, tuple[str, str, str]] = {
    "weight": (
        "Looks for light things that are easy to carry.",
        "Avoids things that are heavy or bulky.",
        "light|heavy|carry|bulky",
    ),
    "durability": (
        "Looks for durable, solidly built things that last.",
        "Avoids things that are flimsy, wear out or break.",
        "durable|sturdy|solid|last|flimsy|break",
    ),
    "sound": (
        "Looks for a good, clear sound and little noise.",
        "Avoids things that are loud or sound bad.",
        "sound|noise|quiet|loud",
    ),
    "ease_of_use": (
        "Looks for things that are simple and easy to use.",
        "Avoids things that are complicated.",
        "simple|easy to use|intuitive|complicated",
    ),
    "appearance": (
        "Looks for beautiful design, colour and finish.",
        "Avoids things that look ugly, dull or cheap.",
        "beautiful|design|colour|ugly|dull",
    ),
    "price": (
        "Looks for low prices and good value for the money.",
        "Avoids things that cost more than they are worth.",
        "price|value|cheap|cost|expensive",
    ),
}
_KINDS = (
    ("Trail Backpack", ("Outdoor", "Backpacks"), (0.9, 0.2, 0.0, 0.1, 0.2, 0.3)),
    ("City Backpack", ("Outdoor", "Backpacks"), (0.4, 0.4, 0.0, 0.5, 0.8, 0.1)),
    ("Expedition Tent", ("Outdoor", "Tents"), (-0.8, 0.9, 0.0, -0.6, 0.0, -0.5)),
    ("Running Shoe", ("Sport", "Shoes"), (0.8, -0.2, 0.1, 0.2, 0.5, 0.0)),
    ("Office Headset", ("Electronics", "Headsets"), (0.3, 0.1, 0.7, 0.4, -0.3, 0.4)),
    ("Studio Headphones", ("Electronics", "Headsets"), (-0.3, 0.5, 1.0, -0.1, 0.4, -0.7)),
    ("Smoothie Blender", ("Kitchen", "Blenders"), (-0.2, 0.1, -0.9, 0.7, 0.2, 0.3)),
    ("Cast-Iron Pan", ("Kitchen", "Pans"), (-1.0, 1.0, 0.0, 0.2, 0.3, 0.2)),
)
GOALS = (
    {"name": "popularity", "unit": "", "meaning": "met more often", "low": 0.0, "high": 1.0},
    {"name": "lightness", "unit": "g", "meaning": "lighter", "low": -1.0, "high": 1.0},
    {"name": "novelty", "unit": "", "meaning": "newer", "low": 0.0, "high": 1.0},
)
"""Of the last one nothing is known."""
_WORTH = 4.0
_BRANDS = (("Norvik", 0.25, 0), ("Larkfield", -0.05, 2400), ("Ivarsen", -0.3, -1500))


def _wares() -> dict[str, tuple[Item, tuple[float, ...], float]]:
    """Every kind of every brand: the item, its values, its popularity."""
    found = {}
    for row, (kind, categories, values) in enumerate(_KINDS):
        for column, (brand, shift, cents) in enumerate(_BRANDS):
            number = row * len(_BRANDS) + column
            moved = tuple(max(-1.0, min(1.0, value + shift)) for value in values)
            item = Item(
                id=f"shop-item-{number:03d}",
                title=f"{brand} {kind}",
                brand=brand,
                categories=list(categories),
                price_cents=5900 + 1700 * row + cents if number != 5 else None,
                description=f"A {kind.lower()} by {brand}.",
                semantic_id=[row, column, number % 7],
                added=False,
            )
            found[item.id] = (item, moved, ((number * 11) % 24) / 24)
    return found


_REVIEWS: Mapping[str, Sequence[tuple[str, float | None, str | None]]] = {
    "shop-user-001": (
        ("shop-item-000", 5.0, "Love it. So light, I carry it all day without noticing."),
        ("shop-item-013", 4.0, "Very clear sound, and hardly any noise from the street."),
        ("shop-item-018", 2.0, "Too loud for our kitchen. It looks beautiful, though."),
        ("shop-item-009", 5.0, None),
    ),
    "shop-user-002": (
        ("shop-item-021", 5.0, "Solid as a rock, this will last for generations."),
        ("shop-item-006", 4.0, "Sturdy poles. Good value for the money."),
    ),
    "shop-user-003": (("shop-item-001", 4.0, HOSTILE), ("shop-item-004", None, "Fine.")),
}
_READ: Mapping[str, Sequence[tuple[str, str, float, tuple[tuple[int, str], ...]]]] = {
    "shop-user-001": (
        ("weight", "like", 0.8, ((0, "So light, I carry it all day without noticing."),)),
        (
            "sound",
            "like",
            0.6,
            ((1, "Very clear sound"), (2, "Too loud for our kitchen.")),
        ),
        ("appearance", "like", 0.4, ((2, "It looks beautiful, though."),)),
    ),
    "shop-user-002": (
        ("durability", "like", 0.9, ((0, "this will last for generations"), (1, "Sturdy poles."))),
        ("price", "like", 0.5, ((1, "Good value for the money."),)),
    ),
    "shop-user-003": (("weight", "like", 0.7, ((0, "It is light to carry."),)),),
}


class FakeItems(ItemsHalf):
    """The shop: 24 items, three users."""

    def __init__(self) -> None:
        self.wares = _wares()

    def facts(self) -> Mapping[str, Any]:
        return {
            "model": "arithmetic",
            "modes": ["hybrid", "dense", "generative"],
            "items": len(self.wares),
            "users": len(_REVIEWS),
            "attributes": [{"name": name, "text": row[0]} for name, row in ATTRIBUTES.items()],
            "steering": fake_steering.facts(GOALS),
        }

    def self_query(self) -> None:
        self.retrieve([ItemQuery()])

    def retrieve(self, queries: Sequence[ItemQuery]) -> Answers[ItemsFound]:
        answers: Answers[ItemsFound] = []
        for query in queries:
            try:
                answers.append(self._found(query))
            except RequestRefused as refused:
                answers.append(refused)
        return answers

    def read(self, request: ReadRequest) -> PreferencesAnswer:
        if request.reviews is None:
            raise RequestRefused("A scene is read by the other half.", param="scene")
        found = []
        for number, review in enumerate(request.reviews):
            source = number if review.id is None else review.id
            for name, (liked, avoided, words) in ATTRIBUTES.items():
                hit = re.search(words, review.text, re.IGNORECASE)
                if hit:
                    unhappy = review.rating is not None and review.rating < 3
                    quote = Quote(source=source, start=hit.start(), end=hit.end(), quote=hit[0])
                    found.append(
                        ReadPreference(
                            text=avoided if unhappy else liked,
                            polarity="avoid" if unhappy else "like",
                            aspect=name,
                            strength=0.5,
                            confidence=0.5,
                            evidence=[quote],
                        )
                    )
        return PreferencesAnswer(
            extractor="words",
            extractor_version="1",
            preferences=found,
            conditioning=Conditioning(
                encoder="none", dimensions=list(ATTRIBUTES), values=[0.0] * 6, mask=[False] * 6
            ),
        )

    def add(self, items: Sequence[NewItem]) -> Answers[AddedItem]:
        answers: Answers[AddedItem] = []
        for new in items:
            status = "changed" if new.id in self.wares else "added"
            fields = new.model_dump()
            item = Item(**fields, semantic_id=[9, 9, len(self.wares)], added=True)
            self.wares[new.id] = (item, (0.0,) * 6, 0.5)
            answers.append(AddedItem(id=new.id, status=status, semantic_id=item.semantic_id))
        return answers

    def items(self, query: str, *, start: int, count: int) -> ItemsPage:
        words = query.lower().split()
        found = [
            item
            for item, _, _ in self.wares.values()
            if all(word in _searched(item) for word in words)
        ]
        return ItemsPage(total=len(found), items=found[start : start + count])

    def item(self, item: str) -> Item:
        return self._ware(item)[0]

    def users(self, query: str, *, start: int, count: int) -> UserPage:
        found = [user for user in _REVIEWS if query in user]
        return UserPage(total=len(found), users=found[start : start + count])

    def user(self, user: str) -> UserView:
        if user not in _REVIEWS:
            raise RequestRefused(f"There is no user {user!r}.", param="user", status=404)
        history = [
            HistoryItem(
                item=self.item(item),
                position=place,
                rating=rating,
                review_id=40 + place,
                review=review,
            )
            for place, (item, rating, review) in enumerate(_REVIEWS[user])
        ]
        return UserView(
            id=user,
            history=history,
            preferences=[
                ReadPreference(
                    text=ATTRIBUTES[name][0] if polarity == "like" else ATTRIBUTES[name][1],
                    polarity="like" if polarity == "like" else "avoid",
                    aspect=name,
                    strength=strength,
                    confidence=0.9,
                    evidence=[_quote(history[place], words) for place, words in quotes],
                )
                for name, polarity, strength, quotes in _READ[user]
            ],
        )

    def _ware(self, item: str) -> tuple[Item, tuple[float, ...], float]:
        if item not in self.wares:
            raise RequestRefused(f"There is no item {item!r}.", param="history", status=404)
        return self.wares[item]

    def _found(self, query: ItemQuery) -> ItemsFound:
        view = None if query.user is None else self.user(query.user)
        history = query.history
        if history is None:
            history = [] if view is None else [met.item.id for met in view.history]
        wishes = query.preferences
        if wishes is None:
            wishes = [] if view is None else [Wish(text=w.text) for w in view.preferences]
        used = [_used(wish) for wish in wishes]
        allowed = [
            item for item, _, _ in self.wares.values() if _passes(item, query.filters, history)
        ]
        asked = self._scores(allowed, history, used, query.mode)
        plain = self._scores(allowed, history, [], query.mode)
        plain_ranks = _ranks(plain)
        without = [
            self._scores(allowed, history, used[:n] + used[n + 1 :], query.mode)
            for n in range(len(used))
        ]
        ranks_without = [_ranks(scores) for scores in without]
        best = sorted(allowed, key=lambda item: (-asked[item.id], item.id))[: query.k]
        steered = None
        if query.steering is not None:
            firm = fake_steering.firmness(query.steering, GOALS, "steering")
            tilted = {i.id: asked[i.id] + firm * self._worth(i, query.steering) for i in allowed}
            order = sorted(allowed, key=lambda item: (-tilted[item.id], item.id))[: query.k]
            lists = (self._goal_values(one) for one in (best, order))
            steered, best = fake_steering.told(query.steering, GOALS, *lists), order
        return ItemsFound(
            model="arithmetic",
            mode=query.mode,
            history=history,
            preferences=used,
            compared=len(allowed),
            steered=steered,
            items=[
                ItemFound(
                    item=item,
                    score=asked[item.id],
                    score_change=asked[item.id] - plain[item.id],
                    rank_without_preferences=plain_ranks[item.id],
                    reasons=sorted(
                        (
                            Reason(
                                preference=n,
                                score_change=asked[item.id] - without[n][item.id],
                                rank_without=ranks_without[n][item.id],
                            )
                            for n in range(len(used))
                            if query.explain
                        ),
                        key=lambda reason: -abs(reason.score_change),
                    ),
                )
                for item in best
            ],
        )

    def _worth(self, item: Item, asked: Steering) -> float:
        values = self._goal_values([item])
        return sum(
            _WORTH * (2 * wanted - 1) * (values[name] or 0.0)
            for name, wanted in asked.goals.items()
        )

    def _goal_values(self, items: Sequence[Item]) -> dict[str, float | None]:
        """Mean values of a list."""
        wares = [self._ware(item.id) for item in items]
        count = max(len(wares), 1)
        return {
            "popularity": sum(popularity for _, _, popularity in wares) / count,
            "lightness": sum(values[0] for _, values, _ in wares) / count,
            "novelty": None,
        }

    def _scores(
        self, items: Sequence[Item], history: Sequence[str], used: Sequence[UsedWish], mode: str
    ) -> dict[str, float]:
        near = {self._ware(met)[0].categories[-1] for met in history}
        found = {}
        for item in items:
            _, values, popularity = self._ware(item.id)
            score = popularity * (0.5 if mode == "dense" else 1.0)
            score += 0.3 * bool(near & set(item.categories))
            for wish in used:
                sign = 1.0 if wish.polarity == "like" else -1.0
                score += sign * wish.strength * _value(item, values, wish)
            found[item.id] = round(score, 6)
        return found


def _used(wish: Wish) -> UsedWish:
    if wish.attribute is None:
        return UsedWish(text=wish.text or "", polarity=wish.polarity, strength=wish.strength)
    if wish.attribute not in ATTRIBUTES:
        raise RequestRefused(f"There is no attribute {wish.attribute!r}.", param="preferences")
    liked, avoided, _ = ATTRIBUTES[wish.attribute]
    return UsedWish(
        text=liked if wish.polarity == "like" else avoided,
        polarity=wish.polarity,
        strength=wish.strength,
        attribute=wish.attribute,
    )


def _value(item: Item, values: Sequence[float], wish: UsedWish) -> float:
    """How much an item is what a wish is about, -1 to 1."""
    about = [
        value
        for value, (name, (_, _, words)) in zip(values, ATTRIBUTES.items(), strict=True)
        if name == wish.attribute
        or (wish.attribute is None and re.search(words, wish.text, re.IGNORECASE))
    ]
    if about:
        return sum(about) / len(about)
    words = {word for word in re.findall(r"\w+", wish.text.lower()) if len(word) > 3}
    return float(bool(words & set(re.findall(r"\w+", _searched(item)))))


def _passes(item: Item, filters: ItemFilters, history: Sequence[str]) -> bool:
    price = item.price_cents
    least, most = filters.least_price_cents, filters.most_price_cents
    return (
        (filters.allow is None or item.id in filters.allow)
        and item.id not in filters.deny
        and (filters.seen == "include" or item.id not in history)
        and (filters.categories is None or bool(set(filters.categories) & set(item.categories)))
        and (filters.brands is None or item.brand in filters.brands)
        and (least is None or (price is not None and price >= least))
        and (most is None or (price is not None and price <= most))
    )


def _ranks(scores: Mapping[str, float]) -> dict[str, int]:
    order = sorted(scores, key=lambda item: (-scores[item], item))
    return {item: place + 1 for place, item in enumerate(order)}


def _searched(item: Item) -> str:
    return " ".join([item.title or "", item.brand or "", *item.categories]).lower()


def _quote(met: HistoryItem, words: str) -> Quote:
    start = (met.review or "").index(words)
    return Quote(source=met.review_id, start=start, end=start + len(words), quote=words)
