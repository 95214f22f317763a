"""Small catalogues, batches and networks that the retriever tests share."""

import numpy as np
import torch

from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.retriever.transformer import NetworkSize

TINY = NetworkSize(
    width=16, heads=2, head_width=6, feedforward=20, encoder_layers=3, decoder_layers=3, dropout=0.0
)
LEVEL_SIZES = (7, 5, 4, 3)


def small_catalogue(items: int = 60, seed: int = 0, text_width: int = 9) -> Catalogue:
    """Distinct random codes with lopsided use, and a text vector for every item and 12 more."""
    random = np.random.default_rng(seed)
    every = np.stack(np.meshgrid(*[np.arange(s) for s in LEVEL_SIZES], indexing="ij"), -1)
    every = every.reshape(-1, len(LEVEL_SIZES))
    weight = np.exp(-0.5 * every[:, 0] - 0.3 * every[:, 1])
    chosen = random.choice(len(every), items, replace=False, p=weight / weight.sum())
    texts = items + 12
    return Catalogue(
        item_codes=torch.from_numpy(every[chosen]),
        level_sizes=LEVEL_SIZES,
        item_text_ids=torch.arange(items),
        item_text_mask=torch.ones(items, dtype=torch.bool),
        text_vectors=torch.from_numpy(random.normal(size=(texts, text_width))).float(),
        texts=tuple(f"text number {n}" for n in range(texts)),
    )


def small_batch(
    catalogue: Catalogue, rows: int = 3, steps: int = 6, preferences: int = 4, seed: int = 1
) -> HistoryBatch:
    """Histories of different lengths, one target each, some preferences liked, some avoided."""
    torch.manual_seed(seed)
    lengths = torch.arange(rows) % steps + 1
    history_mask = torch.arange(steps) < lengths.unsqueeze(1)
    items = torch.randint(0, catalogue.item_count, (rows, steps)) * history_mask
    counts = (torch.arange(rows) + 1) % (preferences + 1)
    preference_mask = (torch.arange(preferences) < counts.unsqueeze(1)).unsqueeze(1)
    first_text = catalogue.item_count
    texts = torch.randint(first_text, len(catalogue.texts), (rows, 1, preferences))
    return HistoryBatch(
        row_ids=torch.arange(rows),
        history_item_ids=items,
        history_mask=history_mask,
        target_item_ids=torch.randint(0, catalogue.item_count, (rows, 1)),
        target_mask=torch.ones(rows, 1, dtype=torch.bool),
        preference_text_ids=texts * preference_mask,
        preference_mask=preference_mask,
        preference_avoid=(torch.rand(rows, 1, preferences) < 0.4) & preference_mask,
    )


def rows_of(batch: HistoryBatch, rows: slice) -> HistoryBatch:
    """Some rows of a batch."""
    return batch.rows(rows)
