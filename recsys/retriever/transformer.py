"""A small encoder-decoder after T5, whose decoder reads one user for many beams at once."""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

MASKED = -1e9  # finite, so that a row without anything to attend to gives no NaN


@dataclass(frozen=True)
class NetworkSize:
    """Widths and depths of the encoder-decoder; the defaults are TIGER's.

    Attributes:
        width: Width of the residual stream.
        heads: Attention heads.
        head_width: Width of one head; heads times this need not equal `width`.
        feedforward: Hidden width of the feed-forward layers.
        encoder_layers: Layers of the encoder.
        decoder_layers: Layers of the decoder.
        dropout: Dropout after every sublayer, inside the feed-forward and on attention weights.
        buckets: Buckets of relative positions; half are exact distances.
        max_distance: Distance in tokens from which all positions share one bucket.
    """

    width: int = 128
    heads: int = 6
    head_width: int = 64
    feedforward: int = 1024
    encoder_layers: int = 4
    decoder_layers: int = 4
    dropout: float = 0.1
    buckets: int = 32
    max_distance: int = 128

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_width


class RelativePositions(nn.Module):
    """A learned bias per head and bucket of relative position, added to attention scores."""

    def __init__(self, size: NetworkSize, *, bidirectional: bool) -> None:
        super().__init__()
        self.bias = nn.Embedding(size.buckets, size.heads)
        self.bidirectional = bidirectional
        self.max_distance = size.max_distance
        nn.init.normal_(self.bias.weight, std=size.width**-0.5)

    def buckets(self, distance: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The bucket of key position minus query position.

        Half of the buckets of a direction hold one distance each, the others ranges that widen
        logarithmically up to `max_distance`.

        Source:
            Raffel et al., 2020, Exploring the Limits of Transfer Learning, section 2.1.
        """
        count = self.bias.num_embeddings
        offset = torch.zeros_like(distance)
        if self.bidirectional:
            count //= 2
            offset = (distance > 0).to(distance.dtype) * count
            distance = distance.abs()
        else:
            distance = (-distance).clamp_min(0)
        exact = count // 2
        far = torch.log(distance.float().clamp_min(1) / exact) / math.log(self.max_distance / exact)
        far = exact + (far * (count - exact)).to(distance.dtype)
        return offset + torch.where(distance < exact, distance, far.clamp_max(count - 1))

    def forward(
        self, query_positions: Int[Tensor, " query"], key_positions: Int[Tensor, " key"]
    ) -> Float[Tensor, "1 head query key"]:
        """The bias for every pair of a query and a key position."""
        distance = key_positions[None, :] - query_positions[:, None]
        return self.bias(self.buckets(distance)).permute(2, 0, 1).unsqueeze(0).contiguous()


class RootMeanSquareNorm(nn.Module):
    """Scale to unit root mean square, without mean or shift; statistics in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, inputs: Float[Tensor, "*row model"]) -> Float[Tensor, "*row model"]:
        """The scaled rows."""
        return F.rms_norm(inputs, (self.weight.shape[0],), self.weight, 1e-6)


class FeedForward(nn.Module):
    """Norm, two linear maps with a ReLU between, residual."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.norm = RootMeanSquareNorm(size.width)
        self.rise = _linear(size.width, size.feedforward, std=size.width**-0.5)
        self.fall = _linear(size.feedforward, size.width, std=size.feedforward**-0.5)
        self.dropout = nn.Dropout(size.dropout)

    def forward(self, inputs: Float[Tensor, "*row model"]) -> Float[Tensor, "*row model"]:
        """The inputs plus what the layer adds."""
        hidden = self.dropout(F.relu(self.rise(self.norm(inputs)), inplace=True))
        return inputs + self.dropout(self.fall(hidden))


class SelfAttention(nn.Module):
    """Norm, one map to queries, keys and values, attention without scaling, residual."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.norm = RootMeanSquareNorm(size.width)
        self.project = _linear(size.width, 3 * size.inner, std=size.width**-0.5)
        with torch.no_grad():
            self.project.weight[: size.inner] *= size.head_width**-0.5
        self.out = _linear(size.inner, size.width, std=size.inner**-0.5)
        self.dropout = nn.Dropout(size.dropout)
        self.heads = size.heads

    def forward(
        self,
        inputs: Float[Tensor, "batch place model"],
        bias: Float[Tensor, "#batch #head #place place"],
    ) -> Float[Tensor, "batch place model"]:
        """The inputs plus what each place attends to among all places."""
        projected = self.project(self.norm(inputs)).chunk(3, -1)
        queries, keys, values = (_per_head(part, self.heads) for part in projected)
        dropout = self.dropout.p if self.training else 0.0
        return inputs + self.dropout(self.out(_attention(queries, keys, values, bias, dropout)))

    def step(
        self,
        inputs: Float[Tensor, "batch beam model"],
        written: list[Float[Tensor, "_ two_inner"]],
        lineage: list[Int[Tensor, "batch beam"]],
        bias: Float[Tensor, "head step"],
    ) -> Float[Tensor, "batch beam model"]:
        """The inputs plus what each beam attends to among its own past and itself.

        A beam has at most as many keys as a semantic ID has levels, so keys are gathered step by
        step and multiplied in place of a matrix product per beam.

        Args:
            inputs: The latest place of every beam.
            written: Keys beside values of the places of each step; the present one is added.
            lineage: For each past step and beam, the place it descends from.
            bias: Position bias of each step, the present one last.
        """
        normed, inner = self.norm(inputs), self.out.in_features
        queries = F.linear(normed, self.project.weight[:inner]).unflatten(-1, (self.heads, -1))
        present = F.linear(normed, self.project.weight[inner:])
        past = [_descended(places, line) for places, line in zip(written, lineage, strict=True)]
        written.append(present.flatten(0, 1))
        keys_values = [places.unflatten(-1, (2, self.heads, -1)) for places in (*past, present)]
        scores = torch.stack([(queries * pair[..., 0, :, :]).sum(-1) for pair in keys_values], -1)
        weights = (scores + bias).softmax(-1).to(queries.dtype)
        read = keys_values[-1][..., 1, :, :] * weights[..., -1:]
        for step, pair in enumerate(keys_values[:-1]):
            read.addcmul_(pair[..., 1, :, :], weights[..., step : step + 1])
        return inputs + self.out(read.flatten(2))


class CrossAttention(nn.Module):
    """Attention of decoder places to a memory whose keys and values are given."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.norm = RootMeanSquareNorm(size.width)
        self.query = _linear(size.width, size.inner, std=(size.width * size.head_width) ** -0.5)
        self.out = _linear(size.inner, size.width, std=size.inner**-0.5)
        self.dropout = nn.Dropout(size.dropout)
        self.heads = size.heads

    def forward(
        self,
        inputs: Float[Tensor, "batch place model"],
        keys: Float[Tensor, "batch head token head_width"],
        values: Float[Tensor, "batch head token head_width"],
        bias: Float[Tensor, "batch 1 1 token"],
    ) -> Float[Tensor, "batch place model"]:
        """The inputs plus what each place reads from the memory."""
        queries = _per_head(self.query(self.norm(inputs)), self.heads)
        dropout = self.dropout.p if self.training else 0.0
        return inputs + self.dropout(self.out(_attention(queries, keys, values, bias, dropout)))


class Encoder(nn.Module):
    """Self-attention layers over tokens in both directions.

    Without relative positions the tokens are a set, and whoever embeds them says where each lies.
    """

    def __init__(self, size: NetworkSize, *, relative_positions: bool = True) -> None:
        super().__init__()
        self.positions = None
        if relative_positions:
            self.positions = RelativePositions(size, bidirectional=True)
        self.attention = nn.ModuleList(SelfAttention(size) for _ in range(size.encoder_layers))
        self.feedforward = nn.ModuleList(FeedForward(size) for _ in range(size.encoder_layers))
        self.norm = RootMeanSquareNorm(size.width)
        self.dropout = nn.Dropout(size.dropout)

    def forward(
        self, inputs: Float[Tensor, "batch token model"], mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token model"]:
        """What the decoder reads: one vector per token.

        Args:
            inputs: Embedded tokens.
            mask: Which tokens are real; the vectors of others are read by nobody.
        """
        bias = attention_bias(mask)
        if self.positions is not None:
            places = torch.arange(inputs.shape[1], device=inputs.device)
            bias = bias + self.positions(places, places)
        hidden = self.dropout(inputs)
        for attention, feedforward in zip(self.attention, self.feedforward, strict=True):
            hidden = feedforward(attention(hidden, bias))
        return self.dropout(self.norm(hidden))


@dataclass
class Memory:
    """What a decoder keeps of one batch while it decodes.

    Keys and values of the encoder's output are computed once per user and never reordered: beams
    are an axis of the queries. Keys and values of decoded codes stay where they were written; only
    the table of who descends from whom is reordered.

    Attributes:
        keys: Keys of the encoder's output, per layer.
        values: Values of the encoder's output, per layer.
        bias: 0 at real tokens, a large negative number at padding.
        written: Keys beside values of decoded places, per layer and step.
        lineage: For each step decoded and each beam, the place it descends from.
    """

    keys: list[Float[Tensor, "batch head token head_width"]]
    values: list[Float[Tensor, "batch head token head_width"]]
    bias: Float[Tensor, "batch 1 1 token"]
    written: list[list[Float[Tensor, "_ two_inner"]]]
    lineage: list[Int[Tensor, "batch beam"]]


class Decoder(nn.Module):
    """Causal self-attention and attention to a memory, for whole sequences or beam by beam."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        layers = size.decoder_layers
        self.positions = RelativePositions(size, bidirectional=False)
        self.attention = nn.ModuleList(SelfAttention(size) for _ in range(layers))
        self.cross = nn.ModuleList(CrossAttention(size) for _ in range(layers))
        self.feedforward = nn.ModuleList(FeedForward(size) for _ in range(layers))
        self.memory = _linear(size.width, 2 * layers * size.inner, std=size.width**-0.5)
        self.norm = RootMeanSquareNorm(size.width)
        self.dropout = nn.Dropout(size.dropout)
        self.layers = layers
        self.heads = size.heads

    def prepare(
        self, encoded: Float[Tensor, "batch token model"], mask: Bool[Tensor, "batch token"]
    ) -> Memory:
        """Keys and values of the encoder's output for all layers."""
        projected = [
            _per_head(part, self.heads) for part in self.memory(encoded).chunk(2 * self.layers, -1)
        ]
        written: list[list[Tensor]] = [[] for _ in range(self.layers)]
        bias = attention_bias(mask).to(projected[0].dtype)
        return Memory(projected[::2], projected[1::2], bias, written, [])

    def forward(
        self, inputs: Float[Tensor, "batch place model"], memory: Memory, *, branches: int = 1
    ) -> Float[Tensor, "batch place model"]:
        """The hidden vector of every place, each seeing only itself and the places before it.

        Args:
            inputs: Embedded places: one where all branches begin, then branch after branch.
            memory: From `prepare`.
            branches: Sequences that share their first place and do not see one another.
        """
        depth, visible = _branching(inputs.shape[1], branches, inputs.device)
        bias = self.positions(depth, depth) + ~visible * MASKED
        hidden = self.dropout(inputs)
        for layer in range(self.layers):
            hidden = self.attention[layer](hidden, bias)
            hidden = self._read_memory(layer, hidden, memory)
        return self.dropout(self.norm(hidden))

    def step(
        self,
        inputs: Float[Tensor, "batch beam model"],
        memory: Memory,
        parents: Int[Tensor, "batch beam"],
    ) -> Float[Tensor, "batch beam model"]:
        """The hidden vector of the next place of every beam; the memory keeps its keys and values.

        Args:
            inputs: Embedding of each beam's latest code.
            memory: From `prepare`; changed in place.
            parents: The beam of the step before that each beam continues.
        """
        memory.lineage = [line.gather(1, parents) for line in memory.lineage]
        steps = torch.arange(len(memory.lineage) + 1, device=inputs.device)
        bias = self.positions(steps[-1:], steps)[0, :, 0]
        hidden = inputs
        for layer, written in enumerate(memory.written):
            attention = cast(SelfAttention, self.attention[layer])
            hidden = attention.step(hidden, written, memory.lineage, bias)
            hidden = self._read_memory(layer, hidden, memory)
        places = torch.arange(parents.numel(), device=inputs.device)
        memory.lineage.append(places.view(parents.shape))
        return self.norm(hidden)

    def _read_memory(
        self, layer: int, hidden: Float[Tensor, "batch place model"], memory: Memory
    ) -> Float[Tensor, "batch place model"]:
        hidden = self.cross[layer](hidden, memory.keys[layer], memory.values[layer], memory.bias)
        return self.feedforward[layer](hidden)


def _branching(
    places: int, branches: int, device: torch.device
) -> tuple[Int[Tensor, " place"], Bool[Tensor, "place place"]]:
    """How far each place is from the shared first one, and which places each may see."""
    number = torch.arange(places, device=device)
    length = max((places - 1) // branches, 1)
    depth = torch.where(number > 0, (number - 1) % length + 1, 0)
    branch = torch.where(number > 0, (number - 1) // length, -1)
    related = (branch[:, None] == branch) | (branch < 0)
    return depth, related & (depth <= depth[:, None])


def attention_bias(mask: Bool[Tensor, "batch token"]) -> Float[Tensor, "batch 1 1 token"]:
    """Zero where the mask is true, a large negative number elsewhere."""
    return torch.where(mask, 0.0, MASKED)[:, None, None, :]


def _attention(
    queries: Float[Tensor, "batch head place head_width"],
    keys: Float[Tensor, "batch head key head_width"],
    values: Float[Tensor, "batch head key head_width"],
    bias: Float[Tensor, "#batch #head #place key"],
    dropout: float,
) -> Float[Tensor, "batch place inner"]:
    """What each query reads, heads side by side; T5 does not scale the scores.

    On a CPU torch has no fused attention with dropout or with a bias that is learned. What it does
    instead guards against rows of `-inf`, which a finite `MASKED` makes needless.
    """
    if queries.is_cpu and queries.requires_grad:
        weights = F.dropout((queries @ keys.mT + bias).softmax(-1), dropout)
        read = weights.to(values.dtype) @ values
    else:
        read = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=bias.to(queries.dtype), dropout_p=dropout, scale=1.0
        )
    return read.transpose(1, 2).flatten(2)


def _per_head(
    projected: Float[Tensor, "batch place inner"], heads: int
) -> Float[Tensor, "batch head place head_width"]:
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)


def _descended(
    places: Float[Tensor, "place two_inner"], line: Int[Tensor, "batch beam"]
) -> Float[Tensor, "batch _ two_inner"]:
    """The place of one past step that each beam descends from."""
    if places.shape[0] == line.shape[0]:  # the first step has one place per row
        return places.unsqueeze(1)
    return places.index_select(0, line.flatten()).unflatten(0, line.shape)


def _linear(width_in: int, width_out: int, *, std: float) -> nn.Linear:
    linear = nn.Linear(width_in, width_out, bias=False)
    nn.init.normal_(linear.weight, std=std)
    return linear
