"""Which strengths are tried, and which is taken."""

import pytest

from personalize.evaluation.strength_tuning import (
    Trial,
    best_trial,
    described,
    variants,
    with_setting,
    with_settings,
)
from personalize.steering.chain import Chain, Guidance, Selection
from personalize.steering.particles import EndOnly, ParticleSteering

CHAIN = Chain(particles=ParticleSteering(count=8, potential=EndOnly()))


def test_the_least_error_that_loses_little_enough_is_taken():
    trials = [Trial(0.5, 0.0), Trial(0.3, 0.08), Trial(0.2, 0.3), Trial(0.3, 0.01)]
    assert best_trial(trials, 0.1) == 1
    assert best_trial(trials, 0.5) == 2
    assert best_trial(trials, 0.08) == 1
    assert best_trial(trials, 0.0) == 0


def test_where_none_loses_little_enough_the_least_loss_is_taken():
    assert best_trial([Trial(0.1, 0.9), Trial(0.4, 0.2), Trial(0.2, 0.3)], 0.1) == 1


def test_no_trial_is_refused():
    with pytest.raises(ValueError, match="trials must hold at least one setting"):
        best_trial([], 0.1)


def test_every_combination_is_tried():
    found = variants(CHAIN, {"lookahead.strength": [1.0, 3.0], "particles.count": [4.0, 8.0]})
    assert [tuple(settings.values()) for settings in found] == [(1, 4), (1, 8), (3, 4), (3, 8)]
    chain = with_settings(CHAIN, found[2])
    assert chain.lookahead.strength == 3.0
    assert chain.particles == ParticleSteering(count=4, potential=EndOnly())
    assert chain.guidance == Guidance()
    assert variants(CHAIN, {}) == [{}]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lookahead.strenght", 1.0, "lookahead.strenght is no setting of the chain; there are"),
        ("nothing.strength", 1.0, "nothing.strength is no setting of the chain; there are telling"),
        ("particles.count", 2.5, "particles.count must be a whole number, got 2.5"),
        ("edits.folder", 1.0, "edits.folder is no number"),
        ("selection.calibrate", 1.0, "selection.calibrate is no number"),
        ("telling.strength", 2.0, "telling.strength must be from 0 to 1, got 2"),
        ("telling.strength.more", 2.0, "there is nothing below 0"),
    ],
)
def test_what_does_not_fit_is_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        variants(CHAIN, {name: [value]})


def test_a_part_that_is_not_there_has_no_strength():
    with pytest.raises(ValueError, match="what count would belong to is not there"):
        with_setting(Chain(), "particles.count", 4.0)


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match=r"lookahead\.strength must list at least one value"):
        variants(CHAIN, {"lookahead.strength": []})


def test_a_chain_is_described_by_what_is_not_at_its_default():
    assert described(Chain()) == {}
    assert described(CHAIN) == {"particles.count": 8, "particles.potential": "EndOnly"}
    assert described(Chain(particles=ParticleSteering())) == {"particles": "ParticleSteering"}
    found = described(Chain(guidance=Guidance(2.0), selection=Selection(calibrate=True)))
    assert found == {"guidance.weight": 2.0, "selection.calibrate": True}
