"""Strengths of named attributes, learnt from comparisons of sequences."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from personalize.generator import Context, Reward, X
from personalize.preference_optimization.comparisons import Comparisons
from personalize.rewards.bradley_terry import RewardTraining, bradley_terry_loss, seeded, train

CLIP = 20.0
"""Raw strengths stay within plus and minus this, by a hyperbolic tangent."""
QUANTILES = 101


@final
class StrengthNetwork(nn.Module):
    """A small transformer over the steps of a sequence, read out by a token of its own."""

    def __init__(
        self, features: int, attributes: int, *, width: int = 128, heads: int = 4, layers: int = 2
    ) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Sequential(nn.Linear(features, width), nn.LayerNorm(width))
        self.read_out = nn.Parameter(torch.zeros(1, 1, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.strength = nn.Linear(width, attributes)

    def forward(
        self, sequences: Float[Tensor, "row step feature"], mask: Bool[Tensor, "row step"]
    ) -> Float[Tensor, "row attribute"]:
        """Raw strengths within plus and minus `CLIP`; steps outside the mask have no say."""
        steps = self.embed(sequences) + _positions(sequences.shape[1], self.width).to(sequences)
        tokens = torch.cat([steps, self.read_out.expand(len(steps), 1, self.width)], 1)
        padding = torch.cat([~mask, mask.new_zeros(len(mask), 1)], 1)
        read = self.encoder(tokens, src_key_padding_mask=padding)[:, -1]
        return CLIP * torch.tanh(self.strength(read) / CLIP)


@final
class AttributeStrengths(nn.Module):
    """How much of every attribute a sequence shows, 0 to 1: the mean of an ensemble.

    0 and 1 are the least and the most of the sequences it was fitted on; beyond them it is clipped.
    Comparisons tell an order, no distances: half a strength need not be half of what a ruler would
    measure, and two extremes stretch the scale. `ranks` has an even scale whatever the order came
    from, and is the one to set targets on.

    Args:
        features: Numbers per step.
        names: Names of the attributes.
        members: Networks in the ensemble.
        width: Width of each.
        heads: Attention heads of each.
        layers: Layers of each.

    Source:
        Dong et al., 2023, AlignDiff, arXiv:2310.02054, and its released attribute function: three
        networks of width 128, four heads and two layers, whose clipped outputs are averaged and
        scaled by their extremes. The ranks are ours.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    quantiles: Tensor

    def __init__(
        self,
        features: int,
        names: Sequence[str],
        *,
        members: int = 3,
        width: int = 128,
        heads: int = 4,
        layers: int = 2,
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        self.members = nn.ModuleList(
            StrengthNetwork(features, len(self.names), width=width, heads=heads, layers=layers)
            for _ in range(members)
        )
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_scale", torch.ones(features))
        even = torch.linspace(0, 1, QUANTILES)[:, None]
        self.register_buffer("quantiles", even.repeat(1, len(self.names)))

    def scaled(self, sequences: Float[Tensor, "row step feature"]) -> Tensor:
        """Features with mean 0 and scale 1 over the sequences it was fitted on."""
        return (sequences - self.feature_mean) / self.feature_scale

    def raw(
        self, sequences: Float[Tensor, "row step feature"], mask: Bool[Tensor, "row step"]
    ) -> Float[Tensor, "row attribute"]:
        """Mean of the members before scaling: differences are Bradley-Terry margins."""
        scaled = self.scaled(sequences)
        return torch.stack([member(scaled, mask) for member in self.members]).mean(0)

    def forward(
        self, sequences: Float[Tensor, "row step feature"], mask: Bool[Tensor, "row step"]
    ) -> Float[Tensor, "row attribute"]:
        """Strengths from 0 to 1."""
        low, high = self.quantiles[0], self.quantiles[-1]
        return ((self.raw(sequences, mask) - low) / (high - low)).clamp(0, 1)

    def ranks(
        self, sequences: Float[Tensor, "row step feature"], mask: Bool[Tensor, "row step"]
    ) -> Float[Tensor, "row attribute"]:
        """Share of the sequences it was fitted on that show less, in steps of a hundredth."""
        raw = self.raw(sequences, mask)
        less = (self.quantiles[:, None] < raw).sum(0) - 1
        return less.clamp_min(0).to(raw.dtype) / (QUANTILES - 1)


def fit_attribute_strengths(
    sequences: Float[Tensor, "row step feature"],
    mask: Bool[Tensor, "row step"],
    comparisons: Sequence[Comparisons],
    *,
    build: Callable[[], AttributeStrengths],
    training: RewardTraining | None = None,
) -> AttributeStrengths:
    """Attribute strengths from comparisons per attribute.

    Args:
        sequences: Features per step.
        mask: Which steps are there.
        comparisons: Of rows of `sequences`, for every attribute. One of strength 0 says that two
            rows show the same.
        build: Makes the untrained ensemble.
        training: Steps, rate and seed; None takes 3,000 steps at 1e-4, as released.

    Returns:
        The ensemble in evaluation mode, scaled to the strengths of all given sequences.

    Raises:
        ValueError: If there are not as many lists of comparisons as attributes, one is empty, a
            comparison names a row that is not there, or all sequences show as much of an attribute.
    """
    chosen = training or RewardTraining(steps=3000, learning_rate=1e-4)
    model = seeded(build, chosen.seed)
    if len(comparisons) != len(model.names):
        raise ValueError(
            f"comparisons must have one list per attribute ({len(model.names)}), got "
            f"{len(comparisons)}."
        )
    better, worse, attribute, share = _joined(comparisons, len(sequences))
    known = sequences[mask]
    model.feature_mean.copy_(known.mean(0))
    model.feature_scale.copy_(known.std(0, correction=0).clamp_min(1e-6))
    scaled = model.scaled(sequences)
    for number, member in enumerate(model.members):

        def loss(drawn: Int[Tensor, " drawn"], member: nn.Module = member) -> Tensor:
            rows = torch.cat([better[drawn], worse[drawn]])
            won, lost = member(scaled[rows], mask[rows]).chunk(2)
            margin = (won - lost).gather(1, attribute[drawn, None])[:, 0]
            return bradley_terry_loss(margin, share[drawn]).mean()

        train(member, loss, len(better), replace(chosen, seed=chosen.seed + number))
    with torch.no_grad():
        raw = model.eval().raw(sequences, mask)
        model.quantiles.copy_(raw.quantile(torch.linspace(0, 1, QUANTILES).to(raw), dim=0))
    if not (model.quantiles[-1] > model.quantiles[0]).all():
        raise ValueError("All sequences show as much of an attribute: there is nothing to scale.")
    return model


@final
class StrengthReward(Reward[X, Context]):
    """The strengths of attributes as a reward, by their extremes or by rank."""

    def __init__(
        self,
        model: AttributeStrengths,
        features: Callable[
            [X, Context],
            tuple[
                Float[Tensor, "batch particle step feature"], Bool[Tensor, "batch particle step"]
            ],
        ],
        *,
        by_rank: bool = False,
    ) -> None:
        """Take the model, what turns particles into sequences, and which scale to use."""
        self.names = model.names
        self._strengths, self._features = (model.ranks if by_rank else model), features

    def __call__(self, x: X, context: Context) -> Float[Tensor, "batch particle attribute"]:
        """Strengths of every particle, 0 to 1."""
        sequences, mask = self._features(x, context)
        return self._strengths(sequences.flatten(0, 1), mask.flatten(0, 1)).unflatten(
            0, sequences.shape[:2]
        )


def _joined(
    comparisons: Sequence[Comparisons], rows: int
) -> tuple[Tensor, Tensor, Int[Tensor, " comparison"], Float[Tensor, " comparison"]]:
    """All comparisons in one list, with the attribute each is about and its win share."""
    if any(not len(some) for some in comparisons):
        raise ValueError("Every attribute needs at least one comparison.")
    better = torch.cat([some.better for some in comparisons])
    worse = torch.cat([some.worse for some in comparisons])
    if max(int(better.amax()), int(worse.amax())) >= rows:
        raise ValueError(f"comparisons must name rows below {rows}, the number of sequences.")
    attribute = torch.cat(
        [torch.full_like(some.better, number) for number, some in enumerate(comparisons)]
    )
    return better, worse, attribute, torch.cat([some.win_share for some in comparisons])


def _positions(steps: int, width: int) -> Float[Tensor, "step width"]:
    """Sines and cosines of the step's number at falling frequencies (Vaswani et al., 2017)."""
    half = width // 2
    frequency = torch.exp(-math.log(10_000) * torch.arange(half) / max(half - 1, 1))
    angle = torch.arange(steps)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)
