"""What is done to weights between rounds: extrapolated, mixed into a reference, kept for later."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Generator, Tensor

State = Mapping[str, Tensor]
"""Weights by name, as `state_dict` gives them."""


def extrapolated(previous: State, current: State, alpha: float) -> dict[str, Tensor]:
    """`current + alpha * (current - previous)`: a round goes on in the direction it went.

    For a policy that is linear in its weights before the softmax this is exactly the paper's
    `p ~ current * (current / previous)^alpha`; for others it stands for it. Whole numbers and
    flags are taken from `current`. It speeds up the optimisation, not what the data can tell; the
    same number of steps at a larger learning rate is the control.

    Args:
        previous: What the last round's training ended at, before it was extrapolated; in the first
            round the weights it began with.
        current: What this round's training ended at.
        alpha: In [0, 1); 0 leaves `current` as it is, and is iterative DPO.

    Raises:
        ValueError: If alpha lies outside [0, 1) or the two are not of the same weights.

    Source:
        He et al., 2024, Accelerated Preference Optimization for Large Language Model Alignment,
        arXiv:2410.06293, in the manner of its practical version. About 0.3 there, from memory.
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must lie in [0, 1), got {alpha:g}.")
    return _combined(previous, current, 1 + alpha)


def mixed(reference: State, policy: State, share: float) -> dict[str, Tensor]:
    """`share * policy + (1 - share) * reference`: a reference that follows.

    Whole numbers and flags are the policy's.

    Args:
        reference: Weights of the reference so far.
        policy: Weights of what is trained.
        share: In [0, 1]; 1 replaces the reference.

    Raises:
        ValueError: If the share lies outside [0, 1] or the two are not of the same weights.

    Source:
        Gorbatovski et al., 2024, Learn Your Reference Model (TR-DPO), arXiv:2404.09656; TRL's
        `ref_model_mixup_alpha`, 0.6.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share:g}.")
    return _combined(reference, policy, share)


@final
@dataclass(frozen=True)
class ReferenceRefresh:
    """When the reference follows the policy, and how far.

    Attributes:
        every: Steps between.
        share: See `mixed`; 1 replaces the reference.

    Raises:
        ValueError: If `every` is below 1 or the share outside [0, 1].

    Source:
        TRL's `ref_model_sync_steps` and `ref_model_mixup_alpha`, with its defaults.
    """

    every: int = 512
    share: float = 0.6

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be 1 or more, got {self.every}.")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must lie in [0, 1], got {self.share:g}.")

    def due(self, step: int) -> bool:
        """Whether it does after this many steps."""
        return step > 0 and step % self.every == 0

    def __call__(self, reference: State, policy: State) -> dict[str, Tensor]:
        """The reference's new weights."""
        return mixed(reference, policy, self.share)


@final
class CheckpointPool:
    """The newest few states of a policy, one every so many steps; any may be the opponent.

    They are copies on the CPU. What it holds goes into a checkpoint and comes back.

    Source:
        In the manner of SePPO (Zhang et al., 2024, arXiv:2410.05255): every 30 updates, and 7 are
        kept.
    """

    def __init__(self, capacity: int = 7, every: int = 30) -> None:
        """Begin empty.

        Args:
            capacity: How many are kept.
            every: Steps between.

        Raises:
            ValueError: If one of them is below 1.
        """
        if capacity < 1 or every < 1:
            raise ValueError(f"capacity and every must be 1 or more, got {capacity} and {every}.")
        self.capacity, self.every = capacity, every
        self._states: list[dict[str, Tensor]] = []
        self._steps: list[int] = []

    def __len__(self) -> int:
        """How many it holds."""
        return len(self._states)

    @property
    def steps(self) -> tuple[int, ...]:
        """After how many steps each was taken, the oldest first."""
        return tuple(self._steps)

    def offer(self, step: int, state: State) -> bool:
        """Take a copy if it is time, and let the oldest go if there are too many.

        Args:
            step: Steps so far; 0 is time as well.
            state: Weights as they are now.

        Returns:
            Whether it was taken; a step is taken once.
        """
        if step % self.every or step in self._steps:
            return False
        # a copy even where the weights are on the CPU: training goes on in place
        copies = {name: value.detach().to("cpu", copy=True) for name, value in state.items()}
        self._states = [*self._states, copies][-self.capacity :]
        self._steps = [*self._steps, step][-self.capacity :]
        return True

    def draw(self, seed: int) -> dict[str, Tensor]:
        """One of the states, each as likely as any other.

        Raises:
            ValueError: If there is none yet.
        """
        if not self._states:
            raise ValueError("the pool is empty: offer it the first weights before drawing.")
        number = torch.randint(len(self._states), (), generator=Generator().manual_seed(seed))
        return self._states[int(number)]

    def state_dict(self) -> dict[str, Any]:
        """All it holds."""
        return {"steps": list(self._steps), "states": list(self._states)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hold what another pool held; of more than there is room for the newest."""
        self._steps = list(state["steps"])[-self.capacity :]
        self._states = list(state["states"])[-self.capacity :]


def _combined(first: State, second: State, share: float) -> dict[str, Tensor]:
    """`first + share * (second - first)` of every floating weight; all else is `second`'s."""
    if first.keys() != second.keys():
        raise ValueError("the two states must name the same weights.")
    found = {}
    for name, new in second.items():
        old = first[name]
        if old.shape != new.shape:
            raise ValueError(f"{name} has shape {tuple(old.shape)} and {tuple(new.shape)}.")
        if not new.is_floating_point() or share == 1:
            found[name] = new.detach().clone()
        else:
            wide = torch.promote_types(new.dtype, torch.float32)
            step = new.detach().to(wide) - old.detach().to(new.device, wide)
            found[name] = (old.detach().to(new.device, wide) + share * step).to(new.dtype)
    return found
