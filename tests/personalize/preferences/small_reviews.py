"""A word-hash encoder and small tables of reviews that the tests of this room share."""

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Float

from data_prep.schema import INTERACTIONS
from personalize.preferences.aspects import AspectList, read_aspects
from personalize.preferences.extractive import ExtractiveExtractor
from personalize.preferences.extractor import Review

SENTENCES = (
    "It is very sturdy and well built.",
    "It broke after two weeks.",
    "A real bargain, well worth the money.",
    "It is overpriced for what you get.",
    "It is so easy to use.",
    "The tone is warm, rich and clear.",
    "There is a lot of hiss, hum and noise.",
    "I bought this for my daughter.",
    "It looks beautiful.",
    "It smells terrible.",
    "We went to the lake on Sunday.",
)


class WordHashEncoder:
    """Unit vectors from hashed words; the vector of a text depends on that text alone."""

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "text width"]:
        vectors = np.zeros((len(texts), 96), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().replace(".", " ").replace(",", " ").split():
                digest = hashlib.sha256(word.encode()).digest()
                vectors[row, digest[0] % 96] += 1.0 if digest[1] % 2 else -1.0
            vectors[row] /= max(float(np.linalg.norm(vectors[row])), 1e-6)
        return vectors


def small_extractor(training: Sequence[Review] = ()) -> ExtractiveExtractor:
    """The embedded extractor on the word-hash encoder."""
    return ExtractiveExtractor.fitted(WordHashEncoder(), small_aspects(), training)


def small_aspects() -> AspectList:
    """The built-in aspects."""
    return read_aspects()


def small_tables(users: int = 5, length: int = 8, seed: int = 0) -> pl.DataFrame:
    """Interactions with reviews of one to four sentences; the last two are not for training."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for position in range(length):
            chosen = random.choice(len(SENTENCES), random.integers(1, 5), replace=False)
            split = {length - 1: "test", length - 2: "validation"}.get(position, "train")
            rows.append(
                {
                    "user_id": user,
                    "position": position,
                    "item_id": int(random.integers(0, 20)),
                    "timestamp_s": 1000 + position,
                    "rating": float(random.integers(1, 6)),
                    "summary": None,
                    "text": " ".join(SENTENCES[number] for number in chosen),
                    "review_id": 1000 + user * length + position,
                    "split": split,
                }
            )
    return pl.DataFrame(rows, schema=INTERACTIONS.polars)
