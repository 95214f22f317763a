"""Token weights: the entropy's change against a measured one, and laws of every variant."""

import pytest
import torch

from personalize.preference_optimization.divergence import entropy
from personalize.preference_optimization.token_weights import (
    EntropyStabilized,
    ReleasedEntropyStabilized,
    TopEntropy,
    entropy_change,
    released_entropy_change,
    weighted_gradient,
)

VARIANTS = [EntropyStabilized(), ReleasedEntropyStabilized(), TopEntropy(), TopEntropy(1.0)]


def some(seed: int = 0, choices: int = 6, count: int = 40):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, count, 3, choices, generator=generator, dtype=torch.float64)
    shares = logits.softmax(-1).flatten(0, 2)
    chosen = torch.multinomial(shares, 1, generator=generator).reshape(2, count, 3)
    advantage = torch.randn(2, count, generator=generator, dtype=torch.float64)
    return logits, chosen, advantage


def moved(logits, chosen, advantage, rate: float = 1e-6) -> torch.Tensor:
    """Change of the entropy after one policy-gradient step on the logits, per unit of rate."""
    leaf = logits.clone().requires_grad_()
    said = leaf.log_softmax(-1).gather(-1, chosen[..., None])[..., 0]
    (advantage[..., None] * said).sum().backward()
    return (entropy(logits + rate * leaf.grad) - entropy(logits)) / rate


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].item()


@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
def test_obeys_the_laws(variant):
    logits, chosen, advantage = some()
    weight = variant(logits, chosen, advantage)
    assert weight.shape == chosen.shape
    assert (weight >= 0).all()
    turned = variant(logits.flip(1), chosen.flip(1), advantage.flip(1))
    torch.testing.assert_close(turned, weight.flip(1))
    shifted = logits + torch.randn(2, 40, 3, 1, dtype=torch.float64)
    torch.testing.assert_close(variant(shifted, chosen, advantage), weight)
    closed = torch.cat([logits, torch.full_like(logits[..., :2], -torch.inf)], -1)
    torch.testing.assert_close(variant(closed, chosen, advantage), weight)


def test_the_change_is_the_measured_one():
    logits, chosen, advantage = some()
    found = entropy_change(logits, chosen, advantage)
    measured = moved(logits, chosen, advantage)
    torch.testing.assert_close(found, measured, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_released_score_follows_it_less_well(seed):
    logits, chosen, advantage = some(seed, choices=16, count=700)
    measured = moved(logits, chosen, advantage)
    assert correlation(entropy_change(logits, chosen, advantage), measured) > 0.99
    released = -released_entropy_change(logits, chosen, advantage)
    assert 0.3 < correlation(released, measured) < 0.9


def test_the_released_score_is_that_of_the_code():
    logits, chosen, advantage = some()
    share = logits.softmax(-1).gather(-1, chosen[..., None])[..., 0]
    code = (advantage[..., None] / share) * (share * (1 - share) * (share.log() + entropy(logits)))
    torch.testing.assert_close(released_entropy_change(logits, chosen, advantage), code)


def test_the_largest_change_weighs_least():
    logits, chosen, advantage = some()
    size = entropy_change(logits, chosen, advantage).abs()
    weight = EntropyStabilized(0.5, 2.0)(logits, chosen, advantage)
    assert weight.flatten()[size.argmax()].item() == pytest.approx(0.5)
    assert weight.flatten()[size.argmin()].item() == pytest.approx(2.0)
    middle = (size - size.min()) / (size.max() - size.min())
    torch.testing.assert_close(weight, 2.0 - 1.5 * middle)
    none = EntropyStabilized()(logits, chosen, torch.zeros_like(advantage))
    torch.testing.assert_close(none, torch.ones_like(none))


def test_the_mask_keeps_the_share_with_the_highest_entropy():
    logits = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])[None, :, None, None] * torch.tensor([1.0, 0.0])
    chosen = torch.zeros(1, 5, 1, dtype=torch.long)
    weight = TopEntropy(0.4)(logits, chosen, torch.ones(1, 5))
    assert weight[0, :, 0].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert TopEntropy(0.01)(logits, chosen, torch.ones(1, 5)).sum() == 1


def test_weighs_the_gradient_and_leaves_the_number():
    said = torch.tensor([[[1.0, 2.0]]], requires_grad=True)
    weight = torch.tensor([[[0.5, 3.0]]])
    found = weighted_gradient(said, weight)
    assert torch.equal(found, said)
    assert torch.autograd.grad(found.square().sum(), said)[0].tolist() == [[[1.0, 12.0]]]


def test_says_what_is_wrong():
    for variant in (EntropyStabilized, ReleasedEntropyStabilized):
        with pytest.raises(ValueError, match="weights must have 0 <= least <= most"):
            variant(2.0, 1.0)
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\], got 0"):
        TopEntropy(0.0)
