"""Truncated fine-tuning: a copy made worse on what the model itself makes, to be guided away from.

The model is run for a few steps only, from noise; what it then says of its clean end is the target
that a copy must say from further back, through fresh noise. No data is needed but contexts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.steering.guidance import guide

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(noisy state, step of every row) -> the clean state it would end in."""
HUBER_CORNER = 1e-3


@dataclass(frozen=True)
class NoiseSchedule:
    """How a state is noised: `scale[step] * clean + noise[step] * drawn`.

    Attributes:
        scale: What is left of the clean state at every step.
        noise: Standard deviation of the noise; it rises from step to step relative to the scale.

    Raises:
        ValueError: If the lengths differ, a scale is not positive, or the noise does not rise.
    """

    scale: Float[Tensor, " step"]
    noise: Float[Tensor, " _"]

    def __post_init__(self) -> None:
        if self.scale.shape != self.noise.shape or not bool((self.scale > 0).all()):
            raise ValueError(
                "scale and noise need as many steps each and positive scales, got "
                f"{len(self.scale)} and {len(self.noise)} steps."
            )
        if not bool(((self.noise / self.scale).diff() > 0).all()):
            raise ValueError("noise relative to scale must rise from step to step.")

    @classmethod
    def of_signal(cls, shares: Float[Tensor, " step"]) -> "NoiseSchedule":
        """The schedule whose squared scales are these shares, at a variance of 1 throughout."""
        return cls(shares.sqrt(), (1 - shares).sqrt())

    def noised(
        self, clean: Float[Tensor, "..."], drawn: Float[Tensor, "..."], step: int
    ) -> Float[Tensor, "..."]:
        """A clean state at a step; one may serve many draws."""
        return self.scale[step] * clean + self.noise[step] * drawn

    def denoised(
        self,
        noisy: Float[Tensor, "batch ..."],
        clean: Float[Tensor, "batch ..."],
        step: int,
        earlier: int,
    ) -> Float[Tensor, "batch ..."]:
        """The state at a less noisy step, if `clean` is what it ends in; no noise is drawn.

        Source:
            Song et al., 2021, Denoising Diffusion Implicit Models, arXiv:2010.02502, eta 0.
        """
        left = (noisy - self.scale[step] * clean) / self.noise[step]
        return self.scale[earlier] * clean + self.noise[earlier] * left

    def renoised(
        self,
        noisy: Float[Tensor, "batch ..."],
        drawn: Float[Tensor, "batch ..."],
        step: int,
        later: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch ..."]:
        """The state at noisier steps, one for each row, as the forward process would go on to."""
        kept = self.scale[later] / self.scale[step]
        variance = self.noise[later].square() - (self.noise[step] * kept).square()
        shape = (-1, *[1] * (noisy.ndim - 1))
        return kept.view(shape) * noisy + variance.clamp_min(0).sqrt().view(shape) * drawn


@dataclass(frozen=True)
class TruncatedStates:
    """Where the reference stopped, and the same further back, where the copy is asked.

    Attributes:
        reached: States after the few steps.
        reached_step: Their step.
        noisier: The same with fresh noise.
        noisier_step: Their steps, all of them later ones.
    """

    reached: Float[Tensor, "batch ..."]
    reached_step: Int[Tensor, " batch"]
    noisier: Float[Tensor, "batch ..."]
    noisier_step: Int[Tensor, " batch"]


@torch.no_grad()
def truncated_states(
    reference: Denoiser,
    start: Float[Tensor, "batch ..."],
    schedule: NoiseSchedule,
    path: Sequence[int],
    *,
    generator: torch.Generator | None = None,
) -> TruncatedStates:
    """States to learn at: a few steps of the frozen reference, then noise again.

    Args:
        reference: The model as it is, with its condition.
        start: States at the first step of the path.
        schedule: How they were noised.
        path: Steps from a noisy one down; one fewer is taken than it has. Later steps are drawn
            evenly from those above its last one.
        generator: Of what is drawn, on the device of the states; torch's own by default.

    Raises:
        ValueError: If the path is empty, does not go down, or leaves no later step.
    """
    if not path or any(one <= other for one, other in pairwise(path)):
        raise ValueError(f"path must go down from step to step, got {list(path)}.")
    count, rows = len(schedule.scale), len(start)
    if path[0] >= count or not 0 <= path[-1] < count - 1:
        raise ValueError(
            f"path must lie within the {count} steps and end before the last, got {list(path)}."
        )
    device = start.device
    state = start
    for step, earlier in pairwise(path):
        clean = reference(state, torch.full((rows,), step, device=device))
        state = schedule.denoised(state, clean, step, earlier)
    later = torch.randint(path[-1] + 1, count, (rows,), generator=generator, device=device)
    drawn = torch.empty_like(state).normal_(generator=generator)
    return TruncatedStates(
        reached=state,
        reached_step=torch.full((rows,), path[-1], device=device),
        noisier=schedule.renoised(state, drawn, path[-1], later),
        noisier_step=later,
    )


def pseudo_huber(
    gap: Float[Tensor, "*value"], *, corner: float = HUBER_CORNER
) -> Float[Tensor, "*value"]:
    """`sqrt(gap^2 + corner^2) - corner`: squared below the corner, absolute above it.

    What minimises it is a median for a small corner and a mean for a large one.

    Example:
        >>> pseudo_huber(torch.tensor([0.0, 3.0]), corner=4.0)
        tensor([0., 1.])
    """
    return (gap.square() + corner**2).sqrt() - corner


def truncated_loss(
    student: Denoiser,
    reference: Denoiser,
    states: TruncatedStates,
    *,
    corner: float = HUBER_CORNER,
) -> Float[Tensor, ""]:
    """How far the student, from further back, is from what the reference says where it stopped.

    A student that is told the same as an exact reference has nothing to learn from a squared
    error: the mean, over the forward process, of what is expected at a step is what is expected at
    a later one. So a copy is made worse by the reference's own errors, a little by a small corner
    (a median of means is not their mean), and most of all by a reference that is told less.

    Args:
        student: What is trained.
        reference: As in `truncated_states`.
        states: From there.
        corner: See `pseudo_huber`.

    Source:
        In the manner of Wang et al., 2025, Self-NPO, arXiv:2505.11777: truncated diffusion
        fine-tuning with a corner of 0.001. Their released script begins from noised images of a
        folder, at a step drawn for each, and takes its target from a moving average of the
        student, told no condition; here states may begin from noise alone, and the target stays
        that of the reference.
    """
    with torch.no_grad():
        target = reference(states.reached, states.reached_step)
    gap = student(states.noisier, states.noisier_step) - target
    return pseudo_huber(gap, corner=corner).mean()


def mixed_weights(
    base: Mapping[str, Tensor], *copies: tuple[Mapping[str, Tensor], float]
) -> dict[str, Tensor]:
    """`base + sum of share * (copy - base)` for every weight: offsets of fine-tuned copies, added.

    A negative model of a model that was itself improved is `base`, the improved copy and a
    negative one with a share each. Numbers that are no floats, such as counts, are the base's.

    Args:
        base: Weights by name.
        copies: Fine-tuned copies of it and the share of what they learnt.

    Raises:
        ValueError: If a copy has other names.

    Source:
        Wang et al., 2025, Diffusion-NPO, arXiv:2505.11245, whose negative weights are
        `theta + alpha * eta + beta * delta` with the offsets `eta` of the improved and `delta` of
        the negative model.

    Example:
        >>> better, worse = {"w": torch.tensor(3.0)}, {"w": torch.tensor(0.0)}
        >>> mixed_weights({"w": torch.tensor(1.0)}, (better, 1.0), (worse, 0.5))
        {'w': tensor(2.5000)}
    """
    for weights, _ in copies:
        if unlike := sorted(weights.keys() ^ base.keys()):
            raise ValueError(
                f"copies must have the names of the base, got {unlike[0]} in one only."
            )
    return {
        name: guide(value, *((weights[name], share) for weights, share in copies))
        if value.is_floating_point()
        else value
        for name, value in base.items()
    }
