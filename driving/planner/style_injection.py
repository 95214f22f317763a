"""How a decoder is told the style: by modulation of its norms, StyleDrive's one-hot, or not at all.

A configuration picks one by its class; the decoder asks it for two things, what goes into the
modulation beside the time, and what happens to the features after a layer's feed-forward network.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from data_prep.scenes.style_dimensions import AGGRESSIVE_SIGNS, STYLE_DIMENSIONS
from driving.planner.planner import StyleCondition

STYLE_COUNT = len(STYLE_DIMENSIONS)
STYLEDRIVE_CLASSES = 3
"""StyleDrive's order: 0 aggressive, 1 normal, 2 conservative."""
CLASS_BORDER = 1 / 3
"""Where the mean towards the aggressive end stops being normal."""


class StyleModule(nn.Module, ABC):
    """A style injection with its weights."""

    @abstractmethod
    def modulation(self, style: StyleCondition) -> Float[Tensor, "batch feature"]:
        """What the norms are modulated by beside the time; may have no features."""

    @abstractmethod
    def inject(
        self, layer: int, features: Float[Tensor, "batch candidate width"], style: StyleCondition
    ) -> Float[Tensor, "batch candidate width"]:
        """The features after a layer's feed-forward network."""


class StyleInjection(ABC):
    """SLOT: a choice of injection, which builds its module when the sizes are known.

    Attributes:
        features: Features it adds to the modulation.
        reads_style: Whether the style changes anything.
    """

    features: int
    reads_style: bool

    @abstractmethod
    def build(self, width: int, layers: int) -> StyleModule:
        """Its module for a decoder of so many layers."""


@dataclass(frozen=True)
class ModulatedNorms(StyleInjection):
    """Values and mask of the style modulate every norm of the decoder (adaLN).

    Peebles and Xie, 2022, arXiv:2212.09748. The mask is an input of its own, as in AlignDiff
    (arXiv:2310.02054), so a style may ask something of some dimensions only.
    """

    features = 2 * STYLE_COUNT
    reads_style = True

    def build(self, width: int, layers: int) -> StyleModule:
        """A module without weights of its own; the decoder's modulation has them."""
        return _ValuesAndMask()


@dataclass(frozen=True)
class OneHotLinear(StyleInjection):
    """StyleDrive's injection (arXiv:2506.23982): `Linear(width + 3 -> width)` after the FFN.

    It reads the class alone. A linear layer on features beside a one-hot vector is a linear map
    that is the same for all styles plus one bias per style, so a style cannot change what the
    planner makes of a scene.
    """

    features = 0
    reads_style = True

    def build(self, width: int, layers: int) -> StyleModule:
        """One linear layer for every layer of the decoder."""
        return _OneHot(width, layers)


@dataclass(frozen=True)
class WithoutStyle(StyleInjection):
    """The same planner, deaf to the style: what a style has to be compared with."""

    features = 0
    reads_style = False

    def build(self, width: int, layers: int) -> StyleModule:
        """A module that lets features pass."""
        return _Nothing()


def style_class(style: StyleCondition) -> Int[Tensor, " batch"]:
    """StyleDrive's class of a style: 0 aggressive, 1 normal, 2 conservative.

    The mean over the dimensions asked for, each turned so that 1 is its aggressive end; above a
    third is aggressive, below minus a third conservative. Where nothing is asked the class is
    normal, as StyleDrive's agents take it.
    """
    signs = style.values.new_tensor(AGGRESSIVE_SIGNS)
    weights = style.mask.to(style.values.dtype)
    mean = (style.values * signs * weights).sum(-1) / weights.sum(-1).clamp_min(1.0)
    return 1 - (mean > CLASS_BORDER).long() + (mean < -CLASS_BORDER).long()


class _ValuesAndMask(StyleModule):
    def modulation(self, style: StyleCondition) -> Float[Tensor, "batch feature"]:
        """Values where anything is asked, and where that is."""
        weights = style.mask.to(style.values.dtype)
        return torch.cat([style.values * weights, weights], dim=-1)

    def inject(
        self, layer: int, features: Float[Tensor, "batch candidate width"], style: StyleCondition
    ) -> Float[Tensor, "batch candidate width"]:
        """The features as they are."""
        return features


class _OneHot(StyleModule):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(
            nn.Linear(width + STYLEDRIVE_CLASSES, width) for _ in range(layers)
        )

    def modulation(self, style: StyleCondition) -> Float[Tensor, "batch feature"]:
        """Nothing."""
        return style.values[:, :0]

    def inject(
        self, layer: int, features: Float[Tensor, "batch candidate width"], style: StyleCondition
    ) -> Float[Tensor, "batch candidate width"]:
        """The linear layer on features and one-hot class."""
        one_hot = functional.one_hot(style_class(style), STYLEDRIVE_CLASSES).to(features.dtype)
        beside = one_hot[:, None].expand(-1, features.shape[1], -1)
        return self.maps[layer](torch.cat([features, beside], dim=-1))


class _Nothing(StyleModule):
    def modulation(self, style: StyleCondition) -> Float[Tensor, "batch feature"]:
        """Nothing."""
        return style.values[:, :0]

    def inject(
        self, layer: int, features: Float[Tensor, "batch candidate width"], style: StyleCondition
    ) -> Float[Tensor, "batch candidate width"]:
        """The features as they are."""
        return features
