"""A learnt model of preference: an encoder of (context, response), and a head that compares."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from personalize.preference_optimization.contrast import Contrast
from personalize.rewards.feature_comparisons import FeatureComparisons


@dataclass(frozen=True)
class Sizes:
    """What data knows and a head or encoder is built with.

    Attributes:
        context_width: Features of a context.
        response_width: Features of a response.
        qualities: Names of the qualities that are known of responses.
        annotators: How many judged.
        comparisons: How many are learnt from.
        response_names: Names of the features of a response, where each has one.
        response_scale: Of each named feature, its deviation among responses that are compared.
        response_parts: Of how many parts of equal width the features of a response are made up.
    """

    context_width: int
    response_width: int
    qualities: tuple[str, ...] = ()
    annotators: int = 1
    comparisons: int = 1
    response_names: tuple[str, ...] = ()
    response_scale: tuple[float, ...] = ()
    response_parts: int = 1

    @classmethod
    def of_plain(cls, values: Mapping[str, Any]) -> "Sizes":
        """Sizes from what JSON keeps of them.

        Raises:
            TypeError: If there are values that sizes do not have.
        """
        found: dict[str, Any] = dict(values)
        lists: dict[str, Any] = {
            name: tuple(value) for name, value in values.items() if isinstance(value, list)
        }
        return cls(**(found | lists))


@dataclass(frozen=True)
class Encoded:
    """Rows as a head sees them.

    Attributes:
        hidden: What the encoder made of context and response.
        context: Features of the context alone.
        response: Features of the response alone.
    """

    hidden: Float[Tensor, "*row hidden"]
    context: Float[Tensor, "*row context_width"]
    response: Float[Tensor, "*row response_width"]

    def place(self, number: int) -> "Encoded":
        """One place of every comparison, of rows `[comparison, response]`."""
        return Encoded(self.hidden[:, number], self.context[:, number], self.response[:, number])

    def beside(self) -> tuple["Encoded", "Encoded"]:
        """Every particle of `[batch, particle]` against every other, as two broadcast rows."""

        def spread(at: int) -> Encoded:
            parts = (self.hidden, self.context, self.response)
            return Encoded(*(part.unsqueeze(at).expand(self._square(part)) for part in parts))

        return spread(2), spread(1)

    def _square(self, part: Tensor) -> tuple[int, ...]:
        batch, particles, width = part.shape
        return batch, particles, particles, width


class FeatureEncoder(nn.Module, ABC):
    """SLOT: how features of a context and of a response become one vector.

    Law: a row's vector depends on that row alone.

    Attributes:
        width: Numbers in the vector.
    """

    width: int

    @abstractmethod
    def forward(
        self,
        context: Float[Tensor, "*row context_width"],
        response: Float[Tensor, "*row response_width"],
    ) -> Float[Tensor, "*row hidden"]:
        """The vector of every row."""


@final
class LayeredEncoder(FeatureEncoder):
    """Layers of GELU over the features of both, side by side."""

    def __init__(
        self, sizes: Sizes, *, width: int = 128, layers: int = 2, dropout: float = 0.0
    ) -> None:
        """Build the layers.

        Raises:
            ValueError: If there is no layer.
        """
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers must be 1 or more, got {layers}.")
        self.width = width
        widths = [sizes.context_width + sizes.response_width, *[width] * layers]
        self.layers = nn.Sequential()
        for before, after in pairwise(widths):
            self.layers.extend([nn.Linear(before, after), nn.GELU(), nn.Dropout(dropout)])

    def forward(
        self,
        context: Float[Tensor, "*row context_width"],
        response: Float[Tensor, "*row response_width"],
    ) -> Float[Tensor, "*row hidden"]:
        """See `FeatureEncoder`."""
        return self.layers(torch.cat([context, response], -1))


@final
class PlainFeatures(FeatureEncoder):
    """The features themselves, side by side; a linear head on them is a linear model."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.width = sizes.context_width + sizes.response_width

    def forward(
        self,
        context: Float[Tensor, "*row context_width"],
        response: Float[Tensor, "*row response_width"],
    ) -> Float[Tensor, "*row hidden"]:
        """See `FeatureEncoder`."""
        return torch.cat([context, response], -1)


class PreferenceHead(nn.Module, ABC):
    """SLOT: what is read off the vectors: scores, or only which of two is better.

    A variant takes `(sizes, hidden_width)`, and its own options by keyword.

    Laws, held by `tests/personalize/rewards/test_preference_head_slot.py` for every variant: the
    logit of (second, first) is minus that of (first, second); a row's score depends on that row
    alone; permuting comparisons permutes losses; minus the gradient of the loss of a comparison
    raises its logit; finite for finite features; everything learnt lies in the state.

    Attributes:
        names: Names of the scores; none where it only compares.
        pairs_only: Whether it learns from comparisons of two alone.
        settles: Whether `settle` does anything.
    """

    names: tuple[str, ...]
    pairs_only: bool = False
    settles: bool = False

    @abstractmethod
    def score(self, encoded: Encoded) -> Float[Tensor, "*row dimension"]:
        """Scores of every row; higher is better.

        Raises:
            TypeError: If it only compares.
        """

    @abstractmethod
    def compare(
        self, first: Encoded, second: Encoded, annotator: Int[Tensor, "*row"] | None = None
    ) -> Float[Tensor, "*row"]:
        """Logit of "the first is preferred to the second".

        Args:
            first: Rows.
            second: As many others.
            annotator: Who judges; None is anybody.
        """

    @abstractmethod
    def loss(
        self, encoded: Encoded, comparisons: FeatureComparisons, contrast: Contrast
    ) -> Float[Tensor, " comparison"]:
        """The loss of every comparison, not weighed.

        Args:
            encoded: The comparisons' rows, `[comparison, response]`.
            comparisons: What was judged.
            contrast: How scores become a loss.
        """

    def spread(self, encoded: Encoded) -> Float[Tensor, "*row"]:
        """How unsure the score of every row is, as a standard deviation.

        Raises:
            TypeError: If the head does not know.
        """
        raise TypeError(f"{type(self).__name__} does not know how sure it is.")

    def settle(self, encoded: Encoded, comparisons: FeatureComparisons) -> None:
        """Once after every pass over the data, with all comparisons: for what has no gradient."""


@final
class PreferenceModel(nn.Module):
    """An encoder with a head, the temperature of its logits and the scale of its scores.

    Attributes:
        temperature: What logits are divided by, so that probabilities are what they say.
        mean: Mean of each score over the reference rows.
        scale: Their deviation.
    """

    temperature: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, encoder: FeatureEncoder, head: PreferenceHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("mean", torch.zeros(len(head.names)))
        self.register_buffer("scale", torch.ones(len(head.names)))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores."""
        return self.head.names

    def encode(
        self,
        context: Float[Tensor, "*some context_width"],
        responses: Float[Tensor, "*row response_width"],
    ) -> Encoded:
        """Rows as the head sees them; one context may stand for all particles of its row."""
        if context.dim() < responses.dim():
            context = context.unsqueeze(-2).expand(*responses.shape[:-1], context.shape[-1])
        return Encoded(self.encoder(context, responses), context, responses)

    def score(
        self,
        context: Float[Tensor, "*some context_width"],
        responses: Float[Tensor, "*row response_width"],
    ) -> Float[Tensor, "*row dimension"]:
        """Scores of responses on the scale that was learnt; only differences mean anything.

        Raises:
            TypeError: If the head only compares.
        """
        return self.head.score(self.encode(context, responses))

    def reward(
        self,
        context: Float[Tensor, "*some context_width"],
        responses: Float[Tensor, "*row response_width"],
    ) -> Float[Tensor, "*row dimension"]:
        """Scores with mean 0 and deviation 1 over the reference rows: a common scale.

        Raises:
            TypeError: If the head only compares.
        """
        return (self.score(context, responses) - self.mean) / self.scale

    def compare(
        self,
        context: Float[Tensor, "*row context_width"],
        first: Float[Tensor, "*row response_width"],
        second: Float[Tensor, "*row response_width"],
    ) -> Float[Tensor, "*row"]:
        """Calibrated logit of "the first is preferred to the second" in a context."""
        return (
            self.head.compare(self.encode(context, first), self.encode(context, second))
            / self.temperature
        )

    def win_matrix(
        self,
        context: Float[Tensor, "batch context_width"],
        responses: Float[Tensor, "batch particle response_width"],
    ) -> Float[Tensor, "batch particle particle"]:
        """Probability that the row's response is preferred to the column's, for self-play."""
        rows, columns = self.encode(context, responses).beside()
        return (self.head.compare(rows, columns) / self.temperature).sigmoid()

    def logit(self, comparisons: FeatureComparisons) -> Float[Tensor, " comparison"]:
        """Calibrated logit of "the best is preferred to the next" for who judged."""
        encoded = self.encode(comparisons.context, comparisons.response)
        found = self.head.compare(encoded.place(0), encoded.place(1), comparisons.annotator)
        return found / self.temperature

    def loss(self, comparisons: FeatureComparisons, contrast: Contrast) -> Float[Tensor, ""]:
        """The mean loss of comparisons, each with its weight."""
        encoded = self.encode(comparisons.context, comparisons.response)
        each = self.head.loss(encoded, comparisons, contrast)
        return (comparisons.weight * each).mean()

    @torch.no_grad()
    def standardize(
        self,
        context: Float[Tensor, "row context_width"],
        responses: Float[Tensor, "row response_width"],
    ) -> None:
        """Set the common scale to that of some rows; there is none where the head only compares."""
        if not self.names:
            return
        found = self.score(context, responses)
        self.mean.copy_(found.mean(0))
        self.scale.copy_(found.std(0, correction=0).clamp_min(1e-6))
