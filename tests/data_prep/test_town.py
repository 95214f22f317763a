"""The simulated town: its truth is written down, and what is said and chosen follows from it."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.__main__ import main
from data_prep.artifact import Artifact, read_artifact
from data_prep.reviews import town_people
from data_prep.reviews.town_catalogue import ASPECTS, town_catalogue, town_words
from data_prep.reviews.town_people import TruePreference, choice_scores, town_habits
from data_prep.schema import (
    INTERACTIONS,
    ITEM_TEXTS,
    ITEMS,
    PLANTED_ATTRIBUTES,
    PLANTED_MENTIONS,
    PLANTED_PREFERENCES,
)

USERS, ITEM_COUNT, SEED = 150, 120, 3


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    out = tmp_path_factory.mktemp("town") / "tables"
    arguments = ["--users", str(USERS), "--items", str(ITEM_COUNT), "--seed", str(SEED)]
    assert main(["town", *arguments, "--out", str(out)]) == 0
    return read_artifact(out, kind="reviews")


def test_every_aspect_has_many_ways_to_be_spoken_of() -> None:
    for bank, words in town_words()["aspects"].items():
        for kind, least in {"praise": 12, "complaint": 12, "seeks": 4, "shuns": 4, "good": 5, "bad": 5}.items():  # fmt: skip  # noqa: E501
            assert len(set(words[kind])) >= least, (bank, kind)
        assert all(len(words["sells"][side]) >= 3 for side in ("high", "low"))
    sentences = [
        sentence
        for words in town_words()["aspects"].values()
        for kind in ("praise", "complaint", "seeks", "shuns", "good", "bad")
        for sentence in words[kind]
    ]
    assert len(set(sentences)) == len(sentences)
    known = {bank for kind in town_words()["categories"] for bank in kind["aspects"]}
    assert known == set(town_words()["aspects"])
    assert known - {"noise", "audio"} | {"sound"} == set(ASPECTS)


def test_it_is_called_simulated(town: Artifact) -> None:
    assert town.manifest.notes["simulated"] is True
    assert town.manifest.command == "data-prep town"


def test_the_reviews_reveal_the_planted_preferences(town: Artifact) -> None:
    columns = ["user_id", "aspect", "polarity"]
    mentions = town.table(PLANTED_MENTIONS).unique(columns).select(columns)
    truth = town.table(PLANTED_PREFERENCES).unique(columns).select(columns)
    hits = truth.join(mentions, on=columns, how="semi").height
    assert hits / truth.height > 0.93
    assert hits / mentions.height > 0.88


def test_mentions_stand_in_their_review_word_for_word(town: Artifact) -> None:
    found = town.table(PLANTED_MENTIONS).join(
        town.table(INTERACTIONS), on=["user_id", "position"], how="left"
    )
    assert found["text"].null_count() == 0
    inside = found.select(pl.col("text").str.contains(pl.col("sentence"), literal=True).all())
    assert inside.item()


def test_a_mention_follows_a_preference_that_holds_or_is_rare(town: Artifact) -> None:
    preferences = town.table(PLANTED_PREFERENCES).rename({"polarity": "held"})
    mentions = town.table(PLANTED_MENTIONS)
    joined = mentions.join(preferences, on=["user_id", "aspect"], how="inner").filter(
        (pl.col("valid_from") <= pl.col("position"))
        & (pl.col("position") < pl.col("valid_until").fill_null(10_000))
    )
    assert (joined["held"] == joined["polarity"]).all()
    assert joined.height / mentions.height > 0.95


def test_praise_and_complaints_follow_the_attributes(town: Artifact) -> None:
    values = (
        town.table(PLANTED_MENTIONS)
        .join(town.table(INTERACTIONS), on=["user_id", "position"])
        .join(town.table(PLANTED_ATTRIBUTES), on=["item_id", "aspect"], how="left")
    )
    assert values["value"].null_count() == 0
    wants = [w for words in town_words()["aspects"].values() for k in ("seeks", "shuns") for w in words[k]]  # fmt: skip  # noqa: E501
    starts = tuple({want.split("{n}")[0][:12] for want in wants})
    about = values.filter(~pl.col("sentence").map_elements(lambda s: s.startswith(starts), pl.Boolean))  # fmt: skip  # noqa: E501
    assert about.height / values.height > 0.75
    praise, complaint = (
        about.filter(pl.col("polarity") == polarity)["value"] for polarity in ("like", "avoid")
    )
    assert (praise > 0).mean() > 0.97  # type: ignore[operator]
    assert (complaint < 0).mean() > 0.97  # type: ignore[operator]
    stars = values.group_by("polarity").agg(pl.col("rating").mean()).sort("polarity")
    avoid, like = stars["rating"].to_list()
    assert like - avoid > 0.8


def test_prices_follow_the_price_attribute(town: Artifact) -> None:
    items = town.table(ITEMS).with_columns(kind=pl.col("categories").list.get(1))
    price = town.table(PLANTED_ATTRIBUTES).filter(pl.col("aspect") == "price")
    joined = items.join(price, on="item_id").with_columns(
        dear=pl.col("price_cents") > pl.col("price_cents").median().over("kind")
    )
    cheap, dear = joined.group_by("dear").agg(pl.col("value").mean()).sort("dear")["value"]
    assert cheap > 0.2 > -0.2 > dear
    assert town.table(ITEM_TEXTS)["source"].unique().to_list() == ["metadata"]


def test_some_preferences_change_over_time(town: Artifact) -> None:
    preferences = town.table(PLANTED_PREFERENCES)
    assert 0.05 < (preferences["valid_from"] > 0).mean() < 0.4  # type: ignore[operator]
    assert preferences["valid_until"].is_not_null().sum() > 10
    per_user = preferences.filter(pl.col("valid_from") == 0).group_by("user_id").len()["len"]
    assert per_user.min() == 2
    assert per_user.max() == 5
    lengths = town.table(INTERACTIONS).group_by("user_id").len()
    ends = preferences.join(lengths, on="user_id")
    assert (ends["valid_from"] < ends["len"]).all()
    assert (ends["valid_until"].fill_null(0) < ends["len"]).all()


def test_knowing_the_preferences_helps_a_recommender() -> None:
    catalogue = town_catalogue(ITEM_COUNT, SEED)
    people = town_people.town_people(catalogue, USERS, SEED)
    habits = town_habits(SEED)
    counts = np.zeros(ITEM_COUNT)
    for person in people:
        counts[list(person.items[:-2])] += 1

    def recall(*, use: bool) -> float:
        hits = 0
        for person in people:
            history, target = list(person.items[:-1]), person.items[-1]
            known = list(person.preferences) if use else []
            scores = choice_scores(catalogue, habits, known, person.taste, history)
            scores[history] = -np.inf
            hits += int((scores > scores[target]).sum() < 5)
        return hits / len(people)

    def popularity() -> float:
        ranks = []
        for person in people:
            scores = counts.copy()
            scores[list(person.items[:-1])] = -1
            ranks.append((scores > scores[person.items[-1]]).sum())
        return float((np.array(ranks) < 5).mean())

    with_preferences, without, popular = recall(use=True), recall(use=False), popularity()
    assert with_preferences > 1.5 * without > 1.5 * popular


@given(st.floats(-1, 1), st.floats(0.5, 1))
def test_like_gains_by_the_good_side_and_avoid_loses_by_the_bad_side(
    value: float, strength: float
) -> None:
    like, avoid = (TruePreference(0, side, strength, 0, 5) for side in (True, False))
    values = np.array([value, np.nan])
    assert like.match(values)[0] == pytest.approx(strength * max(value, 0))
    assert avoid.match(values)[0] == pytest.approx(
        town_people.AVOID_CARE * strength * min(value, 0)
    )
    assert like.match(values)[1] == avoid.match(values)[1] == 0
    assert [like.holds(step) for step in (0, 4, 5)] == [True, True, False]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--users", "3"], "A town needs --users of at least 10 and --items of at least 30"),
        (["--seed", "-1"], "--seed must be 0 or more, got -1"),
    ],
)
def test_senseless_towns_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["town", *arguments, "--out", str(tmp_path / "town")]) == 2
    assert told in capsys.readouterr().err
