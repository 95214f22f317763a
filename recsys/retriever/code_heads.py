"""One small head per level that predicts a semantic ID from a state, code after code."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class CodeState:
    """What a beam search keeps between levels.

    Attributes:
        hidden: State of every row.
        codes: Codes each beam has chosen so far, oldest level first.
    """

    hidden: Float[Tensor, "batch model"]
    codes: list[Int[Tensor, "batch beam"]]


class CodeHeads(nn.Module):
    """Log-probabilities of the codes of each level, given the state and the codes above.

    The logits of level `l` are `W_l gelu(A_l h + sum over m < l of E_lm[c_m])`: no attention and
    no recurrence, so a target costs a few small products.

    Source:
        Ours, a light form of the decoder of TIGER (Rajput et al., 2023, arXiv:2305.05065).
    """

    def __init__(self, level_sizes: tuple[int, ...], width: int, *, dropout: float = 0.2) -> None:
        super().__init__()
        self.level_sizes = level_sizes
        self.from_state = nn.ModuleList(nn.Linear(width, width) for _ in level_sizes)
        self.from_codes = nn.ModuleDict(
            {
                f"{level} after {above}": nn.Embedding(level_sizes[above], width)
                for level in range(len(level_sizes))
                for above in range(level)
            }
        )
        self.to_logits = nn.ModuleList(nn.Linear(width, size) for size in level_sizes)
        self.dropout = nn.Dropout(dropout)
        for embedding in self.modules():
            if isinstance(embedding, nn.Embedding):
                nn.init.normal_(embedding.weight, std=0.1)

    def logits(
        self,
        level: int,
        hidden: Float[Tensor, "*row model"],
        codes: list[Int[Tensor, "*row"]],
    ) -> Float[Tensor, "*row code"]:
        """Logits of a level after the codes of all levels above."""
        return self.to_logits[level](self._mixed(level, hidden, codes))

    def chosen(
        self,
        level: int,
        hidden: Float[Tensor, "*row model"],
        codes: list[Int[Tensor, "*row"]],
    ) -> Float[Tensor, "*row model"]:
        """What speaks for a code, number by number: they add up to its logit less its bias.

        Args:
            level: Level of the code.
            hidden: The state.
            codes: Codes of all levels above, and of the level itself.
        """
        weight = self.to_logits[level].weight[codes[level]]  # pyright: ignore[reportIndexIssue]
        return self._mixed(level, hidden, codes[:level]) * weight

    def _mixed(
        self,
        level: int,
        hidden: Float[Tensor, "*row model"],
        codes: list[Int[Tensor, "*row"]],
    ) -> Float[Tensor, "*row model"]:
        mixed = self.from_state[level](hidden)
        for above, chosen in enumerate(codes):
            mixed = mixed + self.from_codes[f"{level} after {above}"](chosen)
        return self.dropout(F.gelu(mixed))

    def loss(
        self,
        hidden: Float[Tensor, "row model"],
        codes: Int[Tensor, "row level"],
        real: Bool[Tensor, " row"],
    ) -> Float[Tensor, ""]:
        """Cross-entropy of the codes, averaged over levels and real rows."""
        above = list(codes.unbind(1))
        losses = [
            F.cross_entropy(
                self.logits(level, hidden, above[:level]),
                torch.where(real, above[level], -100),
            )
            for level in range(len(self.level_sizes))
        ]
        return torch.stack(losses).mean()

    def step(
        self,
        state: CodeState,
        level: int,
        codes: Int[Tensor, "batch beam"],
        parents: Int[Tensor, "batch beam"],
    ) -> Float[Tensor, "batch beam code"]:
        """Logits of a level for every beam; see `recsys.retriever.decode.CodeDecoder`."""
        if level:
            state.codes = [chosen.gather(1, parents) for chosen in state.codes]
            state.codes.append(codes)
        hidden = state.hidden.unsqueeze(1).expand(-1, codes.shape[1], -1)
        return self.logits(level, hidden, state.codes)
