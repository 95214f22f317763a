"""The smoothed weight: what it is, where it vanishes, and that no label can change the loss."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from benchmarks.methods import smpo
from personalize.preference_optimization.smoothed_weight import (
    smoothed_weight,
    soft_strength,
    unit_range,
)

REWARD = st.floats(-5, 5)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(REWARD, REWARD, st.floats(0.1, 20))
def test_it_is_two_alpha_less_gamma(better: float, worse: float, scale: float):
    alpha = scale * torch.sigmoid(column(better) - column(worse))
    ours = smoothed_weight(column(better), column(worse), scale=scale)
    torch.testing.assert_close(ours, 2 * alpha - scale)


def test_it_stays_within_the_bound_of_rewards_from_0_to_1():
    weight = smoothed_weight(column(1.0, 0.0, 0.3), column(0.0, 1.0, 0.3))
    torch.testing.assert_close(weight, column(4.6211716, -4.6211716, 0.0))


def test_a_pair_of_equal_rewards_has_no_gradient_at_all():
    margin = column(1.5, 1.5).requires_grad_()
    weight = smoothed_weight(column(0.4, 0.9), column(0.4, 0.1))
    loss = -functional.logsigmoid(weight * margin)
    loss.sum().backward()
    assert margin.grad is not None
    assert margin.grad[0] == 0
    assert margin.grad[1] < 0
    assert loss[0].item() == pytest.approx(0.6931, abs=1e-4)  # log 2, not 0


def test_where_the_reward_disagrees_the_loss_pulls_the_other_way():
    margin = column(0.0).requires_grad_()
    (-functional.logsigmoid(smoothed_weight(column(0.1), column(0.9)) * margin)).sum().backward()
    assert margin.grad is not None
    assert margin.grad[0] > 0


@given(REWARD, REWARD, REWARD)
def test_turning_a_label_round_changes_nothing(better: float, worse: float, margin: float):
    one = smoothed_weight(column(better), column(worse)) * column(margin)
    other = smoothed_weight(column(worse), column(better)) * -column(margin)
    assert torch.equal(one, other)  # the loss is the reward model's alone


@given(REWARD, REWARD)
def test_the_soft_label_is_the_win_probability(better: float, worse: float):
    share = (1 + soft_strength(column(better), column(worse))) / 2
    torch.testing.assert_close(share, torch.sigmoid(column(better) - column(worse)))


def test_every_pair_takes_its_own_weight():
    better, worse = column(0.9, 0.2), column(0.1, 0.1)
    both = smoothed_weight(better, worse)
    assert both[1] == smoothed_weight(better[1:], worse[1:])[0]
    assert both[0] != both[1]


def test_unit_range_keeps_the_order_and_reaches_both_ends():
    scaled = unit_range(column(4.0, -6.0, 0.0))
    assert scaled.tolist() == [1.0, 0.0, 0.6]


def test_it_falls_less_than_plain_pairs_under_wrong_labels_and_hard_labels_do_no_worse(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(smpo, "QUALITIES", (0.3, 0.8))
    monkeypatch.setattr(smpo, "STEPS", 80)
    found = smpo.experiment((0, 1))
    assert found["smaller_drop_than_dpo"]["low"] > 0
    alignment = {name: row["mean"] for name, row in found["alignment"].items()}
    assert alignment["SmPO, reward 0.80"] == alignment["SmPO, reward 0.80, clean"]
    assert alignment["SmPO, reward 0.30"] < alignment["DPO, 30 % flipped"]
    assert not found["shown"]  # plain labels by the same reward do no worse


def test_what_has_no_weight_is_refused():
    with pytest.raises(ValueError, match="scale must be positive, got 0"):
        smoothed_weight(column(1.0), column(0.0), scale=0.0)
    with pytest.raises(ValueError, match="must not all be equal"):
        unit_range(column(1.0, 1.0))
    with pytest.raises(ValueError, match="must be finite"):
        unit_range(column(1.0, float("inf")))
