"""Variant, regime and size of data under equal conditions, on a small but real recommender.

Every variant is tuned from a trained recommender (fine-tuned), from one that saw few steps of the
interactions of other contexts (base) and from random weights (scratch), on lists of what was chosen
and three items drawn at random, in 1, 10 and 100 % of the contexts, for as many steps of as many
lists, with the learning rate of its own sweep that has the best NDCG on validation contexts. One
table: NDCG@10 before and after on test contexts with the interval of the difference, accuracies of
held-out lists, what happens to the log-probability of what was chosen, how popular the first ten
are, and the four tags of the survey. Items are ranked by probability, all of them. Plain
fine-tuning for as many steps (SFT) is the control of all.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from personalize.evaluation.intervals import bootstrap_interval, paired_comparison
from personalize.evaluation.likelihood_displacement import displacement_report
from personalize.evaluation.ranking_accuracy import PairScores, ranking_report
from personalize.preference_optimization.compared import ComparisonBatch, policy_scores
from personalize.preference_optimization.comparison_objective import (
    CompareObjective,
    ImitateObjective,
)
from personalize.preference_optimization.contrasts import DPO, IPO
from personalize.preference_optimization.likelihood_contrasts import CPO, KTO
from personalize.preference_optimization.list_contrasts import SDPO, OverPairs
from personalize.preference_optimization.objective import Objective
from personalize.preference_optimization.policy import Policy, frozen_copy
from personalize.preference_optimization.tunable import TEST, TRAINING, VALIDATION, Tunable
from recsys.tuning import TunableItems, TunedItems
from recsys.tuning_contexts import RowLimits

STEPS, BASE_STEPS, BATCH, NEGATIVES, TOP = 40, 300, 16, 3, 10
RATES = (1e-4, 5e-4, 3e-3)
SIZES = (0.01, 0.1, 1.0)
REGIMES = ("fine-tuned", "base", "scratch")
CRITERION = (
    "the two findings of Insights into Alignment: (1) each of DPO, IPO, KTO and CPO has a higher "
    "NDCG on 1 % of the contexts than on all from the fine-tuned start, with the whole interval of "
    "the paired difference; (2) from the base, KTO and CPO end no lower than from the fine-tuned "
    "start as far as the interval says, while DPO ends lower with its whole interval"
)


@dataclass(frozen=True)
class Variant:
    """A loss with three of the survey's tags; the fourth, what it does, is measured.

    Attributes:
        objective: What is minimised.
        data: Data strategy.
        framework: Learning framework.
        constraint: Constraint mechanism.
    """

    objective: Objective
    data: str
    framework: str
    constraint: str


def variants() -> dict[str, Variant]:
    """All of them at beta 0.1, the default of TRL; only learning rates are swept."""
    pairs, offline = "lists, pair by pair", "offline contrast"

    def compare(contrast: DPO | IPO | KTO | CPO) -> CompareObjective:
        return CompareObjective(OverPairs(contrast, mean=True))

    return {
        "SFT": Variant(ImitateObjective(), "chosen only", "offline imitation", "none"),
        "DPO": Variant(compare(DPO()), pairs, offline, "reference"),
        "IPO": Variant(compare(IPO()), pairs, "offline regression", "reference, bounded margin"),
        "KTO": Variant(compare(KTO()), "good and bad apart", "offline value", "reference and KL"),
        "CPO": Variant(compare(CPO()), pairs, "offline contrast and imitation", "imitation"),
        "S-DPO": Variant(CompareObjective(SDPO()), "lists", "offline softmax", "reference"),
    }


def main() -> None:
    """Run the grid, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--checkpoint", type=Path, default=Path("runs/demo/fit/sasrec"))
    add("--steps", type=int, default=STEPS)
    add("--test", type=int, default=600, help="test contexts, at most")
    add("--validation", type=int, default=300, help="validation contexts, at most")
    add("--seed", type=int, default=0)
    add("--variants", nargs="+", default=list(variants()), choices=list(variants()))
    add("--regimes", nargs="+", default=list(REGIMES), choices=REGIMES)
    add("--sizes", nargs="+", type=float, default=list(SIZES), choices=SIZES)
    add("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    limits = RowLimits(validation=options.validation, test=options.test)
    half = TunedItems(checkpoint=options.checkpoint, limits=limits).open()
    found = experiment(
        half,
        tuple(options.regimes),
        tuple(options.variants),
        steps=options.steps,
        seed=options.seed,
    )
    for row in found["table"]:
        print(line_of(row))
    for name, claim in found["claims"].items():
        print(f"{name}: {claim['so']} ({claim['mean']:+.4f} [{claim['low']:+.4f}, ", end="")
        print(f"{claim['high']:+.4f}])")
    if options.json:
        print(json.dumps({**found, "checkpoint": str(options.checkpoint)}))


def line_of(row: dict[str, Any]) -> str:
    """One row of the table as text."""
    change, right, fall = row["ndcg_change"], row["ranking_accuracy"], row["chosen_change"]
    return (
        f"{row['regime']:10} {row['size']:>5.0%} {row['variant']:5} lr {row['rate']:7.0e}  NDCG@10 "
        f"{row['ndcg_before']['mean']:.4f} -> {row['ndcg']['mean']:.4f} ({change['mean']:+.4f} "
        f"[{change['low']:+.4f}, {change['high']:+.4f}])  right {right['mean']:.3f} implicit "
        f"{row['implicit_accuracy']['mean']:.3f}  chosen {fall['mean']:+.2f} nats "
        f"[{fall['low']:+.2f}, {fall['high']:+.2f}]  popularity {row['popularity_change']:+.3f}  "
        f"{row['data']} | {row['framework']} | {row['constraint']} | {row['property']}"
    )


@dataclass(frozen=True)
class Setting:
    """What all cells share.

    Attributes:
        half: Contexts and items.
        training: Contexts of pairs with their lists, in an order of their own: sizes take the
            first of them.
        pretraining: The same of other contexts, for the base.
        held_out: The same of validation and test.
        items: Number of items.
        popularity: Of each item, 0 to 1.
        steps: Steps of tuning.
        seed: Of batches.
    """

    training: ComparisonBatch
    pretraining: ComparisonBatch
    held_out: dict[str, ComparisonBatch]
    items: int
    popularity: Float[Tensor, " item"]
    steps: int
    seed: int


def listed(
    half: Tunable, numbers: Tensor, items: int, generator: torch.Generator
) -> ComparisonBatch:
    """What was chosen in some contexts, and random other items beside it."""
    targets = half.targets(numbers)
    drawn = torch.randint(items - 1, (len(numbers), NEGATIVES), generator=generator)
    drawn += drawn >= targets  # anything but what was chosen
    responses, ones = torch.cat([targets, drawn], 1), torch.ones(len(numbers))
    return ComparisonBatch(
        contexts=half.batch(numbers),
        responses=responses,
        present=torch.ones_like(responses, dtype=torch.bool),
        strength=ones,
        margin=torch.zeros_like(ones),
        weight=ones,
        grade=torch.zeros_like(responses, dtype=torch.float32),
        group=torch.zeros(len(numbers), dtype=torch.long),
    )


def cut(lists: ComparisonBatch, rows: Tensor) -> ComparisonBatch:
    """Some of the lists."""
    tensors = {name: value[rows] for name, value in vars(lists).items() if torch.is_tensor(value)}
    return replace(lists, contexts=lists.contexts.rows(rows), **tensors)


def with_reference(lists: ComparisonBatch, start: Policy) -> ComparisonBatch:
    """The same with the scores of a start, asked once."""
    with torch.no_grad():
        scores = [
            policy_scores(start, cut(lists, rows)).sum(-1)
            for rows in torch.arange(len(lists)).split(256)
        ]
    return replace(lists, reference=torch.cat(scores))


def experiment(
    half: TunableItems,
    regimes: tuple[str, ...],
    names: tuple[str, ...],
    *,
    sizes: tuple[float, ...] = SIZES,
    steps: int = STEPS,
    seed: int = 0,
) -> dict[str, Any]:
    """The whole grid, or some regimes, variants and sizes of it."""
    setting = setting_of(half, steps, seed)
    chosen = {name: variants()[name] for name in names}
    table, ends = [], {}
    for regime in regimes:
        start = started(setting, half.policy, regime)
        before = judged(setting, start, TEST)
        ready = replace(setting, training=with_reference(setting.training, start))
        for size in sizes:
            for name, variant in chosen.items():
                row, after = cell(ready, start, before, variant, size)
                table.append({"regime": regime, "size": size, "variant": name, **row})
                ends[regime, size, name] = after.ndcg
                sys.stderr.write(line_of(table[-1]) + "\n")
    return {
        "table": table,
        "claims": claims(ends),
        "shown": all(claim["so"] for claim in claims(ends).values()),
        "criterion": CRITERION,
        "seeds": [seed],
        "steps": steps,
    }


def claims(ends: dict[tuple[str, float, str], Float[np.ndarray, " row"]]) -> dict[str, Any]:
    """What the paper found, for what of it was run: intervals of differences, and whether so."""
    said: dict[str, Any] = {}
    less, whole = SIZES[0], SIZES[-1]
    for name in ("DPO", "IPO", "KTO", "CPO"):
        if {("fine-tuned", less, name), ("fine-tuned", whole, name)} <= ends.keys():
            change = ends["fine-tuned", less, name] - ends["fine-tuned", whole, name]
            found = vars(bootstrap_interval(change))
            said[f"{name} is better on less"] = {**found, "so": bool(found["low"] > 0)}
    for name in ("KTO", "CPO", "DPO"):
        if {("base", whole, name), ("fine-tuned", whole, name)} <= ends.keys():
            change = ends["base", whole, name] - ends["fine-tuned", whole, name]
            found = vars(bootstrap_interval(change))
            if name == "DPO":
                said["DPO needs fine-tuning"] = {**found, "so": bool(found["high"] < 0)}
            else:
                said[f"{name} can skip fine-tuning"] = {**found, "so": bool(found["high"] >= 0)}
    return said


def setting_of(half: TunableItems, steps: int, seed: int) -> Setting:
    """Contexts in two halves, and random items beside what was chosen in each."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.as_tensor(half.contexts(TRAINING))
    numbers = numbers[torch.randperm(len(numbers), generator=generator)]
    items, middle = half.world.item_vectors.shape[0], len(numbers) // 2
    splits = (VALIDATION, TEST)
    return Setting(
        training=listed(half, numbers[:middle], items, generator),
        pretraining=listed(half, numbers[middle:], items, generator),
        held_out={
            split: listed(half, torch.as_tensor(half.contexts(split)), items, generator)
            for split in splits
        },
        items=items,
        popularity=half.world.popularity,
        steps=steps,
        seed=seed,
    )


def started(setting: Setting, policy: Policy, regime: str) -> Policy:
    """The policy that a regime begins with."""
    start = frozen_copy(policy)
    if regime == "fine-tuned":
        return start
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setting.seed)
        start.apply(_forget)
    if regime == "scratch":
        return start
    other = replace(setting, training=setting.pretraining, steps=BASE_STEPS)
    return tuned(other, start, ImitateObjective(), share=1.0, rate=1e-3)


def _forget(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset) and not isinstance(module, nn.Embedding):
        reset()
        return
    for weight in module.parameters(recurse=False):  # embeddings of size 1 make scores of size 50
        nn.init.normal_(weight, std=0.02)


def tuned(
    setting: Setting, start: Policy, objective: Objective, *, share: float, rate: float
) -> Policy:
    """A policy after all steps."""
    count = max(1, round(share * len(setting.training)))
    policy = frozen_copy(start).requires_grad_(requires_grad=True)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(setting.seed)
    for _ in range(setting.steps):
        rows = torch.randint(count, (BATCH,), generator=generator)
        loss = objective(policy, start, cut(setting.training, rows))["loss"]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
    return policy.requires_grad_(requires_grad=False)


@dataclass(frozen=True)
class Judgement:
    """What a policy does in the contexts of a split.

    Attributes:
        ndcg: At ten, of what was chosen, by context.
        lists: Log-probability of what was chosen and of what is beside it.
        popularity: Mean popularity of the first ten.
    """

    ndcg: Float[np.ndarray, " row"]
    lists: Float[np.ndarray, "row response"]
    popularity: float


def judged(setting: Setting, policy: Policy, split: str) -> Judgement:
    """Ranks all items in every context of a split by their probability."""
    ndcg, lists, popularity = [], [], []
    for batch in _batches(setting, split):
        everything = torch.arange(setting.items).expand(len(batch), -1)
        with torch.no_grad():
            scores = policy.log_prob(batch.contexts, everything).sum(-1)
        own = scores.gather(1, batch.responses)
        rank = (scores > own[:, :1]).sum(1)
        gain = torch.where(rank < TOP, 1 / (rank + 2.0).log2(), 0.0)
        ndcg.append(gain.double())
        lists.append(own.double())
        popularity.append(setting.popularity[scores.topk(TOP).indices].mean(1))
    return Judgement(
        torch.cat(ndcg).numpy(), torch.cat(lists).numpy(), float(torch.cat(popularity).mean())
    )


def _batches(setting: Setting, split: str) -> Iterator[ComparisonBatch]:
    lists = setting.held_out[split]
    return (cut(lists, rows) for rows in torch.arange(len(lists)).split(64))


def cell(
    setting: Setting, start: Policy, before: Judgement, variant: Variant, size: float
) -> tuple[dict[str, Any], Judgement]:
    """One cell at the learning rate that validates best."""
    tried = {
        rate: tuned(setting, start, variant.objective, share=size, rate=rate) for rate in RATES
    }
    scores = {
        rate: float(judged(setting, policy, VALIDATION).ndcg.mean())
        for rate, policy in tried.items()
    }
    rate = max(scores, key=lambda one: scores[one])
    after = judged(setting, tried[rate], TEST)
    winner, old = (
        np.repeat(lists[:, :1], NEGATIVES, 1).ravel() for lists in (after.lists, before.lists)
    )
    pairs = PairScores(winner, after.lists[:, 1:].ravel(), old, before.lists[:, 1:].ravel())
    contexts = np.repeat(np.arange(len(after.ndcg)), NEGATIVES)
    ranking = ranking_report(pairs, contexts=contexts)
    displacement = displacement_report(pairs, contexts=contexts)
    moved = displacement.winner_change
    row = {
        "rate": rate,
        "validation_ndcg_by_rate": {f"{key:g}": value for key, value in scores.items()},
        "ndcg_before": vars(bootstrap_interval(before.ndcg)),
        "ndcg": vars(bootstrap_interval(after.ndcg)),
        "ndcg_change": vars(paired_comparison(after.ndcg, before.ndcg).difference),
        "ranking_accuracy": vars(ranking.accuracy),
        "implicit_accuracy": vars(ranking.implicit_accuracy),
        "chosen_change": vars(moved),
        "chosen_falls": vars(displacement.winner_falls),
        "popularity_change": after.popularity - before.popularity,
        "data": variant.data,
        "framework": variant.framework,
        "constraint": variant.constraint,
        "property": "displaced" if moved.high < 0 else "likelier" if moved.low > 0 else "still",
    }
    return row, after


if __name__ == "__main__":
    main()
