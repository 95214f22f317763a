"""Particles: drawing anew, picking, neighbours; steering a diffusion that can be written down."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from personalize.generator import Predict, Sampler, Value
from personalize.steering.particles import (
    Difference,
    EndOnly,
    Maximum,
    ParticleSteering,
    effective_number,
    neighbours,
    select,
    steer,
    systematic,
)

MEANS = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0], [0.0, -4.0]])
SHARES = torch.tensor([0.03, 0.39, 0.29, 0.29])
WIDTH = 0.5


@dataclass(frozen=True)
class Cloud:
    """Points on the way from noise to the mixture."""

    noisy: Tensor
    clean: Tensor
    log_weight: Tensor
    seed: int


class MixtureSampler(Sampler[Tensor, Tensor, Cloud, Tensor]):
    """Denoises a mixture of Gaussians in the plane by its exact posterior mean.

    Noise levels fall geometrically; each step goes to the next level with fresh noise (eta 1) or
    along the straight line (eta 0).
    """

    def __init__(self, steps: int = 40, *, stochastic: bool = True) -> None:
        self.steps, self.stochastic = steps, stochastic
        self.levels = torch.cat([torch.logspace(1, -1.3, steps), torch.zeros(1)])

    def init(self, context: Tensor, condition: Tensor, count: int, *, seed: int) -> Cloud:
        generator = torch.Generator().manual_seed(seed)  # every row is a run of its own
        noisy = self.levels[0] * torch.randn(len(context), count, 2, generator=generator)
        return Cloud(noisy, noisy, torch.zeros(len(context), count), seed)

    def predict(self, state: Cloud, number: int, condition: Tensor) -> Tensor:
        spread = self.levels[number] ** 2 + WIDTH**2
        away = state.noisy.unsqueeze(-2) - MEANS
        share = (SHARES.log() - away.square().sum(-1) / (2 * spread)).softmax(-1)
        pulled = MEANS + away * WIDTH**2 / spread
        return (share.unsqueeze(-1) * pulled).sum(-2)

    def step(self, state: Cloud, number: int, predict: Predict) -> Cloud:
        clean = predict(state, number, state.noisy)
        now, following = self.levels[number], self.levels[number + 1]
        left = (state.noisy - clean) / now
        if self.stochastic:  # to the next level with as much fresh noise as keeps the marginals
            generator = torch.Generator().manual_seed(state.seed * 7919 + number)
            fresh = torch.randn(state.noisy.shape, generator=generator)
            kept = following**2 / now
            noisy = clean + kept * left + (following**2 - kept**2).clamp_min(0).sqrt() * fresh
        else:
            noisy = clean + following * left
        return replace(state, noisy=noisy, clean=clean)

    def preview(self, state: Cloud, number: int) -> Tensor:
        return state.clean

    def take(self, state: Cloud, index: Tensor) -> Cloud:
        wide = index.unsqueeze(-1)
        return Cloud(
            state.noisy.take_along_dim(wide, 1),
            state.clean.take_along_dim(wide, 1),
            state.log_weight.gather(1, index),
            state.seed,
        )

    def weighed(self, state: Cloud, log_weight: Tensor) -> Cloud:
        return replace(state, log_weight=log_weight)


class NearTheRareMode(Value[Tensor, Tensor]):
    """How near a point is to the mode that holds three in a hundred."""

    def __call__(self, x: Tensor, context: Tensor) -> Tensor:
        return -((x - MEANS[0]).norm(dim=-1)) / 4


def share_in_the_rare_mode(settings: ParticleSteering, *, stochastic: bool = True, runs: int = 500):
    sampler, where = MixtureSampler(stochastic=stochastic), torch.zeros(runs, 1)
    found = steer(sampler, where, where, NearTheRareMode(), settings, seed=7)
    best = found.x[torch.arange(runs), found.values.argmax(1)]
    return float(((best - MEANS[0]).norm(dim=1) < 2).float().mean())


def test_the_unsteered_sampler_draws_the_mixture():
    where = torch.zeros(1, 1)
    settings = ParticleSteering(4000, 0.0)
    found = steer(MixtureSampler(), where, where, NearTheRareMode(), settings, seed=1)
    nearest = torch.cdist(found.x[0], MEANS).argmin(1).bincount(minlength=4) / 4000
    torch.testing.assert_close(nearest, SHARES, atol=0.04, rtol=0.0)


def test_looking_on_the_way_finds_a_rare_mode_that_the_best_of_many_misses():
    """The decisive experiment of Feynman-Kac steering; strength 12 of a value from -2 to 0."""
    for count in (4, 8):
        steered = share_in_the_rare_mode(ParticleSteering(count, 12.0, Difference()))
        best_of_many = share_in_the_rare_mode(ParticleSteering(count, 12.0, EndOnly()))
        assert steered > best_of_many + 0.1
        assert best_of_many < 1 - 0.97**count + 0.12


def test_no_potential_is_that_of_differences():
    where = torch.zeros(20, 1)
    found = [
        steer(MixtureSampler(), where, where, NearTheRareMode(), ParticleSteering(4, 12.0, one)).x
        for one in (None, Difference(), EndOnly())
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_copies_that_never_part_ways_gain_nothing():
    settings = ParticleSteering(8, 12.0, Difference())
    steered = share_in_the_rare_mode(settings, stochastic=False)
    best_of_many = share_in_the_rare_mode(ParticleSteering(8, 12.0, EndOnly()), stochastic=False)
    assert steered == best_of_many


def test_potentials_add_up_to_the_value_whatever_lies_between():
    values = torch.tensor([[0.2, -1.0], [1.5, 0.3], [0.7, 2.0]]).unsqueeze(1)
    for potential in (Difference(), Maximum(), EndOnly()):
        given, best = torch.zeros(1, 2), torch.full((1, 2), -torch.inf)
        for number, value in enumerate(values):
            best = torch.maximum(best, value)
            more = potential.increment(value, best, given, last=number == 2)
            given = given + more
        torch.testing.assert_close(given, values[-1])


def test_the_highest_value_counts_every_time():
    more = Maximum().increment(
        torch.tensor([[0.5]]), torch.tensor([[2.0]]), torch.tensor([[2.0]]), last=False
    )
    assert more.item() == 2.0


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_systematic_drawing_rounds_shares_up_or_down(seed, count):
    generator = torch.Generator().manual_seed(seed)
    weights = 3 * torch.randn(2, count, generator=generator)
    drawn = systematic(weights, seed=seed)
    for row in range(2):
        times = drawn[row].bincount(minlength=count).double()
        wanted = count * weights[row].double().softmax(0)
        assert (times >= wanted.floor() - 1e-9).all() or (times - wanted).abs().max() < 1
        assert (times - wanted).abs().max() < 1 + 1e-6
    assert torch.equal(drawn, drawn.sort(1).values)


def test_weights_so_large_that_their_exponentials_overflow_are_told_apart():
    weights = torch.tensor([[1000.0, 1001.0, 0.0]])
    assert effective_number(weights).item() == pytest.approx(1 / (0.2689**2 + 0.7311**2), rel=1e-3)
    assert (systematic(weights, seed=0) != 2).all()


def test_looks_come_at_every_so_many_steps_and_always_at_last():
    settings = ParticleSteering(every=3, first=2)
    assert [n for n in range(10) if settings.looks(n, 10)] == [2, 5, 8, 9]


def test_the_pick_is_the_best_or_drawn_in_units_of_the_spread():
    scores = torch.tensor([[1.0, 3.0, 3.0], [0.0, -1.0, -5.0]])
    assert select(scores).tolist() == [1, 0]
    drawn = torch.stack([select(scores, temperature=1.0, seed=seed) for seed in range(1500)])
    again = torch.stack(
        [select(scores * 100 + 7, temperature=1.0, seed=seed) for seed in range(1500)]
    )
    assert torch.equal(drawn, again)  # a temperature means the same in any unit
    share = (drawn[:, 1].bincount(minlength=3) / 1500).tolist()
    exact = (scores[1] / scores[1].std(correction=0)).softmax(0).tolist()
    assert share == pytest.approx(exact, abs=0.05)
    equal = torch.zeros(1, 4)
    assert len({int(select(equal, temperature=1.0, seed=seed)) for seed in range(50)}) == 4


@given(st.integers(0, 1000), st.integers(2, 6), st.floats(0.0, 1.5))
def test_neighbours_are_unit_and_no_further_than_the_angle(seed, dimension, angle):
    generator = torch.Generator().manual_seed(seed)
    stated = torch.nn.functional.normalize(
        torch.randn(3, dimension, generator=generator, dtype=torch.float64), dim=1
    )
    found = neighbours(stated, 5, largest_angle_rad=angle, seed=seed)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3, 5, dtype=torch.float64))
    cosine = torch.einsum("bnd,bd->bn", found, stated)
    assert (cosine >= math.cos(angle) - 1e-9).all()
    if angle == 0:
        assert torch.equal(found, stated.unsqueeze(1).expand(-1, 5, -1))


def win_rate(degrees: float, largest: float) -> float:
    """How often the robust pick beats the best of five, with a generator trained to 30 degrees.

    Asked for an angle, the generator gives a point in about that direction; beyond 30 degrees its
    quality falls off.
    """
    generator = torch.Generator().manual_seed(round(degrees))
    wins, runs = 0.0, 600
    stated = torch.tensor([[math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]])

    def made(directions: Tensor) -> Tensor:
        angle = torch.atan2(directions[:, 1], directions[:, 0]).abs().rad2deg()
        quality = (-((angle - 30).clamp_min(0) / 12).square()).exp()
        noise = 0.25 * torch.randn(len(directions), 2, generator=generator)
        return directions * quality[:, None] + noise

    for run in range(runs):
        near = neighbours(stated, 5, largest_angle_rad=math.radians(largest), seed=run)[0]
        robust = (made(near) @ stated[0]).max()
        plain = (made(stated.expand(5, -1)) @ stated[0]).max()
        wins += float(robust > plain)
    return wins / runs


def test_asking_around_helps_outside_the_trained_region_and_hurts_inside():
    """The decisive experiment of robust preference selection, in both directions."""
    assert win_rate(45, 30) > 0.6
    assert win_rate(60, 30) > 0.7
    assert win_rate(0, 30) < 0.5
    assert win_rate(60, 0) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "count and an every of at least 1"),
        ({"every": 0}, "count and an every of at least 1"),
        ({"first": -1}, "a first of at least 0"),
        ({"resample_below": 1.5}, "resample_below must be from 0 to 1, got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ParticleSteering(**options)
