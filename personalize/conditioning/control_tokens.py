"""Control tokens: rows of a table that say how good what is to be made should be."""

from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@final
class ControlTokens(nn.Module):
    """A few learned tokens for every level of quality, and for none.

    They are learnt by likelihood on outputs of that level, first alone and then with the model
    (`personalize.training_stages`), and stand beside what a decoder attends to. Level 0 is the
    lowest; with two levels these are a bad and a good token. The tokens of a low level are the
    negative of a contrastive guidance.

    Source:
        In the manner of MEET, whose prompt length and temperature we have not seen.
    """

    def __init__(self, levels: int, model: int, *, tokens: int = 1) -> None:
        """Build the table.

        Args:
            levels: Levels of quality, such as quantile bins of an attribute; at least 2.
            model: Width of the network that reads the tokens.
            tokens: Tokens for each level; at least 1.

        Raises:
            ValueError: If there are too few levels or tokens.
        """
        super().__init__()
        if levels < 2 or tokens < 1:
            raise ValueError(
                f"control tokens need at least 2 levels and 1 token, got {levels} and {tokens}."
            )
        self.table = nn.Parameter(torch.randn(levels + 1, tokens, model) * model**-0.5)

    def forward(
        self, levels: Int[Tensor, " batch"], mask: Bool[Tensor, " batch"]
    ) -> Float[Tensor, "batch token model"]:
        """The tokens of each row's level; those for none where the mask is false."""
        return self.table[torch.where(mask, levels, len(self.table) - 1)]


def quantile_edges(values: Float[Tensor, " row"], levels: int) -> Float[Tensor, " edge"]:
    """Borders between levels that hold equally many values.

    Args:
        values: Of an attribute, on training rows; NaN where it is unknown.
        levels: Number of levels.

    Returns:
        One border fewer than there are levels, rising.

    Raises:
        ValueError: If there are too few distinct values for so many levels.
    """
    known = values[~values.isnan()].double()
    shares = torch.arange(1, levels, dtype=torch.float64, device=values.device) / levels
    edges = torch.quantile(known, shares) if len(known) else shares[:0]
    if len(edges) < levels - 1 or (edges.diff() <= 0).any() or edges[-1] >= known.max():
        raise ValueError(
            f"{levels} levels need more distinct values, got {len(known.unique())}; ask for fewer."
        )
    return edges.to(values.dtype)


def levels_of(
    values: Float[Tensor, " row"], edges: Float[Tensor, " edge"]
) -> tuple[Int[Tensor, " row"], Bool[Tensor, " row"]]:
    """The level of every value and whether it is known; a value on a border is below it.

    Example:
        >>> levels_of(torch.tensor([0.0, 1.0, 1.5, float("nan")]), torch.tensor([1.0]))
        (tensor([0, 0, 1, 0]), tensor([ True,  True,  True, False]))
    """
    known = ~values.isnan()
    return torch.bucketize(values.nan_to_num(0), edges) * known, known
