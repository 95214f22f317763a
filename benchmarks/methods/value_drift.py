"""Do values drift where pairs differ in value, and only there? And by which loss most?

A linear policy over 12 responses in three categories, whose contexts are random numbers. Each
category has a response of every quality from 0 to 3. Pairs in which quality decides, both of one
category or both of any (the categories' gap is 0); pairs of two categories of which each wins half,
by chance (a gap of 0 as well); and pairs whose winner is of one category and whose loser of another
(a gap of 1 and -1). DPO on each; the drift of 8 answers drawn in each of 200 contexts that no pair
is of, beside what random signs make of it. Then DPO, IPO and S-DPO on the same lists with a gap,
for as many steps, and once more until all three rank 75 % of held-out pairs correctly: what differs
then is not only the size of their steps.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from personalize.evaluation.intervals import bootstrap_interval
from personalize.evaluation.value_drift import DriftReport, drift_report, value_gap
from personalize.preference_optimization.compared import Scored
from personalize.preference_optimization.contrast import Contrast
from personalize.preference_optimization.contrasts import DPO, IPO
from personalize.preference_optimization.list_contrasts import SDPO, OverPairs

CATEGORIES = ("plain", "bright", "dark")
RESPONSES, FEATURES, PAIRS, PROBES, ANSWERS, NEGATIVES = 12, 6, 1500, 200, 8, 3
STEPS, KEPT_EVERY, BATCH, LEARNING_RATE, BETA = 300, 50, 100, 0.02, 0.1
RIGHT, MOST_STEPS = 0.75, 3000
CATEGORY = torch.arange(RESPONSES) % len(CATEGORIES)
LOSSES: dict[str, Contrast] = {
    "DPO": OverPairs(DPO(beta=BETA), mean=True),
    "IPO": OverPairs(IPO(beta=BETA), mean=True),
    "S-DPO": SDPO(beta=BETA),
}
CRITERION = (
    "over seeds the mean drift of each kind of pair without a gap lies below the mean noise of "
    "drift, that of pairs with a gap above it with the whole interval of the difference; on equal "
    "data and steps the drift of each two of DPO, IPO and S-DPO differs with its whole interval"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    found = experiment(tuple(range(options.seeds)))
    for name, value in found["measures"].items():
        print(f"{name:58} {value['mean']:7.3f}  [{value['low']:7.3f}, {value['high']:7.3f}]")
    if options.json:
        print(json.dumps(found))


def experiment(seeds: tuple[int, ...]) -> dict[str, Any]:
    """All measures over seeds, and whether the criterion is met."""
    rows = [one_seed(seed) for seed in seeds]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    for when in ("at equal steps", "at equal accuracy"):
        for one, two in (("DPO", "IPO"), ("DPO", "S-DPO"), ("IPO", "S-DPO")):
            columns[f"{one} less {two}, {when}"] = (
                columns[f"drift, {one}, {when}"] - columns[f"drift, {two}, {when}"]
            )
    for kind in MAKERS:
        columns[f"drift less noise, {kind}"] = columns[f"drift, {kind}"] - columns[f"noise, {kind}"]
    measures = {name: vars(bootstrap_interval(values)) for name, values in columns.items()}
    differ = {
        when: all(
            value["low"] > 0 or value["high"] < 0
            for name, value in measures.items()
            if " less " in name and name.endswith(when)
        )
        for when in ("at equal steps", "at equal accuracy")
    }
    shown = {
        **{
            f"{kind} stays below noise": measures[f"drift less noise, {kind}"]["mean"] < 0
            for kind in MAKERS
            if kind != "gap"
        },
        "gap drifts": measures["drift less noise, gap"]["low"] > 0,
        **{f"losses differ {when}": value for when, value in differ.items()},
    }
    return {
        "measures": measures,
        "seeds": list(seeds),
        "criterion": CRITERION,
        "parts": shown,
        "shown": all(value for name, value in shown.items() if "accuracy" not in name),
    }


class Linear(nn.Module):
    """Logits of every response that are linear in a context."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(FEATURES, RESPONSES, generator=generator) / 2)
        self.bias = nn.Parameter(torch.randn(RESPONSES, generator=generator) / 2)

    def forward(self, contexts: Tensor) -> Float[Tensor, "context choice"]:
        """Log-probabilities."""
        return (contexts @ self.weight + self.bias).log_softmax(-1)


def one_seed(seed: int) -> dict[str, float]:
    """One draw of contexts, policy and pairs."""
    generator = torch.Generator().manual_seed(seed)
    contexts = torch.randn(PAIRS + 2 * PROBES, FEATURES, generator=generator)
    start = Linear(generator)
    known, held, probes = contexts.split([PAIRS, PROBES, PROBES])
    found: dict[str, float] = {}
    for kind, maker in MAKERS.items():
        lists = maker(PAIRS, 1, generator)
        course, _ = tuned(start, LOSSES["DPO"], known, lists, seed=seed)
        report = drift(course, probes, seed)
        winner, loser = (CATEGORY[lists[:, place]].numpy() for place in (0, 1))
        gap = value_gap(winner, loser, CATEGORIES, seed=seed)
        found |= {
            f"gap of pairs, {kind}": max(abs(one.mean) for one in gap.values()),
            f"drift, {kind}": report.total,
            f"noise, {kind}": report.noise,
            f"drifted, {kind}": float(report.total > report.noise),
        }
    lists = either_way(PAIRS, 1, generator)
    course, _ = tuned(start, DPO(beta=10 * BETA), known, lists, seed=seed)
    found["drift, by chance, beta 1"] = drift(course, probes, seed).total
    lists, other = (with_gap(count, NEGATIVES, generator) for count in (PAIRS, PROBES))
    for name, loss in LOSSES.items():
        course, _ = tuned(start, loss, known, lists, seed=seed)
        found[f"drift, {name}, at equal steps"] = drift(course, probes, seed).total
        course, steps = tuned(
            start, loss, known, lists, seed=seed, until=lambda policy: accuracy(policy, held, other)
        )
        found[f"drift, {name}, at equal accuracy"] = drift(course, probes, seed).total
        found[f"steps to {RIGHT:.0%}, {name}"] = float(steps)
    return found


def tuned(
    start: Linear,
    loss: Contrast,
    contexts: Tensor,
    lists: Int[Tensor, "pair response"],
    *,
    seed: int,
    until: Callable[[Linear], float] | None = None,
) -> tuple[list[Linear], int]:
    """Policies along tuning, the first one untuned, and how many steps it took."""
    policy, reference = Linear(torch.Generator()), start(contexts).gather(1, lists).detach()
    policy.load_state_dict(start.state_dict())
    optimizer = torch.optim.Adam(policy.parameters(), lr=LEARNING_RATE)
    generator, course = torch.Generator().manual_seed(seed), [copied(policy)]
    most = STEPS if until is None else MOST_STEPS
    for step in range(1, most + 1):
        rows = torch.randint(len(contexts), (BATCH,), generator=generator)
        score = policy(contexts[rows]).gather(1, lists[rows])
        value = loss(Scored.of(score, reference[rows])).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if until is None and step % KEPT_EVERY == 0:
            course.append(copied(policy))
        if until is not None and until(policy) >= RIGHT:
            return [*course, copied(policy)], step
    return [*course, copied(policy)] if until is not None else course, most


def copied(policy: Linear) -> Linear:
    """A policy as it is now."""
    kept = Linear(torch.Generator())
    kept.load_state_dict(policy.state_dict())
    return kept


def drift(course: list[Linear], probes: Tensor, seed: int) -> DriftReport:
    """Drift of drawn answers; every policy draws anew, so that no drift is not 0."""
    masses = []
    for number, policy in enumerate(course):
        generator = torch.Generator().manual_seed(1000 * seed + number)
        with torch.no_grad():
            answers = torch.multinomial(
                policy(probes).exp(), ANSWERS, replacement=True, generator=generator
            )
        kinds = CATEGORY[answers]
        masses.append(
            torch.stack([(kinds == place).double().mean(1) for place in range(len(CATEGORIES))], 1)
        )
    return drift_report(
        torch.stack(masses).numpy(), np.arange(len(course)), CATEGORIES, resamples=500, seed=seed
    )


def accuracy(policy: Linear, contexts: Tensor, lists: Int[Tensor, "pair response"]) -> float:
    """Share of pairs whose winner is likelier."""
    with torch.no_grad():
        score = policy(contexts).gather(1, lists)
    return float((score[:, :1] > score[:, 1:]).float().mean())


def same_category(count: int, negatives: int, generator: torch.Generator) -> Tensor:
    """Pairs of one category each, the better quality winning: a gap of 0."""
    category = torch.randint(len(CATEGORIES), (count, 1), generator=generator)
    return qualities(count, generator) * len(CATEGORIES) + category


def any_category(count: int, negatives: int, generator: torch.Generator) -> Tensor:
    """Pairs of any categories, the better quality winning: a gap of 0 but for chance."""
    categories = torch.randint(len(CATEGORIES), (count, 2), generator=generator)
    return qualities(count, generator) * len(CATEGORIES) + categories


def qualities(count: int, generator: torch.Generator) -> Tensor:
    """Two different qualities, the better one first."""
    order = torch.rand(count, RESPONSES // len(CATEGORIES), generator=generator).argsort(1)
    return order[:, :2].sort(1, descending=True).values


def with_gap(count: int, negatives: int, generator: torch.Generator) -> Tensor:
    """Lists whose winner is of the second category and whose others are of the third."""
    each = RESPONSES // len(CATEGORIES)
    winner = torch.randint(each, (count, 1), generator=generator) * len(CATEGORIES) + 1
    order = torch.rand(count, each, generator=generator).argsort(1)[:, :negatives]
    return torch.cat([winner, order * len(CATEGORIES) + 2], 1)


def either_way(count: int, negatives: int, generator: torch.Generator) -> Tensor:
    """Pairs of the second and third category, each winning half of them: a gap of 0."""
    lists = with_gap(count, negatives, generator)
    turned = torch.arange(count) % 2 == 1
    return torch.where(turned[:, None], lists.flip(1), lists)


MAKERS = {
    "one category": same_category,
    "any category": any_category,
    "by chance": either_way,
    "gap": with_gap,
}


if __name__ == "__main__":
    main()
