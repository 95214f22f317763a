"""Latent preferences found from comparisons."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from personalize.conditioning.latent_preference import (
    SphereEncoder,
    found_latents,
    hindsight_loss,
    mean_difference,
    triplet,
)


def _sphere(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


def _comparisons(seed: int, direction: torch.Tensor, pairs: int) -> tuple[torch.Tensor, ...]:
    """Points on the sphere, the one farther along a direction first."""
    first, second = _sphere(seed, 1, pairs, 8), _sphere(seed + 500, 1, pairs, 8)
    wins = ((first - second) @ direction > 0)[..., None]
    mask = torch.ones(1, pairs, dtype=torch.bool)
    return torch.where(wins, first, second), torch.where(wins, second, first), mask


def test_a_triplet_worked_by_hand() -> None:
    anchor = torch.tensor([3.0, 4.0])
    better = torch.tensor([[0.0, 0.0], [3.0, 3.0]])
    worse = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    assert triplet(anchor, better, worse).tolist() == [5 - 4 + 1, 0]
    assert triplet(anchor, better, worse, margin=4.5).tolist() == [5.5, 0.5]


@given(st.integers(0, 10_000))
def test_an_encoded_list_has_length_1_and_padding_changes_nothing(seed: int) -> None:
    torch.manual_seed(0)
    encoder = SphereEncoder(3, model=8, steps=7)
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(2, 5, 3, generator=generator)
    mask = torch.arange(5) < torch.tensor([[4], [2]])
    found = encoder(steps, mask)
    assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-5)
    longer = torch.cat([torch.where(mask[..., None], steps, torch.nan), torch.ones(2, 2, 3)], 1)
    padded = torch.cat([mask, torch.zeros(2, 2, dtype=torch.bool)], 1)
    assert torch.allclose(encoder(longer, padded), found, atol=1e-5)
    alone = encoder(steps[1:, :2], mask[1:, :2])
    assert torch.allclose(alone, found[1:], atol=1e-5)


def test_hindsight_leaves_the_latent_alone_and_reaches_the_points() -> None:
    anchor = torch.ones(1, 2, requires_grad=True)
    better = torch.tensor([[0.0, 1.0], [1.0, 0.0]], requires_grad=True)
    worse, reconstruction = torch.tensor([[1.0, 1.0], [1.0, 1.0]]), torch.tensor([2.0, 6.0])
    loss = hindsight_loss(reconstruction, anchor, better, worse, triplet_weight=0.5)
    assert loss.item() == pytest.approx(4 + 0.5 * 2)
    loss.backward()
    assert anchor.grad is None
    assert better.grad is not None
    assert (better.grad.abs().sum(1) > 0).all()


def test_the_mean_difference_is_a_direction_or_nothing() -> None:
    better = torch.tensor([[[3.0, 0.0], [0.0, 5.0]], [[1.0, 0.0], [0.0, 1.0]]])
    worse = torch.tensor([[[0.0, -4.0], [9.0, 9.0]], [[0.0, 1.0], [1.0, 0.0]]])
    mask = torch.tensor([[True, False], [True, True]])
    found = mean_difference(better, worse, mask)
    assert torch.allclose(found, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def _released(better: torch.Tensor, worse: torch.Tensor, *, projected: bool) -> torch.Tensor:
    """The optimisation of the released code, and with its projection put back."""
    latent = _sphere(3, 1, 8).mul(2).requires_grad_()
    optimizer = torch.optim.Adam([latent], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        triplet(latent[:, None], better, worse).mean().backward()
        optimizer.step()
        if projected:
            with torch.no_grad():
                latent.copy_(functional.normalize(latent, dim=-1))
    return latent.detach()


def test_the_latent_stays_on_the_sphere_where_the_released_one_leaves_it() -> None:
    direction = _sphere(1, 8)
    better, worse, mask = _comparisons(2, direction, 400)
    released = _released(better, worse, projected=False)
    found = found_latents(better, worse, mask, start=_sphere(3, 1, 8))
    assert released.norm() > 3
    assert found.norm().item() == pytest.approx(1, abs=1e-5)
    assert torch.cosine_similarity(released[0], direction, dim=0) > 0.97
    assert torch.cosine_similarity(found[0], direction, dim=0) > 0.97


def test_the_projection_alone_would_drift_to_equal_coordinates() -> None:
    direction = _sphere(1, 8)
    better, worse, mask = _comparisons(2, direction, 400)
    projected = _released(better, worse, projected=True)
    found = found_latents(better, worse, mask, start=_sphere(3, 1, 8))
    assert torch.cosine_similarity(projected[0], direction, dim=0) < 0.93
    assert projected.abs().max() / projected.abs().median() < 1.5
    assert triplet(found, better, worse).mean() < triplet(projected, better, worse).mean()


def test_every_user_is_found_alone_and_padding_is_no_comparison() -> None:
    one, two = _sphere(4, 8), -_sphere(4, 8)
    parts = [_comparisons(5, one, 12), _comparisons(6, two, 30)]
    better, worse = torch.full((2, 30, 8), 0.3), torch.full((2, 30, 8), -0.7)
    mask = torch.zeros(2, 30, dtype=torch.bool)
    for row, (wins, losses, _) in enumerate(parts):
        count = wins.shape[1]
        better[row, :count], worse[row, :count], mask[row, :count] = wins[0], losses[0], True
    together = found_latents(better, worse, mask)
    apart = torch.cat([found_latents(*part) for part in parts])
    assert torch.allclose(together, apart, atol=1e-4)
    assert torch.cosine_similarity(together[0], one, dim=0) > 0.5
    assert torch.cosine_similarity(together[1], two, dim=0) > 0.5


def test_neither_points_nor_start_get_a_gradient_or_change() -> None:
    better, worse, mask = _comparisons(7, _sphere(8, 8), 6)
    better, start = better.requires_grad_(), _sphere(9, 1, 8).requires_grad_()
    before = start.detach().clone()
    with torch.no_grad():
        found = found_latents(better, worse, mask, start=start, steps=5)
    assert better.grad is None
    assert start.grad is None
    assert torch.equal(start.detach(), before)
    assert not found.requires_grad


def test_without_a_comparison_the_start_stays() -> None:
    better, worse, mask = _comparisons(10, _sphere(11, 8), 4)
    start = 3 * _sphere(12, 1, 8)
    none = torch.zeros_like(mask)
    assert torch.allclose(found_latents(better, worse, none, start=start), start / 3, atol=1e-6)
    assert found_latents(better, worse, none).abs().max() == 0


@pytest.mark.parametrize("angle", [0.5, 2.5])
def test_a_larger_margin_still_asks_where_a_small_one_is_content(angle: float) -> None:
    better = torch.tensor([[[1.0, 0.0]]])
    worse = torch.tensor([[[-1.0, 0.0]]])
    mask = torch.ones(1, 1, dtype=torch.bool)
    start = torch.tensor([[math.cos(angle), math.sin(angle)]])
    found = found_latents(better, worse, mask, start=start, margin=2.5)
    assert torch.allclose(found, torch.tensor([[1.0, 0.0]]), atol=0.05)


def test_an_encoder_sees_the_order_of_steps() -> None:
    torch.manual_seed(0)
    steps, mask = torch.randn(3, 5, 2), torch.ones(3, 5, dtype=torch.bool)
    encoder = SphereEncoder(2)
    assert not torch.allclose(encoder(steps, mask), encoder(steps.flip(1), mask), atol=1e-5, rtol=0)
