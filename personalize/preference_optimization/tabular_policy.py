"""A policy with one logit per response and context: small enough to be solved exactly."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from personalize.preference_optimization.policy import Drawn, Policy


@dataclass(frozen=True)
class NumberedContexts:
    """Contexts that are nothing but numbers.

    Attributes:
        numbers: One per row.
    """

    numbers: Int[Tensor, " batch"]

    def rows(self, numbers: Int[Tensor, " chosen"] | slice) -> "NumberedContexts":
        """Some of the rows, in the order given."""
        return NumberedContexts(self.numbers[numbers])

    def to(self, target: torch.device | str) -> "NumberedContexts":
        """The same on another device."""
        return NumberedContexts(self.numbers.to(target))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.numbers)


@final
class TabularPolicy(Policy[NumberedContexts]):
    """A softmax over a table of logits; a response is its number, in one step.

    Its expectations are sums over a row of the table, so what is estimated or learnt elsewhere has
    an exact answer here.
    """

    steps = 1

    def __init__(self, logits: Float[Tensor, "context choice"]) -> None:
        """Begin at these logits."""
        super().__init__()
        self.table = nn.Parameter(logits.clone())

    @property
    def probabilities(self) -> Float[Tensor, "context choice"]:
        """Of every response in every context."""
        return self.table.softmax(-1)

    def log_prob(
        self, context: NumberedContexts, responses: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle 1"]:
        """See `Policy`."""
        every = self.table[context.numbers].log_softmax(-1)
        return every.gather(1, responses)[..., None]

    @torch.no_grad()
    def sample(
        self, context: NumberedContexts, count: int, *, seed: int, beam: bool = False
    ) -> Drawn:
        """See `Policy`; a beam may be no longer than the table is wide.

        Raises:
            ValueError: If a beam is asked for more than there is.
        """
        rows = self.table[context.numbers].log_softmax(-1)
        if beam and count > rows.shape[1]:
            raise ValueError(f"a beam of {count} is more than the {rows.shape[1]} responses.")
        if beam:
            found = rows.topk(count).indices
        else:
            generator = torch.Generator().manual_seed(seed)
            uniform = torch.rand(count, rows.shape[1], generator=generator).clamp(1e-12, 1 - 1e-7)
            gumbel = -(-uniform.log()).log()
            found = (rows[:, None] + gumbel.to(rows)).argmax(-1)
        return Drawn(found, rows.gather(1, found)[..., None], sampled=not beam)

    def logits(
        self, context: NumberedContexts, responses: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle 1 choice"]:
        """See `Policy`."""
        rows = self.table[context.numbers]
        return rows[:, None, None].expand(-1, responses.shape[1], -1, -1)

    def choices(self, responses: Int[Tensor, "batch particle"]) -> Int[Tensor, "batch particle 1"]:
        """See `Policy`."""
        return responses[..., None]
