"""Users per second of constrained beam search, ours beside transformers' `generate`.

Both have the same weights, decode the same users in the same run and turns, on one thread; time
is the processor time of this process, the best of several turns. The second table is what the
constraint alone costs per step for catalogues of 10,000 to 10,000,000 items.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beauty import DEFAULT_FOLDER, load_beauty
from transformers import GenerationConfig, T5Config, T5ForConditionalGeneration
from transformers.utils import logging

from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.retriever.decode import BeamSearch, Scoring
from recsys.retriever.t5_weights import copy_t5_weights, t5_size
from recsys.retriever.tiger import Tiger
from recsys.semantic_id.codec import BEGIN_TOKEN, PADDING_TOKEN, SemanticIdCodec
from recsys.semantic_id.trie import SemanticIdTrie

TOKENS = 80
AIMS = {10: 4.0, 20: 9.0, 50: 14.0}
LEVELS, CODES = 4, 256


def main() -> None:
    """Measure, print the tables and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="folder with Beauty")
    parser.add_argument("--turns", type=int, default=3, help="turns per cell; the best one counts")
    parser.add_argument("--beams", type=int, nargs="+", default=[10, 20, 50])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="users at once")
    parser.add_argument("--items", type=int, nargs="*", default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    beauty = load_beauty(options.data)
    t5, ours = models(beauty.codec)
    rows = []
    print(
        f"Beauty codes: {beauty.source}, {ours.trie.item_count} items; {TOKENS} tokens of history"
    )
    print("beam  batch  ours users/s  generate users/s  times  aim  same items")
    for beams in options.beams:
        for size in options.batches:
            row = compare(t5, ours, beauty.sequences, beams=beams, size=size, turns=options.turns)
            rows.append(row)
            print(
                f"{beams:4}  {size:5}  {row['ours_users_per_s']:12.1f}  "
                f"{row['generate_users_per_s']:16.2f}  {row['times']:5.1f}  "
                f"{row['aim']:3.0f}  {row['same_items']:.0%}"
            )
    print("items     index MB  build s  ms per step, 800 beams")
    constraint = []
    for count in options.items:
        row = constraint_cost(count)
        constraint.append(row)
        steps = "  ".join(f"{cost:.2f}" for cost in row["step_ms"])
        print(f"{row['items']:9} {row['index_mb']:8.1f}  {row['build_s']:7.2f}  {steps}")
    if options.json:
        print(json.dumps({"source": beauty.source, "decode": rows, "constraint": constraint}))


def models(codec: SemanticIdCodec) -> tuple[T5ForConditionalGeneration, Tiger]:
    """A T5 and our network with its weights."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=codec.vocabulary_size, d_model=128, d_kv=64, d_ff=1024, num_heads=6,
        num_layers=4, num_decoder_layers=4, pad_token_id=PADDING_TOKEN, eos_token_id=None,
        feed_forward_proj="relu",
    )  # fmt: skip
    t5 = T5ForConditionalGeneration(config).eval()
    ours = Tiger(
        catalogue_of(codec), size=t5_size(config), history_items=TOKENS // codec.levels
    ).eval()
    copy_t5_weights(t5, ours.encoder, ours.decoder)
    return t5, ours


def catalogue_of(codec: SemanticIdCodec) -> Catalogue:
    """A catalogue of semantic IDs without texts."""
    return Catalogue(
        item_codes=codec.item_codes,
        level_sizes=codec.level_sizes,
        item_text_ids=torch.zeros(codec.item_count, dtype=torch.long),
        item_text_mask=torch.zeros(codec.item_count, dtype=torch.bool),
        text_vectors=torch.zeros(0, 0),
    )


def compare(
    t5: T5ForConditionalGeneration,
    ours: Tiger,
    sequences: list[np.ndarray],
    *,
    beams: int,
    size: int,
    turns: int,
) -> dict[str, Any]:
    """Both on the same users, turn by turn."""
    batch = full_histories(sequences, size, TOKENS // ours.trie.level_count, ours.trie.item_count)
    generate = generator(t5, ours, batch, beams)

    def search(scoring: Scoring = "raw") -> torch.Tensor:
        with torch.inference_mode():
            return BeamSearch(beams, scoring)(ours, batch, ours.trie, count=beams).item_ids

    same = (search("renormalized") == generate(True)).float().mean().item()
    repeats = max(1, 32 // size)
    our_times, their_times = [], []
    for _ in range(turns):
        our_times.append(processor_time(search, repeats=repeats))
        their_times.append(processor_time(lambda: generate(False), repeats=1 if size > 1 else 2))
    ours_s, theirs_s = min(our_times), min(their_times)
    return {
        "beam": beams, "batch": size, "ours_users_per_s": size / ours_s,
        "generate_users_per_s": size / theirs_s, "times": theirs_s / ours_s,
        "aim": AIMS.get(beams, 0.0), "same_items": same,
    }  # fmt: skip


def full_histories(
    sequences: list[np.ndarray], size: int, steps: int, item_count: int
) -> HistoryBatch:
    """Users with as many items as are read, so that both read the same number of tokens."""
    long = [sequence[-steps - 1 : -1] for sequence in sequences if len(sequence) > steps]
    items = torch.from_numpy(np.stack(long[:size])) % item_count
    none = torch.zeros(size, 1, 0)
    return HistoryBatch(
        row_ids=torch.arange(size),
        history_item_ids=items,
        history_mask=torch.ones_like(items, dtype=torch.bool),
        target_item_ids=items[:, :1],
        target_mask=torch.ones(size, 1, dtype=torch.bool),
        preference_text_ids=none.long(),
        preference_mask=none.bool(),
        preference_avoid=none.bool(),
    )


def generator(
    t5: T5ForConditionalGeneration, ours: Tiger, batch: HistoryBatch, beams: int
) -> Callable[[bool], torch.Tensor]:
    """Transformers' constrained beam search, with a dictionary of prefixes."""
    item_of = {tuple(row): item for item, row in enumerate(ours.item_tokens.tolist())}
    following: dict[tuple[int, ...], list[int]] = {}
    for row in sorted(item_of):
        for level in range(len(row)):
            known = following.setdefault(row[:level], [])
            if not known or known[-1] != row[level]:
                known.append(row[level])
    tokens = ours.item_tokens[batch.history_item_ids].flatten(1)
    levels = ours.trie.level_count

    def generate(renormalize: bool) -> torch.Tensor:
        config = GenerationConfig(
            do_sample=False, num_beams=beams, num_return_sequences=beams, length_penalty=0.0,
            max_new_tokens=levels, min_new_tokens=levels, early_stopping=False,
            renormalize_logits=renormalize, use_cache=True, pad_token_id=PADDING_TOKEN,
            decoder_start_token_id=BEGIN_TOKEN,
        )  # fmt: skip
        with torch.inference_mode():
            found = t5.generate(  # pyright: ignore[reportAttributeAccessIssue]
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                prefix_allowed_tokens_fn=lambda _, path: following[tuple(path.tolist()[1:])],
                generation_config=config,
            )
        items = [item_of[tuple(row[1:])] for row in found.tolist()]
        return torch.tensor(items).reshape(-1, beams)

    return generate


def processor_time(action: Callable[[], object], *, repeats: int) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    for _ in range(repeats):
        action()
    return (time.process_time() - start) / repeats


def constraint_cost(items: int) -> dict[str, Any]:
    """Processor time of following the trie and choosing beams, without any model."""
    random = np.random.default_rng(0)
    codes = np.minimum((CODES * random.random((items, LEVELS)) ** 2).astype(int), CODES - 1)
    key = np.unique(codes @ CODES ** np.arange(LEVELS))
    codes = np.stack([key // CODES**level % CODES for level in range(LEVELS)], 1)
    start = time.process_time()
    trie = SemanticIdTrie(torch.from_numpy(codes), (CODES,) * LEVELS)
    build_s = time.process_time() - start
    costs = []
    for level in range(LEVELS):
        beams = 50 if level else 1
        nodes = torch.from_numpy(random.integers(0, trie.node_count(level), (16, beams)))
        logits = torch.randn(16, beams, CODES)

        def step(
            level: int = level, nodes: torch.Tensor = nodes, logits: torch.Tensor = logits
        ) -> None:
            scores, children = trie.expand(level, nodes, logits)
            picked = scores.flatten(1).topk(50).indices
            trie.code(level)[children.flatten(1).gather(1, picked)]

        costs.append(1000 * min(processor_time(step, repeats=5) for _ in range(10)))
    size = sum(buffer.nbytes for buffer in trie.buffers()) / 1e6
    return {"items": len(codes), "index_mb": size, "build_s": build_s, "step_ms": costs}


if __name__ == "__main__":
    main()
