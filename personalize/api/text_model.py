"""The sentence model behind `/v1/embeddings`: vectors, their length, and what a text counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from personalize.api.ports import RequestRefused
from personalize.conditioning.text import EMBEDDED, SentenceEncoder


@dataclass(frozen=True)
class Texts:
    """Some of the texts of a request.

    Attributes:
        texts: The texts.
        first: Place of the first of them in the request.
        truncate: Read the beginning of what is too long, instead of refusing it.
    """

    texts: tuple[str, ...]
    first: int = 0
    truncate: bool = False


@dataclass(frozen=True)
class Embedded:
    """The vectors of some texts.

    Attributes:
        vectors: Of length 1.
        tokens: Word pieces that were read.
    """

    vectors: Float32[np.ndarray, "text width"]
    tokens: int


class TextModel:
    """Turns texts into vectors of length 1, and counts their word pieces.

    Args:
        encoder: `embedded`, or a folder or name of a sentence-transformers model.
        batch_size: Texts in one forward pass.
    """

    def __init__(self, encoder: str = EMBEDDED, *, batch_size: int = 32) -> None:
        self.name = "all-minilm-l6-v2" if encoder == EMBEDDED else encoder
        self._sentences = SentenceEncoder(encoder, batch_size=batch_size)
        self.width = self._sentences.width
        self.fingerprint = self._sentences.fingerprint
        self.most_tokens = self._sentences.most_tokens

    def embed(self, questions: Sequence[Texts]) -> list[Embedded | RequestRefused]:
        """The vectors of every question's texts; all of them go through the model together."""
        counts = [self._sentences.token_counts(question.texts) for question in questions]
        refused = [
            self._too_long(question, count)
            for question, count in zip(questions, counts, strict=True)
        ]
        read = [
            text
            for question, refusal in zip(questions, refused, strict=True)
            if refusal is None
            for text in question.texts
        ]
        vectors = self._sentences.encode(read) if read else np.zeros((0, self.width), np.float32)
        replies: list[Embedded | RequestRefused] = []
        start = 0
        for question, count, refusal in zip(questions, counts, refused, strict=True):
            if refusal is not None:
                replies.append(refusal)
                continue
            part = vectors[start : start + len(question.texts)]
            start += len(question.texts)
            replies.append(Embedded(part, sum(min(n, self.most_tokens) for n in count)))
        return replies

    def _too_long(self, question: Texts, counts: Sequence[int]) -> RequestRefused | None:
        for place, count in enumerate(counts):
            if count > self.most_tokens and not question.truncate:
                return RequestRefused(
                    f"input {question.first + place} has {count} word pieces, {self.name} reads "
                    f"{self.most_tokens}; cut it, or send `truncate: true` to have its "
                    "beginning read.",
                    param="input",
                )
        return None


def shortened(
    vectors: Float32[np.ndarray, "text width"], dimensions: int | None
) -> Float32[np.ndarray, "text kept"]:
    """The first numbers of every vector, brought to length 1 again.

    A model that was not trained for it (Kusupati et al., 2022, arXiv:2205.13147) loses accuracy
    on the way; the embedded one was not.

    Example:
        >>> shortened(np.array([[3.0, 4.0, 12.0]], np.float32), 2)
        array([[0.6, 0.8]], dtype=float32)
    """
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    kept = vectors[:, :dimensions]
    length = np.linalg.norm(kept, axis=1, keepdims=True)
    return (kept / np.maximum(length, 1e-12)).astype(np.float32)
