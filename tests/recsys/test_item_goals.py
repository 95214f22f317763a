"""Goal values of items and lists: hand-worked numbers, and only what training knew."""

import math
from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_prep.artifact import read_artifact
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS, ITEMS
from personalize.evaluation.goal_space import GoalDimension, GoalSpace
from personalize.steering.goals import Goals, no_goals
from recsys.goal_words import GoalTeller, Words, goal_words
from recsys.goals import (
    BRAND,
    CATEGORY,
    DIVERSITY,
    POPULARITY,
    PRICE,
    SENTIMENT,
    ItemGoals,
    normalized_items,
    shares_of,
)
from recsys.stored_catalogue import load_catalogue
from recsys.stored_goals import _share, item_goals
from tests.recsys.retriever_fixtures import small_batch, small_catalogue


def goals_by_hand() -> ItemGoals:
    """Four items with a price (one unknown), two aspects, and texts at right angles or alike."""
    return ItemGoals(
        names=(PRICE, SENTIMENT, DIVERSITY),
        values=torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [1.0, 0, 0], [0.0, 0, 0]]),
        mask=torch.tensor([[True] * 3, [True] * 3, [True] * 3, [False, True, True]]),
        sentiment=torch.tensor([[0.5, -1.0], [0.0, 1.0], [-0.5, 0.0], [1.0, 0.25]]),
        text_vectors=torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]),
    )


def test_a_list_is_the_mean_of_what_is_known_by_place():
    goals = goals_by_hand()
    lists = torch.tensor([[2, 1, 3], [3, -1, -1]])
    raw, mask = goals.of_lists(lists, torch.tensor([1, -1]))
    first, second, third = 1.0, 1 / math.log2(3), 0.5
    price = (1.0 * first + 0.5 * second) / (first + second)
    sentiment = (0.0 * first + 1.0 * second + 0.25 * third) / (first + second + third)
    assert raw[0, :2].tolist() == pytest.approx([price, sentiment])
    assert mask.tolist() == [[True, True, True], [False, False, False]]
    values, known = goals.of_items(lists, torch.tensor([1, -1]))
    assert not values[~known].any()
    assert raw[0, 2].item() == pytest.approx(1.0)  # items 2 and 1 are at right angles, 3 is mute


def test_diversity_is_the_mean_distance_of_all_pairs():
    vectors = torch.nn.functional.normalize(
        torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), dim=1
    )
    goals = ItemGoals(
        (DIVERSITY,), torch.zeros(5, 1), torch.ones(5, 1, dtype=torch.bool),
        torch.zeros(5, 1), vectors,
    )  # fmt: skip
    found, known = goals.diversity(torch.tensor([[4, 0, 2], [1, -1, -1]]))
    pairs = [1 - float(vectors[a] @ vectors[b]) for a, b in ((4, 0), (4, 2), (0, 2))]
    assert found[0].item() == pytest.approx(sum(pairs) / 3, abs=1e-6)
    assert known.tolist() == [True, False]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12))
def test_ranks_do_not_depend_on_the_unit_and_ties_share(values):
    numbers, every = torch.tensor(values).float(), torch.ones(len(values), dtype=torch.bool)
    found = shares_of(numbers, every)
    torch.testing.assert_close(found, shares_of(numbers * 3 + 5, every))
    slow = [
        (sum(v < w for v in values) + (sum(v == w for v in values) - 1) / 2)
        / max(len(values) - 1, 1)
        for w in values
    ]
    assert found.tolist() == pytest.approx(slow)


def test_what_is_not_known_neither_helps_nor_hurts():
    space = GoalSpace((GoalDimension(PRICE, "", "dearer", 0.2, 0.6),))
    values = torch.tensor([[[0.4], [0.8], [0.0]]])
    mask = torch.tensor([[[True], [True], [False]]])
    found = normalized_items(values, mask, space)
    torch.testing.assert_close(found, torch.tensor([[[0.5], [1.5], [0.5]]]))  # not clipped


def test_dimensions_are_kept_by_name():
    kept = goals_by_hand().kept((DIVERSITY, PRICE))
    assert kept.names == (DIVERSITY, PRICE)
    torch.testing.assert_close(kept.values[:, 1], torch.tensor([0.0, 0.5, 1.0, 0.0]))
    assert not kept.mask[3, 1]


def test_goals_are_read_from_training_alone(one_world):
    root: Path = one_world.root
    catalogue = load_catalogue(root / "tables", root / "vectors", root / "semantic_ids")
    goals, aspects, _ = item_goals(root / "tables", catalogue, preferences=root / "preferences")
    train = (
        read_artifact(root / "tables", kind="reviews")
        .table(INTERACTIONS)
        .filter(pl.col("split") == "train")
    )
    counts = [train.filter(pl.col("item_id") == n).height for n in range(catalogue.item_count)]
    popularity = goals.values[:, goals.names.index(POPULARITY)]
    torch.testing.assert_close(
        popularity, shares_of(torch.tensor(counts).float(), torch.ones(len(counts)).bool())
    )
    assert SENTIMENT in goals.names
    said = _opinions(one_world.world, {(r["user_id"], r["position"]) for r in train.to_dicts()})
    for (item, aspect), (likes, avoids) in said.items():
        expected = (likes - avoids) / (likes + avoids + 2)
        assert goals.sentiment[item, aspects.index(aspect)].item() == pytest.approx(expected)


def _opinions(world, trained):
    """Opinions of training reviews by item and aspect, counted the plain way."""
    found = {}
    for person, (items, reviews) in enumerate(zip(world.items, world.reviews, strict=True)):
        for position, (item, review) in enumerate(zip(items, reviews, strict=True)):
            if (person, position) in trained:
                for polarity, aspect in {tuple(opinion.split(":")) for opinion in review}:
                    likes, avoids = found.get((item, aspect), (0, 0))
                    likes, avoids = likes + (polarity == "like"), avoids + (polarity == "avoid")
                    found[item, aspect] = likes, avoids
    return found


def test_a_category_that_nobody_has_is_refused(one_world):
    root = one_world.root
    catalogue = load_catalogue(root / "tables", root / "vectors")
    with pytest.raises(InputError, match="no item is of the category Boats; there are"):
        item_goals(root / "tables", catalogue, category="Boats")
    with pytest.raises(InputError, match="no item is of the brand Nobody"):
        item_goals(root / "tables", catalogue, brand="Nobody")


def test_a_goal_is_told_as_strongly_as_it_is_far_out():
    catalogue = small_catalogue()
    batch = small_batch(catalogue)
    names = (PRICE, CATEGORY, DIVERSITY)
    words = {PRICE: Words("dear", "cheap"), CATEGORY: Words("tents", None)}
    vector = {"dear": 1.0, "cheap": 2.0, "tents": 3.0}
    teller = GoalTeller(
        names,
        words,
        lambda texts: torch.tensor([[vector[text]] * 9 for text in texts]).numpy(),
        catalogue.text_vectors,
    )
    goals = Goals(
        torch.tensor([[0.75, 0.0, 0.9], [0.1, 1.0, 0.0], [0.5, 0.3, 0.2]]),
        torch.tensor([[True, True, True], [True, False, False], [True, True, False]]),
    )
    told = teller.tell(batch, goals, strength=0.5)
    more = slice(batch.preference_mask.shape[2], None)
    assert told.preference_mask[:, 0, more].tolist() == [
        [True, True, False], [True, False, False], [False, True, False]
    ]  # fmt: skip
    assert told.preference_vectors is not None
    assert told.preference_strength is not None
    assert told.preference_vectors[:2, 0, more, 0].tolist()[0][:2] == [1.0, 3.0]
    assert told.preference_vectors[1, 0, more, 0].tolist()[0] == 2.0
    assert told.preference_avoid[:, 0, more].tolist()[0] == [False, True, False]
    strengths = told.preference_strength[:, 0, more]
    assert strengths[0].tolist() == pytest.approx([0.25, 0.5, 0.4], abs=1e-6)
    own = catalogue.text_vectors[batch.preference_text_ids]
    torch.testing.assert_close(told.preference_vectors[:, :, : own.shape[2]], own)
    assert teller.tell(batch, goals, strength=0.0) is batch
    none = teller.tell(batch, no_goals(3, 3), strength=1.0)
    assert not none.preference_mask[:, 0, more].any()


def test_shares_are_told_by_what_they_are_of():
    words = goal_words((BRAND, DIVERSITY), {BRAND: "share of Norvik"})
    assert dict(words) == {BRAND: Words("Looks for Norvik.", None)}


def test_the_tables_of_the_small_world_have_items(one_world):
    assert read_artifact(one_world.root / "tables", kind="reviews").table(ITEMS).height == 24


def test_the_category_is_the_most_frequent_of_those_that_few_items_have():
    categories = [["all", "few"], ["all", "few"], ["all", "one"], ["all"], ["all"], ["all"]]
    (values, mask), name = _share(pl.DataFrame({"categories": categories}), "category", None)
    assert "few" in name
    assert values.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert mask.all()
