"""The decoder of the diffusion planner: noisy anchors in, offsets, headings and scores out."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from driving.planner.attention import attention
from driving.planner.planner import PLAN_STEPS, StyleCondition
from driving.planner.style_injection import StyleInjection

TIME_FEATURES = 16
WAVES = (1.0, 2.0, 4.0)
COORDINATES = 2 * PLAN_STEPS
OFFSETS = 3 * PLAN_STEPS
LEAST_WAVELENGTH_STEPS = 4.0
PARTS = 9  # shift, scale and gate of three sub-layers


@dataclass(frozen=True)
class SeenScene:
    """Scene tokens as the decoder looks at them: made once for all steps and styles.

    Attributes:
        keys_values: Keys and values of every layer side by side.
        mask: Which tokens are there.
    """

    keys_values: Float[Tensor, "batch token both"]
    mask: Bool[Tensor, "batch 1 1 token"]

    def repeated(self, times: int) -> "SeenScene":
        """The batch several times over."""
        return SeenScene(self.keys_values.repeat(times, 1, 1), self.mask.repeat(times, 1, 1, 1))

    def each_repeated(self, times: int) -> "SeenScene":
        """Every row several times over, one copy after the other."""
        return SeenScene(
            self.keys_values.repeat_interleave(times, 0), self.mask.repeat_interleave(times, 0)
        )


@dataclass(frozen=True)
class Decoded:
    """What one layer says of every candidate.

    Attributes:
        offsets: x, y and heading in the unit of the anchors.
        logits: Scores before the softmax.
        inside: The hidden layer that both are read off.
    """

    offsets: Float[Tensor, "batch candidate time 3"]
    logits: Float[Tensor, "batch candidate"]
    inside: Float[Tensor, "batch candidate width"]


@dataclass(frozen=True)
class CandidateNotes:
    """What there is to know of candidates beside their anchors.

    Attributes:
        told: Added to their features before the first layer.
        present: Which candidates the others see.
    """

    told: Float[Tensor, "batch candidate width"]
    present: Bool[Tensor, "batch candidate"]

    def twice(self) -> "CandidateNotes":
        """The batch behind itself."""
        return CandidateNotes(self.told.repeat(2, 1, 1), self.present.repeat(2, 1))

    def last_where_present(self, winner: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """The last candidate wins where there is one: a trace's is to become what was asked for."""
        return torch.where(self.present[:, -1], self.present.shape[1] - 1, winner)


class DecoderLayer(nn.Module):
    """Candidates look at each other, then at the scene, then think; each step modulated.

    A sub-layer computes `x + (1 + gate) * f(norm(x) * (1 + scale) + shift)`. The modulation begins
    at 0, as in adaLN-Zero, but the gate is added to 1: the style has no effect at first, while
    the layers learn from the first step.
    """

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.projection = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.cross_output = nn.Linear(width, width)
        self.inner = nn.Linear(width, feedforward)
        self.outer = nn.Linear(feedforward, width)

    def forward(
        self,
        features: Float[Tensor, "batch candidate width"],
        keys_values: Float[Tensor, "batch token both"],
        key_mask: Bool[Tensor, "batch 1 1 token"],
        modulation: Float[Tensor, "batch 9 1 width"],
        present: Bool[Tensor, "batch 1 1 candidate"] | None = None,
    ) -> Float[Tensor, "batch candidate width"]:
        """The features after the three sub-layers."""
        shift1, scale1, gate1, shift2, scale2, gate2, shift3, scale3, gate3 = modulation.unbind(1)
        inner = torch.addcmul(shift1, self.norm(features), scale1)
        queries, keys, values = self.projection(inner).chunk(3, dim=-1)
        seen = attention(queries, keys, values, self.heads, present)
        features = torch.addcmul(features, self.output(seen), gate1)
        inner = torch.addcmul(shift2, self.norm(features), scale2)
        keys, values = keys_values.chunk(2, dim=-1)
        seen = attention(self.query(inner), keys, values, self.heads, key_mask)
        features = torch.addcmul(features, self.cross_output(seen), gate2)
        inner = torch.addcmul(shift3, self.norm(features), scale3)
        return torch.addcmul(features, self.outer(self.inner(inner).relu_()), gate3)


class DiffusionDecoder(nn.Module):
    """Denoises candidates; every layer answers, so that every layer can be supervised."""

    frequencies: Tensor
    ones: Tensor

    def __init__(
        self, width: int, heads: int, layers: int, feedforward: int, injection: StyleInjection
    ) -> None:
        super().__init__()
        self.width = width
        self.noisy = nn.Linear(COORDINATES * (1 + 2 * len(WAVES)), width)
        self.anchor = nn.Linear(COORDINATES + PLAN_STEPS, width)
        self.joined = nn.Linear(width, width)
        self.condition = nn.Sequential(
            nn.Linear(TIME_FEATURES + injection.features, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(),
        )  # fmt: skip
        self.modulation = nn.Linear(width, (PARTS * layers + 2) * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.keys_values = nn.Linear(width, 2 * width * layers)
        self.injection = injection.build(width, layers)
        self.layers = nn.ModuleList(DecoderLayer(width, heads, feedforward) for _ in range(layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.outer = nn.ModuleList(nn.Linear(width, OFFSETS + 1) for _ in range(layers))
        for outer in self.outer:
            nn.init.normal_(outer.weight, std=0.01)  # pyright: ignore[reportArgumentType]
            nn.init.zeros_(outer.bias)  # pyright: ignore[reportArgumentType]
        self.register_buffer("frequencies", _frequencies(), persistent=False)
        self.register_buffer(
            "ones", _ones_of_modulation(layers).repeat_interleave(width), persistent=False
        )

    def see(
        self, tokens: Float[Tensor, "batch token width"], mask: Bool[Tensor, "batch token"]
    ) -> SeenScene:
        """The scene as all layers look at it."""
        return SeenScene(self.keys_values(tokens), mask[:, None, None])

    def forward(
        self,
        noisy: Float[Tensor, "batch candidate time 2"],
        anchors: Float[Tensor, "*#batch candidate time 3"],
        time: Float[Tensor, " batch"],
        style: StyleCondition,
        scene: SeenScene,
        notes: CandidateNotes | None = None,
        *,
        every_layer: bool = False,
    ) -> list[Decoded]:
        """What the layers say, last one last.

        Args:
            noisy: Normalised x and y.
            anchors: Normalised x and y and the heading of the anchors themselves, for all rows or
                for each.
            time: Step of the noise.
            style: What is asked for.
            scene: The scene.
            notes: What there is to know of the candidates beside their anchors.
            every_layer: Answer after every layer instead of after the last one.
        """
        coordinates = noisy.flatten(2)
        waves = [part for wave in WAVES for part in ((wave * coordinates).sin(),
                                                     (wave * coordinates).cos())]  # fmt: skip
        features = self.noisy(torch.cat([coordinates, *waves], dim=-1))
        features = features + self.anchor(anchors.flatten(-2))
        features = self.joined((features if notes is None else features + notes.told).relu_())
        modulation = self._modulated(time, style)
        present = None if notes is None else notes.present[:, None, None]
        answers = []
        for number, layer in enumerate(self.layers):
            keys_values = scene.keys_values[
                ..., 2 * self.width * number : 2 * self.width * (number + 1)
            ]
            mine = modulation[:, PARTS * number : PARTS * (number + 1)]
            features = layer(features, keys_values, scene.mask, mine, present)
            features = self.injection.inject(number, features, style)
            if every_layer or number + 1 == len(self.layers):
                answers.append(self._answer(number, features, modulation[:, -2:]))
        return answers

    def _modulated(
        self, time: Float[Tensor, " batch"], style: StyleCondition
    ) -> Float[Tensor, "batch part 1 width"]:
        angles = time[:, None] * self.frequencies
        told = self.injection.modulation(style)
        condition = self.condition(torch.cat([angles.sin(), angles.cos(), told], dim=-1))
        parts = self.modulation(condition) + self.ones
        return parts.unflatten(-1, (-1, 1, self.width))

    def _answer(
        self,
        number: int,
        features: Float[Tensor, "batch candidate width"],
        modulation: Float[Tensor, "batch 2 1 width"],
    ) -> Decoded:
        shift, scale = modulation.unbind(1)
        features = torch.addcmul(shift, self.norm(features), scale)
        inside = self.inner[number](features).relu_()
        said = self.outer[number](inside)
        offsets = said[..., :OFFSETS].unflatten(-1, (PLAN_STEPS, 3))
        return Decoded(offsets, said[..., OFFSETS], inside)


def _frequencies() -> Float[Tensor, " frequency"]:
    """Angular frequencies of the time embedding: wavelengths from 4 to 400 steps."""
    exponents = torch.linspace(0.0, 1.0, TIME_FEATURES // 2)
    return 2 * math.pi / (LEAST_WAVELENGTH_STEPS * 100.0**exponents)


def _ones_of_modulation(layers: int) -> Float[Tensor, " part"]:
    """What is added to the modulation: 1 for scales and gates, 0 for shifts."""
    return torch.tensor([0.0, 1.0, 1.0] * 3 * layers + [0.0, 1.0])
