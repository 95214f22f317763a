"""What follows a response as a judge of it: likely good follow-ups, unlikely bad ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from personalize.preference_optimization.candidate_blocks import (
    best_and_worst,
    context_blocks,
    graded_pairs,
    weighted,
)
from personalize.preference_optimization.candidates import Candidates, PairBuilder
from personalize.preference_optimization.compared_rows import ComparedRows


def follow_up_reward(
    positive: Float[Tensor, "*row positive"], negative: Float[Tensor, "*row negative"]
) -> Float[Tensor, "*row"]:
    """Mean log-likelihood of the positive follow-ups minus that of the negative ones.

    Source:
        Zhang et al., 2024, Aligning Language Models Using Follow-up Likelihood as Reward Signal
        (FLR), arXiv:2409.13948; the form is that of the README of its repository.

    Example:
        >>> follow_up_reward(torch.tensor([-1.0, -3.0]), torch.tensor([-4.0]))
        tensor(2.)
    """
    return positive.mean(-1) - negative.mean(-1)


@final
@dataclass(frozen=True)
class FollowUpPairs(PairBuilder):
    """The best against the worst response to each context by what is likely to follow it.

    Attributes:
        positive: Names of rewards that are log-likelihoods of good follow-ups.
        negative: Names of those of bad ones.
        least_gap: Rewards must differ by more than this.

    Raises:
        ValueError: If either is empty.

    Source:
        As for `follow_up_reward`.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    least_gap: float = 0.0

    def __post_init__(self) -> None:
        if not self.positive or not self.negative:
            raise ValueError("positive and negative must each name at least one reward.")

    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        """See `PairBuilder`; nothing is drawn."""
        shares = {name: 1 / len(self.positive) for name in self.positive}
        for name in self.negative:
            shares[name] = shares.get(name, 0.0) - 1 / len(self.negative)
        value = weighted(candidates, shares)
        pairs = best_and_worst(context_blocks(candidates, passing=True), value, self.least_gap)
        return graded_pairs(pairs, "follow_up", candidates, value)


@final
class FollowUpModel(nn.Module):
    """How likely each of several events is to follow, from what is known of a response.

    A logistic regression per event: of one-hot features it is a table of smoothed counts.

    Args:
        features: Width of what is known of a response in its context.
        events: Names of the events.

    Raises:
        ValueError: If there is no event.
    """

    def __init__(self, features: int, events: Sequence[str]) -> None:
        super().__init__()
        if not events:
            raise ValueError("events must name at least one event.")
        self.events = tuple(events)
        self.linear = nn.Linear(features, len(self.events), dtype=torch.float64)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Float[Tensor, "*row feature"]) -> Float[Tensor, "*row event"]:
        """Log-probability that each event follows."""
        return functional.logsigmoid(self.linear(features.double())).to(features)

    def fit(
        self,
        features: Float[Tensor, "row feature"],
        happened: Bool[Tensor, "row event"],
        *,
        ridge: float = 1e-3,
        steps: int = 50,
    ) -> None:
        """Learn from what followed; the likeliest parameters under a Gaussian prior.

        Args:
            features: What was known of each response.
            happened: Which events followed it.
            ridge: Weight of the squared coefficients beside the mean loss; the bias is free.
            steps: Of L-BFGS.

        Raises:
            ValueError: If there is no row, or the ridge is not positive.
        """
        if not len(features) or not ridge > 0:
            raise ValueError(
                f"fit needs rows and a positive ridge, got {len(features)} rows and {ridge:g}."
            )
        known, followed = features.double(), happened.double()
        optimizer = torch.optim.LBFGS(
            self.parameters(), max_iter=steps, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            by_event = functional.binary_cross_entropy_with_logits(
                self.linear(known), followed, reduction="none"
            ).mean(0)
            total = by_event.sum() + ridge * self.linear.weight.square().sum()
            total.backward()
            return total

        optimizer.step(loss)
