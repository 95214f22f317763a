"""The simulated town's people: what they like and avoid, and what they therefore choose.

What the two polarities mean: an attribute of +1 is the good side of its aspect (light, quiet,
cheap, compact, ...), -1 the bad side. `like` seeks the good side: such a person gains from items
that have it and praises it. `avoid` flees the bad side: such a person loses by items that have it
and complains about it. So `avoid weight` is an aversion to heavy things. `SIDES` in
`town_catalogue` says what each side of each aspect is. In a review the polarity of a mention is
the sentiment of its sentence towards its aspect, whoever says it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.reviews.town_catalogue import ASPECTS, Catalogue, town_words

Scores = npt.NDArray[np.float64]

MATCH_WEIGHT = 4.0
TASTE_WEIGHT = 1.2
HABIT_WEIGHT = 1.8
BRAND_WEIGHT = 0.5
APPEAL_WEIGHT = 0.5
AVOID_CARE = 0.6  # bad sides are often noticed only after the purchase, hence the complaints


@dataclass(frozen=True)
class TruePreference:
    """One preference of a simulated person.

    Attributes:
        aspect: Number of the aspect.
        like: True for like, false for avoid.
        strength: 0 to 1.
        start: First step of the history at which it holds.
        end: First step at which it no longer holds; the history's length where it holds to the
            end.
    """

    aspect: int
    like: bool
    strength: float
    start: int
    end: int

    def holds(self, step: int) -> bool:
        """Whether the preference holds at a step."""
        return self.start <= step < self.end

    def match(self, values: Scores) -> Scores:
        """What a person gains or loses by items; 0 where the aspect makes no sense.

        Args:
            values: Attribute of each item in this preference's aspect.
        """
        side = np.maximum(values, 0.0) if self.like else AVOID_CARE * np.minimum(values, 0.0)
        return self.strength * np.nan_to_num(side)


@dataclass(frozen=True)
class Person:
    """One simulated person.

    Attributes:
        preferences: All preferences over time.
        taste: How much each category interests the person.
        items: What was chosen, oldest first.
    """

    preferences: tuple[TruePreference, ...]
    taste: Scores
    items: tuple[int, ...]


def town_people(catalogue: Catalogue, user_count: int, seed: int) -> list[Person]:
    """Simulated people and their choices; the same numbers give the same people.

    Args:
        catalogue: What there is to choose from.
        user_count: Number of people.
        seed: Start of the random numbers.
    """
    next_category = _habits(seed)
    people = []
    for number in range(user_count):
        random = np.random.default_rng([seed, 2, number])
        length = min(6 + int(random.poisson(6.5)), len(catalogue.items))
        taste = random.standard_normal(len(next_category))
        preferences = _preferences(length, taste, random)
        noise = random.gumbel(size=(length, len(catalogue.items)))
        chosen: list[int] = []
        for step in range(length):
            scores = choice_scores(catalogue, next_category, preferences, taste, chosen)
            scores = scores + noise[step]
            scores[chosen] = -np.inf
            chosen.append(int(scores.argmax()))
        people.append(Person(tuple(preferences), taste, tuple(chosen)))
    return people


def choice_scores(
    catalogue: Catalogue,
    next_category: Scores,
    preferences: list[TruePreference],
    taste: Scores,
    history: list[int],
) -> Scores:
    """How much a person is drawn to every item, before chance.

    The sum of preference match, interest in the category, habit (what is bought after what),
    loyalty to the last brand, and popularity.

    Args:
        catalogue: The items.
        next_category: Category by category: what tends to follow what.
        preferences: The person's preferences; those that hold at this step count.
        taste: Interest in each category.
        history: Items chosen so far.
    """
    category = np.array([item.category for item in catalogue.items])
    scores = APPEAL_WEIGHT * catalogue.appeal + TASTE_WEIGHT * taste[category]
    for preference in preferences:
        if preference.holds(len(history)):
            values = catalogue.attributes[:, preference.aspect]
            scores = scores + MATCH_WEIGHT * preference.match(values)
    if history:
        last = catalogue.items[history[-1]]
        same_brand = np.array([item.brand == last.brand for item in catalogue.items])
        scores = scores + HABIT_WEIGHT * next_category[last.category][category]
        scores = scores + BRAND_WEIGHT * same_brand
    return scores


def town_habits(seed: int) -> Scores:
    """Category by category: 1 for what tends to follow, 0 for the rest."""
    return _habits(seed)


def _habits(seed: int) -> Scores:
    random = np.random.default_rng([seed, 3])
    count = len(town_words()["categories"])
    follows = np.zeros((count, count))
    for category, next_one in enumerate(random.permutation(count)):
        follows[category, next_one] = 1.0
        follows[category, category] += 0.5
    return follows


def _preferences(length: int, taste: Scores, random: np.random.Generator) -> list[TruePreference]:
    """Two to five preferences; perhaps one or two of them give way to others midway."""
    known = _aspect_weights(taste)
    count = int(random.integers(2, 6))
    changes = int(random.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))
    aspects = random.choice(len(ASPECTS), count + changes, replace=False, p=known)
    like = random.random(count + changes) < 0.55
    strength = random.uniform(0.5, 1.0, count + changes)
    turn = np.sort(random.integers(round(0.35 * length), round(0.65 * length) + 1, changes))
    found = []
    for place, aspect in enumerate(aspects):
        replaced = place < min(changes, count)
        start = 0 if place < count else int(turn[place - count])
        end = int(turn[place]) if replaced else length
        if place < count or place - count < count:
            found.append(
                TruePreference(int(aspect), bool(like[place]), float(strength[place]), start, end)
            )
    return found


def _aspect_weights(taste: Scores) -> Scores:
    """People care about aspects that matter in the categories that interest them."""
    categories = town_words()["categories"]
    interest = np.exp(taste)
    weights = np.zeros(len(ASPECTS))
    for kind, share in zip(categories, interest, strict=True):
        for bank in kind["aspects"]:
            name = bank if bank in ASPECTS else "sound"
            weights[ASPECTS.index(name)] += share
    return weights / weights.sum()
