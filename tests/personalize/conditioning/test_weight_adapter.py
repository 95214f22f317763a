"""Weights of rewards, learnt from what was chosen."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalize.conditioning.weight_adapter import (
    ChoiceLikelihood,
    Pools,
    PoolTargets,
    WeightAdapter,
    WeightLoss,
    fit_weights,
    standardized,
    weighed,
)

LOSSES: list[WeightLoss] = [PoolTargets(0.7), ChoiceLikelihood()]


def _pools(seed: int, *, candidates: int = 5, rewards: int = 3, batch: int = 4) -> Pools:
    generator = torch.Generator().manual_seed(seed)
    return Pools(
        torch.randn(batch, candidates, rewards, generator=generator, dtype=torch.float64),
        torch.ones(batch, candidates, dtype=torch.bool),
        torch.randint(candidates, (batch,), generator=generator),
    )


def _weights(seed: int, rewards: int = 3, batch: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.randn(batch, rewards, generator=generator, dtype=torch.float64).softmax(-1)


def _value(loss: WeightLoss, pools: Pools, weights: torch.Tensor) -> float:
    return float(loss(weights, torch.tensor(0.3, dtype=torch.float64), pools))


@pytest.mark.parametrize("loss", LOSSES)
@given(st.integers(0, 10_000))
def test_the_order_of_candidates_is_irrelevant(loss: WeightLoss, seed: int) -> None:
    pools, weights = _pools(seed), _weights(seed)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    place = order.argsort()
    moved = Pools(pools.rewards[:, order], pools.mask[:, order], place[pools.chosen])
    assert _value(loss, moved, weights) == pytest.approx(_value(loss, pools, weights))


@pytest.mark.parametrize("loss", LOSSES)
@given(st.integers(0, 10_000))
def test_a_masked_candidate_and_a_base_level_change_nothing(loss: WeightLoss, seed: int) -> None:
    pools, weights = _pools(seed), _weights(seed)
    beside = torch.full((4, 2, 3), 50.0 + seed, dtype=torch.float64)
    level = torch.tensor([900.0, 0.0, -7.0], dtype=torch.float64)
    more = Pools(
        torch.cat([pools.rewards + level, beside], 1),
        torch.cat([pools.mask, torch.zeros(4, 2, dtype=torch.bool)], 1),
        pools.chosen,
    )
    assert _value(loss, more, weights) == pytest.approx(_value(loss, pools, weights), abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_pool_of_likes_changes_nothing(loss: WeightLoss) -> None:
    pools, weights = _pools(7), _weights(7)
    likes = Pools(
        torch.cat([pools.rewards, torch.full((2, 5, 3), 0.1, dtype=torch.float64)]),
        torch.cat([pools.mask, torch.tensor([[True] * 5, [True] + [False] * 4])]),
        torch.cat([pools.chosen, torch.tensor([2, 0])]),
    )
    more = torch.cat([weights, _weights(8)[:2]])
    assert _value(loss, likes, more) == pytest.approx(_value(loss, pools, weights))
    nothing = likes.rows(torch.tensor([4, 5]))
    assert _value(loss, nothing, weights[:2]) == 0


def test_a_pool_worked_by_hand() -> None:
    pools = Pools(
        torch.tensor([[[0.0, 5.0], [2.0, 5.0], [9.0, 9.0]]]),
        torch.tensor([[True, True, False]]),
        torch.tensor([1]),
    )
    weights = torch.tensor([[0.25, 0.75]])
    # standardised rewards of the chosen one: 1 and 0 (all alike), so the target is (e, 1)/(e + 1)
    e = math.e
    target = (e / (e + 1), 1 / (e + 1))
    divergence = target[0] * math.log(target[0] / 0.25) + target[1] * math.log(target[1] / 0.75)
    assert float(PoolTargets()(weights, torch.zeros(()), pools)) == pytest.approx(divergence)
    # utilities 0.25 * 0 + 0.75 * 5 and 0.25 * 2 + 0.75 * 5, times a sharpness of 3
    surprise = math.log(1 + math.exp(-3 * 0.5))
    found = ChoiceLikelihood()(weights, torch.tensor(math.log(3.0)), pools)
    assert float(found) == pytest.approx(surprise, rel=1e-5)


def test_the_temperature_sharpens_the_target() -> None:
    pools = Pools(
        torch.tensor([[[0.0, 1.0], [2.0, 1.0]]]), torch.ones(1, 2, dtype=torch.bool),
        torch.tensor([1]),
    )  # fmt: skip
    weights = torch.tensor([[1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))]])
    assert float(PoolTargets(0.5)(weights, torch.zeros(()), pools)) == pytest.approx(0, abs=1e-6)
    assert float(PoolTargets(1.0)(weights, torch.zeros(()), pools)) > 0.05


@given(st.integers(0, 10_000), st.floats(0.1, 50))
def test_standardized_rewards_have_mean_0_and_deviation_1_in_any_unit(
    seed: int, unit: float
) -> None:
    pools = _pools(seed)
    mask = pools.mask.clone()
    mask[0, 3:] = False
    found = standardized(pools.rewards * unit - 5, mask)
    assert torch.allclose(found, standardized(pools.rewards, mask), atol=1e-6)
    assert (found[0, 3:] == 0).all()
    assert torch.allclose(found[0, :3].mean(0), torch.zeros(3).double(), atol=1e-9)
    assert torch.allclose(found[0, :3].std(0, correction=0), torch.ones(3).double(), atol=1e-6)


def test_the_utility_is_the_weighed_sum() -> None:
    rewards = torch.tensor([[[1.0, 10.0], [2.0, 30.0]]])
    assert weighed(rewards, torch.tensor([[0.75, 0.25]])).tolist() == [[3.25, 9.0]]


def test_an_untrained_adapter_weighs_all_alike_and_a_batch_is_its_rows() -> None:
    torch.manual_seed(0)
    adapter = WeightAdapter(6, 4)
    contexts = torch.randn(3, 6)
    assert torch.allclose(adapter(contexts), torch.full((3, 4), 0.25))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_()
    apart = torch.cat([adapter(row[None]) for row in contexts])
    assert torch.allclose(adapter(contexts), apart, atol=1e-6)
    assert torch.allclose(apart.sum(1), torch.ones(3))


def _choices(seed: int, *, rows: int, sharpness: float) -> Pools:
    """Choices by `softmax(sharpness * w.r)` with weights .7, .1, .1, .1; reward 2 lies highest."""
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn(rows, 20, 4, generator=generator)
    utility = sharpness * rewards @ torch.tensor([0.7, 0.1, 0.1, 0.1])
    gumbel = -(-torch.rand(rows, 20, generator=generator).log()).log()
    level = torch.tensor([0.0, 1.0, 5.0, 2.0])
    return Pools(
        rewards + level, torch.ones(rows, 20, dtype=torch.bool), (utility + gumbel).argmax(1)
    )


@pytest.mark.parametrize("sharpness", [2.0, 8.0])
def test_the_likelihood_of_choices_finds_the_weights_behind_them(sharpness: float) -> None:
    pools = _choices(3, rows=1500, sharpness=sharpness)
    torch.manual_seed(0)
    adapter = fit_weights(
        WeightAdapter(1, 4, hidden=4),
        torch.ones(1500, 1),
        pools,
        ChoiceLikelihood(),
        steps=150,
        learning_rate=0.03,
    )
    weights = adapter(torch.ones(1, 1))[0]
    distance = (weights - torch.tensor([0.7, 0.1, 0.1, 0.1])).abs().sum() / 2
    assert distance < 0.06
    assert adapter.log_sharpness.exp().item() == pytest.approx(sharpness, rel=0.15)


def test_targets_name_the_reason_and_not_the_reward_with_the_largest_level() -> None:
    pools = _choices(4, rows=1500, sharpness=8.0)
    raw = pools.rewards[torch.arange(1500), pools.chosen].softmax(-1).mean(0)
    assert raw.argmax() == 2  # what a softmax of the rewards as they are reports
    torch.manual_seed(0)
    adapter = fit_weights(
        WeightAdapter(1, 4, hidden=4), torch.ones(1500, 1), pools, PoolTargets(), steps=80
    )
    weights = adapter(torch.ones(1, 1))[0]
    assert weights.argmax() == 0
    assert (weights[1:] < 0.2).all()


def test_training_changes_the_weights_with_the_context() -> None:
    generator = torch.Generator().manual_seed(5)
    contexts = torch.eye(2)[torch.arange(600) % 2]
    rewards = torch.randn(600, 8, 2, generator=generator)
    chosen = torch.stack([rewards[row, :, row % 2].argmax() for row in range(600)])
    pools = Pools(rewards, torch.ones(600, 8, dtype=torch.bool), chosen)
    torch.manual_seed(0)
    adapter = fit_weights(WeightAdapter(2, 2), contexts, pools, ChoiceLikelihood(), steps=60)
    weights = adapter(torch.eye(2))
    assert weights[0, 0] > 0.9
    assert weights[1, 1] > 0.9


def test_a_temperature_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        PoolTargets(0.0)
