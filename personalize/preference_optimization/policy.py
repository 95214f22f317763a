"""SLOT Policy: a generator as preference optimisation sees it, of either half."""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor, nn


@runtime_checkable
class Rows(Protocol):
    """A batch of contexts that can be cut by rows and moved: `HistoryBatch`, `PlanContexts`."""

    def rows(self, numbers: Any) -> Any:  # noqa: ANN401  (each batch returns its own kind)
        """Some of the rows, in the order given; a row may be taken several times."""
        ...

    def to(self, target: Any) -> Any:  # noqa: ANN401
        """The same batch on another device."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...


ContextRows = TypeVar("ContextRows", bound=Rows)


@dataclass(frozen=True)
class Drawn:
    """What a policy answered.

    Attributes:
        responses: So many for every context.
        log_prob: Of each, step by step, when it was drawn; without a gradient.
        sampled: Whether they were drawn by their probability. A beam's are the likeliest instead:
            their entropy and KL are no estimates of the policy's.
    """

    responses: Tensor
    log_prob: Float[Tensor, "batch particle step"]
    sampled: bool


class Policy(nn.Module, ABC, Generic[ContextRows]):
    """A generator with its log-probabilities; a context holds what is preferred as well.

    Responses are one tensor `[batch, particle, ...]`: item ids, or poses. Its parameters are the
    generator's, and a reference is a frozen copy of it.

    Laws, held by `tests/personalize/preference_optimization/policy_laws.py` for every variant: a
    batch gives what its rows give one by one; permuting particles permutes log-probabilities; the
    log-probabilities of what was sampled are those it was sampled with; the same seed draws the
    same; in evaluation mode nothing is random. Where `logits` exist their softmax at the response's
    own choice is the log-probability of the step, and closed choices are `-inf`.

    Attributes:
        steps: Steps of a response: levels of a semantic ID, denoising steps, or 1.
        draws_noise: Whether `log_prob` depends on noise that `reseed` draws anew. A reference's
            scores can then not be kept, and must be asked for under the same seed.
    """

    steps: int
    draws_noise: bool = False

    @abstractmethod
    def log_prob(
        self, context: ContextRows, responses: Tensor
    ) -> Float[Tensor, "batch particle step"]:
        """Log-probability of every step of every response, with a gradient.

        The sum over steps is the response's. A policy without a density returns a surrogate with
        the same use: its differences between policies stand for log-ratios.
        """

    @abstractmethod
    def sample(self, context: ContextRows, count: int, *, seed: int, beam: bool = False) -> Drawn:
        """So many responses for every context, without a gradient.

        Args:
            context: A batch.
            count: Responses per context.
            seed: Of what is drawn; every row takes the same random numbers.
            beam: Take the likeliest instead of drawing; distinct, best first.
        """

    def reseed(self, seed: int) -> None:
        """Draw the noise of `log_prob` by another seed, where it has any."""

    def logits(
        self, context: ContextRows, responses: Tensor
    ) -> Float[Tensor, "batch particle step choice"]:
        """Logits of every choice a response had at every step, with a gradient.

        Raises:
            TypeError: If the policy does not choose among finitely many.
        """
        raise TypeError(f"{type(self).__name__} does not choose among finitely many.")

    def choices(self, responses: Tensor) -> Int[Tensor, "batch particle step"]:
        """The number of each step's choice among the logits.

        Raises:
            TypeError: As for `logits`.
        """
        raise TypeError(f"{type(self).__name__} does not choose among finitely many.")


PolicyKind = TypeVar("PolicyKind", bound=Policy)


def frozen_copy(policy: PolicyKind) -> PolicyKind:
    """The policy as it is now, in evaluation mode and without gradients: a reference."""
    return copy.deepcopy(policy).requires_grad_(requires_grad=False).eval()
