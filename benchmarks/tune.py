"""Steps per second and memory of every family of tuning, beside plain fine-tuning in the same run.

A TIGER of the paper's size learns from Beauty sequences on one thread: the item that came next
against others drawn from the catalogue, or items that it draws itself. All variants take the same
contexts in turns; time is the processor time of this process, or with `--device cuda` the time on
the clock. Memory is what a step must hold: weights, gradients, the optimizer's state, a reference,
and all tensors kept for the backward pass.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beauty import DEFAULT_FOLDER, load_beauty
from decode import catalogue_of, models
from torch import Tensor
from train import HISTORY_ITEMS, batch_of, training_prefixes

from personalize.preference_optimization.compared import ComparisonBatch, policy_scores
from personalize.preference_optimization.comparison_objective import (
    CompareObjective,
    ImitateObjective,
)
from personalize.preference_optimization.contrasts import DPO
from personalize.preference_optimization.likelihood_contrasts import SimPO
from personalize.preference_optimization.list_contrasts import SDPO
from personalize.preference_optimization.objective import Objective, Rollouts
from personalize.preference_optimization.policy import Policy, frozen_copy
from personalize.preference_optimization.rollout_objective import Drawing, RolloutObjective
from recsys.batch import HistoryBatch
from recsys.policy import RetrieverPolicy
from recsys.retriever.tiger import Tiger
from recsys.retriever.transformer import NetworkSize

PLAIN = "plain fine-tuning"
LIMITS = {"DPO, reference asked": 2.2, "DPO, reference kept": 1.3}
NEGATIVES, GROUP = 3, 8


@dataclass(frozen=True)
class Family:
    """One way to tune.

    Attributes:
        objective: What is minimised; None is the generator's own training loss.
        responses: Responses of a comparison; 1 reads targets alone.
        kept: The reference's scores are kept beside the comparisons.
    """

    objective: Objective | None
    responses: int = 2
    kept: bool = False


def families() -> dict[str, Family]:
    """What is measured."""
    return {
        PLAIN: Family(None, 1),
        "imitation (log-probability)": Family(ImitateObjective(), 1),
        "SimPO, no reference": Family(CompareObjective(SimPO())),
        "DPO, reference kept": Family(CompareObjective(DPO()), kept=True),
        "DPO, reference asked": Family(CompareObjective(DPO())),
        "S-DPO, 3 negatives, kept": Family(CompareObjective(SDPO()), 1 + NEGATIVES, kept=True),
        "S-DPO, 3 negatives, asked": Family(CompareObjective(SDPO()), 1 + NEGATIVES),
        f"GRPO, {GROUP} drawn": Family(RolloutObjective(drawing=Drawing(group_size=GROUP)), 1),
    }


def main() -> None:
    """Measure, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="folder with Beauty")
    parser.add_argument("--batch", type=int, default=64, help="contexts in a step")
    parser.add_argument("--steps", type=int, default=6, help="steps of each variant")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    beauty = load_beauty(options.data)
    t5, _ = models(beauty.codec)
    size = NetworkSize(dropout=t5.config.dropout_rate)
    torch.manual_seed(0)
    tiger = Tiger(catalogue_of(beauty.codec), size=size, history_items=20).to(options.device)
    contexts = chosen_contexts(beauty.sequences, options.batch, options.steps + 1)
    measured = measure(tiger, contexts, families())
    rows = report(measured, options.batch)
    if options.json:
        facts = {"source": beauty.source, "batch": options.batch, "device": options.device}
        print(json.dumps({**facts, "rows": rows}))


def chosen_contexts(
    sequences: list[np.ndarray], batch_size: int, batches: int
) -> list[HistoryBatch]:
    """Batches of training contexts with their targets, padded alike."""
    prefixes = training_prefixes(sequences)
    random = np.random.default_rng(0)
    order = random.permutation(len(prefixes))[: batch_size * batches].reshape(batches, -1)
    return [batch_of([prefixes[row] for row in rows], HISTORY_ITEMS) for rows in order]


def measure(
    tiger: Tiger, contexts: list[HistoryBatch], chosen: dict[str, Family]
) -> dict[str, dict[str, float]]:
    """Seconds per step and bytes of every family, all on the same contexts in turns."""
    steps = {name: stepper(tiger, family) for name, family in chosen.items()}
    items, device = tiger.trie.item_count, next(tiger.parameters()).device
    found = {name: {"seconds": 0.0, "bytes": 0.0} for name in chosen}
    for number, batch in enumerate(contexts):
        random = torch.Generator().manual_seed(number)
        others = torch.randint(items, (len(batch), NEGATIVES), generator=random)
        for name, family in chosen.items():
            compared = comparisons(batch, others, family.responses).to(device)
            prepare, step = steps[name]
            compared = prepare(compared)
            start = now(device)
            kept = step(compared, measured=number == 0)
            if number:
                found[name]["seconds"] += (now(device) - start) / (len(contexts) - 1)
            else:
                found[name]["bytes"] = kept
    return found


def now(device: torch.device) -> float:
    """Seconds: of the processor, or on the clock once a GPU has done what it was given."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def comparisons(batch: HistoryBatch, others: Tensor, responses: int) -> ComparisonBatch:
    """The target against the first of the others."""
    rows = len(batch)
    ones = torch.ones(rows)
    every = torch.cat([batch.target_item_ids, others[:, : responses - 1]], 1)
    return ComparisonBatch(
        contexts=batch,
        responses=every,
        present=torch.ones(every.shape, dtype=torch.bool),
        strength=ones,
        margin=torch.zeros_like(ones),
        weight=ones,
        grade=torch.zeros(every.shape),
        group=torch.zeros(rows, dtype=torch.long),
    )


Step = Callable[..., float]


def stepper(tiger: Tiger, family: Family) -> tuple[Callable[[ComparisonBatch], Any], Step]:
    """What is done once per comparison before tuning, and one step on a copy of the model."""
    policy = frozen_copy(RetrieverPolicy(tiger)).requires_grad_(requires_grad=True)
    objective = family.objective
    asked = objective is not None and objective.uses_reference
    reference = frozen_copy(policy) if asked else None
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-5)

    def prepare(batch: ComparisonBatch) -> ComparisonBatch:
        if reference is None or not family.kept:
            return batch
        with torch.no_grad():
            scores = policy_scores(reference, batch).sum(-1)
        return ComparisonBatch(**{**vars(batch), "reference": scores})

    def loss(batch: ComparisonBatch) -> Tensor:
        if objective is None:
            return policy.recommender.loss(batch.contexts)
        rolled = rollouts(policy, objective, batch) if objective.group_size > 0 else None
        return objective(policy, None if family.kept else reference, batch, rolled)["loss"]

    def step(batch: ComparisonBatch, *, measured: bool) -> float:
        optimizer.zero_grad(set_to_none=True)
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        if not measured:
            loss(batch).backward()
        else:
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                value = loss(batch)
            value.backward()
        optimizer.step()
        weights = sum(weight.nbytes for weight in policy.parameters())
        held = weights * (3 if reference is None or family.kept else 4)  # gradient, two moments
        own = {weight.untyped_storage().data_ptr() for weight in policy.parameters()}
        return float(weights + held + sum(size for at, size in kept.items() if at not in own))

    return prepare, step


@torch.no_grad()
def rollouts(policy: Policy, objective: Objective, batch: ComparisonBatch) -> Rollouts:
    """What a policy draws; it is worth 1 where it is the target."""
    drawn = policy.sample(batch.contexts, objective.group_size, seed=0, beam=objective.beam)
    hit = (drawn.responses == batch.responses[:, :1]).float()
    hit = hit + 0.01 * drawn.responses.float() / 12_101  # groups without a hit would teach nothing
    gate = torch.ones_like(hit, dtype=torch.bool)
    return Rollouts(drawn, hit[..., None], gate, hit[:, :0, None], ("hit",))


def report(found: dict[str, dict[str, float]], batch: int) -> list[dict[str, Any]]:
    """Print and return what every family costs, and times plain fine-tuning."""
    plain = found[PLAIN]
    print("family                        steps/s  contexts/s  times plain  limit     MB  times")
    rows = []
    for name, values in found.items():
        times, memory = (values[key] / plain[key] for key in ("seconds", "bytes"))
        limit = LIMITS.get(name)
        row = {
            "family": name,
            "steps_per_s": 1 / values["seconds"],
            "times_plain": times,
            "limit": limit,
            "within": None if limit is None else times <= limit,
            "megabytes": values["bytes"] / 1e6,
            "memory_times_plain": memory,
        }
        rows.append(row)
        print(
            f"{name:28} {row['steps_per_s']:8.2f}  {batch * row['steps_per_s']:10.1f}  "
            f"{times:11.2f}  {limit or '':>5}  {row['megabytes']:5.0f}  {memory:5.2f}"
        )
    return rows


if __name__ == "__main__":
    main()
