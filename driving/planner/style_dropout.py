"""Hiding styles in training, so that a planner also knows what to do without, or with a part."""

from dataclasses import dataclass

import torch

from driving.planner.planner import StyleCondition


@dataclass(frozen=True)
class StyleDropout:
    """Hides whole styles and single dimensions at random.

    Whole ones make guidance possible (Ho and Salimans, 2022, arXiv:2207.12598), single ones make
    partial preferences familiar (as in AlignDiff, arXiv:2310.02054).

    Attributes:
        whole: Probability that a row has no style.
        dimension: Probability that a dimension of a row that has one is not asked for.
    """

    whole: float = 0.15
    dimension: float = 0.1

    def __post_init__(self) -> None:
        if not (0 <= self.whole <= 1 and 0 <= self.dimension <= 1):
            raise ValueError(
                "style_dropout.whole and .dimension must be from 0 to 1, "
                f"got {self.whole:g} and {self.dimension:g}."
            )

    def __call__(self, style: StyleCondition) -> StyleCondition:
        """The styles with some of them hidden; random numbers come from torch's own generator."""
        device = style.mask.device
        rows = torch.rand(len(style.mask), 1, device=device) >= self.whole
        dimensions = torch.rand(style.mask.shape, device=device) >= self.dimension
        mask = style.mask & rows & dimensions
        return StyleCondition(style.values * mask, mask)
