"""Rounds: weights that go on, that follow, and that are kept."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalize.preference_optimization.rounds import (
    CheckpointPool,
    ReferenceRefresh,
    extrapolated,
    mixed,
)
from personalize.preference_optimization.tabular_policy import TabularPolicy


def state(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(2, 3, generator=generator, dtype=torch.float64).to(dtype),
        "count": torch.tensor(seed),
    }


def test_goes_on_in_the_direction_it_went():
    found = extrapolated(state(1), state(2), 0.3)
    expected = state(2)["weight"] + 0.3 * (state(2)["weight"] - state(1)["weight"])
    torch.testing.assert_close(found["weight"], expected)
    assert found["count"].item() == 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_alpha_of_0_is_the_round_itself(dtype):
    found = extrapolated(state(1, dtype), state(2, dtype), 0.0)
    assert torch.equal(found["weight"], state(2, dtype)["weight"])
    assert found["weight"].dtype == dtype


@given(seed=st.integers(0, 10**6), alpha=st.floats(0, 0.99))
def test_weights_and_log_probabilities_go_the_same_way_for_a_table(seed, alpha):
    first, second = state(seed)["weight"], state(seed + 1)["weight"]
    found = extrapolated({"table": first}, {"table": second}, alpha)["table"]
    log_old, log_new = first.log_softmax(-1), second.log_softmax(-1)
    expected = (log_new + alpha * (log_new - log_old)).log_softmax(-1)
    torch.testing.assert_close(found.log_softmax(-1), expected)


def test_mixes_by_share():
    found = mixed(state(1), state(2), 0.6)
    expected = 0.4 * state(1)["weight"] + 0.6 * state(2)["weight"]
    torch.testing.assert_close(found["weight"], expected)
    assert torch.equal(mixed(state(1), state(2), 1.0)["weight"], state(2)["weight"])
    assert torch.equal(mixed(state(1), state(2), 0.0)["weight"], state(1)["weight"])


def test_what_comes_out_shares_no_memory():
    policy = TabularPolicy(torch.zeros(1, 2))
    for found in (
        extrapolated(policy.state_dict(), policy.state_dict(), 0.0),
        mixed(policy.state_dict(), policy.state_dict(), 1.0),
    ):
        with torch.no_grad():
            policy.table.add_(1)
        assert not torch.equal(found["table"], policy.table)
        policy.load_state_dict(found)


def test_a_refresh_is_due_every_so_often():
    refresh = ReferenceRefresh(every=3, share=0.5)
    assert [step for step in range(10) if refresh.due(step)] == [3, 6, 9]
    found = refresh(state(1), state(2))
    torch.testing.assert_close(found["weight"], mixed(state(1), state(2), 0.5)["weight"])


def test_a_pool_keeps_the_newest():
    pool = CheckpointPool(capacity=3, every=10)
    taken = [step for step in range(45) if pool.offer(step, state(step))]
    assert taken == [0, 10, 20, 30, 40]
    assert pool.steps == (20, 30, 40)
    assert not pool.offer(40, state(40))
    drawn = {int(pool.draw(seed)["count"]) for seed in range(50)}
    assert drawn == {20, 30, 40}
    assert torch.equal(pool.draw(4)["weight"], pool.draw(4)["weight"])
    counts = [int(pool.draw(seed)["count"]) for seed in range(600)]
    assert min(counts.count(step) for step in (20, 30, 40)) > 150


def test_a_pool_holds_copies_and_comes_back():
    policy = TabularPolicy(torch.zeros(1, 2))
    pool = CheckpointPool(capacity=2, every=1)
    pool.offer(0, policy.state_dict())
    with torch.no_grad():
        policy.table.add_(1)
    pool.offer(1, policy.state_dict())
    other = CheckpointPool(capacity=2, every=1)
    other.load_state_dict(pool.state_dict())
    assert len(other) == 2
    assert other.steps == (0, 1)
    assert torch.equal(other.draw(0)["table"], pool.draw(0)["table"])
    values = {float(other.draw(seed)["table"].sum()) for seed in range(20)}
    assert values == {0.0, 2.0}
    narrow = CheckpointPool(capacity=1, every=1)
    narrow.load_state_dict(pool.state_dict())
    assert narrow.steps == (1,)


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\), got 1"):
        extrapolated(state(1), state(2), 1.0)
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\], got 1.5"):
        mixed(state(1), state(2), 1.5)
    with pytest.raises(ValueError, match="the two states must name the same weights"):
        mixed(state(1), {"weight": torch.zeros(2, 3)}, 0.5)
    other = state(2) | {"weight": torch.zeros(3)}
    with pytest.raises(ValueError, match=r"weight has shape \(2, 3\) and \(3,\)"):
        extrapolated(state(1), other, 0.5)
    with pytest.raises(ValueError, match="every must be 1 or more, got 0"):
        ReferenceRefresh(every=0)
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\], got 2"):
        ReferenceRefresh(share=2.0)
    with pytest.raises(ValueError, match="capacity and every must be 1 or more, got 0 and 30"):
        CheckpointPool(capacity=0)
    with pytest.raises(ValueError, match="the pool is empty"):
        CheckpointPool().draw(0)
