"""Value-and-mask conditions as tokens: one per attribute, with a token for nothing asked."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True)
class ConditionDropout:
    """Hides whole conditions and single attributes at random, so that a model knows either absent.

    With single attributes alone, a condition of `n` of them is hidden whole with a probability of
    `attribute ** n`: for four at 0.2 that is 0.2 %, and the prediction without any condition, which
    guidance subtracts, has hardly been trained.

    Attributes:
        whole: Probability that a row is asked for nothing.
        attribute: Probability that an attribute of a row is not asked for.

    Raises:
        ValueError: If one is no probability.

    Source:
        Dong et al., 2023, AlignDiff, arXiv:2310.02054, hides single attributes with 0.2; whole
        conditions as in Ho and Salimans, 2022, arXiv:2207.12598.
    """

    whole: float = 0.1
    attribute: float = 0.2

    def __post_init__(self) -> None:
        if not (0 <= self.whole <= 1 and 0 <= self.attribute <= 1):
            raise ValueError(
                "dropout.whole and .attribute must be from 0 to 1, "
                f"got {self.whole:g} and {self.attribute:g}."
            )

    def __call__(self, mask: Bool[Tensor, "batch goal"]) -> Bool[Tensor, "batch goal"]:
        """The mask with some of it taken away; random numbers come from torch's own generator."""
        rows = torch.rand(len(mask), 1, device=mask.device) >= self.whole
        return mask & rows & (torch.rand(mask.shape, device=mask.device) >= self.attribute)


@final
class AttributeTokens(nn.Module):
    """One token per attribute, for what a decoder or denoiser attends to.

    A value from 0 to 1 lies between two of an attribute's bins and takes its token from both, so
    that near values have near tokens from the start and a value need not have been seen exactly. An
    attribute that nothing is asked of has a token of its own, learnt from the dropout.

    Laws, held by `test_attribute_tokens.py`: what is masked changes nothing; a batch is its rows
    one by one; in evaluation nothing is random; without any attribute asked, all rows are alike.

    Source:
        In the manner of the condition of AlignDiff (Dong et al., 2023, arXiv:2310.02054), which has
        100 unordered bins per attribute and multiplies their embeddings by the mask.
    """

    def __init__(
        self,
        attributes: int,
        model: int,
        *,
        bins: int = 64,
        dropout: ConditionDropout = ConditionDropout(),
    ) -> None:
        """Build the tables.

        Args:
            attributes: Attributes of a condition.
            model: Width of a token.
            bins: Bins per attribute; with two a value lies on a line from one token to another.
            dropout: What is hidden in training.

        Raises:
            ValueError: If there is no attribute or there are fewer than 2 bins.
        """
        super().__init__()
        if attributes < 1 or bins < 2:
            raise ValueError(
                f"tokens need at least 1 attribute and 2 bins, got {attributes} and {bins}."
            )
        walk = torch.randn(attributes, bins, model).cumsum(1)
        self.table = nn.Parameter(walk * (bins * model) ** -0.5)
        self.null = nn.Parameter(torch.randn(attributes, model) * model**-0.5)
        self.dropout = dropout

    def forward(
        self, values: Float[Tensor, "batch goal"], mask: Bool[Tensor, "batch goal"]
    ) -> Float[Tensor, "batch token model"]:
        """A token per attribute.

        Args:
            values: From 0 to 1; beyond that they are clamped. Anything where the mask is false.
            mask: What is asked for.
        """
        if self.training:
            mask = self.dropout(mask)
        last = self.table.shape[1] - 1
        place = torch.where(mask, values, 0.0).clamp(0, 1) * last
        below = place.floor().clamp_max(last - 1).long()
        share = (place - below)[..., None]
        number = torch.arange(len(self.table), device=values.device)
        token = torch.lerp(self.table[number, below], self.table[number, below + 1], share)
        return torch.where(mask[..., None], token, self.null)
