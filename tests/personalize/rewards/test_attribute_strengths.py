"""Attribute strengths: order, ties, padding, scales, and the reward made of them."""

from functools import partial

import pytest
import torch

from benchmarks.methods.aligndiff import attributes, compared, realised
from personalize.preference_optimization.comparisons import (
    Comparisons,
    comparison_accuracy,
    decided,
)
from personalize.rewards.attribute_strengths import (
    CLIP,
    AttributeStrengths,
    StrengthReward,
    fit_attribute_strengths,
)
from personalize.rewards.bradley_terry import RewardTraining, seeded

NAMES = ("fast", "restless")
build = partial(AttributeStrengths, 4, NAMES, width=16, heads=2, layers=1, members=2)
ROWS = 200


@pytest.fixture(scope="module")
def learnt() -> tuple[AttributeStrengths, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sequences = realised(torch.rand(2 * ROWS, 2, generator=generator), generator)
    shown = attributes(sequences)
    low, high = shown.aminmax(dim=0)
    scaled = (shown - low) / (high - low)
    answers = [compared(scaled[:ROWS, k], generator, count=600) for k in range(2)]
    model = fit_attribute_strengths(
        sequences[:ROWS], torch.ones(ROWS, sequences.shape[1], dtype=torch.bool), answers,
        build=build, training=RewardTraining(steps=70, batch_size=48, learning_rate=6e-3),
    )  # fmt: skip
    return model, sequences, shown


def unpadded(made: torch.Tensor, context: None) -> tuple[torch.Tensor, torch.Tensor]:
    """Particles are their own features, every step of them there."""
    return made, torch.ones(made.shape[:3], dtype=torch.bool)


def test_the_hidden_attributes_are_found_from_comparisons_a_tenth_of_them_wrong(
    learnt: tuple[AttributeStrengths, torch.Tensor, torch.Tensor],
):
    model, sequences, shown = learnt
    held = sequences[ROWS:]
    with torch.no_grad():
        strengths = model(held, torch.ones(held.shape[:2], dtype=torch.bool))
    generator = torch.Generator().manual_seed(1)
    for number in range(2):
        own = shown[ROWS:, number]
        values = (own - own.amin()) / (own.amax() - own.amin())
        test = compared(values, generator, wrong=0.0)
        sure = test.rows((test.strength > 0).nonzero()[:, 0])
        assert float(comparison_accuracy(strengths[:, number], sure).mean()) > 0.9
        other = comparison_accuracy(strengths[:, 1 - number], sure).mean()
        assert float(other) < 0.7  # the other attribute says nothing of this one


def test_scales_run_from_0_to_1_over_what_was_fitted(
    learnt: tuple[AttributeStrengths, torch.Tensor, torch.Tensor],
):
    model, sequences, _ = learnt
    seen, mask = sequences[:ROWS], torch.ones(ROWS, sequences.shape[1], dtype=torch.bool)
    with torch.no_grad():
        raw, strengths, ranks = model.raw(seen, mask), model(seen, mask), model.ranks(seen, mask)
    low, high = raw.aminmax(dim=0)
    torch.testing.assert_close(strengths, ((raw - low) / (high - low)).clamp(0, 1))
    torch.testing.assert_close(strengths.amin(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(strengths.amax(0), torch.ones(2), atol=1e-5, rtol=0)
    less = (raw[None] < raw[:, None]).float().mean(1)
    assert float((ranks - less).abs().amax()) < 0.015
    far = 100 * torch.ones(1, sequences.shape[1], 4)
    with torch.no_grad():
        extreme = model(far, mask[:1]), model.ranks(far, mask[:1])
    assert all(((part >= 0) & (part <= 1)).all() for part in extreme)


def test_padding_has_no_say_and_a_batch_is_its_rows(
    learnt: tuple[AttributeStrengths, torch.Tensor, torch.Tensor],
):
    model, sequences, _ = learnt
    mask = torch.ones(3, sequences.shape[1], dtype=torch.bool)
    mask[1, 9:] = False
    spoiled = sequences[:3].clone()
    spoiled[1, 9:] = 1e3
    with torch.no_grad():
        whole = model.raw(sequences[:3], mask)
        torch.testing.assert_close(model.raw(spoiled, mask), whole)
        short = model.raw(sequences[1:2, :9], mask[1:2, :9])
        torch.testing.assert_close(short, whole[1:2], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            torch.cat([model.raw(sequences[i : i + 1], mask[i : i + 1]) for i in range(3)]), whole,
            atol=1e-5, rtol=1e-5,
        )  # fmt: skip


def test_raw_strengths_are_clipped_smoothly():
    model = seeded(build, 0).eval()
    for member in model.members:
        member.strength.weight.data *= 1e4  # pyright: ignore
    with torch.no_grad():
        raw = model.raw(torch.randn(5, 6, 4), torch.ones(5, 6, dtype=torch.bool))
    assert float(raw.abs().amax()) <= CLIP


def test_a_tie_pulls_two_rows_together():
    sequences = torch.stack([torch.full((6, 4), value) for value in (0.0, 1.0, 2.0)])
    mask = torch.ones(3, 6, dtype=torch.bool)
    apart = decided(torch.tensor([[2, 0], [1, 0], [2, 1]]))
    tie = Comparisons(
        torch.tensor([2, 1, 1]), torch.tensor([0, 0, 2]), torch.tensor([1.0, 1.0, 0.0])
    )
    one = partial(AttributeStrengths, 4, ("high",), width=16, heads=2, layers=1, members=1)
    training = RewardTraining(steps=60, learning_rate=1e-2)
    gaps = []
    for answers in (apart, tie):
        model = fit_attribute_strengths(sequences, mask, [answers], build=one, training=training)
        with torch.no_grad():
            raw = model.raw(sequences, mask)[:, 0]
        assert raw[0] < raw[1:].amin()
        gaps.append(float((raw[2] - raw[1]).abs() / (raw[1:].mean() - raw[0])))
    assert gaps[1] < 0.2 < gaps[0]


def test_as_a_reward_every_particle_has_its_strengths(
    learnt: tuple[AttributeStrengths, torch.Tensor, torch.Tensor],
):
    model, sequences, _ = learnt
    particles = sequences[:6].unflatten(0, (2, 3))
    mask = torch.ones(particles.shape[:3], dtype=torch.bool)
    with torch.no_grad():
        for by_rank, plain in ((False, model), (True, model.ranks)):
            reward = StrengthReward(model, unpadded, by_rank=by_rank)
            assert reward.names == NAMES
            expected = plain(sequences[:6], mask.flatten(0, 1)).unflatten(0, (2, 3))
            torch.testing.assert_close(reward(particles, None), expected)


def test_what_cannot_be_fitted_is_refused():
    sequences, mask = torch.randn(3, 5, 4), torch.ones(3, 5, dtype=torch.bool)
    one, none = decided(torch.tensor([[0, 1]])), decided(torch.zeros(0, 2, dtype=torch.long))
    short = RewardTraining(steps=1)
    with pytest.raises(ValueError, match=r"one list per attribute \(2\), got 1"):
        fit_attribute_strengths(sequences, mask, [one], build=build, training=short)
    with pytest.raises(ValueError, match="at least one comparison"):
        fit_attribute_strengths(sequences, mask, [one, none], build=build, training=short)
    with pytest.raises(ValueError, match="rows below 3"):
        fit_attribute_strengths(
            sequences, mask, [one, decided(torch.tensor([[0, 3]]))], build=build, training=short
        )
    with pytest.raises(ValueError, match="nothing to scale"):
        fit_attribute_strengths(torch.ones(3, 5, 4), mask, [one, one], build=build, training=short)


def test_scales_are_those_of_real_steps_and_the_order_of_steps_is_seen():
    torch.manual_seed(0)
    sequences, mask = torch.randn(30, 6, 4), torch.ones(30, 6, dtype=torch.bool)
    mask[::2, 4:] = False
    sequences[::2, 4:] = 1e3
    pairs = torch.stack([torch.arange(15), torch.arange(15, 30)], 1)
    model = fit_attribute_strengths(
        sequences, mask, [decided(pairs)] * 2, build=build, training=RewardTraining(steps=1)
    )
    known = sequences[mask]
    torch.testing.assert_close(model.feature_mean, known.mean(0))
    torch.testing.assert_close(model.feature_scale, known.std(0, correction=0))
    whole = torch.ones(1, 6, dtype=torch.bool)
    with torch.no_grad():
        forth, back = (
            model.raw(steps, whole) for steps in (sequences[1:2], sequences[1:2].flip(1))
        )
    assert not torch.allclose(forth, back, atol=1e-5, rtol=0)
