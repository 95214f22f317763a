"""A decoder of semantic IDs: code embeddings, the transformer's decoder and one head per level."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from recsys.retriever.transformer import Decoder, Memory, NetworkSize
from recsys.semantic_id.codec import BEGIN_TOKEN, SemanticIdCodec


class SemanticIdDecoder(nn.Module):
    """Predicts the codes of an item level by level from a memory of the user.

    Its tokens are the codec's. The head of a level scores the codes of that level only. Tied, the
    heads are the embeddings and hidden vectors are scaled by the square root of the width, as in
    T5.

    Attributes:
        embedding: Vectors of the tokens; an encoder may share it.
    """

    def __init__(self, codec: SemanticIdCodec, size: NetworkSize, *, tied: bool) -> None:
        super().__init__()
        self.level_sizes = codec.level_sizes
        self.offsets = codec.offsets
        self.register_buffer("token_offsets", torch.tensor(self.offsets), persistent=False)
        self.embedding = nn.Embedding(codec.vocabulary_size, size.width)
        self.head = None if tied else nn.Embedding(codec.vocabulary_size, size.width)
        self.decoder = Decoder(size)
        nn.init.normal_(self.embedding.weight)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=size.width**-0.5)

    token_offsets: Int[Tensor, " level"]

    def started_tokens(self, codes: Int[Tensor, "*row level"]) -> Int[Tensor, "*row place"]:
        """What the decoder has read when codes from level 0 on are known: the start, the codes."""
        return F.pad(codes + self.token_offsets[: codes.shape[-1]], (1, 0), value=BEGIN_TOKEN)

    def prepare(
        self, encoded: Float[Tensor, "batch token model"], mask: Bool[Tensor, "batch token"]
    ) -> Memory:
        """What every step reads of the user."""
        return self.decoder.prepare(encoded, mask)

    def step(
        self,
        memory: Memory,
        level: int,
        codes: Int[Tensor, "batch beam"],
        parents: Int[Tensor, "batch beam"],
    ) -> Float[Tensor, "batch beam code"]:
        """Logits of a level for every beam; see `recsys.retriever.decode.CodeDecoder`."""
        tokens = codes + self.offsets[level - 1] if level else torch.full_like(codes, BEGIN_TOKEN)
        hidden = self.decoder.step(self.embedding(tokens), memory, parents)
        return self.level_logits(level, hidden)

    def level_logits(
        self, level: int, hidden: Float[Tensor, "*row model"]
    ) -> Float[Tensor, "*row code"]:
        """Logits of the codes of one level."""
        start, end = self.offsets[level], self.offsets[level] + self.level_sizes[level]
        if self.head is None:
            scaled = hidden * self.embedding.embedding_dim**-0.5
            return F.linear(scaled, self.embedding.weight[start:end])
        return F.linear(hidden, self.head.weight[start:end])

    def path_logits(
        self, memory: Memory, codes: Int[Tensor, "batch particle level"]
    ) -> list[Float[Tensor, "batch _ code"]]:
        """Logits of every level along semantic IDs, all in one pass; see `CodePaths`.

        The start is read once, so the first level has one row of logits for all particles.
        """
        known = codes[..., :-1]
        hidden = self._hidden(memory, known)
        places = [hidden[:, :1], *hidden[:, 1:].unflatten(1, known.shape[1:]).unbind(2)]
        return [self.level_logits(level, place) for level, place in enumerate(places)]

    def path_states(
        self, memory: Memory, codes: Int[Tensor, "batch particle level"]
    ) -> Float[Tensor, "batch particle level model"]:
        """The hidden vector after every code of semantic IDs, the last code among them.

        One place more than `path_logits` looks at: what predicts the last code has not read it.
        """
        return self._hidden(memory, codes)[:, 1:].unflatten(1, codes.shape[1:])

    def _hidden(
        self, memory: Memory, codes: Int[Tensor, "batch particle known"]
    ) -> Float[Tensor, "batch place model"]:
        """Hidden vectors at the start, and after each code of one particle after another."""
        start = self.started_tokens(codes[:, 0, :0])
        further = codes + self.token_offsets[: codes.shape[-1]]
        tokens = torch.cat([start, further.flatten(1)], 1)
        return self.decoder(self.embedding(tokens), memory, branches=codes.shape[1])

    def loss(
        self,
        memory: Memory,
        target_codes: Int[Tensor, "batch level"],
        target_mask: Bool[Tensor, " batch"],
        *,
        label_smoothing: float = 0.0,
    ) -> Float[Tensor, ""]:
        """Cross-entropy of the target's codes, averaged over levels and real targets.

        Args:
            memory: From `prepare`.
            target_codes: Codes of each row's target.
            target_mask: Which targets are real; 0 comes back where none is.
            label_smoothing: Share of the target's probability spread over all codes of a level.
        """
        tokens = self.started_tokens(target_codes[:, :-1])
        hidden = self.decoder(self.embedding(tokens), memory)
        total = torch.zeros_like(target_mask, dtype=torch.float32)
        for level in range(len(self.level_sizes)):
            total = total + F.cross_entropy(
                self.level_logits(level, hidden[:, level]).float(),
                target_codes[:, level],
                reduction="none",
                label_smoothing=label_smoothing,
            )
        real = target_mask.float()
        return (total * real).sum() / (real.sum().clamp_min(1) * len(self.level_sizes))
