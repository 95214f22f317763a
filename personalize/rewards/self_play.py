"""SLOT Comparator: who beats whom, and the reward of a response as its share of wins."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Comparator(ABC):
    """Probabilities that one response is preferred to another; a variant is a frozen dataclass.

    Laws, held by `tests/personalize/rewards/test_self_play.py` for every variant: of two responses
    the probabilities to win add up to 1; equals win with 1/2. Nothing need be transitive.
    """

    @abstractmethod
    def __call__(
        self, first: Float[Tensor, "*batch first part"], second: Float[Tensor, "*batch second part"]
    ) -> Float[Tensor, "*batch first second"]:
        """The probability of each first to beat each second."""


@final
@dataclass(frozen=True)
class LogisticWins(Comparator):
    """`sigma(steepness * difference)`, averaged over parts: Bradley-Terry where there is one.

    Attributes:
        steepness: Per unit of the reward.
    """

    steepness: float = 1.0

    def __call__(
        self, first: Float[Tensor, "*batch first part"], second: Float[Tensor, "*batch second part"]
    ) -> Float[Tensor, "*batch first second"]:
        """See `Comparator`."""
        return (self.steepness * _gaps(first, second)).sigmoid().mean(-1)


@final
@dataclass(frozen=True)
class MajorityWins(Comparator):
    """Who is better in more parts wins; cycles come about by themselves (Condorcet)."""

    def __call__(
        self, first: Float[Tensor, "*batch first part"], second: Float[Tensor, "*batch second part"]
    ) -> Float[Tensor, "*batch first second"]:
        """See `Comparator`."""
        return (_gaps(first, second).sign().sum(-1).sign() + 1) / 2


@final
@dataclass(frozen=True)
class RankedWins(Comparator):
    """The first part, in order of importance, that differs by more than its margin decides.

    Attributes:
        margins: One per part.

    Raises:
        ValueError: If there is none or one is negative; when called, if there is not one per part.

    Source:
        The relation of `RankedFactors`, for which see there.
    """

    margins: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.margins or not all(margin >= 0 for margin in self.margins):
            raise ValueError(f"margins must be one or more and not negative, got {self.margins}.")

    def __call__(
        self, first: Float[Tensor, "*batch first part"], second: Float[Tensor, "*batch second part"]
    ) -> Float[Tensor, "*batch first second"]:
        """See `Comparator`."""
        if len(self.margins) != first.shape[-1]:
            raise ValueError(
                f"margins must be one per part, got {len(self.margins)} for {first.shape[-1]}."
            )
        gaps = _gaps(first, second)
        sign = torch.zeros_like(gaps[..., 0])
        for number in reversed(range(len(self.margins))):
            gap = gaps[..., number]
            sign = torch.where(gap.abs() > self.margins[number], gap.sign(), sign)
        return (sign + 1) / 2


@final
@dataclass(frozen=True)
class SkewSymmetricWins(Comparator):
    """`sigma(logit / temperature)` of a skew-symmetric model whose embedding the parts are.

    Attributes:
        temperature: The paper's tau.

    Raises:
        ValueError: If the temperature is not positive; when called, if the parts are odd in number.

    Source:
        Zhang et al., 2024, General Preference Modeling, arXiv:2410.02197, and its released code:
        logit `sum over blocks of u_2b v_2b+1 - u_2b+1 v_2b` up to the sign that orients a block.
    """

    temperature: float = 0.1

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature:g}.")

    def __call__(
        self, first: Float[Tensor, "*batch first part"], second: Float[Tensor, "*batch second part"]
    ) -> Float[Tensor, "*batch first second"]:
        """See `Comparator`."""
        if first.shape[-1] % 2:
            raise ValueError(f"an embedding must have even width, got {first.shape[-1]}.")
        even, odd = first[..., 0::2], first[..., 1::2]
        turned = torch.stack([-odd, even], -1).flatten(-2)
        return (turned @ second.mT / self.temperature).sigmoid()


def gated_wins(
    wins: Float[Tensor, "*batch particle particle"], gate: Bool[Tensor, "*batch particle"]
) -> Float[Tensor, "*batch particle particle"]:
    """The same where nobody who fails a gate beats one who passes; two who fail are equal."""
    mine, theirs = gate[..., :, None], gate[..., None, :]
    gated = torch.where(mine, torch.ones_like(wins), 0)
    return torch.where(mine & theirs, wins, torch.where(mine == theirs, 0.5, gated))


def mean_win_share(
    wins: Float[Tensor, "*batch particle particle"],
) -> Float[Tensor, "*batch particle"]:
    """The mean probability of each response to beat the others of its group.

    This one reward is that of self-play with a single player (SPO) and of general preference
    optimisation (GPO); less 1/2 it is the score of Nash mirror descent where the opponents are
    drawn from its mixture. A policy that maximises it against itself orbits the minimax winner:
    it is the average over time that gets there. A queue of former policies as the opponent turns
    the orbit into a wider and slower one and does not end it (`benchmarks/methods/self_play.py`).

    Returns:
        0 where a group has one response.

    Source:
        Swamy et al., 2024, A Minimaximalist Approach to Reinforcement Learning from Human
        Feedback, arXiv:2401.04056; Zhang et al., 2024, General Preference Modeling,
        arXiv:2410.02197.

    Example:
        >>> mean_win_share(torch.tensor([[0.5, 1.0, 0.75], [0.0, 0.5, 1.0], [0.25, 0.0, 0.5]]))
        tensor([0.8750, 0.5000, 0.1250])
    """
    return (wins.sum(-1) - wins.diagonal(dim1=-2, dim2=-1)) / max(wins.shape[-1] - 1, 1)


def nash_score(
    wins: Float[Tensor, "*batch particle opponent"],
) -> Float[Tensor, "*batch particle"]:
    """What pushes the log-probability of each response: its mean win over opponents, less 1/2.

    The opponents are drawn from the geometric mixture of policy and reference; the divergence from
    the reference is a term of its own.

    Source:
        Munos et al., 2023, Nash Learning from Human Feedback, arXiv:2312.00886, as in TRL's
        `NashMDTrainer`.
    """
    return wins.mean(-1) - 0.5


def _gaps(
    first: Float[Tensor, "*batch first part"], second: Float[Tensor, "*batch second part"]
) -> Float[Tensor, "*batch first second part"]:
    return first[..., :, None, :] - second[..., None, :, :]
