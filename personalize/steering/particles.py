"""Particles: many samples of a generator at once, weighed by what they are worth on the way."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic

import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.generator import Condition, Context, Predict, Sampler, State, Value, X


class Potential(ABC):
    """SLOT: how a value met on the way weighs a particle.

    Law: over a whole path the weights add up to `strength * value of what was made`, whatever was
    met on the way; so all of them aim at the same distribution, and differ in variance only.
    """

    @abstractmethod
    def increment(
        self,
        value: Float[Tensor, "batch particle"],
        best: Float[Tensor, "batch particle"],
        given: Float[Tensor, "batch particle"],
        *,
        last: bool,
    ) -> Float[Tensor, "batch particle"]:
        """What a particle's value now adds to its weight, for a strength of 1.

        Args:
            value: Of the preview, or of what was made if this is the last look.
            best: The highest value seen so far, this one included.
            given: Sum of the increments so far.
            last: Whether this is the last look.
        """


@dataclass(frozen=True)
class Difference(Potential):
    """The value's change since the last look: `exp(strength * (now - before))`."""

    def increment(
        self,
        value: Float[Tensor, "batch particle"],
        best: Float[Tensor, "batch particle"],
        given: Float[Tensor, "batch particle"],
        *,
        last: bool,
    ) -> Float[Tensor, "batch particle"]:
        """The value less what was given."""
        return value - given


@dataclass(frozen=True)
class Maximum(Potential):
    """The highest value so far, every time; the last look settles the account."""

    def increment(
        self,
        value: Float[Tensor, "batch particle"],
        best: Float[Tensor, "batch particle"],
        given: Float[Tensor, "batch particle"],
        *,
        last: bool,
    ) -> Float[Tensor, "batch particle"]:
        """The highest value, or at last the value less what was given."""
        return value - given if last else best


@dataclass(frozen=True)
class EndOnly(Potential):
    """The value of what was made and nothing before: importance sampling, or best of many.

    Source:
        Nakamoto et al., 2024, Steering Your Generalists (V-GPS), arXiv:2410.13816: candidates are
        drawn with `softmax(Q / temperature)`, which is this with `strength = 1 / temperature`.
    """

    def increment(
        self,
        value: Float[Tensor, "batch particle"],
        best: Float[Tensor, "batch particle"],
        given: Float[Tensor, "batch particle"],
        *,
        last: bool,
    ) -> Float[Tensor, "batch particle"]:
        """Nothing, or at last the value."""
        return value - given if last else torch.zeros_like(value)


@dataclass(frozen=True)
class ParticleSteering:
    """How particles are steered.

    Attributes:
        count: Particles per context.
        strength: How much a value of 1 is worth, in nats; 0 steers nothing.
        potential: How values on the way weigh; None takes `Difference`.
        every: Steps between two looks; the last step is always looked at.
        first: First step that is looked at.
        resample_below: Particles are drawn anew where the effective number of them falls below
            this share; 0 never does, 1 always.

    Raises:
        ValueError: If a number is out of range.
    """

    count: int = 4
    strength: float = 0.0
    potential: Potential | None = None
    every: int = 1
    first: int = 0
    resample_below: float = 0.5

    def __post_init__(self) -> None:
        if self.count < 1 or self.every < 1 or self.first < 0:
            raise ValueError(
                "particles need a count and an every of at least 1 and a first of at least 0, got "
                f"{self.count}, {self.every} and {self.first}."
            )
        if not 0 <= self.resample_below <= 1:
            raise ValueError(f"resample_below must be from 0 to 1, got {self.resample_below:g}.")

    def looks(self, number: int, steps: int) -> bool:
        """Whether step `number` of so many is looked at."""
        return number == steps - 1 or (
            number >= self.first and (number - self.first) % self.every == 0
        )


@dataclass(frozen=True)
class Steered(Generic[X]):
    """What came out of all particles.

    Attributes:
        x: What was made.
        log_weight: Logarithm of every particle's share; a context's shares add up to 1.
        values: Value of what was made.
        log_normalizer: Estimate of `log E exp(strength * value)` under the generator.
        calls: Predictions of the generator per context: particles times steps.
    """

    x: X
    log_weight: Float[Tensor, "batch particle"]
    values: Float[Tensor, "batch particle"]
    log_normalizer: Float[Tensor, " batch"]
    calls: int


def steer(
    sampler: Sampler[Context, Condition, State, X],
    context: Context,
    condition: Condition,
    value: Value[X, Context],
    settings: ParticleSteering,
    *,
    predict: Predict | None = None,
    seed: int = 0,
) -> Steered[X]:
    """Sample from `p(x) * exp(strength * value(x))` by sequential Monte Carlo.

    Weights are logarithms and are carried from look to look until particles are drawn anew, so
    what they add up to does not depend on when that happens.

    Args:
        sampler: The generator.
        context: What to generate for.
        condition: Passed on to the sampler.
        value: What is wanted, also of previews.
        settings: How.
        predict: Prediction to step with, such as a guided one; the sampler's own by default.
        seed: Of everything that is drawn.

    Source:
        Singhal et al., 2025, Feynman-Kac steering, arXiv:2501.06848. Their released code drops the
        weights of looks after which nothing is drawn anew, clamps exponentiated weights, and draws
        multinomially; weights here are carried in logarithms and drawing is systematic.
    """
    state = sampler.init(context, condition, settings.count, seed=seed)
    values, given = torch.zeros_like(state.log_weight), torch.zeros_like(state.log_weight)
    best = torch.full_like(values, -torch.inf)
    potential = settings.potential or Difference()
    log_normalizer = torch.zeros_like(values[:, 0])
    for number in range(sampler.steps):
        state = sampler.step(state, number, predict or sampler.predict)
        last = number == sampler.steps - 1
        if settings.looks(number, sampler.steps):
            values = value(sampler.preview(state, number), context)
            best = torch.maximum(best, values)
            more = potential.increment(values, best, given, last=last)
            given = given + more
            state = sampler.weighed(state, state.log_weight + settings.strength * more)
            if sampler.stochastic and not last:
                index, weight, mean = drawn_anew(state.log_weight, settings, seed=seed + number)
                log_normalizer = log_normalizer + mean
                state = sampler.weighed(sampler.take(state, index), weight)
                best, given = best.gather(1, index), given.gather(1, index)
    weight = state.log_weight
    return Steered(
        x=sampler.preview(state, sampler.steps - 1),
        log_weight=weight.log_softmax(1),
        values=values,
        log_normalizer=log_normalizer + log_mean(weight),
        calls=settings.count * sampler.steps,
    )


def drawn_anew(
    log_weight: Float[Tensor, "batch particle"], settings: ParticleSteering, *, seed: int
) -> tuple[Int[Tensor, "batch particle"], Float[Tensor, "batch particle"], Float[Tensor, " batch"]]:
    """Which particles go on, their weights, and the logarithm of the mean weight taken off them.

    Contexts whose particles weigh about the same keep them, with their weights.
    """
    count = log_weight.shape[1]
    low = effective_number(log_weight) < settings.resample_below * count
    kept = torch.arange(count, device=log_weight.device).expand_as(log_weight)
    index = torch.where(low[:, None], systematic(log_weight, seed=seed), kept)
    weight = log_weight.masked_fill(low[:, None], 0.0)
    return index, weight, torch.where(low, log_mean(log_weight), 0.0)


def effective_number(log_weight: Float[Tensor, "batch particle"]) -> Float[Tensor, " batch"]:
    """How many equal particles would say as much: `1 / sum of squared shares`.

    Example:
        >>> effective_number(torch.tensor([[0.0, 0.0], [0.0, -100.0]]))
        tensor([2., 1.])
    """
    return 1 / log_weight.softmax(1).square().sum(1)


def systematic(
    log_weight: Float[Tensor, "batch particle"], *, seed: int
) -> Int[Tensor, "batch particle"]:
    """As many particles again, each drawn as often as its share says, rounded up or down.

    Source:
        Kitagawa, 1996, doi:10.1080/10618600.1996.10474692: one uniform number places a comb of
        equal distances over the cumulated shares. It is the same for every row.
    """
    count = log_weight.shape[1]
    start = torch.rand((), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    comb = (torch.arange(count, dtype=torch.float64) + start) / count
    ends = log_weight.double().softmax(1).cumsum(1)
    ends = ends / ends[:, -1:]
    comb = comb.to(ends.device).expand_as(ends).contiguous()
    return torch.searchsorted(ends, comb).clamp_max(count - 1)


def log_mean(log_weight: Float[Tensor, "batch particle"]) -> Float[Tensor, " batch"]:
    """The logarithm of the mean weight."""
    return log_weight.logsumexp(1) - math.log(log_weight.shape[1])


def select(
    scores: Float[Tensor, "batch particle"], *, temperature: float = 0.0, seed: int = 0
) -> Int[Tensor, " batch"]:
    """The number of one particle per context.

    Args:
        scores: Higher is better. At a temperature above 0 they are compared in units of their
            standard deviation within the context, so that a temperature means the same anywhere.
        temperature: 0 takes the best, the first of equals; more draws with
            `softmax(scores / temperature)`.
        seed: Of the draw; every context takes the same random numbers.

    Source:
        Nakamoto et al., 2024, V-GPS, arXiv:2410.13816, whose temperature is in units of Q.
    """
    if temperature == 0:
        return scores.argmax(1)
    spread = scores.std(1, correction=0, keepdim=True).clamp_min(1e-9)
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(scores.shape[1], generator=generator).clamp(1e-9, 1 - 1e-7)
    gumbel = -(-uniform.log()).log()
    return (scores / spread / temperature + gumbel.to(scores)).argmax(1)


def neighbours(
    directions: Float[Tensor, "batch dimension"],
    count: int,
    *,
    largest_angle_rad: float,
    seed: int = 0,
) -> Float[Tensor, "batch neighbour dimension"]:
    """Unit directions around each direction, no further from it than an angle.

    Ask a generator for each of them and let the stated direction pick among the answers: where
    nearby preferences were seen more in training than the stated one, that is better than as many
    answers to the stated one. Inside the trained region it is worse; there an angle of 0 gives the
    stated direction every time, which is best of many.

    Args:
        directions: Unit vectors.
        count: Neighbours of each.
        largest_angle_rad: Angles are uniform from 0 to this.
        seed: Of the draw; every row takes the same random numbers.

    Source:
        Mao et al., 2025, Robust Preference Selection; with at most 30 degrees and 5 directions.
    """
    dimension = directions.shape[1]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, dimension, generator=generator).to(directions)
    angle = torch.rand(count, generator=generator).to(directions) * largest_angle_rad
    along = torch.einsum("nd,bd->bn", drawn, directions)
    across = drawn - along.unsqueeze(-1) * directions.unsqueeze(1)
    across = torch.nn.functional.normalize(across, dim=-1)
    angle = angle[:, None]
    return torch.where(
        angle == 0,
        directions.unsqueeze(1),
        directions.unsqueeze(1) * angle.cos() + across * angle.sin(),
    )
