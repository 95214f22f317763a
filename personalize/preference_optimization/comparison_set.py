"""Comparisons with the contexts and responses their rows name: what batches are cut from."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.compared import ComparisonBatch, policy_scores
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.policy import Policy
from personalize.preference_optimization.tunable import Tunable


@dataclass(frozen=True)
class ComparisonSet:
    """Comparisons and the table they point into, on the CPU.

    Attributes:
        compared: The comparisons; their rows number those below.
        context: Number of each row's context.
        response: Number of each row's response.
        responses: `[response, ...]`.
        shared: Whether all responses of a comparison share its context, in every comparison.
        reference: Score of every response under a reference, where it was kept.
    """

    compared: ComparedRows
    context: Int[Tensor, " row"]
    response: Int[Tensor, " row"]
    responses: Tensor
    shared: bool
    reference: Float[Tensor, "comparison response"] | None = None

    @classmethod
    def of(
        cls,
        compared: ComparedRows,
        context: Int[Tensor, " row"],
        response: Int[Tensor, " row"],
        responses: Tensor,
    ) -> "ComparisonSet":
        """Comparisons of a table of rows."""
        each = context[compared.rows]
        shared = bool(((each == each[:, :1]) | ~compared.present).all())
        return cls(compared, context, response, responses, shared)

    @classmethod
    def of_candidates(cls, compared: ComparedRows, candidates: Candidates) -> "ComparisonSet":
        """Comparisons that were made of candidates."""
        return cls.of(compared, candidates.context, candidates.response, candidates.responses)

    def __len__(self) -> int:
        """Number of comparisons."""
        return len(self.compared)

    def batch(self, chosen: Int[Tensor, " chosen"], half: Tunable) -> ComparisonBatch:
        """Some of the comparisons with their contexts, on the CPU."""
        compared = self.compared
        rows, present = compared.rows[chosen], compared.present[chosen]
        rows = torch.where(present, rows, rows[:, :1])
        context = self.context[rows]
        numbers = context[:, 0] if self.shared else context.flatten()
        return ComparisonBatch(
            contexts=half.batch(numbers),
            responses=self.responses[self.response[rows]],
            present=present,
            strength=compared.strength[chosen],
            margin=compared.margin[chosen],
            weight=compared.weight[chosen],
            grade=compared.grade[chosen],
            group=compared.annotator[chosen],
            reference=None if self.reference is None else self.reference[chosen],
            numbers=numbers,
        )

    @torch.no_grad()
    def with_reference(
        self, reference: Policy, half: Tunable, *, batch_size: int
    ) -> "ComparisonSet":
        """The same with every score of a reference, computed once.

        Raises:
            ValueError: If its scores depend on noise that is drawn anew at every step.
        """
        if reference.draws_noise:
            raise ValueError(
                f"the scores of {type(reference).__name__} depend on noise that is drawn at every "
                "step; they cannot be computed once."
            )
        device = next(reference.parameters()).device
        found = [
            policy_scores(reference, self.batch(numbers, half).to(device)).sum(-1).float().cpu()
            for numbers in torch.arange(len(self)).split(batch_size)
        ]
        return replace(self, reference=torch.cat(found))


@dataclass(frozen=True)
class LoggedTargets:
    """Contexts with what was logged in them, for what compares nothing.

    Attributes:
        context: Numbers of the contexts.
    """

    context: Int[Tensor, " context"]

    def __len__(self) -> int:
        """Number of contexts."""
        return len(self.context)

    def batch(self, chosen: Int[Tensor, " chosen"], half: Tunable) -> ComparisonBatch:
        """Some of the contexts, each with its target as the only response, on the CPU."""
        numbers = self.context[chosen]
        ones = torch.ones(len(numbers))
        none = torch.zeros(len(numbers), dtype=torch.long)
        return ComparisonBatch(
            contexts=half.batch(numbers),
            responses=half.targets(numbers),
            present=ones[:, None].bool(),
            strength=ones,
            margin=torch.zeros_like(ones),
            weight=ones,
            grade=torch.zeros_like(ones)[:, None],
            group=none,
            numbers=numbers,
        )
