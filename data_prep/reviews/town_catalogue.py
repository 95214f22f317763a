"""The simulated town's shops: items with attributes, prices and the words of a catalogue."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

SIDES: dict[str, tuple[str, str]] = {
    # aspect: what `like` seeks (attribute +1), what `avoid` flees (attribute -1)
    "durability": ("things that last", "things that break or wear out"),
    "price": ("a low price, good value", "a high price, poor value"),
    "ease_of_use": ("simple handling", "complicated or fiddly handling"),
    "size": ("compact things that save space", "bulky things"),
    "weight": ("light things", "heavy things"),
    "appearance": ("good looks", "ugly looks"),
    "comfort": ("soft, comfortable things", "things that hurt, pinch or rub"),
    "scent": ("a pleasant smell", "a bad or overpowering smell"),
    "material": ("fine materials", "thin plastic, poor fabric"),
    "sound": ("clear sound, little noise", "poor sound, much noise"),
    "cleaning": ("easy cleaning", "difficult cleaning"),
    "packaging": ("neat, recyclable packaging", "damaged or wasteful packaging"),
}
ASPECTS = tuple(SIDES)
_BANK_ASPECTS = {"noise": "sound", "audio": "sound"}


@cache
def town_words() -> dict[str, Any]:
    """The town's sentences, categories and brands, from `town_words.yaml`."""
    text = files("data_prep.reviews").joinpath("town_words.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


@dataclass(frozen=True)
class TownItem:
    """One item of the town.

    Attributes:
        category: Number of its category.
        noun: What it is called in a review.
        banks: For every aspect its category knows, the bank of sentences about it.
        title: Title.
        brand: Brand.
        categories: Category names, general to special.
        price_cents: Price in cents.
        description: What the catalogue says; it words some of the attributes.
    """

    category: int
    noun: str
    banks: dict[int, str]
    title: str
    brand: str
    categories: list[str]
    price_cents: int
    description: str


@dataclass(frozen=True)
class Catalogue:
    """All items.

    Attributes:
        items: The items.
        attributes: Item by aspect, from -1 (bad) to 1 (good); NaN where an aspect makes no sense.
        appeal: Popularity of every item before anybody's taste, as a logarithm.
    """

    items: tuple[TownItem, ...]
    attributes: npt.NDArray[np.float64]
    appeal: npt.NDArray[np.float64]


def town_catalogue(item_count: int, seed: int) -> Catalogue:
    """A simulated catalogue; the same numbers give the same items.

    Args:
        item_count: Number of items.
        seed: Start of the random numbers.
    """
    random = np.random.default_rng([seed, 1])
    words = town_words()
    categories = words["categories"]
    attributes = np.full((item_count, len(ASPECTS)), np.nan)
    items = []
    for number in range(item_count):
        category = number % len(categories)
        kind = categories[category]
        banks = {ASPECTS.index(_BANK_ASPECTS.get(bank, bank)): bank for bank in kind["aspects"]}
        values = random.choice([-1.0, 1.0], len(banks)) * random.beta(3.0, 1.5, len(banks))
        attributes[number, list(banks)] = values
        brand = words["brands"][random.integers(len(words["brands"]))]
        model = random.choice(kind["kinds"])
        title = f"{brand} {_adjective(banks, attributes[number], random)} {model} {100 + number}"
        items.append(
            TownItem(
                category=category,
                noun=kind["noun"],
                banks=banks,
                title=title,
                brand=brand,
                categories=[kind["group"], kind["name"], f"{model}s"],
                price_cents=_price(kind["cents"], attributes[number, 1], random),
                description=_description(banks, attributes[number], brand, model, random),
            )
        )
    order = random.permutation(item_count)
    appeal = -0.5 * np.log1p(np.arange(item_count))[order]
    return Catalogue(tuple(items), attributes, appeal - appeal.mean())


def _adjective(
    banks: dict[int, str], values: npt.NDArray[np.float64], random: np.random.Generator
) -> str:
    """A word of the title that tells the item's best side."""
    best = max(banks, key=lambda aspect: values[aspect])
    return random.choice(town_words()["aspects"][banks[best]]["titles"])


def _description(
    banks: dict[int, str],
    values: npt.NDArray[np.float64],
    brand: str,
    model: str,
    random: np.random.Generator,
) -> str:
    """An opening and words on the three to five attributes that stand out most."""
    words = town_words()
    opening = words["openings"][random.integers(len(words["openings"]))]
    telling = sorted(banks, key=lambda aspect: -abs(values[aspect]))[: random.integers(3, 6)]
    said = [opening.format(kind=model, brand=brand)]
    for aspect in telling:
        phrases = words["aspects"][banks[aspect]]["sells"]["high" if values[aspect] > 0 else "low"]
        said.append(f"{phrases[random.integers(len(phrases))]}.")
    return " ".join(said)


def _price(base_cents: int, value: float, random: np.random.Generator) -> int:
    """A price around the category's usual one; a good price attribute is a low price."""
    cents = base_cents * float(np.exp(-0.7 * value + 0.1 * random.standard_normal()))
    return max(199, round(cents / 100) * 100 - 1)
