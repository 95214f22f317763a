"""The port between the two generators and all that steers or tunes them: four types.

Both generators are samplers of a few steps: one code of a semantic ID per step, or one denoising
step per step. What steers them is written against these types and knows neither items nor roads.

Rows are always `[batch, particle]`: several particles (or candidates) of each context. `x` is what
a generator makes (items, trajectories, or prefixes and previews of them) and `context` what it is
made for; their types belong to the vertical.
"""

from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

X = TypeVar("X")
Context = TypeVar("Context")
Condition = TypeVar("Condition")


class Reward(ABC, Generic[X, Context]):
    """Several named, normalised qualities of what was made: the currency of both halves.

    Laws: a row's rewards depend on that row and its context alone; permuting particles permutes
    rewards; finite; larger is more of what the name says.

    Attributes:
        names: One per dimension.
    """

    names: tuple[str, ...]

    @abstractmethod
    def __call__(self, x: X, context: Context) -> Float[Tensor, "batch particle dimension"]:
        """Rewards of every particle."""


class Value(ABC, Generic[X, Context]):
    """One number per particle, higher is better: a scalarised reward, a critic, a distance.

    Laws as for `Reward`. Of a preview it is a guess at what the finished particle will be worth.
    """

    @abstractmethod
    def __call__(self, x: X, context: Context) -> Float[Tensor, "batch particle"]:
        """The value of every particle."""


@runtime_checkable
class Particles(Protocol):
    """The state of a sampler: so many particles per context, and what each of them weighs.

    Attributes:
        log_weight: Logarithm of what each particle must be weighted by so that the particles
            stand for the distribution that is sampled from; 0 where they do as they are.
    """

    @property
    def log_weight(self) -> Float[Tensor, "batch particle"]:
        """See the class."""
        ...


State = TypeVar("State", bound=Particles)


@runtime_checkable
class Predict(Protocol):
    """What a generator says of particles: logits of the next code, or denoised trajectories."""

    def __call__(self, state, number: int, condition) -> Tensor:  # noqa: ANN001  (the vertical's)
        """The prediction of a step for every particle under a condition."""
        ...


class Sampler(ABC, Generic[Context, Condition, State, X]):
    """A generator, step by step.

    Laws, held by `tests/recsys/test_trie_sampler.py` and `tests/driving/test_diffusion_sampler.py`:
    the same seed gives the same particles; a batch gives what its rows give one by one, because
    every row takes the same random numbers; after the last step the preview is what was made;
    `take` of all particles in order changes nothing.

    Attributes:
        steps: Number of steps; they are numbered from 0.
        stochastic: Whether copies of a particle part ways in later steps. Where they do not,
            resampling only loses particles.
    """

    steps: int
    stochastic: bool

    @abstractmethod
    def init(self, context: Context, condition: Condition, count: int, *, seed: int) -> State:
        """So many particles per context, before the first step."""

    @abstractmethod
    def predict(self, state: State, number: int, condition: Condition) -> Tensor:
        """The generator's own prediction: a `Predict`."""

    @abstractmethod
    def step(self, state: State, number: int, predict: Predict) -> State:
        """The particles one step later.

        Where a prediction is tilted, the weight says by how much too much the step was drawn: the
        weights stay those of the tilted distribution.
        """

    @abstractmethod
    def preview(self, state: State, number: int) -> X:
        """What the particles are after step `number`; after the last one that is what was made."""

    @abstractmethod
    def take(self, state: State, index: Int[Tensor, "batch particle"]) -> State:
        """The particles with these numbers, each in its context."""

    @abstractmethod
    def weighed(self, state: State, log_weight: Float[Tensor, "batch particle"]) -> State:
        """The same particles with other weights."""
