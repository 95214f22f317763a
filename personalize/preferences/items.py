"""Preferences from the items a person chose, for data without review text.

A person who bought nail polish twice looks for nail polish: recent special categories, brands and
words that recur in titles become preferences. They say what was chosen, not why; nothing is ever
avoided. The extractor is named `extractive`, its version says that it read item metadata.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from personalize.preferences.record import Evidence, Preference

VERSION = "1+item-metadata"
_WORD = re.compile(r"[^\W\d_]{3,}")
_DISLIKED_STARS = 2.0


@dataclass(frozen=True)
class Trait:
    """One thing an item is known by, and the characters of its text that say so."""

    aspect: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Choice:
    """One item in a person's history."""

    review_id: int
    item_id: int
    rating: float | None = None


@dataclass(frozen=True)
class ItemSettings:
    """The numbers of the extractor.

    Attributes:
        most: Preferences kept at one position.
        half_life: Later items after which an item counts half.
        least_repeats: Items of one person a title word must occur in.
        least_items: Items of the catalogue a title word must occur in.
        greatest_share: Share of the catalogue above which a title word says nothing.
        most_evidence: Spans kept for one preference, the newest.
    """

    most: int = 12
    half_life: float = 6.0
    least_repeats: int = 2
    least_items: int = 10
    greatest_share: float = 0.05
    most_evidence: int = 3


def item_traits(
    text: str | None, title: str | None, brand: str | None, categories: Sequence[str]
) -> Iterator[Trait]:
    """What an item is known by: its most special category, its brand, the words of its title.

    Only what stands in the item's text yields a trait: the span is the evidence.

    Example:
        >>> traits = item_traits("OPI Red. Makeup, Nail Polish", "OPI Red", None, ["Nail Polish"])
        >>> [(trait.aspect, trait.text) for trait in traits]
        [('category', 'Looks for nail polish.'), ('title', 'opi'), ('title', 'red')]
    """
    if not text:
        return
    if categories and (place := _places(text, categories[-1])):
        inner = [name.casefold() for name in categories[1:-1]]
        within = f" ({', '.join(inner)})" if inner else ""
        yield Trait("category", f"Looks for {categories[-1].casefold()}{within}.", *place[-1])
    if brand and (place := _places(text, brand)):
        yield Trait("brand", f"Looks for products by {brand}.", *place[0])
    if title and (place := _places(text, title)):
        seen = set()
        for match in _WORD.finditer(text, *place[0]):
            word = match.group().casefold()
            if word not in seen:
                seen.add(word)
                yield Trait("title", word, *match.span())


def _places(text: str, phrase: str) -> list[tuple[int, int]]:
    """Where a phrase stands in a text, whatever the case of its letters."""
    found = re.finditer(re.escape(phrase), text, re.IGNORECASE)
    return [match.span() for match in found if match.group()]


def frequent_words(traits: Mapping[int, Sequence[Trait]], settings: ItemSettings) -> frozenset[str]:
    """Title words that occur in enough items to mean something and in few enough to tell."""
    counts: dict[str, int] = {}
    for found in traits.values():
        for trait in found:
            if trait.aspect == "title":
                counts[trait.text] = counts.get(trait.text, 0) + 1
    most = max(settings.greatest_share * len(traits), settings.least_items)
    return frozenset(w for w, n in counts.items() if settings.least_items <= n <= most)


def kept_traits(
    traits: Mapping[int, Sequence[Trait]], settings: ItemSettings
) -> dict[int, tuple[Trait, ...]]:
    """The traits of each item, title words only where they tell items apart."""
    words = frequent_words(traits, settings)
    return {
        item: tuple(t for t in found if t.aspect != "title" or t.text in words)
        for item, found in traits.items()
    }


def item_snapshots(
    subject_id: int,
    choices: Sequence[Choice],
    traits: Mapping[int, Sequence[Trait]],
    settings: ItemSettings,
) -> Iterator[tuple[Preference, ...]]:
    """The snapshots of one person at the positions 1 to the last; see `aggregate.snapshots`.

    An item with two stars or fewer was no good choice and counts for nothing.
    """
    decay = 0.5 ** (1.0 / settings.half_life)
    weights: dict[tuple[str, str], float] = {}
    spans: dict[tuple[str, str], list[Evidence]] = {}
    for position in range(1, len(choices)):
        choice = choices[position - 1]
        found = traits.get(choice.item_id, ())
        if not found or (choice.rating is not None and choice.rating <= _DISLIKED_STARS):
            continue
        for key in weights:
            weights[key] *= decay
        for trait in found:
            key = (trait.aspect, trait.text)
            weights[key] = weights.get(key, 0.0) + 1.0
            spans.setdefault(key, []).append(Evidence(choice.review_id, trait.start, trait.end))
        if now := _strongest(subject_id, position, weights, spans, settings):
            yield now


def _strongest(
    subject_id: int,
    position: int,
    weights: Mapping[tuple[str, str], float],
    spans: Mapping[tuple[str, str], Sequence[Evidence]],
    settings: ItemSettings,
) -> tuple[Preference, ...]:
    telling = [
        (-round(weight, 6), key)
        for key, weight in weights.items()
        if key[0] != "title" or len(spans[key]) >= settings.least_repeats
    ]
    telling.sort()
    return tuple(
        Preference(
            subject_id=subject_id,
            valid_from=position,
            text=f'Looks for things called "{key[1]}".' if key[0] == "title" else key[1],
            polarity="like",
            aspect=key[0],
            strength=round(-weight / (1.0 - weight), 3),
            confidence=round(1.0 - 0.5 ** len(spans[key]), 3),
            evidence=tuple(spans[key][-settings.most_evidence :]),
            extractor="extractive",
            extractor_version=VERSION,
        )
        for weight, key in telling[: settings.most]
    )
