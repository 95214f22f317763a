"""A reward by optimal transport: how cheaply what was made can be moved onto what was preferred."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from data_prep.errors import InputError
from personalize.generator import Value


def load_transport() -> Any:  # noqa: ANN401  (an optional library)
    """The library POT.

    Raises:
        InputError: If it is not installed.
    """
    try:
        import ot
    except ImportError as error:
        raise InputError(
            "Optimal transport needs POT; install it with pip install 'personalize[transport]'."
        ) from error
    return ot


class GroundCost(ABC):
    """SLOT: what it costs to move one step onto another. Laws: at least 0, and 0 onto itself."""

    @abstractmethod
    def __call__(
        self, steps: Float[Tensor, "row step feature"], others: Float[Tensor, "row other feature"]
    ) -> Float[Tensor, "row step other"]:
        """The cost between every two of them."""


@dataclass(frozen=True)
class CosineCost(GroundCost):
    """1 - cosine: for learnt features and text vectors. It does not see how long vectors are."""

    def __call__(
        self, steps: Float[Tensor, "row step feature"], others: Float[Tensor, "row other feature"]
    ) -> Float[Tensor, "row step other"]:
        """From 0 to 2; 1 where a vector is zero."""
        ends = functional.normalize(others, dim=-1).transpose(1, 2)
        return (1 - functional.normalize(steps, dim=-1) @ ends).clamp_min(0)


@dataclass(frozen=True)
class SquaredCost(GroundCost):
    """The mean squared difference of features: for measures in units that can be compared."""

    def __call__(
        self, steps: Float[Tensor, "row step feature"], others: Float[Tensor, "row other feature"]
    ) -> Float[Tensor, "row step other"]:
        """At least 0."""
        return (steps[:, :, None] - others[:, None]).square().mean(-1)


@dataclass(frozen=True)
class Examples:
    """What was preferred: one sequence or set per context, padded at the end.

    Attributes:
        features: Of every step, or every item.
        mask: Which are there; at least one in every context.
    """

    features: Float[Tensor, "batch other feature"]
    mask: Bool[Tensor, "batch other"]

    @classmethod
    def whole(cls, features: Float[Tensor, "batch other feature"]) -> "Examples":
        """Examples without padding."""
        return cls(features, torch.ones_like(features[..., 0], dtype=torch.bool))


@dataclass(frozen=True)
class TransportReward(Value[Float[Tensor, "batch particle step feature"], Examples]):
    """Minus the cost of the cheapest way to move a sequence, or a set, onto an example.

    Every step has the same mass, and so has every step of the example. With a time weight the way
    also costs `time_weight * (difference of relative time)^2`; without one the order of steps is
    not seen, and a drive is worth the same backwards: right for a slate and the items somebody
    liked, wrong for a trajectory. A slate of like items leaves mass far from most of what was
    liked, so the reward also asks for variety.

    Attributes:
        cost: Between two steps. Default: `CosineCost`.
        time_weight: What the whole duration apart costs; 0 does not see time.
        smoothing: Entropy of the plan, in units of cost; 0 is exact.

    Raises:
        ValueError: If a number is negative.

    Source:
        In the manner of RAPL (Tian et al., 2024, What Matters to You?, arXiv:2310.07932): rewards
        of steps by the plan, in features aligned by triplets. The time weight and the use on sets
        are ours.
    """

    cost: GroundCost = field(default_factory=CosineCost)
    time_weight: float = 0.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.time_weight < 0 or self.smoothing < 0:
            raise ValueError(
                "time_weight and smoothing must not be negative, got "
                f"{self.time_weight:g} and {self.smoothing:g}."
            )

    def __call__(
        self, x: Float[Tensor, "batch particle step feature"], context: Examples
    ) -> Float[Tensor, "batch particle"]:
        """At most 0; 0 where steps and example are the same set, with a time weight in time too."""
        particles = x.shape[1]
        example = Examples(
            context.features.repeat_interleave(particles, 0),
            context.mask.repeat_interleave(particles, 0),
        )
        return self.of_steps(x.flatten(0, 1), example).sum(-1).unflatten(0, x.shape[:2])

    def of_steps(
        self, steps: Float[Tensor, "row step feature"], example: Examples
    ) -> Float[Tensor, "row step"]:
        """What every step adds: minus the mass it moves times what that costs.

        The plan is held fixed when a gradient is taken, which is the gradient of the exact cost
        (the envelope theorem); with smoothing it is that of the cost with its entropy.
        """
        costs = self.cost(steps, example.features)
        if self.time_weight:
            when = _relative_time(example.mask)
            here = torch.linspace(0, 1, steps.shape[1], dtype=when.dtype, device=when.device)
            apart = (here[None, :, None] - when[:, None]).square()
            costs = costs + self.time_weight * apart.to(costs)
        plan = transport_plan(costs.detach(), example.mask, smoothing=self.smoothing)
        return -(plan * costs.masked_fill(~example.mask[:, None], 0.0)).sum(-1)


def transport_plan(
    costs: Float[Tensor, "row step other"],
    mask: Bool[Tensor, "row other"],
    *,
    smoothing: float = 0.0,
) -> Float[Tensor, "row step other"]:
    """How much of every step goes where, so that all of it together costs least.

    Args:
        costs: Finite.
        mask: Which of the others are there, at least one in every row.
        smoothing: Entropy of the plan, in units of cost; 0 is exact.

    Returns:
        A plan per row: its rows add up to `1 / steps`, its real columns to `1 / others`, and where
        the mask is false it is 0.

    Raises:
        InputError: If POT is not installed.
        ValueError: If a row has nothing to be moved onto.
    """
    ot = load_transport()
    there = mask.cpu().numpy()
    if not there.any(1).all():
        raise ValueError("every context needs at least one real step in its example.")
    amounts = costs.detach().cpu().double().numpy()
    plans = np.zeros_like(amounts)
    for number, (cost, real) in enumerate(zip(amounts, there, strict=True)):
        here = np.full(len(cost), 1 / len(cost))
        ends = np.full(real.sum(), 1 / real.sum())
        kept = np.ascontiguousarray(cost[:, real])
        plans[number][:, real] = (
            ot.sinkhorn(here, ends, kept, smoothing, method="sinkhorn_log", warn=False)
            if smoothing
            else ot.emd(here, ends, kept)
        )
    return torch.from_numpy(plans).to(costs)


class AlignedFeatures(nn.Module):
    """Features in which what a person finds alike is near: a small network, to be aligned.

    It begins as a random projection; with one layer it stays linear.
    """

    def __init__(self, features: int, *, width: int = 16, hidden: int = 0) -> None:
        """Set the sizes.

        Args:
            features: Numbers that come in.
            width: Numbers that go out.
            hidden: Width between two layers; 0 has one layer only.
        """
        super().__init__()
        self.network = (
            nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, width))
            if hidden
            else nn.Linear(features, width, bias=False)
        )

    def forward(self, features: Float[Tensor, "*row feature"]) -> Float[Tensor, "*row aligned"]:
        """The aligned features."""
        return self.network(features)


def triplet_loss(
    nearer: Float[Tensor, " triplet"], farther: Float[Tensor, " triplet"]
) -> Float[Tensor, ""]:
    """Mean `-log sigmoid(farther - nearer)`: how little distances say which of two is the nearer.

    Args:
        nearer: Distance of the anchor to the one that was said to be more like it.
        farther: Distance to the other.

    Source:
        RAPL (Tian et al., 2024, arXiv:2310.07932), there with distances of optimal transport.

    Example:
        >>> triplet_loss(torch.tensor([1.0]), torch.tensor([1.0]))
        tensor(0.6931)
    """
    return functional.softplus(nearer - farther).mean()


def _relative_time(mask: Bool[Tensor, "batch other"]) -> Float[Tensor, "batch other"]:
    """0 at the first step of an example and 1 at its last."""
    place = mask.double().cumsum(1) - 1
    return place.clamp_min(0) / (mask.sum(1, keepdim=True) - 1).clamp_min(1)
