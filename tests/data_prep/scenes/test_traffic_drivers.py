"""Drivers' styles: presets, the population's correlations, the parameters."""

import numpy as np
import pytest

from data_prep.scenes.style_dimensions import AGGRESSIVE_SIGNS, STYLE_DIMENSIONS, STYLE_LABELS
from data_prep.scenes.traffic_drivers import (
    ANCHORS,
    draw_styles,
    driver_parameters,
    nearest_preset,
    preset_values,
)


def test_presets_get_the_anchors_of_the_literature():
    assert driver_parameters(preset_values("conservative")) == pytest.approx(
        {
            "speedFactor": 0.85,
            "tau": 2.0,
            "minGap": 3.0,
            "accel": 0.9,
            "decel": 1.5,
            "jerk_mps3": 2.0,
            "lateral_acceleration_mps2": 2.0,
            "lcSpeedGain": 0.0,
            "lcAssertive": 0.7,
            "lcCooperative": 1.0,
            "jmTimegapMinor": 2.5,
            "impatience": 0.0,
        }
    )
    aggressive = driver_parameters(preset_values("aggressive"))
    assert (aggressive["tau"], aggressive["accel"], aggressive["decel"]) == (0.9, 2.2, 3.0)
    assert driver_parameters(preset_values("normal"))["tau"] == 1.5


def test_parameters_are_linear_between_anchors_and_follow_their_own_dimension_only():
    values = [0.0] * len(STYLE_DIMENSIONS)
    values[STYLE_DIMENSIONS.index("time_gap")] = 0.5  # half-way from 1.5 s to a long gap of 2 s
    parameters = driver_parameters(tuple(values))
    normal = driver_parameters(preset_values("normal"))
    assert parameters["tau"] == pytest.approx(1.75)
    changed = {name for name in ANCHORS if parameters[name] != normal[name]}
    assert changed == {"tau", "minGap"}


@pytest.mark.parametrize("label", STYLE_LABELS)
def test_a_preset_is_nearest_to_itself_also_when_moved_a_little(label):
    values = tuple(0.7 * value + 0.1 for value in preset_values(label))
    assert nearest_preset(values) == label


def test_every_dimension_moves_some_parameter():
    assert {anchor.dimension for anchor in ANCHORS.values()} == set(STYLE_DIMENSIONS)


def _ranks(styles: np.ndarray) -> np.ndarray:
    """Spearman's correlations of columns without ties."""
    return np.asarray(np.corrcoef(styles.argsort(axis=0).argsort(axis=0), rowvar=False))


def test_the_population_is_uniform_per_dimension_and_correlated_with_the_right_signs():
    styles = draw_styles(6000, np.random.default_rng(0))
    assert np.abs(styles).max() <= 1
    for column in styles.T:
        assert np.quantile(column, [0.1, 0.5, 0.9]) == pytest.approx([-0.8, 0.0, 0.8], abs=0.05)
    rank = _ranks(styles) * np.outer(AGGRESSIVE_SIGNS, AGGRESSIVE_SIGNS)
    # Spearman's of a Gaussian copula of correlation 0.49: 6 / pi * asin(0.49 / 2)
    off_diagonal = rank[~np.eye(len(rank), dtype=bool)]
    assert off_diagonal == pytest.approx(6 / np.pi * np.arcsin(0.245), abs=0.04)


def test_without_a_shared_correlation_dimensions_are_independent():
    rank = _ranks(draw_styles(6000, np.random.default_rng(1), 0.0))
    assert np.abs(rank - np.eye(len(rank))).max() < 0.05


def test_parameters_refuse_values_that_are_no_style():
    with pytest.raises(ValueError, match="8 numbers, got 2"):
        driver_parameters((0.0, 0.0))
    with pytest.raises(ValueError, match="-1 to 1"):
        driver_parameters((1.5, *[0.0] * 7))
