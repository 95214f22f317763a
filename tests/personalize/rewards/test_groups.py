"""Groups by expectation-maximisation, the common scale, and the minimum in its two places."""

import math
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmarks.methods import maxmin
from benchmarks.methods.maxmin import linear_reward, town_comparisons
from personalize.generator import Reward
from personalize.preference_optimization.comparisons import Comparisons, decided
from personalize.rewards.bradley_terry import RewardTraining
from personalize.rewards.groups import (
    FittedGroups,
    GroupReward,
    GroupRewards,
    WorstGroup,
    best_groups,
    fit_groups,
    person_log_likelihood,
    worst_group_value,
)

TRAINING = RewardTraining(steps=40, learning_rate=0.1, weight_decay=0.0)


def opposed(people: int = 12, each: int = 8) -> tuple[torch.Tensor, Comparisons, torch.Tensor]:
    """The first third of the people like a feature that the others dislike, without exception."""
    generator = torch.Generator().manual_seed(0)
    responses = torch.randn(50, 3, generator=generator)
    who = torch.arange(people).repeat_interleave(each)
    first = torch.randint(50, (len(who),), generator=generator)
    pairs = torch.stack([first, (first + 7) % 50], 1)
    likes = torch.where(who < people // 3, 1.0, -1.0)
    wins = likes * (responses[pairs[:, 0], 0] - responses[pairs[:, 1], 0]) > 0
    return responses, decided(torch.where(wins[:, None], pairs, pairs.flip(1))), who


def itself(made: torch.Tensor, context: None) -> torch.Tensor:
    """Particles are their own features."""
    return made


def found(seed: int = 0) -> FittedGroups:
    responses, comparisons, people = opposed()
    return fit_groups(
        responses, comparisons, people, groups=2, build=linear_reward(3),
        training=replace(TRAINING, seed=seed),
    )  # fmt: skip


def test_opposed_people_are_parted_and_each_group_has_its_own_taste():
    groups = best_groups(3, found)
    group = groups.person_group
    assert len(group[:4].unique()) == 1
    assert len(group[4:].unique()) == 1
    assert group[0] != group[4]
    with torch.no_grad():
        weight = groups.rewards.raw(torch.tensor([[1.0, 0.0, 0.0]]))[0]
    assert weight[int(group[0])] > 1
    assert weight[int(group[4])] < -1


def test_the_common_scale_has_mean_0_and_deviation_1():
    responses, _, _ = opposed()
    model = found().rewards
    with torch.no_grad():
        rewards = model(responses)
    torch.testing.assert_close(rewards.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(rewards.std(0, correction=0), torch.ones(2))


def test_the_same_seed_finds_the_same_groups():
    one, two = found(3), found(3)
    assert torch.equal(one.person_group, two.person_group)
    assert one.log_likelihood == two.log_likelihood


def test_the_best_of_several_is_the_likeliest():
    fits = [found(seed) for seed in range(3)]
    assert best_groups(3, found).log_likelihood == max(fit.log_likelihood for fit in fits)


def rewards_with(weights: list[list[float]]) -> GroupRewards:
    model = GroupRewards(linear_reward(len(weights[0])), len(weights))
    with torch.no_grad():
        for network, weight in zip(model.networks, weights, strict=True):
            network.weight.copy_(torch.tensor([weight]))  # pyright: ignore
    return model


def test_likelihoods_are_summed_per_person():
    responses = torch.tensor([[0.0], [math.log(3.0)]])
    comparisons = Comparisons(
        torch.tensor([1, 0, 1]), torch.tensor([0, 1, 0]), torch.tensor([1.0, 1.0, 0.0])
    )
    total = person_log_likelihood(
        rewards_with([[1.0], [0.0]]), responses, comparisons, torch.tensor([0, 2, 2])
    )
    half = math.log(0.5)
    first, second = math.log(3 / 4), math.log(1 / 4) + (math.log(3 / 4) + math.log(1 / 4)) / 2
    expected = torch.tensor([[first, half], [0.0, 0.0], [second, 2 * half]])
    torch.testing.assert_close(total, expected)


@given(st.integers(0, 10_000))
def test_the_minimum_per_sample_is_a_lower_bound_of_the_worst_group(seed: int):
    rewards = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(seed)).double()
    stated = worst_group_value(rewards)
    assert stated.tolist() == pytest.approx(
        [min(float(row[:, g].mean()) for g in range(4)) for row in rewards]
    )
    assert (rewards.amin(-1).mean(-1) <= stated + 1e-12).all()


def test_taking_turns_is_fair_to_both_groups_and_worthless_per_sample():
    turns = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert worst_group_value(turns).tolist() == [0.5]
    assert turns.amin(-1).mean(-1).tolist() == [0.0]


def test_groups_as_a_reward_and_the_worst_as_a_value():
    model = rewards_with([[1.0, 0.0], [0.0, 1.0]])
    x = torch.tensor([[[3.0, 1.0], [2.0, 5.0], [-1.0, 0.0]]])
    reward = GroupReward(model, itself)
    assert isinstance(reward, Reward)
    assert reward.names == ("group_0", "group_1")
    with torch.no_grad():
        torch.testing.assert_close(reward(x, None), x)
        assert WorstGroup(reward)(x, None).tolist() == [[1.0, 2.0, -1.0]]


def test_a_minority_of_a_fifth_gets_its_own_reward_and_costs_the_majority_nothing_there(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(maxmin, "TRAINING", replace(maxmin.TRAINING, steps=40))
    row = maxmin.one_seed(0, "160 + 40")
    assert row["people in their group"] > 0.8
    assert row["minority accuracy, groups"] > row["minority accuracy, one reward"] + 0.1
    assert row["majority accuracy, groups"] > row["majority accuracy, one reward"] - 0.01
    assert row["worst true utility, MaxMin"] > row["worst, one reward"]
    assert row["stated objective less its lower bound"] > 0


def test_one_group_is_plain_bradley_terry():
    responses, comparisons, people = opposed()
    one = fit_groups(
        responses, comparisons, people, groups=1, build=linear_reward(3), training=TRAINING
    )
    assert one.person_group.tolist() == [0] * 12
    assert one.log_likelihood < best_groups(2, found).log_likelihood


def test_bought_items_beat_others_of_their_department(tmp_path: Path):
    pl.DataFrame({"item_id": [0, 1, 2], "categories": [["A"], ["A"], ["B"]]}).write_parquet(
        tmp_path / "items.parquet"
    )
    pl.DataFrame(
        {"item_id": [0, 1, 1], "aspect": ["soft", "soft", "loud"], "value": [1.0, -1.0, 0.5]}
    ).write_parquet(tmp_path / "planted_attributes.parquet")
    pl.DataFrame(
        {"user_id": [7] * 40 + [9], "item_id": [0] * 40 + [2], "rating": [5.0] * 41}
    ).write_parquet(tmp_path / "interactions.parquet")
    features, comparisons, people = town_comparisons(tmp_path)
    assert features.tolist() == [[1.0, 0.0], [-1.0, 0.5], [0.0, 0.0]]
    assert set(comparisons.better.tolist()) == {0}
    assert set(comparisons.worse.tolist()) == {1}
    assert set(people.tolist()) == {0}


def test_what_cannot_be_grouped_is_refused():
    responses, comparisons, people = opposed()
    with pytest.raises(ValueError, match="people must name one per comparison, got 3 for 96"):
        fit_groups(responses, comparisons, people[:3], groups=2, build=linear_reward(3))
    for groups in (0, 13):
        with pytest.raises(ValueError, match=f"between 1 and the 12 people, got {groups}"):
            fit_groups(responses, comparisons, people, groups=groups, build=linear_reward(3))
    with pytest.raises(ValueError, match="fits must be 1 or more, got 0"):
        best_groups(0, found)


def test_a_group_without_people_keeps_a_finite_reward():
    responses = torch.randn(6, 2)
    comparisons = decided(torch.tensor([[0, 1], [0, 1], [0, 1]]))
    same = fit_groups(
        responses, comparisons, torch.tensor([0, 1, 2]), groups=3,
        build=lambda: nn.Linear(2, 1, bias=False), training=TRAINING,
    )  # fmt: skip
    with torch.no_grad():
        assert torch.isfinite(same.rewards(responses)).all()
    assert math.isfinite(same.log_likelihood)
