"""The Beauty catalogue and its histories for benchmarks, or generated ones of the same shape."""

import gzip
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from recsys.semantic_id.codec import SemanticIdCodec, with_collision_digit

ITEMS, USERS, LEVELS, CODES = 12_101, 22_363, 4, 256
DEFAULT_FOLDER = Path("../shared/data/amazon14_beauty_sequences")


@dataclass(frozen=True)
class Beauty:
    """Semantic IDs, histories and where they come from.

    Attributes:
        codec: Four published codes and a collision digit.
        sequences: Items of every user, oldest first.
        source: `real` or `generated`.
    """

    codec: SemanticIdCodec
    sequences: list[np.ndarray]
    source: str


def load_beauty(folder: Path) -> Beauty:
    """The real data where the folder is there, else generated data of the same shape."""
    if (folder / "letter_semantic_ids_by_asin.json").is_file():
        return Beauty(_real_codec(folder), _real_sequences(folder), "real")
    sys.stderr.write(f"{folder} is not there; codes and histories are generated.\n")
    random = np.random.default_rng(0)
    lengths = np.minimum(5 + random.geometric(1 / 4.88, USERS) - 1, 204)
    codes = np.minimum((CODES * random.random((ITEMS, LEVELS)) ** 1.5).astype(int), CODES - 1)
    return Beauty(
        with_collision_digit(torch.from_numpy(codes), (CODES,) * LEVELS),
        [random.integers(0, ITEMS, length) for length in lengths],
        "generated",
    )


def _real_codec(folder: Path) -> SemanticIdCodec:
    with gzip.open(folder / "items.jsonl.gz", "rt", encoding="utf-8") as lines:
        items = [json.loads(line) for line in lines]
    items.sort(key=lambda item: item["item_id"])
    published = json.loads((folder / "letter_semantic_ids_by_asin.json").read_text())
    codes = [
        [int(code.strip("<>").split("_")[1]) for code in published[item["asin"]]] for item in items
    ]
    return with_collision_digit(torch.tensor(codes), (CODES,) * LEVELS)


def _real_sequences(folder: Path) -> list[np.ndarray]:
    lines = (folder / "sequences.txt").read_text().splitlines()
    return [np.array(line.split()[1:], dtype=np.int64) - 1 for line in lines]
