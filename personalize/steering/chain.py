"""A chain of steering components, in the one order in which they may be composed."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from personalize.steering.particles import ParticleSteering


@dataclass(frozen=True)
class Telling:
    """How the generator itself is told the goal: through the condition it was trained on.

    Attributes:
        strength: 0 tells it nothing, 1 tells it the goal as it was told in training.
    """

    strength: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"telling.strength must be from 0 to 1, got {self.strength:g}.")


@dataclass(frozen=True)
class Edits:
    """Affine maps on activations, fitted before; see `personalize.steering.edits`.

    Attributes:
        folder: Artifact `activation_maps`, one set of maps per goal dimension; None edits nothing.
        strength: 0 leaves the activations, 1 maps them wholly, negative undoes.
    """

    folder: Path | None = None
    strength: float = 0.0


@dataclass(frozen=True)
class Guidance:
    """How far a prediction moves along what the condition changes; see `guidance.guide`.

    Attributes:
        weight: 1 is the generator as it was trained, 0 ignores the condition, more exaggerates.
        negative: What to move away from: a checkpoint that is worse on purpose. None takes the
            same generator without the condition.
    """

    weight: float = 1.0
    negative: Path | None = None


@dataclass(frozen=True)
class Lookahead:
    """How much it is worth that an item moves its list towards the goal, while it is generated.

    Attributes:
        strength: In nats for one unit of the change asked for times the item's value, both in
            the units of the goal space; 0 does nothing.
    """

    strength: float = 0.0


@dataclass(frozen=True)
class Neighbourhood:
    """Candidates from goals near the stated one, picked by the stated one; see `neighbours`.

    Attributes:
        count: Goals asked for, the stated one included.
        largest_angle_rad: How far they may lie from it; 0 asks the stated one only.
    """

    count: int = 5
    largest_angle_rad: float = 0.0

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.largest_angle_rad <= math.pi:
            raise ValueError(
                "neighbourhood needs a count of at least 1 and an angle from 0 to pi, got "
                f"{self.count} and {self.largest_angle_rad:g}."
            )


@dataclass(frozen=True)
class Selection:
    """How one of the candidates is taken at the end.

    Attributes:
        strength: What the goal is worth beside the generator's own score, in nats: of a plan for
            one unit of squared distance to it, of an item as for `Lookahead`; 0 takes the
            generator's first choice.
        calibrate: Find the strength for each context alone: the smallest at which what is taken
            reaches the goal, as far as the candidates allow. `strength` is then the largest tried.
        hold: Hold the dimensions that nothing is asked of where they would be without steering;
            for items while calibrating, for plans at any strength.
        critic: Checkpoint of a critic whose value is added; see `personalize.rewards.critic`.
        critic_weight: What one standard deviation of the critic's value is worth; 0 does not ask.
    """

    strength: float = 0.0
    calibrate: bool = False
    hold: bool = False
    critic: Path | None = None
    critic_weight: float = 0.0


@dataclass(frozen=True)
class Chain:
    """What steers a generator, in the order in which it is applied.

    The condition is told; activations are edited; predictions are guided, then tilted by the
    look-ahead; the mask comes after them, so that no steering opens what is forbidden; then
    particles are sampled, and one is selected. Every component is the identity at its default.

    Attributes:
        telling: See `Telling`.
        edits: See `Edits`.
        guidance: See `Guidance`.
        lookahead: See `Lookahead`; items only.
        particles: See `personalize.steering.particles.ParticleSteering`; None takes the
            generator's own search, or sampler.
        neighbourhood: See `Neighbourhood`.
        selection: See `Selection`.
    """

    telling: Telling = field(default_factory=Telling)
    edits: Edits = field(default_factory=Edits)
    guidance: Guidance = field(default_factory=Guidance)
    lookahead: Lookahead = field(default_factory=Lookahead)
    particles: ParticleSteering | None = None
    neighbourhood: Neighbourhood = field(default_factory=Neighbourhood)
    selection: Selection = field(default_factory=Selection)
