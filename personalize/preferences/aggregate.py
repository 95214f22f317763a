"""From opinions in single reviews to what a person wants, position by position.

The same aggregation serves every extractor. A snapshot at position p knows the reviews at the
positions before p and nothing else. One review moves the weight of an aspect by at most
`review_cap`, and all weights together by at most `review_total`: however loud, long or malicious a
review is, it stays one voice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from personalize.preferences.aspects import AspectList
from personalize.preferences.extractor import Opinion
from personalize.preferences.record import Evidence, Polarity, Preference


@dataclass(frozen=True)
class AggregationSettings:
    """The numbers of the aggregation.

    Attributes:
        most: Preferences kept at one position.
        half_life: Later reviews with an opinion after which an opinion counts half.
        review_cap: Most that one review adds to the weight of one aspect and polarity.
        review_total: Most that one review adds to all weights together.
        least_weight: Weight below which an aspect is contested rather than preferred.
        most_evidence: Spans kept for one preference, the newest.
    """

    most: int = 12
    half_life: float = 8.0
    review_cap: float = 1.0
    review_total: float = 4.0
    least_weight: float = 0.2
    most_evidence: int = 4

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning.

        Raises:
            ValueError: If a number is not positive.
        """
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name} must be positive, got {value:g}.")


@dataclass(frozen=True)
class ReadReview:
    """One review as the aggregation sees it.

    Attributes:
        review_id: Number of the review.
        opinions: What was read in it.
        words: For each opinion, a word of the aspect list that shows it, or an empty string.
        extractor: Who read it.
        extractor_version: Version of who read it.
    """

    review_id: int
    opinions: Sequence[Opinion]
    words: Sequence[str]
    extractor: str
    extractor_version: str


@dataclass(frozen=True)
class _Witness:
    """One opinion that speaks for an aspect: when, where, and who read it."""

    order: int
    weight: float
    word: str
    span: Evidence
    extractor: str
    extractor_version: str


@dataclass
class _Side:
    """One polarity of one aspect: its weight as of the last update, and its witnesses."""

    weight: float = 0.0
    reviews: int = 0
    witnesses: list[_Witness] = field(default_factory=list)


_MOST_WITNESSES = 32  # what is older has faded
_POLARITIES: tuple[Polarity, Polarity] = ("like", "avoid")


class UserPreferences:
    """What one person's reviews have said so far; add them oldest first."""

    def __init__(self, aspects: AspectList, settings: AggregationSettings) -> None:
        self._aspects = aspects
        self._settings = settings
        self._sides: dict[tuple[str, Polarity], _Side] = {}
        self._decay = 0.5 ** (1.0 / settings.half_life)
        self._reviews = 0

    def add(self, review: ReadReview) -> None:
        """Take in one review; one without opinions changes nothing."""
        if not review.opinions:
            return
        self._reviews += 1
        for side in self._sides.values():
            side.weight *= self._decay
        for key, added in capped_votes(review.opinions, self._settings).items():
            side = self._sides.setdefault(key, _Side())
            side.weight += added
            side.reviews += 1
        for opinion, word in zip(review.opinions, review.words, strict=True):
            side = self._sides[opinion.aspect, opinion.polarity]
            span = Evidence(review.review_id, opinion.start, opinion.end)
            side.witnesses.append(
                _Witness(
                    self._reviews,
                    opinion.weight,
                    word,
                    span,
                    review.extractor,
                    review.extractor_version,
                )
            )
            del side.witnesses[:-_MOST_WITNESSES]

    def snapshot(self, subject_id: int, position: int) -> tuple[Preference, ...]:
        """The preferences known at a position, strongest first, as of the reviews added so far."""
        weights = [(name, *self._balance(name)) for name in sorted({key[0] for key in self._sides})]
        weights.sort(key=lambda entry: (-abs(entry[1]), entry[0]))
        kept = [entry for entry in weights if abs(entry[1]) >= self._settings.least_weight]
        kept = kept or weights[:1]  # once something is known there is always a newest word on it
        return tuple(
            self._preference(subject_id, position, name, weight, total)
            for name, weight, total in kept[: self._settings.most]
        )

    def _balance(self, aspect: str) -> tuple[float, float]:
        """Liking less avoiding, and their sum."""
        like, avoid = (self._sides.get((aspect, p), _Side()).weight for p in _POLARITIES)
        return like - avoid, like + avoid

    def _preference(
        self, subject_id: int, position: int, aspect: str, weight: float, total: float
    ) -> Preference:
        polarity: Polarity = "like" if weight >= 0 else "avoid"
        side = self._sides.get((aspect, polarity), _Side())
        newest = side.witnesses[-self._settings.most_evidence :]
        agreement = abs(weight) / total if total > 0 else 0.0
        return Preference(
            subject_id=subject_id,
            valid_from=position,
            text=self._text(aspect, polarity, side),
            polarity=polarity,
            aspect=aspect,
            strength=round(abs(weight) / (1.0 + abs(weight)), 3),
            confidence=round(agreement * (1.0 - 0.5**side.reviews), 3),
            evidence=tuple(witness.span for witness in newest),
            extractor=newest[-1].extractor if newest else "extractive",
            extractor_version="; ".join(sorted({w.extractor_version for w in newest})) or "unknown",
        )

    def _text(self, aspect: str, polarity: Polarity, side: _Side) -> str:
        """The sentence of the aspect list, with the word that shows it best.

        Only words of the list are quoted, never those of a review: the text stays one of a few
        hundred, and nothing a reviewer wrote reaches whoever reads it.
        """
        sentence = self._aspects.sentence(aspect, polarity)
        votes: dict[str, float] = {}
        for witness in side.witnesses:
            if witness.word:
                faded = witness.weight * self._decay ** (self._reviews - witness.order)
                votes[witness.word] = votes.get(witness.word, 0.0) + faded
        if not votes:
            return sentence
        best = min(votes, key=lambda word: (-round(votes[word], 9), word))
        return f"{sentence.rstrip('.')}: {best}."


def capped_votes(
    opinions: Sequence[Opinion], settings: AggregationSettings
) -> dict[tuple[str, Polarity], float]:
    """What one review adds to each aspect and polarity, after both caps.

    Example:
        >>> loud = [Opinion("price", "like", 0.9, 0, 4)] * 7
        >>> capped_votes(loud, AggregationSettings())
        {('price', 'like'): 1.0}
    """
    votes: dict[tuple[str, Polarity], float] = {}
    for opinion in opinions:
        key = (opinion.aspect, opinion.polarity)
        votes[key] = votes.get(key, 0.0) + opinion.weight
    votes = {key: min(value, settings.review_cap) for key, value in votes.items()}
    scale = min(1.0, settings.review_total / sum(votes.values())) if votes else 1.0
    return {key: value * scale for key, value in votes.items()}


def snapshots(
    subject_id: int,
    reviews: Sequence[ReadReview | None],
    aspects: AspectList,
    settings: AggregationSettings,
) -> Iterator[tuple[Preference, ...]]:
    """The snapshots of one person that differ from the one before them.

    Args:
        subject_id: The person.
        reviews: The person's reviews in order of position; none where a position has no text.
            The review at the last position is not looked at: no later position could use it.
        aspects: The aspects and their sentences.
        settings: The numbers of the aggregation.

    Yields:
        Preferences at the positions 1 to the last; `valid_from` says which.
    """
    known = UserPreferences(aspects, settings)
    before: tuple[Preference, ...] = ()
    for position in range(1, len(reviews)):
        review = reviews[position - 1]
        if review is None or not review.opinions:
            continue
        known.add(review)
        now = known.snapshot(subject_id, position)
        if _without_position(now) != _without_position(before):
            yield now
            before = now


def _without_position(preferences: Sequence[Preference]) -> list[tuple]:
    return [
        (p.text, p.polarity, p.aspect, p.strength, p.confidence, p.evidence, p.extractor_version)
        for p in preferences
    ]
