"""The Bradley-Terry loss of comparisons, and the loop that fits a small network to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional


def bradley_terry_loss(
    margin: Float[Tensor, "*comparison"], win_share: Float[Tensor, "*comparison"]
) -> Float[Tensor, "*comparison"]:
    """Cross-entropy between a win share and the logistic function of a margin, per comparison.

    Args:
        margin: Score of the better row minus score of the worse.
        win_share: Probability the better row should win with, 1/2 to 1.

    Returns:
        `-p log sigma(m) - (1 - p) log sigma(-m)`, finite for every finite margin; at p = 1/2 it
        pulls the scores together.

    Source:
        Bradley and Terry, 1952, doi:10.2307/2334029.

    Example:
        >>> bradley_terry_loss(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0]))
        tensor([0.6931, 0.1269])
    """
    return functional.binary_cross_entropy_with_logits(margin, win_share, reduction="none")


@dataclass(frozen=True)
class RewardTraining:
    """How a reward network learns.

    Attributes:
        steps: Optimiser steps.
        batch_size: Comparisons per step, drawn with replacement.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        seed: Of first weights, batches and dropout.

    Raises:
        ValueError: If steps or batch size are below 1 or the learning rate is not positive.
    """

    steps: int = 500
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(
                f"steps and batch_size must be 1 or more, got {self.steps} and {self.batch_size}."
            )
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate:g}.")


Loss = Callable[[Int[Tensor, " drawn"]], Float[Tensor, ""]]


def train(network: nn.Module, loss: Loss, comparisons: int, training: RewardTraining) -> None:
    """Fit a network in place; afterwards it is in evaluation mode.

    Args:
        network: What is trained.
        loss: Loss of the comparisons with the given numbers.
        comparisons: How many there are.
        training: Steps, rate and seed. The global random state is left as it was.

    Raises:
        ValueError: If there is no comparison.
    """
    if comparisons < 1:
        raise ValueError("A reward needs at least one comparison to learn from, got none.")
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    network.train()
    with torch.random.fork_rng(devices=[]):  # dropout asks the global generator
        torch.manual_seed(training.seed)
        for _ in range(training.steps):
            drawn = torch.randint(comparisons, (min(training.batch_size, comparisons),))
            optimizer.zero_grad()
            loss(drawn).backward()
            optimizer.step()
    network.eval()


Network = TypeVar("Network", bound=nn.Module)


def seeded(build: Callable[[], Network], seed: int) -> Network:
    """A new network whose first weights follow from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
