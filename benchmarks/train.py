"""Training targets per second, with and without length bucketing, beside transformers' T5.

All train the same sizes on the same kind of targets of the Beauty sequences, on one thread; time
is the processor time of this process. Without bucketing, and for T5, histories are padded to 20
items. With it, 32 batches are sorted by length together, and batches evenly spaced among them are
trained on.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from beauty import DEFAULT_FOLDER, load_beauty
from decode import catalogue_of, models
from transformers import T5ForConditionalGeneration
from transformers.utils import logging

from recsys.batch import HistoryBatch
from recsys.retriever.tiger import Tiger
from recsys.retriever.transformer import NetworkSize

HISTORY_ITEMS = 20
POOL_BATCHES = 32  # sorted by length together, as the data module does


def main() -> None:
    """Measure, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="folder with Beauty")
    parser.add_argument("--batch", type=int, default=64, help="targets in a batch")
    parser.add_argument("--steps", type=int, default=8, help="training steps of each variant")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    beauty = load_beauty(options.data)
    t5, _ = models(beauty.codec)
    ours = Tiger(
        catalogue_of(beauty.codec),
        size=NetworkSize(dropout=t5.config.dropout_rate),
        history_items=20,
    )
    prefixes = training_prefixes(beauty.sequences)
    random = np.random.default_rng(0)
    pool = [prefixes[i] for i in random.permutation(len(prefixes))[: options.batch * POOL_BATCHES]]
    chosen = np.linspace(0, POOL_BATCHES - 1, options.steps + 2).round().astype(int)[1:-1]
    buckets = _cut(sorted(pool, key=len), options.batch)
    bucketed = [buckets[number] for number in chosen]
    mixed = _cut(pool, options.batch)[: options.steps]
    variants = {
        "transformers T5, padded": (t5, [batch_of(b, HISTORY_ITEMS) for b in mixed]),
        "ours, padded": (ours, [batch_of(b, HISTORY_ITEMS) for b in mixed]),
        "ours, bucketed": (ours, [batch_of(b, max(map(len, b)) - 1) for b in bucketed]),
    }
    seconds = dict.fromkeys(variants, 0.0)
    trainers = {name: trainer(model, ours) for name, (model, _) in variants.items()}
    for name, (_, batches) in variants.items():
        trainers[name](batches[0])  # first calls allocate
    for step in range(len(mixed)):  # in turns, so that what else runs here disturbs all alike
        for name, (_, batches) in variants.items():
            start = time.process_time()
            trainers[name](batches[step])
            seconds[name] += time.process_time() - start
    rows = report(seconds, options.batch * options.steps)
    if options.json:
        print(json.dumps({"source": beauty.source, "batch": options.batch, "rows": rows}))


def report(seconds: dict[str, float], targets: int) -> list[dict[str, object]]:
    """Print and return targets per second of each variant, and times that of T5."""
    slowest = seconds["transformers T5, padded"]
    print("variant                   targets/s  times")
    rows: list[dict[str, object]] = []
    for name, spent in seconds.items():
        print(f"{name:25} {targets / spent:9.1f}  {slowest / spent:5.2f}")
        rows.append({"variant": name, "targets_per_s": targets / spent, "times": slowest / spent})
    return rows


def training_prefixes(sequences: list[np.ndarray]) -> list[np.ndarray]:
    """The latest 20 items before each training target, the target last."""
    return [
        sequence[max(0, end - HISTORY_ITEMS) : end + 1]
        for sequence in sequences
        for end in range(1, len(sequence) - 2)
    ]


def batch_of(prefixes: list[np.ndarray], steps: int) -> HistoryBatch:
    """Prefixes padded to so many items of history."""
    items = np.zeros((len(prefixes), steps), np.int64)
    lengths = np.array([len(prefix) - 1 for prefix in prefixes])
    for row, prefix in enumerate(prefixes):
        items[row, : len(prefix) - 1] = prefix[:-1]
    none = torch.zeros(len(prefixes), 1, 0)
    return HistoryBatch(
        row_ids=torch.arange(len(prefixes)),
        history_item_ids=torch.from_numpy(items),
        history_mask=torch.from_numpy(np.arange(steps) < lengths[:, None]),
        target_item_ids=torch.tensor([[int(prefix[-1])] for prefix in prefixes]),
        target_mask=torch.ones(len(prefixes), 1, dtype=torch.bool),
        preference_text_ids=none.long(),
        preference_mask=none.bool(),
        preference_avoid=none.bool(),
    )


def trainer(
    model: T5ForConditionalGeneration | Tiger, ours: Tiger
) -> Callable[[HistoryBatch], None]:
    """One training step: loss, gradients, AdamW."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)

    def step(batch: HistoryBatch) -> None:
        optimizer.zero_grad(set_to_none=True)
        if isinstance(model, Tiger):
            loss = model.loss(batch)
        else:
            mask = batch.history_mask.unsqueeze(-1)
            tokens = (ours.item_tokens[batch.history_item_ids] * mask).flatten(1)
            labels = ours.item_tokens[batch.target_item_ids[:, 0]]
            answer = model(
                input_ids=tokens,
                attention_mask=mask.expand(-1, -1, labels.shape[1]).flatten(1).long(),
                decoder_input_ids=ours.decoder.started_tokens(
                    ours.item_codes[batch.target_item_ids[:, 0], :-1]
                ),
                labels=labels,
                use_cache=False,
            )
            loss = answer.loss
        loss.backward()
        optimizer.step()

    return step


def _cut(prefixes: list[np.ndarray], size: int) -> list[list[np.ndarray]]:
    return [prefixes[start : start + size] for start in range(0, len(prefixes), size)]


if __name__ == "__main__":
    main()
