"""The checklist: each check goes off where it should and only there."""

import numpy as np
import pytest

from personalize.evaluation.loop_health import (
    CHECKS,
    broken_share,
    gain,
    kept_share,
    late_mean,
    loop_health,
    spike,
)

STEPS = np.arange(40.0)
NOISE = np.random.default_rng(0).normal(0, 0.1, 40)
WELL = {
    "loss": 1 + NOISE,
    "zero_variance_share": np.full(40, 0.1),
    "clip_share": np.full(40, 0.05),
    "kl": 0.1 * STEPS,
    "entropy": 3 - 0.01 * STEPS,
    "effective_sample_share": np.full(40, 0.9),
    "reward_match": NOISE + 0.1 * STEPS,
    "log_prob_best": NOISE,
    "gradient_norm": 1 + 0.1 * np.abs(NOISE),
}
ILL = {
    "finite loss": ("loss", np.where(STEPS == 7, np.nan, 1.0)),
    "groups without signal": ("training_zero_variance_share", np.full(40, 0.9)),
    "clipping": ("clip_share", np.full(40, 0.6)),
    "divergence": ("training_kl", STEPS),
    "entropy": ("training_entropy", 3 * np.exp(-0.1 * STEPS)),
    "effective samples": ("effective_sample_share", 1 - STEPS / 45),
    "reward": ("reward_comfort", NOISE - 0.1 * STEPS),
    "likelihood of what is preferred": ("training_log_prob_best", NOISE - STEPS),
    "gradient norm": ("training_gradient_norm", np.where(STEPS == 30, 50.0, 1.0)),
}


def test_a_run_that_is_well_is_told_so_by_every_check():
    found = loop_health(WELL)
    assert [one.name for one in found] == [check.name for check in CHECKS]
    assert all(one.well for one in found)
    assert all(one.sentence.endswith("which is well.") for one in found)
    assert {one.count for one in found} == {40}


@pytest.mark.parametrize("name", list(ILL))
def test_each_check_goes_off_by_itself(name: str):
    column, values = ILL[name]
    found = {one.name: one for one in loop_health({column: values})}
    assert found[name].well is False
    assert found[name].column == column
    concern = next(check.concern for check in CHECKS if check.name == name)
    assert concern in found[name].sentence
    assert [one.name for one in found.values() if one.well is not None] == [name]


def test_what_was_not_logged_is_said():
    found = loop_health({"learning_rate": STEPS, "reward": np.array([])})
    assert len(found) == len(CHECKS)
    assert all(one.well is None and one.value is None for one in found)
    assert found[0].sentence == "Finite loss was not logged."


def test_every_objective_has_its_own_finding():
    found = loop_health({"reward_a": STEPS, "reward_b": -STEPS})
    rewards = [(one.column, one.well) for one in found if one.name == "reward"]
    assert rewards == [("reward_a", True), ("reward_b", False)]


def test_statistics_by_hand():
    assert late_mean(STEPS) == 37.5
    assert kept_share(np.array([4.0, 9, 9, 1])) == 0.25
    assert kept_share(np.array([0.0, 1.0])) == 1.0
    assert spike(np.array([1.0, 2, 4])) == 2
    assert spike(np.zeros(3)) == 1
    assert spike(np.array([0.0, 0, 1])) == spike(np.array([np.nan, 1])) == np.inf
    assert broken_share(np.array([1.0, np.inf, 2, 3])) == 0.25
    eight = np.concatenate([[1.0, 3.0], np.zeros(4), [6.0, 8.0]])
    assert gain(eight) == pytest.approx(5 / np.sqrt((2 + 2) / 2))
    assert gain(np.ones(30)) == 0
    assert gain(np.array([2.0])) == 0
    assert gain(np.repeat([1.0, 0.0], 20)) == -10
