"""SLOT Auxiliary: what is minimised beside a contrast, on the same comparisons."""

from abc import ABC, abstractmethod
from typing import Any, Protocol, final, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from personalize.preference_optimization.compared import ComparisonBatch, Scored
from personalize.preference_optimization.pair_scores import require_positive
from personalize.preference_optimization.policy import Policy


@runtime_checkable
class Represents(Protocol):
    """A policy that shows what it holds of a response inside, as `PreferenceDegree` reads it.

    What it shows must depend on the whole response, its last step included.
    """

    def represented_width(self) -> int:
        """How many numbers it shows.

        Raises:
            ValueError: If this one shows none.
        """
        ...

    def represented(
        self,
        context: Any,  # noqa: ANN401  (each half has its own)
        responses: Tensor,
    ) -> Float[Tensor, "batch particle width"]:
        """The last hidden layer, averaged over steps, with a gradient."""
        ...


@runtime_checkable
class FitsPolicy(Protocol):
    """A part of an objective whose weights are made once the policy is known."""

    def fit_to(self, policy: Policy) -> None:
        """Make them; told once, before anything is trained or read from a checkpoint."""
        ...


def fit_parts(objective: nn.Module, policy: Policy) -> None:
    """Make the weights of every part of an objective that waits for the policy.

    Raises:
        ValueError: If the policy does not have what a part needs.
    """
    for part in objective.modules():
        if isinstance(part, FitsPolicy):
            part.fit_to(policy)


class Auxiliary(nn.Module, ABC):
    """A term of the loss, per comparison; it may have weights of its own.

    Attributes:
        name: Under which it is logged.
    """

    name: str

    @abstractmethod
    def forward(
        self, policy: Policy, batch: ComparisonBatch, scored: Scored
    ) -> Float[Tensor, " comparison"]:
        """The term of every comparison, already with its own weight.

        Args:
            policy: What is trained.
            batch: Comparisons.
            scored: Their scores, as the contrast reads them.
        """


@final
class ImitateBest(Auxiliary):
    """Minus the log-probability of the best, times `eta * beta`: what no pair holds gains less.

    The sum over steps is taken, as in the released code, whose default of eta is kept: it is weak,
    and how much is needed must be tried.

    Source:
        Liu et al., 2024, Regularized preference optimization, arXiv:2405.16436.
    """

    name = "imitate_best"

    def __init__(self, eta: float = 0.005, beta: float = 0.01) -> None:
        """Set the weight.

        Args:
            eta: Weight beside the contrast's beta; 0 is no term.
            beta: That of the contrast; the released code trains with this one.

        Raises:
            ValueError: If eta is negative or beta is not positive.
        """
        super().__init__()
        if eta < 0:
            raise ValueError(f"eta must be 0 or more, got {eta:g}.")
        require_positive(beta=beta)
        self.weight = eta * beta

    def forward(
        self, policy: Policy, batch: ComparisonBatch, scored: Scored
    ) -> Float[Tensor, " comparison"]:
        """See `Auxiliary`."""
        return -self.weight * scored.score[:, 0]


@final
class PreferenceDegree(Auxiliary):
    """How far a response was made worse, read off the policy's inside by a linear layer.

    Reads lists whose grades fall by 1 with every degree of corruption; the degree of a response is
    how far its grade is below the best's, and from `degrees` on it is the last. Cross-entropy,
    averaged over the responses that are present. The layer is as wide as the policy says, so it is
    made by `fit_to`.

    Source:
        In the manner of Li et al., 2024, Self-supervised preference optimization, arXiv:2409.17791;
        the paper's gamma and number of degrees are not known to us.
    """

    name = "preference_degree"

    def __init__(self, degrees: int, gamma: float = 0.1, speed: float = 1.0) -> None:
        """Set the weight; the layer comes with the policy.

        Args:
            degrees: Number of degrees, none included; at least 2.
            gamma: Weight of the term; ours.
            speed: How many times faster than the policy the layer learns, under an optimizer whose
                steps do not grow with gradients, such as Adam. At a rate that a trained policy is
                tuned with, a new layer learns next to nothing. Ours.

        Raises:
            ValueError: If there are fewer than 2 degrees, or gamma or speed is not positive.
        """
        super().__init__()
        if degrees < 2:
            raise ValueError(f"degrees must be 2 or more, got {degrees}.")
        require_positive(gamma=gamma, speed=speed)
        self.read: nn.Linear | None = None
        self.degrees, self.gamma, self.speed = degrees, gamma, speed

    def fit_to(self, policy: Policy) -> None:
        """Begin with a random layer on what this policy shows.

        Raises:
            ValueError: If it shows nothing of its inside.
        """
        if not isinstance(policy, Represents):
            raise ValueError(  # noqa: TRY004  (an option of a run, said in one sentence)
                f"{type(policy).__name__} has no `represented` to read a degree off."
            )
        self.read = nn.Linear(policy.represented_width(), self.degrees)
        with torch.no_grad():
            for weight in self.read.parameters():
                weight.div_(self.speed)  # what it says at first is the same at any speed

    def degree(self, scored: Scored) -> Int[Tensor, "comparison response"]:
        """How far each grade is below the first's."""
        below = (scored.grade[:, :1] - scored.grade).round().long()
        return below.clamp(0, self.degrees - 1)

    def forward(
        self, policy: Policy, batch: ComparisonBatch, scored: Scored
    ) -> Float[Tensor, " comparison"]:
        """See `Auxiliary`.

        Raises:
            TypeError: If it was not fitted to a policy, or this one shows nothing.
        """
        if self.read is None or not isinstance(policy, Represents):
            raise TypeError("PreferenceDegree must be fitted to a policy that shows its inside.")
        logits = self.speed * self.read(represented(policy, batch))
        loss = functional.cross_entropy(logits.mT, self.degree(scored), reduction="none")
        return self.gamma * (loss * scored.present).sum(1) / scored.present.sum(1)


def represented(
    policy: Represents, batch: ComparisonBatch
) -> Float[Tensor, "comparison response width"]:
    """What a policy holds of every response of a batch, whichever way its contexts are shared."""
    rows, count = batch.present.shape
    if len(batch.contexts) == rows:
        return policy.represented(batch.contexts, batch.responses)
    flat = policy.represented(batch.contexts, batch.responses.flatten(0, 1)[:, None])
    return flat[:, 0].unflatten(0, (rows, count))
