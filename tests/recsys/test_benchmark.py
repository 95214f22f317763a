"""The benchmark's rows: fair evidence, bands, capped reuse, and an account that adds up."""

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.artifact import read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import BENCHMARK_ROWS, ITEM_TEXT_IDS, TEXTS
from recsys.benchmark import unit_vectors, write_benchmark
from recsys.evidence import EvidencePool, Swap, nearest_fair_texts
from recsys.questions import Axis, read_targets
from tests.recsys.small_world import (
    World,
    interactions_table,
    make_world,
    preferences_table,
    write_world,
)

FAR = 10**12


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("world")
    world = make_world()
    paths = write_world(folder, world)
    _write(paths, folder / "benchmark", cap=2)
    return _opened(folder, world, paths)


def _write(paths: dict[str, Path], out: Path, **options: Any) -> None:
    write_benchmark(
        tables=paths["tables"],
        preferences=paths["preferences"],
        vectors=paths["vectors"],
        out=out,
        **options,
    )


def _opened(folder: Path, world: World, paths: dict[str, Path]) -> dict:
    artifact = read_artifact(folder / "benchmark", kind="benchmark")
    vectors = read_artifact(paths["vectors"], kind="vectors")
    values = unit_vectors(np.asarray(vectors.arrays("vectors")["values"]))
    item_text = vectors.table(ITEM_TEXT_IDS)["text_id"].to_numpy()
    return {
        "world": world,
        "paths": paths,
        "folder": folder,
        "rows": artifact.table(BENCHMARK_ROWS),
        "axes": artifact.json("axes"),
        "texts": vectors.table(TEXTS)["text"].to_list(),
        "items": values[item_text],
        "vectors": values,
        "hash": artifact.content_hash,
    }


def _stated(built: dict, axis: str) -> list[dict]:
    rows = built["rows"].filter((pl.col("axis") == axis) & (pl.col("condition") == "stated"))
    return rows.sort("row_id").to_dicts()


def test_every_axis_is_built_and_every_account_adds_up(built):
    assert set(built["axes"]["axes"]) == {
        "recommendation",
        "history_consolidation",
        "fine_steering",
        "coarse_steering",
        "sentiment_following",
        "sentiment_following_with_history",
    }
    assert built["axes"]["not_built"] == {}
    for account in built["axes"]["axes"].values():
        assert account["kept"] + sum(account["dropped"].values()) == account["candidates"]


def test_recommendation_asks_every_person_for_the_last_item_after_the_rest(built):
    rows = built["rows"].filter(
        (pl.col("axis") == "recommendation") & (pl.col("condition") == "none")
    )
    by_user = {row["user_id"]: row for row in rows.to_dicts()}
    for user, items in enumerate(built["world"].items):
        assert by_user[user]["target_item_id"] == items[-1]
        assert by_user[user]["history_item_ids"] == items[:-1]
        assert by_user[user]["preference_text_ids"] == []
    assert rows.height == len(built["world"].items)


def test_the_same_question_keeps_its_number_in_every_condition(built):
    keys = ["axis", "row_id"]
    shared = (
        built["rows"]
        .group_by(keys)
        .agg(pl.col("target_item_id", "user_id", "history_item_ids", "target_wanted").n_unique())
    )
    assert shared.drop(keys).max().row(0) == (1, 1, 1, 1)


@pytest.mark.parametrize("condition", ["latest", "all", "retrieved", "oracle"])
def test_own_preferences_were_stated_before_the_target(built, condition):
    world, texts = built["world"], built["texts"]
    rows = built["rows"].filter(
        (pl.col("axis") == "recommendation") & (pl.col("condition") == condition)
    )
    known = preferences_table(world).to_dicts()
    for row in rows.to_dicts():
        last = len(world.items[row["user_id"]]) - 1
        own = {
            (record["text"], record["polarity"])
            for record in known
            if record["subject_id"] == row["user_id"] and record["valid_from"] <= last
        }
        asked = [
            (texts[text], polarity)
            for text, polarity in zip(
                row["preference_text_ids"], row["preference_polarities"], strict=True
            )
        ]
        assert len(asked) == min(len(own), 5) or condition == "oracle"
        assert set(asked) <= own
        if condition == "oracle":
            target = built["items"][row["target_item_id"]]
            liked = [text for text, polarity in own if polarity == "like"]
            best = max(liked, key=lambda text: float(target @ built["vectors"][texts.index(text)]))
            assert asked[0] == (best, "like")


def test_consolidation_carries_every_preference(built):
    rows = built["rows"].filter(
        (pl.col("axis") == "history_consolidation") & (pl.col("condition") == "all")
    )
    known = preferences_table(built["world"])
    for row in rows.to_dicts():
        own = known.filter(pl.col("subject_id") == row["user_id"])
        assert len(row["preference_text_ids"]) == own["text"].n_unique()


@pytest.mark.parametrize("axis", ["fine_steering", "coarse_steering"])
def test_steering_swaps_histories_of_targets_in_the_band(built, axis):
    rows, world = _stated(built, axis), built["world"]
    thresholds = built["axes"]["axes"][axis]["thresholds"]
    assert rows
    for one, two in zip(rows[::2], rows[1::2], strict=True):
        s, t = one["target_item_id"], two["target_item_id"]
        cosine = float(built["items"][s] @ built["items"][t])
        low, high = thresholds["lowest_cosine"], thresholds["highest_cosine"]
        assert low - 1e-5 <= cosine <= high + 1e-5
        assert s != t
        assert one["user_id"] != two["user_id"]
        assert world.items[one["user_id"]][-1] == t  # the history is that of the other's owner
        assert world.items[two["user_id"]][-1] == s
        assert one["history_item_ids"] == world.items[one["user_id"]][:-1]
        assert s not in one["history_item_ids"]
        assert t not in two["history_item_ids"]
        assert one["target_wanted"] is True


@pytest.mark.parametrize("axis", ["fine_steering", "coarse_steering"])
def test_no_target_of_steering_is_used_more_often_than_the_cap(built, axis):
    counts = Counter(row["target_item_id"] for row in _stated(built, axis))
    assert max(counts.values()) <= 2


@pytest.mark.parametrize("axis", ["fine_steering", "coarse_steering"])
def test_steering_preferences_are_fair_and_the_nearest_that_are(built, axis):
    """Every text against a loop over all records of all people."""
    world, texts = built["world"], built["texts"]
    records = preferences_table(world).filter(pl.col("polarity") == "like").to_dicts()
    reviews = {row["review_id"]: row for row in interactions_table(world).to_dicts()}
    vectors = built["vectors"]

    def fair_texts(target: int, partner: int, people: set[int], before: int) -> set[str]:
        found = set()
        for record in records:
            sources = [reviews[span["source_id"]] for span in record["evidence"]]
            if (
                record["subject_id"] not in people
                and all(source["split"] == "train" for source in sources)
                and all(source["timestamp_s"] < before for source in sources)
                and all(source["item_id"] not in (target, partner) for source in sources)
            ):
                found.add(record["text"])
        return found

    rows = _stated(built, axis)
    for one, two in zip(rows[::2], rows[1::2], strict=True):
        people = {one["user_id"], two["user_id"]}
        before = min(world.times_s[person][-1] for person in people)
        for row, other in ((one, two), (two, one)):
            s, t = row["target_item_id"], other["target_item_id"]
            fair = fair_texts(s, t, people, before)
            near = {x: float(built["items"][s] @ vectors[texts.index(x)]) for x in fair}
            far = {x: float(built["items"][t] @ vectors[texts.index(x)]) for x in fair}
            best = max((near[x], x) for x in fair if near[x] > far[x])[1]
            assert texts[row["preference_text_ids"][0]] == best
            assert row["preference_polarities"] == ["like"]


def test_sentiment_pairs_ask_about_one_item_in_two_polarities(built):
    world, texts = built["world"], built["texts"]
    for axis in ("sentiment_following", "sentiment_following_with_history"):
        rows = _stated(built, axis)
        for wanted, avoided in zip(rows[::2], rows[1::2], strict=True):
            assert wanted["pair_id"] == avoided["pair_id"]
            assert wanted["target_item_id"] == avoided["target_item_id"]
            assert (wanted["target_wanted"], avoided["target_wanted"]) == (True, False)
            assert wanted["preference_polarities"] == ["like"]
            assert avoided["preference_polarities"] == ["avoid"]
            assert texts[wanted["preference_text_ids"][0]].startswith("Looks for")
            assert texts[avoided["preference_text_ids"][0]].startswith("Avoids")
            history = world.items[wanted["user_id"]][:-1] if "history" in axis else []
            assert wanted["history_item_ids"] == avoided["history_item_ids"] == history


def test_sentiment_rests_on_what_others_said_before(built):
    world, texts = built["world"], built["texts"]
    reviews = interactions_table(world).filter(pl.col("split") == "train").to_dicts()
    for row in _stated(built, "sentiment_following_with_history"):
        polarity = row["preference_polarities"][0]
        aspect = texts[row["preference_text_ids"][0]].split()[-1].rstrip(".")
        before = world.times_s[row["user_id"]][-1]
        said = [
            review
            for review in reviews
            if review["item_id"] == row["target_item_id"]
            and review["user_id"] != row["user_id"]
            and review["timestamp_s"] < before
            and f"{polarity}:{aspect}" in review["text"].split()
        ]
        assert said, (row["target_item_id"], polarity, aspect)


def test_sentiment_without_history_is_never_asked_without_a_preference(built):
    rows = built["rows"].filter(pl.col("axis") == "sentiment_following")
    assert rows["condition"].unique().to_list() == ["stated"]
    assert rows["preference_text_ids"].list.len().min() == 1


def test_no_sentiment_target_is_used_more_often_than_the_cap(built):
    rows = [row for row in _stated(built, "sentiment_following") if row["target_wanted"]]
    assert max(Counter(row["target_item_id"] for row in rows).values()) <= 2


def _rows_in_words(folder: Path, world: World, **options: int | str) -> list[dict]:
    paths = write_world(folder, world)
    _write(paths, folder / "benchmark", **options)
    opened = _opened(folder, world, paths)
    texts = opened["texts"]
    rows = opened["rows"].to_dicts()
    for row in rows:
        row["preference_text_ids"] = [texts[text] for text in row["preference_text_ids"]]
    return rows


@given(
    planted=st.sampled_from(["like:tone", "avoid:tone", "like:neck", "avoid:case"]),
    seed=st.integers(0, 3),
)
@settings(max_examples=8)
def test_what_is_said_at_the_target_or_later_changes_no_row(tmp_path_factory, planted, seed):
    """A sentence planted in everybody's target review is seen by no question of that split."""
    for split, from_the_end in (("test", 1), ("validation", 2)):
        world = make_world(seed, people=25, item_count=16)
        planted_world = copy.deepcopy(world)
        for reviews in planted_world.reviews:
            for review in reviews[-from_the_end:]:
                review.append(planted)
        before, after = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("after")
        assert _rows_in_words(before, world, split=split) == _rows_in_words(
            after, planted_world, split=split
        )


def test_the_same_input_gives_the_same_bytes(built, tmp_path):
    paths = {key: built["paths"][key] for key in ("tables", "preferences", "vectors")}
    _write(paths, tmp_path / "again", cap=2)
    assert read_artifact(tmp_path / "again", kind="benchmark").content_hash == built["hash"]
    _write(paths, tmp_path / "other", cap=2, seed=1)
    assert read_artifact(tmp_path / "other", kind="benchmark").content_hash != built["hash"]


def test_the_limit_is_kept_and_counted(built, tmp_path):
    _write(built["paths"], tmp_path / "few", limit=3)
    axes = json.loads((tmp_path / "few" / "axes.json").read_text())["axes"]
    assert axes["sentiment_following"]["kept"] == 3
    assert axes["sentiment_following"]["dropped"]["beyond the limit of pairs"] > 0
    assert axes["coarse_steering"]["kept"] == 3


def test_duplicates_by_title_never_meet_in_steering(tmp_path):
    world = make_world()
    world.titles = [f"Thing {item // 20}" for item in range(world.item_count)]
    rows = _rows_in_words(tmp_path, world)
    stated = [r for r in rows if r["axis"] == "coarse_steering" and r["condition"] == "stated"]
    assert stated
    for one, two in zip(stated[::2], stated[1::2], strict=True):
        assert world.titles[one["target_item_id"]] != world.titles[two["target_item_id"]]


def test_without_avoidance_and_times_sentiment_is_left_out_with_a_reason(tmp_path):
    world = make_world()
    world.reviews = [
        [[said for said in review if said.startswith("like")] for review in person]
        for person in world.reviews
    ]
    world.times_s = [[None] * len(times) for times in world.times_s]
    rows = _rows_in_words(tmp_path, world)
    axes = json.loads((tmp_path / "benchmark" / "axes.json").read_text())
    assert not any(row["axis"].startswith("sentiment") for row in rows)
    assert "nobody else both praised and criticised" in axes["not_built"]["sentiment_following"]
    assert axes["timestamps_known"] is False
    assert any(row["axis"] == "fine_steering" for row in rows)


def test_an_item_that_all_had_met_is_not_steered_to():
    pool = EvidencePool(
        np.array([3, 5]),
        np.array([[7, -1], [8, 9]]),
        np.array([[10, FAR], [10, 10]]),
        np.array([[[0], [-1]], [[4], [5]]]),
    )
    items = unit_vectors(np.array([[1.0, 0.2], [0.1, 1.0], [1.0, 0.0]]))
    texts = unit_vectors(np.array([[1.0, 0.1], [0.8, 0.3]]))

    def asked(item: int, other: int, user: int, before: int) -> tuple[int, bool]:
        swap = Swap(*(np.array([v]) for v in (item, other, user, 1, before)))
        text, found = nearest_fair_texts(pool, swap, items, texts)
        return int(text[0]), bool(found[0])

    assert asked(2, 1, 0, 11) == (3, True)
    assert asked(2, 1, 7, 11) == (5, True)  # its owner is asked: the next nearest
    assert asked(0, 1, 0, 11) == (5, True)  # its evidence is about the item
    assert asked(2, 1, 0, 10) == (0, False)  # said at the same time is not before
    assert asked(1, 2, 0, 11) == (0, False)  # both texts are nearer to the other item


def test_targets_have_their_own_past_only():
    world = World([[4, 2, 7], [1, 2]], [[[], [], []], [[], []]], 8, [[1, 2, 3], [4, 5]])
    targets = read_targets(interactions_table(world), "test")
    assert targets.item_ids.tolist() == [7, 2]
    assert [targets.history(n).tolist() for n in range(2)] == [[4, 2], [1]]
    assert targets.times_s.tolist() == [3, 5]


def test_an_account_that_does_not_add_up_is_refused():
    with pytest.raises(ValueError, match="accounts for 3 of 5 candidates"):
        Axis("a", "things", 5, 2, {"lost": 1}, "rule", BENCHMARK_ROWS.empty())


@pytest.mark.parametrize("option", ["count", "cap", "limit"])
def test_a_number_below_one_is_refused(built, tmp_path, option):
    with pytest.raises(InputError, match=f"--{option} must be at least 1, got 0"):
        _write(built["paths"], tmp_path / "b", **{option: 0})


def test_a_split_without_interactions_is_refused(tmp_path):
    world = make_world(people=3)
    paths = write_world(tmp_path, world)
    with pytest.raises(InputError, match="has no interaction in the split later"):
        _write(paths, tmp_path / "b", split="later")


def test_vectors_of_other_items_are_refused(built, tmp_path):
    other = write_world(tmp_path, make_world(item_count=41))
    with pytest.raises(ArtifactMismatch, match=r"numbers 41 items, .* numbers 40"):
        _write({**built["paths"], "vectors": other["vectors"]}, tmp_path / "benchmark")
