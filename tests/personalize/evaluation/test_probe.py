"""The probe against SciPy, against counting, and its own laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats
from sklearn.linear_model import LogisticRegression

from personalize.evaluation.probe import (
    asked_changes,
    distance_from_even,
    drawn_contexts,
    drawn_probe,
    effective_share,
    even_weights,
    independent_dimensions,
    rank_correlation,
)

RANDOM = np.random.default_rng(4)
NAMES = ("speed", "comfort", "gap", "light")


def crowded(rows: int = 800) -> np.ndarray:
    """Outputs in three dimensions: crowded in the middle, crowded low, and at both ends."""
    random = np.random.default_rng(9)
    shapes = ((5, 5), (1, 4), (0.5, 0.6))
    return np.column_stack([random.beta(*shape, size=rows) for shape in shapes])


# Dimensions


def test_rank_correlation_agrees_with_scipy_with_ties_and_unknown_values():
    values = RANDOM.integers(0, 6, size=(60, 3)).astype(float)
    known = RANDOM.random((60, 3)) > 0.2
    found = rank_correlation(values, known)
    for one, two in ((0, 1), (0, 2), (1, 2)):
        both = known[:, one] & known[:, two]
        expected = stats.spearmanr(values[both, one], values[both, two])[0]
        assert found[one, two] == found[two, one] == pytest.approx(expected)
    assert np.diag(found) == pytest.approx(1)


def test_of_two_that_rank_alike_the_later_is_dropped_and_so_is_what_does_not_vary():
    speed = RANDOM.random(40)
    values = np.column_stack([speed, 1 - speed**3, RANDOM.random(40), np.full(40, 0.5)])
    found = independent_dimensions(values, np.ones(values.shape, bool), NAMES)
    assert found.kept.tolist() == [0, 2]
    assert found.dropped[1] == "ranks unsteered outputs as speed does (rank correlation -1.00)"
    assert found.dropped[3] == "the same in every unsteered output"


def test_dimensions_that_hang_together_loosely_are_kept_and_hardly_known_ones_are_not():
    speed = RANDOM.random(200)
    values = np.column_stack([speed, speed + 0.3 * RANDOM.random(200), speed, speed])
    known = np.ones(values.shape, bool)
    known[7:, 2], known[:, 3] = False, False
    found = independent_dimensions(values, known, NAMES, largest=0.99)
    assert found.kept.tolist() == [0, 1]
    assert found.dropped[2] == "known in 7 unsteered outputs only"


def test_nothing_that_varies_is_refused():
    with pytest.raises(ValueError, match="No goal dimension varies among unsteered outputs"):
        independent_dimensions(np.ones((20, 2)), np.ones((20, 2), bool), NAMES)


# Weights


def test_weights_even_out_a_density_that_rises_and_falls_where_a_linear_classifier_cannot():
    values = crowded()
    known = np.ones(values.shape, bool)
    weights = even_weights(values, known)
    uniform = np.random.default_rng(1).random((2000, 3))
    labels = np.arange(len(values) + len(uniform)) >= len(values)
    plain = LogisticRegression(class_weight="balanced").fit(np.r_[values, uniform], labels)
    linear = np.exp(plain.decision_function(values))
    ones = np.ones(len(values))
    for column in range(3):
        unweighted = distance_from_even(values[:, column], ones)
        assert distance_from_even(values[:, column], weights) < 0.75 * unweighted
    middle = values[:, 0]
    assert distance_from_even(middle, linear) > 0.9 * distance_from_even(middle, ones)


def test_weights_are_positive_and_capped_and_repeat():
    values = np.concatenate([np.full((400, 1), 0.5), [[0.99]]])
    weights = even_weights(values, np.ones(values.shape, bool))
    assert weights.min() > 0
    assert weights.max() == pytest.approx(50)
    assert (weights == even_weights(values, np.ones(values.shape, bool))).all()


def test_what_is_unknown_tells_nothing():
    values = crowded()
    hidden = np.where(np.arange(3) == 0, 0.5, values)  # as an unknown one may be stored
    known = np.ones(values.shape, bool)
    known[:, 0] = False
    without = even_weights(values[:, 1:], known[:, 1:])
    found = even_weights(hidden, known)
    assert np.corrcoef(np.log(found), np.log(without))[0, 1] > 0.95


def test_the_distance_from_an_even_spread_is_that_of_kolmogorov_and_smirnov():
    values = RANDOM.beta(2, 3, size=70)
    found = distance_from_even(values, np.ones(70))
    assert found == pytest.approx(stats.kstest(values, "uniform").statistic)
    doubled = distance_from_even(values, np.where(np.arange(70) < 20, 2.0, 1.0))
    assert doubled == pytest.approx(stats.kstest(np.r_[values, values[:20]], "uniform").statistic)
    assert effective_share(np.array([3.0, 1.0])) == pytest.approx(0.8)


# Draws


def test_probabilities_of_inclusion_are_those_that_counting_finds():
    weights = np.array([10.0, 5.0, 1.0, 1.0, 0.5, 3.0, 0.1, 2.0])
    found, counted = np.zeros(8), np.zeros(8)
    for seed in range(1500):
        chosen, inclusion = drawn_contexts(weights, 4, seed=seed)
        counted[chosen] += 1 / 1500
        found[chosen] = inclusion
        assert len(chosen) == 4
    assert found == pytest.approx(counted, abs=0.06)  # asymptotic: these are few
    assert found.sum() == pytest.approx(4)


def test_few_of_many_are_drawn_in_proportion_and_all_of_few_for_certain():
    weights = RANDOM.random(5000) + 0.1
    chosen, inclusion = drawn_contexts(weights, 10)
    ratio = inclusion / weights[chosen]
    assert ratio == pytest.approx(np.full(10, ratio[0]), rel=0.01)
    chosen, inclusion = drawn_contexts(weights[:6], 10)
    assert chosen.tolist() == list(range(6))
    assert inclusion.tolist() == [1.0] * 6


@given(
    before=some.lists(some.floats(0, 1), min_size=1, max_size=6),
    most=some.integers(1, 4),
    seed=some.integers(0, 999),
)
def test_goals_stay_within_reach_and_ask_for_few_dimensions(before, most, seed):
    place = np.array(before)
    may_ask = np.arange(len(place)) != 1
    changes = asked_changes(place, may_ask, 20, most_active=most, seed=seed)
    asked = changes != 0
    assert (np.abs(changes[asked]) >= 0.1 - 1e-12).all()
    assert (np.abs(changes[asked]) <= 0.7 + 1e-12).all()
    assert (place + changes >= -1e-9).all()
    assert (place + changes <= 1 + 1e-9).all()
    assert not asked[:, ~may_ask].any()
    assert set(asked.sum(1)) <= set(range(1, most + 1))


@pytest.mark.parametrize(
    ("place", "down", "up"),
    [(0.5, (-0.5, -0.1), (0.1, 0.5)), (0.05, None, (0.1, 0.7)), (0.9, (-0.7, -0.1), None)],
)
def test_changes_are_uniform_over_all_that_can_be_asked(place, down, up):
    changes = asked_changes(np.array([place]), np.array([True]), 3000)[:, 0]
    ranges = [limits for limits in (down, up) if limits]
    total = sum(high - low for low, high in ranges)
    expected = sum(np.clip(changes, low, high) - low for low, high in ranges) / total
    assert stats.kstest(expected, "uniform").statistic < 0.03


def test_up_to_three_dimensions_are_asked_for_about_equally_often():
    changes = asked_changes(np.full(5, 0.5), np.ones(5, bool), 3000)
    counts = np.bincount((changes != 0).sum(1), minlength=4)
    assert counts[0] == 0
    assert counts[1:].tolist() == pytest.approx([1000] * 3, abs=90)


def test_a_context_of_which_nothing_may_be_asked_is_refused():
    with pytest.raises(ValueError, match="may_ask must hold at least one dimension"):
        asked_changes(np.array([0.5]), np.array([False]), 3)


# The whole probe


def probe_of(values: np.ndarray, known: np.ndarray, **options):
    kept = np.array([0, 2])
    contexts = np.arange(100, 100 + len(values))
    return drawn_probe(contexts, values, known, kept, **({"count": 6, "goals": 4} | options))


def test_goals_of_a_context_do_not_depend_on_which_others_may_be_drawn():
    values, kept = crowded(30), np.array([0, 2])
    known, contexts = np.ones(values.shape, bool), np.arange(100, 130)

    def changes(chosen: slice) -> dict[int, list]:
        part = contexts[chosen], values[chosen], known[chosen]
        probe = drawn_probe(*part, kept, count=30, goals=4, seed=5)
        return {
            int(context): probe.change[probe.contexts == context].tolist()
            for context in probe.contexts
        }

    every, some = changes(slice(None)), changes(slice(7, None))
    assert len(some) == 23
    assert all(some[context] == every[context] for context in some)


def test_a_probe_holds_its_contexts_together_with_goals_only_in_what_is_known_and_kept():
    values = crowded(50)
    known = np.ones(values.shape, bool)
    known[::2, 2] = False
    known[::7, 0] = False
    probe = probe_of(values, known)
    assert probe.contexts.tolist() == np.repeat(probe.contexts[::4], 4).tolist()
    places = probe.contexts - 100
    assert (probe.known[:, [0, 2]] == known[places][:, [0, 2]]).all()
    assert not probe.known[:, 1].any()
    assert not (probe.change != 0)[~probe.known].any()
    assert (probe.before[probe.known] == values[places][probe.known]).all()
    assert known[places][:, [0, 2]].any(1).all()


def test_goals_are_told_only_where_something_is_asked():
    values = crowded(50)
    probe = probe_of(values, np.ones(values.shape, bool))
    goals = probe.goals()
    mask = goals.mask.numpy()
    assert (mask == (probe.change != 0)).all()
    assert (goals.values.numpy()[~mask] == 0).all()
    assert goals.values.numpy()[mask] == pytest.approx(probe.target()[mask], abs=1e-6)


def test_the_goals_of_a_context_do_not_depend_on_the_others():
    values = crowded(50)
    known = np.ones(values.shape, bool)
    few, many = probe_of(values, known), probe_of(values, known, count=50)
    for context in np.unique(few.contexts):
        one, two = few.contexts == context, many.contexts == context
        assert (few.change[one] == many.change[two]).all()
    assert not (many.change == probe_of(values, known, count=50, seed=1).change).all()


def test_weights_of_the_rows_undo_how_they_were_drawn():
    """Drawn by weight, means under the plain weights are those of contexts as they come."""
    values = crowded(300)
    known = np.ones(values.shape, bool)
    plain, even = [], []
    for seed in range(25):
        probe = probe_of(values, known, count=60, goals=1, seed=seed)
        plain.append(np.average(probe.before[:, 0], weights=probe.plain_weight, axis=0))
        even.append(np.average(np.abs(probe.before[:, 0] - 0.5), weights=probe.even_weight))
    assert np.mean(plain) == pytest.approx(values[:, 0].mean(), abs=0.01)
    assert np.abs(values[:, 0] - 0.5).mean() < 0.14  # crowded in the middle
    assert np.mean(even) == pytest.approx(0.25, abs=0.05)  # evenly spread


def test_contexts_of_which_nothing_is_known_are_refused():
    values = crowded(20)
    known = np.zeros(values.shape, bool)
    known[:, 1] = True
    with pytest.raises(ValueError, match="No context has a known goal dimension"):
        probe_of(values, known)
