"""The planner as a sampler: the laws, and the planner itself at two deterministic steps."""

import math

import pytest
import torch

from driving.planner.diffusion import TRAINING_STEPS, DiffusionPlanner
from driving.planner.diffusion_sampler import LOGIT, DiffusionSampler, DrawnPlans
from driving.planner.planner import PlannerInput, StyleCondition
from personalize.generator import Value
from personalize.steering.guidance import GuidedPredict, Under
from personalize.steering.particles import Difference, ParticleSteering, steer
from tests.driving.planner_fixtures import SMALL, no_style, random_scene, random_style

ANCHORS = SMALL["anchors"]


class Ahead(Value[torch.Tensor, PlannerInput]):
    """How far ahead the last pose is, in tens of metres."""

    def __call__(self, x, context):
        return x[:, :, -1, 0] / 10


@pytest.fixture(scope="module")
def planner() -> DiffusionPlanner:
    """A planner whose answers depend on the noise, unlike those of a trained one."""
    torch.manual_seed(0)
    planner = DiffusionPlanner(**SMALL)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in planner.parameters():
            weights.add_(0.15 * torch.randn(weights.shape, generator=generator))
    return planner.eval()


def drawn(sampler: DiffusionSampler, scene, style, count: int, *, seed: int = 0) -> DrawnPlans:
    with torch.no_grad():
        state = sampler.init(scene, style, count, seed=seed)
        for number in range(sampler.steps):
            state = sampler.step(state, number, sampler.predict)
    return state


def test_a_batch_is_its_rows_and_the_same_seed_the_same_particles(planner):
    scene, style = random_scene(3), random_style(3)
    sampler = DiffusionSampler(planner, steps=5)
    state = drawn(sampler, scene, style, 2 * ANCHORS, seed=4)
    again = drawn(sampler, scene, style, 2 * ANCHORS, seed=4)
    other = drawn(sampler, scene, style, 2 * ANCHORS, seed=5)
    assert torch.equal(state.noisy, again.noisy)
    assert not torch.equal(state.noisy, other.noisy)
    for row in range(3):
        part = slice(row, row + 1)
        one = drawn(sampler, scene.rows(part), style.rows(part), 2 * ANCHORS, seed=4)
        torch.testing.assert_close(one.changes, state.changes[part], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(one.log_weight, state.log_weight[part], atol=1e-4, rtol=1e-4)


def test_the_first_set_is_the_decoders_answer_to_the_noised_anchors(planner):
    scene, style = random_scene(2), random_style(2)
    sampler = DiffusionSampler(planner, steps=3, eta=0.0)
    with torch.no_grad():
        state = sampler.init(scene, style, ANCHORS, seed=2)
        noise = torch.randn(ANCHORS, 8, 2, generator=torch.Generator().manual_seed(2))
        expected = planner.noised(planner.clean[..., :2], noise, TRAINING_STEPS - 1)
        torch.testing.assert_close(state.noisy[1], expected)
        encoded = planner.encoder(scene)
        seen = planner.decoder.see(encoded.tokens, encoded.mask)
        time = torch.full((2,), float(TRAINING_STEPS - 1))
        (said,) = planner.decoder(state.noisy, planner.clean, time, style, seen)
        found = sampler.predict(state, 0, style)
    changes = planner.anchors + said.offsets * planner.unit
    torch.testing.assert_close(found[..., :LOGIT], changes.flatten(2))
    torch.testing.assert_close(found[..., LOGIT], said.logits)


def test_a_deterministic_step_keeps_the_noise_that_is_left(planner):
    """By hand: x0 and the noise are told apart, and mixed anew at the next level."""
    scene, style = random_scene(1), random_style(1)
    sampler = DiffusionSampler(planner, steps=2, eta=0.0)
    with torch.no_grad():
        state = sampler.init(scene, style, ANCHORS, seed=1)
        said = sampler.predict(state, 0, style)
        after = sampler.step(state, 0, sampler.predict)
    clean = planner.normalised(said[..., :LOGIT].unflatten(-1, (8, 3)))[..., :2]
    first, second = (float(planner.signal[step]) for step in (TRAINING_STEPS - 1, 0))
    left = (state.noisy - math.sqrt(first) * clean) / math.sqrt(1 - first)
    expected = math.sqrt(second) * clean + math.sqrt(1 - second) * left
    torch.testing.assert_close(after.noisy, expected, atol=1e-4, rtol=1e-4)
    shares = after.log_weight.exp() / ANCHORS
    torch.testing.assert_close(shares, said[..., LOGIT].softmax(1))


@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_a_step_with_fresh_noise_keeps_as_much_noise_as_its_level_has(planner, eta):
    """What is old and what is fresh of the noise after a step add up, in squares, to its level."""
    scene, style = random_scene(1), random_style(1)
    sampler = DiffusionSampler(planner, steps=2, eta=eta)
    with torch.no_grad():
        state = sampler.init(scene, style, ANCHORS, seed=1)
        said = sampler.predict(state, 0, style)
        after = sampler.step(state, 0, sampler.predict)
    clean = planner.normalised(said[..., :LOGIT].unflatten(-1, (8, 3)))[..., :2]
    first, second = (float(planner.signal[step]) for step in (TRAINING_STEPS - 1, 0))
    left = (state.noisy - math.sqrt(first) * clean) / math.sqrt(1 - first)
    fresh = torch.randn(ANCHORS, 8, 2, generator=torch.Generator().manual_seed(2))
    spread = eta * math.sqrt((1 - second) / (1 - first) * (1 - first / second))
    kept = math.sqrt(1 - second - spread**2)
    expected = math.sqrt(second) * clean + kept * left + spread * fresh
    torch.testing.assert_close(after.noisy, expected, atol=1e-4, rtol=1e-4)


def test_only_fresh_noise_parts_copies(planner):
    scene, style = random_scene(1), random_style(1)
    for eta, apart in ((0.0, False), (1.0, True)):
        sampler = DiffusionSampler(planner, steps=6, eta=eta)
        assert sampler.stochastic == apart
        with torch.no_grad():
            state = sampler.init(scene, style, 2 * ANCHORS, seed=0)
            state = sampler.step(state, 0, sampler.predict)
            twice = torch.arange(ANCHORS).repeat(2)[None]
            state = sampler.take(state, twice)
            for number in range(1, 6):
                state = sampler.step(state, number, sampler.predict)
        first, second = state.noisy.chunk(2, 1)
        assert ((first - second).abs().max() > 1e-4) == apart


def test_particles_keep_their_anchors_when_they_are_taken(planner):
    scene, style = random_scene(2), random_style(2)
    sampler = DiffusionSampler(planner, steps=3)
    state = sampler.init(scene, style, ANCHORS, seed=0)
    index = torch.tensor([[3, 3, 0, 1], [2, 0, 0, 0]])
    taken = sampler.take(state, index)
    assert torch.equal(taken.anchors, index)
    torch.testing.assert_close(taken.changes[1, 0], planner.anchors[2])
    every = torch.arange(ANCHORS).expand(2, -1)
    assert torch.equal(sampler.take(state, every).noisy, state.noisy)


def test_no_strength_is_the_sampler_and_strength_goes_further_ahead(planner):
    scene, style = random_scene(3), random_style(3)
    sampler = DiffusionSampler(planner, steps=5)
    means = []
    with torch.no_grad():
        for strength in (0.0, 3.0):
            settings = ParticleSteering(5 * ANCHORS, strength, Difference(), resample_below=0.7)
            found = steer(sampler, scene, style, Ahead(), settings, seed=3)
            means.append((found.log_weight.exp() * found.x[:, :, -1, 0]).sum(1))
            if strength == 0.0:
                state = drawn(sampler, scene, style, 5 * ANCHORS, seed=3)
                weights = state.log_weight.log_softmax(1)
                low = (1 / weights.exp().square().sum(1)) < 0.7 * 5 * ANCHORS
                if not low.any():
                    torch.testing.assert_close(found.log_weight, weights)
                torch.testing.assert_close(
                    found.log_normalizer, torch.zeros(3), atol=1e-3, rtol=0.0
                )
    assert (means[1] > means[0]).all()


def test_a_style_may_differ_from_set_to_set(planner):
    scene = random_scene(2)
    one, two = random_style(2), no_style(2)
    both = StyleCondition(
        torch.stack([one.values, two.values], 1).flatten(0, 1),
        torch.stack([one.mask, two.mask], 1).flatten(0, 1),
    )
    sampler = DiffusionSampler(planner, steps=2, eta=0.0)
    with torch.no_grad():
        state = sampler.init(scene, both, 2 * ANCHORS, seed=0)
        found = sampler.predict(state, 0, both)
        for number, style in enumerate((one, two)):
            part = slice(number * ANCHORS, (number + 1) * ANCHORS)
            places = torch.arange(2 * ANCHORS)[part].expand(2, -1)
            alone = sampler.take(state, places)
            torch.testing.assert_close(
                found[:, part], sampler.predict(alone, 0, style), atol=1e-4, rtol=1e-4
            )


def test_guidance_moves_along_what_the_style_changes(planner):
    scene, style, none = random_scene(2), random_style(2), no_style(2)
    sampler = DiffusionSampler(planner, steps=2)
    with torch.no_grad():
        state = sampler.init(scene, style, ANCHORS, seed=0)
        guided = GuidedPredict(sampler.predict, Under(sampler.predict, none), 3.0)
        plain, styled = sampler.predict(state, 0, none), sampler.predict(state, 0, style)
        torch.testing.assert_close(
            guided(state, 0, style), plain + 3 * (styled - plain), atol=1e-4, rtol=1e-4
        )


def test_settings_out_of_range_are_refused(planner):
    with pytest.raises(ValueError, match="at least 2 steps and an eta from 0 to 1"):
        DiffusionSampler(planner, steps=1)
    with pytest.raises(ValueError, match="at least 2 steps and an eta from 0 to 1"):
        DiffusionSampler(planner, eta=1.5)
    sampler = DiffusionSampler(planner, steps=2)
    with pytest.raises(ValueError, match="come in sets of its 4 anchors, got 6"):
        sampler.init(random_scene(1), no_style(1), 6, seed=0)
