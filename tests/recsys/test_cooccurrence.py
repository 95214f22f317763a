"""The co-occurrence prior against loops over histories, and its laws."""

import dataclasses

import numpy as np
import pytest
import torch

from recsys.batch import HistoryBatch
from recsys.cooccurrence import CooccurrencePrior, CooccurrenceSettings

ITEMS = 7
HISTORIES = ([0, 1, 2, 1, 5], [3, 0, 1], [4, 2], [1, 2, 3, 4, 6, 0, 2])
SETTINGS = CooccurrenceSettings(
    decay=0.7, backward=0.4, popularity_power=0.3, recency=0.6, smoothing=0.9, maximum_lag=3
)


def sequences(histories, steps=8):
    """A batch of sequences: the whole history but its last item, a target after every step."""
    rows = len(histories)
    items = torch.zeros(rows, steps, dtype=torch.long)
    targets, mask = torch.zeros_like(items), torch.zeros(rows, steps, dtype=torch.bool)
    for row, history in enumerate(histories):
        length = len(history) - 1
        items[row, :length] = torch.tensor(history[:-1])
        targets[row, :length] = torch.tensor(history[1:])
        mask[row, :length] = True
    nothing = torch.zeros(rows, steps, 1, dtype=torch.bool)
    return HistoryBatch(
        row_ids=torch.arange(rows),
        history_item_ids=items,
        history_mask=mask,
        target_item_ids=targets,
        target_mask=mask,
        preference_text_ids=nothing.long(),
        preference_mask=nothing,
        preference_avoid=nothing,
    )


def slow_log_probability(history, settings):
    """The docstring's formula, item by item."""
    pairs, met = np.zeros((ITEMS, ITEMS)), np.zeros(ITEMS)
    for known in HISTORIES:
        for place, item in enumerate(known):
            met[item] += 1
            for lag in range(1, settings.maximum_lag + 1):
                if place + lag < len(known):
                    pairs[item, known[place + lag]] += settings.decay ** (lag - 1)
    matrix = pairs + settings.backward * pairs.T
    matrix = matrix / np.maximum(met, 1)[:, None] ** settings.popularity_power
    near = np.zeros(ITEMS)
    for age, item in enumerate(reversed(history)):
        near += settings.recency**age * matrix[item]
    popularity = (met + 0.5) / (met + 0.5).sum()
    return np.log((near + settings.smoothing * popularity) / (near.sum() + settings.smoothing))


def counted(settings=SETTINGS):
    prior = CooccurrencePrior(ITEMS, settings)
    prior.survey([sequences(HISTORIES[:2]), sequences(HISTORIES[2:])])
    return prior


def test_the_prior_equals_the_formula():
    histories = [[0, 1, 2], [6], [5, 5, 1, 3]]
    found = counted()(sequences([[*history, 0] for history in histories]))
    for row, history in enumerate(histories):
        assert found[row].numpy() == pytest.approx(
            slow_log_probability(history, SETTINGS), abs=1e-5
        )


def test_probabilities_add_up_to_one_and_none_is_zero():
    found = counted()(sequences([[0, 1], [6, 0, 2]])).exp()
    assert found.sum(1).numpy() == pytest.approx(1.0, abs=1e-6)
    assert (found > 0).all()


def test_nothing_counted_gives_popularity():
    prior = CooccurrencePrior(ITEMS)
    found = prior(sequences([[2, 3]]))[0].exp()
    assert found.numpy() == pytest.approx(1 / ITEMS)


def test_counting_again_and_in_other_batches_changes_nothing():
    prior = counted()
    before = prior(sequences([[0, 1, 2, 3]]))
    prior.survey([sequences(HISTORIES[::-1])])
    assert torch.equal(before, prior(sequences([[0, 1, 2, 3]])))


def test_a_stored_prior_is_the_same_prior():
    prior, other = counted(), CooccurrencePrior(ITEMS, SETTINGS)
    other.load_state_dict(prior.state_dict())
    batch = sequences([[4, 2, 0], [1, 1]])
    assert torch.equal(prior(batch), other(batch))


def test_bad_settings_and_batches_of_prefixes_are_refused():
    with pytest.raises(ValueError, match="smoothing must be positive, got 0"):
        CooccurrenceSettings(smoothing=0.0)
    with pytest.raises(ValueError, match="maximum_lag must be at least 1, got 0"):
        CooccurrenceSettings(maximum_lag=0)
    whole = sequences(HISTORIES)
    first = {
        field.name: getattr(whole, field.name)[:, :1]
        for field in dataclasses.fields(whole)
        if field.name.startswith(("target", "preference"))
        and getattr(whole, field.name) is not None
    }
    prefixes = dataclasses.replace(whole, **first)
    with pytest.raises(ValueError, match="counted on batches of sequences"):
        CooccurrencePrior(ITEMS).survey([prefixes])
