"""What the simulated town's people write: sentences that reveal some of what they want."""

from dataclasses import dataclass

import numpy as np

from data_prep.reviews.town_catalogue import ASPECTS, Catalogue, TownItem, town_words
from data_prep.reviews.town_people import Person, TruePreference

LONGEST_REVIEW = 5
OPINIONS_PER_REVIEW = 3
REVEALED_AT_LEAST = 2


@dataclass(frozen=True)
class Opinion:
    """One opinion a review reveals.

    Attributes:
        aspect: Number of the aspect.
        like: Its sentiment: true for praise or seeking, false for complaint or shunning.
        about_item: Whether it speaks of this item, rather than of what the person wants anyway.
    """

    aspect: int
    like: bool
    about_item: bool = True


@dataclass(frozen=True)
class TownReview:
    """One simulated review.

    Attributes:
        rating: Stars, 1 to 5.
        summary: Headline.
        text: Body.
        mentions: Opinions with the sentence each stands in, exactly as in the body.
    """

    rating: int
    summary: str
    text: str
    mentions: tuple[tuple[Opinion, str], ...]


def town_reviews(person: Person, catalogue: Catalogue, seed: int, number: int) -> list[TownReview]:
    """One review for every item the person chose, oldest first.

    Args:
        person: Who writes.
        catalogue: The items.
        seed: Start of the random numbers.
        number: The person's number, so that each writes differently.
    """
    random = np.random.default_rng([seed, 4, number])
    plans = [_opinions(person, catalogue, step, random) for step in range(len(person.items))]
    for preference in person.preferences:
        _reveal_often(plans, preference, person, catalogue, random)
    return [
        _review(catalogue.items[item], plan, random)
        for item, plan in zip(person.items, plans, strict=True)
    ]


def _opinions(
    person: Person, catalogue: Catalogue, step: int, random: np.random.Generator
) -> list[Opinion]:
    """What strikes a person about an item: mostly what they care about."""
    item = person.items[step]
    values = catalogue.attributes[item]
    found = []
    for preference in person.preferences:
        value = values[preference.aspect]
        if not preference.holds(step) or np.isnan(value):
            continue
        shown = value if preference.like else -value
        chance = (0.25 if preference.like else 0.5) + 0.5 * shown  # anger speaks up
        if shown > 0.15 and random.random() < chance:
            found.append(Opinion(preference.aspect, preference.like))
        elif random.random() < 0.04:
            found.append(Opinion(preference.aspect, preference.like, about_item=False))
    if random.random() < 0.03:
        cared_for = {preference.aspect for preference in person.preferences}
        others = [aspect for aspect in catalogue.items[item].banks if aspect not in cared_for]
        if others:
            aspect = int(random.choice(others))
            found.append(Opinion(aspect, bool(values[aspect] > 0)))
    return found[:OPINIONS_PER_REVIEW]


def _reveal_often(
    plans: list[list[Opinion]],
    preference: TruePreference,
    person: Person,
    catalogue: Catalogue,
    random: np.random.Generator,
) -> None:
    """Let a person say what they want anyway, where their items gave too little occasion."""
    steps = [
        step
        for step in range(preference.start, preference.end)
        if preference.aspect in catalogue.items[person.items[step]].banks
    ]
    said = [step for step in steps if any(one.aspect == preference.aspect for one in plans[step])]
    silent = [step for step in steps if step not in said and len(plans[step]) < OPINIONS_PER_REVIEW]
    missing = min(REVEALED_AT_LEAST - len(said), len(silent))
    if missing > 0:
        for step in random.choice(silent, missing, replace=False):
            plans[step].append(Opinion(preference.aspect, preference.like, about_item=False))


def _review(item: TownItem, plan: list[Opinion], random: np.random.Generator) -> TownReview:
    rating = _rating(plan, random)
    mood = "satisfied" if rating >= 4 else "mixed" if rating == 3 else "unhappy"
    words = town_words()
    opinions = _opinion_sentences(item, plan, random)
    room = LONGEST_REVIEW - len(opinions)
    before = _some(words["stories"], int(random.integers(0, min(2, room) + 1)), random)
    room -= len(before)
    needed = not opinions and not before
    after = _some(words[mood], int(room > 0 and (needed or random.random() < 0.5)), random)
    sentences = [(sentence, []) for sentence in before] + opinions
    sentences += [(sentence, []) for sentence in after]
    text, mentions = [], []
    for template, revealed in sentences:
        sentence = _typo(_filled(template, item, random), random)
        text.append(sentence)
        mentions += [(opinion, sentence) for opinion in revealed]
    summary = _filled(_some(words["headlines"][mood], 1, random)[0], item, random)
    return TownReview(rating, summary, " ".join(text), tuple(mentions))


def _rating(plan: list[Opinion], random: np.random.Generator) -> int:
    """Stars follow what is said of the item; sentences on what one wants anyway do not count."""
    about = [1 if opinion.like else -1 for opinion in plan if opinion.about_item]
    praise, complaints = about.count(1), about.count(-1)
    mean = 3.9 + 0.6 * praise - 1.4 * complaints
    return int(np.clip(round(mean + 0.6 * random.standard_normal()), 1, 5))


def _opinion_sentences(
    item: TownItem, plan: list[Opinion], random: np.random.Generator
) -> list[tuple[str, list[Opinion]]]:
    """Sentence templates with the opinions they reveal; two opinions may share a sentence."""
    about = [opinion for opinion in plan if opinion.about_item]
    rest = [opinion for opinion in plan if not opinion.about_item]
    found: list[tuple[str, list[Opinion]]] = []
    if len(about) >= 2:
        first, second = about[0], about[1]
        contrast = first.like != second.like
        if random.random() < (0.45 if contrast else 0.12):
            link = random.choice([", but ", ", although ", ", yet "]) if contrast else " and "
            joined = f"{_clause(item, first, random)}{link}{_clause(item, second, random)}."
            found.append((joined[0].upper() + joined[1:], [first, second]))
            about = about[2:]
    for opinion in about:
        bank = "praise" if opinion.like else "complaint"
        found.append((_sentence(item, opinion, bank, random), [opinion]))
    for opinion in rest:
        bank = "seeks" if opinion.like else "shuns"
        found.append((_sentence(item, opinion, bank, random), [opinion]))
    return [found[place] for place in random.permutation(len(found))]


def _sentence(item: TownItem, opinion: Opinion, bank: str, random: np.random.Generator) -> str:
    return _some(town_words()["aspects"][item.banks[opinion.aspect]][bank], 1, random)[0]


def _clause(item: TownItem, opinion: Opinion, random: np.random.Generator) -> str:
    return _sentence(item, opinion, "good" if opinion.like else "bad", random)


def _some(choices: list[str], count: int, random: np.random.Generator) -> list[str]:
    return [choices[place] for place in random.permutation(len(choices))[:count]]


def _filled(template: str, item: TownItem, random: np.random.Generator) -> str:
    weeks, months = int(random.integers(2, 9)), int(random.integers(3, 19))
    return template.format(n=item.noun, weeks=weeks, months=months)


def _typo(sentence: str, random: np.random.Generator) -> str:
    """Now and then two neighbouring letters change places."""
    if random.random() >= 0.02 or len(sentence) < 12:
        return sentence
    place = int(random.integers(2, len(sentence) - 3))
    if not sentence[place : place + 2].isalpha():
        return sentence
    return sentence[:place] + sentence[place + 1] + sentence[place] + sentence[place + 2 :]


def aspect_name(opinion: Opinion | TruePreference) -> str:
    """Name of the aspect an opinion or a preference is about."""
    return ASPECTS[opinion.aspect]
