"""Rejection sampling over directions."""

from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from personalize.generator import Reward
from personalize.preference_optimization.rejection_sampling import picked, rejection_sampling


class _Coordinates(Reward[Any, Any]):
    """What was made is its own rewards, and the context is added to the first."""

    names = ("task", "other")

    def __call__(self, x: Any, context: Any) -> Float[Tensor, "batch particle dimension"]:
        values = x["rewards"] if isinstance(x, dict) else x
        return values + torch.stack([context, torch.zeros_like(context)], 1)[:, None]


DRAWS = torch.tensor([
    [[1.0, 0.0], [0.0, 1.0], [0.7, 0.8]],
    [[1.0, 0.0], [0.0, 1.0], [0.5, 0.4]],
    [[0.0, 2.0], [0.0, 2.0], [0.0, 1.0]],
])  # fmt: skip
DIRECTIONS = torch.tensor([[0.8, 0.6], [1.0, 0.0], [0.6, 0.8]])
CONTEXT = torch.tensor([0.0, 10.0, 0.0])


def test_the_draw_a_direction_likes_best_is_kept() -> None:
    asked: list[tuple[Any, ...]] = []

    def draw(context: Tensor, directions: Tensor, count: int, seed: int) -> Tensor:
        asked.append((context, directions, count, seed, torch.is_grad_enabled()))
        return DRAWS[:, :count]

    kept = rejection_sampling(draw, _Coordinates(), CONTEXT, DIRECTIONS, count=3, seed=5)
    assert torch.equal(kept.best, torch.tensor([[0.7, 0.8], [1.0, 0.0], [0.0, 2.0]]))
    assert torch.allclose(kept.utility, torch.tensor([1.04, 11.0, 1.6]))
    assert torch.allclose(kept.mean_utility, torch.tensor([0.8 + 0.6 + 1.04, 31.5, 4.0]) / 3)
    assert kept.context is CONTEXT
    assert kept.directions is DIRECTIONS
    assert asked == [(CONTEXT, DIRECTIONS, 3, 5, False)]


def test_one_draw_selects_nothing() -> None:
    kept = rejection_sampling(
        lambda context, directions, count, seed: DRAWS[:, 1 : 1 + count],
        _Coordinates(), CONTEXT, DIRECTIONS, count=1,
    )  # fmt: skip
    assert torch.equal(kept.best, DRAWS[:, 1])
    assert torch.equal(kept.utility, kept.mean_utility)


def test_the_order_of_the_draws_is_irrelevant_and_a_batch_is_its_rows() -> None:
    draws = torch.randn(6, 8, 2, generator=torch.Generator().manual_seed(0))
    directions, context = torch.tensor([[0.6, -0.8]]).expand(6, 2), torch.zeros(6)
    kept = rejection_sampling(lambda *_: draws, _Coordinates(), context, directions)
    moved = rejection_sampling(lambda *_: draws.flip(1), _Coordinates(), context, directions)
    assert torch.equal(kept.best, moved.best)
    for row in range(6):
        part = slice(row, row + 1)
        alone = rejection_sampling(
            lambda *_, part=part: draws[part], _Coordinates(), context[part], directions[part]
        )
        assert torch.equal(alone.best, kept.best[part])


def test_what_is_no_tensor_is_picked_by_its_own_rule() -> None:
    kept = rejection_sampling(
        lambda *_: {"rewards": DRAWS, "name": torch.arange(9).view(3, 3)},
        _Coordinates(), CONTEXT, DIRECTIONS,
        pick=lambda x, index: {name: picked(part, index) for name, part in x.items()},
    )  # fmt: skip
    assert kept.best["name"].tolist() == [2, 3, 6]


def test_no_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        rejection_sampling(lambda *_: DRAWS, _Coordinates(), CONTEXT, DIRECTIONS, count=0)
