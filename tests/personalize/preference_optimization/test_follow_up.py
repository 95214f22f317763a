"""The model of what follows, against counts done by hand."""

import math

import pytest
import torch

from personalize.preference_optimization.follow_up import FollowUpModel, follow_up_reward

CELLS = torch.tensor([0] * 10 + [1] * 4)
AGAIN = torch.tensor([True] * 3 + [False] * 7 + [True] * 3 + [False])


def fitted(ridge: float) -> FollowUpModel:
    model = FollowUpModel(2, ("again", "return"))
    happened = torch.stack([AGAIN, ~AGAIN], -1)
    model.fit(torch.nn.functional.one_hot(CELLS, 2).float(), happened, ridge=ridge)
    return model


def test_of_cells_it_is_a_table_of_counts() -> None:
    with torch.no_grad():
        found = fitted(1e-9)(torch.eye(2)).exp()
    torch.testing.assert_close(found, torch.tensor([[0.3, 0.7], [0.75, 0.25]]), atol=1e-3, rtol=0)


def test_a_strong_prior_forgets_the_cells_and_keeps_the_rate() -> None:
    with torch.no_grad():
        found = fitted(1e4)(torch.eye(2)).exp()
    torch.testing.assert_close(found[:, 0], torch.full((2,), 6 / 14), atol=1e-3, rtol=0)


def test_its_reward_is_the_log_odds_of_opposed_events() -> None:
    with torch.no_grad():
        said = fitted(1e-9)(torch.eye(2))
    found = follow_up_reward(said[:, :1], said[:, 1:])
    expected = torch.tensor([math.log(0.3 / 0.7), math.log(3.0)])
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


def test_means_are_taken_within_each_side() -> None:
    found = follow_up_reward(torch.tensor([[-1.0, -3.0, -2.0]]), torch.tensor([[-4.0, -6.0]]))
    assert found.tolist() == [3.0]


def test_it_learns_the_same_twice_and_a_batch_is_its_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 3, generator=generator)
    happened = torch.rand(40, 1, generator=generator) < 0.5
    models = [FollowUpModel(3, ("again",)) for _ in range(2)]
    for model in models:
        model.fit(features, happened)
    with torch.no_grad():
        first, again = (model(features) for model in models)
        alone = torch.cat([models[0](row[None]) for row in features])
    assert torch.equal(first, again)
    torch.testing.assert_close(first, alone)
    assert first.dtype == torch.float32


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="events must name at least one event"):
        FollowUpModel(3, ())
    model = FollowUpModel(3, ("again",))
    nothing = torch.zeros(0, 3), torch.zeros(0, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="fit needs rows and a positive ridge, got 0 rows"):
        model.fit(*nothing)
    with pytest.raises(ValueError, match="got 2 rows and 0"):
        model.fit(torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.bool), ridge=0.0)
