"""Tests of the aggregation from opinions to preferences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalize.preferences.aggregate import (
    AggregationSettings,
    ReadReview,
    UserPreferences,
    capped_votes,
    snapshots,
)
from personalize.preferences.aspects import read_aspects
from personalize.preferences.extractor import Opinion
from personalize.preferences.record import Preference

ASPECTS = read_aspects()
LIKE = Opinion("price", "like", 0.8, 3, 9)
AVOID = Opinion("price", "avoid", 0.5, 0, 4)
SOUND = Opinion("sound", "like", 0.4, 10, 20)


def review(number: int, *opinions: Opinion, words: tuple[str, ...] | None = None) -> ReadReview:
    return ReadReview(number, opinions, words or ("",) * len(opinions), "extractive", "1")


def by_position(found: list[tuple[Preference, ...]]) -> dict[int, tuple[Preference, ...]]:
    return {snapshot[0].valid_from: snapshot for snapshot in found}


def test_weights_by_hand() -> None:
    known = UserPreferences(ASPECTS, AggregationSettings(half_life=1.0, least_weight=0.05))
    known.add(review(7, LIKE, SOUND))
    known.add(review(8, AVOID))
    price, sound = sorted(known.snapshot(3, 2), key=lambda p: p.aspect)
    assert (price.polarity, price.strength) == ("avoid", round(0.1 / 1.1, 3))  # 0.4 against 0.5
    assert (sound.polarity, sound.strength) == ("like", round(0.2 / 1.2, 3))
    assert price.confidence == round(0.1 / 0.9 * 0.5, 3)
    assert price.evidence[0].source_id == 8


def test_a_snapshot_stands_only_where_something_changed() -> None:
    reviews = [review(0, LIKE), None, review(2), review(3, SOUND), review(4, AVOID)]
    found = list(snapshots(5, reviews, ASPECTS, AggregationSettings()))
    assert [snapshot[0].valid_from for snapshot in found] == [1, 4]


def test_the_last_review_is_not_looked_at() -> None:
    found = list(snapshots(5, [review(0, LIKE), review(1, SOUND)], ASPECTS, AggregationSettings()))
    assert [p.aspect for snapshot in found for p in snapshot] == ["price"]


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=30), st.floats(0.1, 3.0))
def test_one_review_moves_an_aspect_by_at_most_the_cap(weights: list[float], cap: float) -> None:
    loud = [Opinion("price", "like", weight, 0, 1) for weight in weights]
    votes = capped_votes(loud, AggregationSettings(review_cap=cap, review_total=100.0))
    assert votes["price", "like"] <= cap + 1e-12


def test_one_review_moves_all_aspects_together_by_at_most_the_total() -> None:
    loud = [Opinion(name, "like", 1.0, 0, 1) for name in ASPECTS.names]
    votes = capped_votes(loud, AggregationSettings(review_total=3.0))
    assert sum(votes.values()) == pytest.approx(3.0)


def test_the_newer_opinion_wins_in_the_end() -> None:
    known = UserPreferences(ASPECTS, AggregationSettings())
    known.add(review(0, LIKE))
    polarities = []
    for number in range(1, 4):
        known.add(review(number, AVOID))
        polarities.append(known.snapshot(0, number)[0].polarity)
    assert polarities == ["like", "avoid", "avoid"]


def test_the_text_quotes_the_word_said_most_and_nothing_from_a_review() -> None:
    known = UserPreferences(ASPECTS, AggregationSettings())
    known.add(review(0, LIKE, words=("bargain",)))
    known.add(review(1, LIKE, words=("affordable",)))
    known.add(review(2, LIKE, words=("affordable",)))
    liked = ASPECTS.aspects["price"].liked.rstrip(".")
    assert known.snapshot(0, 3)[0].text == f"{liked}: affordable."


def test_no_more_than_the_strongest_are_kept() -> None:
    known = UserPreferences(ASPECTS, AggregationSettings(most=3))
    known.add(
        review(0, *(Opinion(n, "like", 0.3 + 0.02 * k, 0, 1) for k, n in enumerate(ASPECTS.names)))
    )
    assert [p.aspect for p in known.snapshot(0, 1)] == list(ASPECTS.names[-1:-4:-1])


def test_a_balanced_aspect_is_no_preference_unless_it_is_all_there_is() -> None:
    known = UserPreferences(ASPECTS, AggregationSettings())
    known.add(review(0, LIKE, Opinion("price", "avoid", 0.8, 10, 12)))
    assert [p.strength for p in known.snapshot(0, 1)] == [0.0]
    known.add(review(1, SOUND))
    assert [p.aspect for p in known.snapshot(0, 2)] == ["sound"]


def test_numbers_without_meaning_are_refused() -> None:
    with pytest.raises(ValueError, match="half_life must be positive, got 0"):
        AggregationSettings(half_life=0.0)
