"""An adapter that reads from a context how much each reward matters there."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Pools:
    """What was chosen in each context, and out of what.

    Attributes:
        rewards: Of every candidate; any value where the mask is false.
        mask: Which candidates there were.
        chosen: Number of the one that was chosen; it is one of those.
    """

    rewards: Float[Tensor, "batch candidate reward"]
    mask: Bool[Tensor, "batch candidate"]
    chosen: Int[Tensor, " batch"]

    def rows(self, numbers: Int[Tensor, " chosen"]) -> "Pools":
        """Some rows, in the order given."""
        return Pools(self.rewards[numbers], self.mask[numbers], self.chosen[numbers])


@final
class WeightAdapter(nn.Module):
    """Two layers from the frozen encoding of a context to weights that add up to 1.

    At the start all weights are equal, whatever the context.

    Attributes:
        log_sharpness: Logarithm of how strictly choices follow the weighed rewards; learnt by
            `ChoiceLikelihood` alone.

    Source:
        In the manner of the Preference Orchestrator, whose adapter is a whole language model.
    """

    def __init__(self, context_width: int, reward_count: int, *, hidden: int = 64) -> None:
        """Build the layers.

        Args:
            context_width: Numbers in the encoding of a context.
            reward_count: Rewards to weigh.
            hidden: Width of the layer between.
        """
        super().__init__()
        last = nn.Linear(hidden, reward_count)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(context_width, hidden), nn.GELU(), last)
        self.log_sharpness = nn.Parameter(torch.zeros(()))

    def forward(self, context: Float[Tensor, "batch model"]) -> Float[Tensor, "batch reward"]:
        """Weights of the rewards: none negative, adding up to 1."""
        return self.layers(context).softmax(-1)


class WeightLoss(ABC):
    """SLOT: how weights are learnt from choices.

    Laws, held by `test_weight_adapter.py` for every variant: the order of the candidates is
    irrelevant; a masked candidate changes nothing; a reward that is larger by a constant for a
    whole pool changes nothing; a pool whose candidates are all alike changes nothing.
    """

    @abstractmethod
    def __call__(
        self,
        weights: Float[Tensor, "batch reward"],
        log_sharpness: Float[Tensor, ""],
        pools: Pools,
    ) -> Float[Tensor, ""]:
        """Mean over the pools that tell candidates apart; 0 where none does."""


@dataclass(frozen=True)
class PoolTargets(WeightLoss):
    """Divergence from `softmax(rewards of the chosen one / temperature)`, standardised in its pool.

    A reward counts as important where the chosen one is far above its pool in it. Without the
    standardisation the target would name the reward with the largest base level, whatever is
    chosen. That a reward is high does not say that it was the reason, so weights are those of a
    description; `ChoiceLikelihood` asks for the reason.

    Attributes:
        temperature: In standard deviations; small ones put all weight on one reward.

    Raises:
        ValueError: If the temperature is not positive.

    Source:
        In the manner of the Preference Orchestrator, which we know from descriptions alone.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature:g}.")

    def __call__(
        self,
        weights: Float[Tensor, "batch reward"],
        log_sharpness: Float[Tensor, ""],
        pools: Pools,
    ) -> Float[Tensor, ""]:
        """Kullback-Leibler divergence of the weights from the targets."""
        rows = torch.arange(len(weights), device=weights.device)
        chosen = standardized(pools.rewards, pools.mask)[rows, pools.chosen]
        target = (chosen / self.temperature).softmax(-1)
        smallest = torch.finfo(weights.dtype).tiny
        found = weights.clamp_min(smallest).log()
        divergence = functional.kl_div(found, target, reduction="none").sum(-1)
        return _mean_where(divergence, _telling(pools))


@dataclass(frozen=True)
class ChoiceLikelihood(WeightLoss):
    """Minus the log-probability of what was chosen, `softmax(sharpness * weighed rewards)`.

    Give it rewards in comparable units (`standardized`): weights refer to the units they are in.

    Source:
        McFadden, 1974, Conditional logit analysis of qualitative choice behavior; with weights on
        the simplex, so that how strictly people choose is a number of its own.
    """

    def __call__(
        self,
        weights: Float[Tensor, "batch reward"],
        log_sharpness: Float[Tensor, ""],
        pools: Pools,
    ) -> Float[Tensor, ""]:
        """Mean surprise at the choices, in nats."""
        utility = log_sharpness.exp() * weighed(pools.rewards, weights)
        scores = utility.masked_fill(~pools.mask, -torch.inf).log_softmax(-1)
        surprise = -scores.gather(1, pools.chosen[:, None])[:, 0]
        return _mean_where(surprise, _telling(pools))


def weighed(
    rewards: Float[Tensor, "batch candidate reward"], weights: Float[Tensor, "batch reward"]
) -> Float[Tensor, "batch candidate"]:
    """The rewards of every candidate, summed with the weights of its context."""
    return torch.einsum("bcr,br->bc", rewards, weights)


def standardized(
    rewards: Float[Tensor, "batch candidate reward"], mask: Bool[Tensor, "batch candidate"]
) -> Float[Tensor, "batch candidate reward"]:
    """Each reward less its mean over the pool, in standard deviations of the pool.

    Returns:
        0 where all candidates of a pool are alike, and at masked candidates.
    """
    there = mask[..., None]
    count = there.sum(1, keepdim=True).clamp_min(1)
    mean = torch.where(there, rewards, 0).sum(1, keepdim=True) / count
    gap = torch.where(there, rewards - mean, 0)
    deviation = (gap.square().sum(1, keepdim=True) / count).sqrt()
    alike = deviation <= 1e-6 * mean.abs().clamp_min(1e-3)
    return torch.where(alike, 0, gap / deviation.clamp_min(1e-12))


def fit_weights(
    adapter: WeightAdapter,
    contexts: Float[Tensor, "batch model"],
    pools: Pools,
    loss: WeightLoss,
    *,
    steps: int = 400,
    learning_rate: float = 1e-2,
    seed: int = 0,
) -> WeightAdapter:
    """The same adapter, trained: nothing else has weights that could change.

    The sharpness learns ten times as fast. While it is too small, the likeliest weights are all on
    one reward, and a softmax that has gone there comes back slowly.

    Args:
        adapter: Trained in place.
        contexts: Encodings of the contexts; taken as they are.
        pools: What was chosen there.
        loss: What is minimised.
        steps: Steps of 256 rows.
        learning_rate: Of AdamW.
        seed: Of the rows drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    sharp = {"params": [adapter.log_sharpness], "lr": 10 * learning_rate, "weight_decay": 0.0}
    groups = [{"params": adapter.layers.parameters()}, sharp]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, weight_decay=1e-3)
    for _ in range(steps):
        rows = torch.randint(len(contexts), (min(256, len(contexts)),), generator=generator)
        value = loss(adapter(contexts[rows]), adapter.log_sharpness, pools.rows(rows))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return adapter


def _telling(pools: Pools) -> Bool[Tensor, " batch"]:
    """Pools in which the candidates differ in any reward."""
    return (standardized(pools.rewards, pools.mask) != 0).flatten(1).any(1)


def _mean_where(values: Float[Tensor, " batch"], mask: Bool[Tensor, " batch"]) -> Float[Tensor, ""]:
    return torch.where(mask, values, 0).sum() / mask.sum().clamp_min(1)
