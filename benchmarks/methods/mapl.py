"""Intra-sample pairs of MAPL: does swapping the wish teach compliance that more labels do not?

A response has eight attributes and four qualities, a wish two to four clauses of the kind "with" or
"without", the first more often. Ordinary pairs are labelled by quality and compliance together;
intra-sample pairs take one response under a wish and under the same wish with a clause turned
round, and need no label. A network reads wish and response side by side. It is judged on wishes of
five clauses that it has not seen: a response that meets all of them against the same one with one
of them broken, and on ordinary pairs. The control spends as much on ordinary pairs.
"""

import argparse
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from personalize.evaluation.intervals import bootstrap_interval
from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.compared_rows import ComparedRows, joined
from personalize.preference_optimization.comparisons import comparison_accuracy, decided
from personalize.preference_optimization.context_swaps import ContextSwaps
from personalize.preference_optimization.extremes import PairsByReward
from personalize.rewards.bradley_terry import RewardTraining, bradley_terry_loss, seeded, train

ATTRIBUTES, QUALITIES, RESPONSES = 8, 4, 12
CLAUSES, HELD_CLAUSES, WITH_SHARE = (2, 4), 5, 0.75
LABELS, HELD = 300, 1000
TRAINING = RewardTraining(steps=600, batch_size=128, learning_rate=2e-3, weight_decay=1e-2)
ORDINARY = PairsByReward({"utility": 1.0}, least_gap=0.2, per_context=1)
INTRA = ContextSwaps({"met": 1.0}, per_context=1)
ONE_END = ContextSwaps({"met": 1.0}, per_context=1, both_ends=False)
CRITERION = (
    "300 ordinary and 300 intra-sample pairs comply at least .04 more often than 600 ordinary ones "
    "and are right on ordinary pairs at most .05 less often; pairs of one end comply less often "
    "than pairs of both"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    found = experiment(tuple(range(options.seeds)))
    for name, value in found["measures"].items():
        print(f"{name:58} {value['mean']:6.3f}  [{value['low']:6.3f}, {value['high']:6.3f}]")
    print(f"shown: {found['shown']}")
    if options.json:
        print(json.dumps({**found, "criterion": CRITERION}))


def experiment(seeds: tuple[int, ...]) -> dict[str, Any]:
    """All measures over seeds, and whether the criterion is met."""
    rows = [one_seed(seed) for seed in seeds]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    both, more = "300 ordinary + 300 intra", "600 ordinary"
    columns["gain in compliance over equal labels"] = (
        columns[f"{both}: compliance"] - columns[f"{more}: compliance"]
    )
    columns["loss on ordinary pairs"] = columns[f"{more}: ordinary"] - columns[f"{both}: ordinary"]
    columns["compliance, both ends minus one end"] = (
        columns[f"{both}: compliance"] - columns["300 ordinary + 300 of one end: compliance"]
    )
    measures = {name: vars(bootstrap_interval(values)) for name, values in columns.items()}
    shown = (
        measures["gain in compliance over equal labels"]["mean"] >= 0.04
        and measures["loss on ordinary pairs"]["mean"] <= 0.05
        and measures["compliance, both ends minus one end"]["low"] > 0
    )
    return {"measures": measures, "seeds": list(seeds), "shown": bool(shown)}


def one_seed(seed: int) -> dict[str, float]:
    """Every arm on one draw of wishes and responses."""
    generator = torch.Generator().manual_seed(seed)
    taste = torch.randn(QUALITIES, generator=generator)
    rows, features = drawn_candidates(2 * LABELS, taste, generator)
    plain = own(rows)
    ordinary = ORDINARY(plain, seed=seed)
    few = ordinary.some(torch.arange(LABELS))
    intra, one_end = (builder(rows, seed=seed) for builder in (INTRA, ONE_END))
    half = LABELS // 2  # couples stand next to each other: whole couples are taken
    arms: Mapping[str, ComparedRows] = {
        "300 ordinary": few,
        "600 ordinary": ordinary.some(torch.arange(2 * LABELS)),
        "300 ordinary + 300 intra": joined([few, intra.some(torch.arange(2 * half))]),
        "300 ordinary + 300 of one end": joined([few, one_end.some(torch.arange(LABELS))]),
    }
    held_ordinary = drawn_candidates(HELD, taste, generator)
    held = ORDINARY(own(held_ordinary[0]), seed=seed).pairs()
    compliant = compliance_pairs(generator)
    result = {}
    for name, compared in arms.items():
        model = fitted(features, compared, seed)
        with torch.no_grad():
            right = comparison_accuracy(model(held_ordinary[1])[:, 0], held)
            meets = comparison_accuracy(
                model(compliant)[:, 0], decided(torch.arange(2 * HELD).view(-1, 2))
            )
        result[f"{name}: compliance"] = float(meets.mean())
        result[f"{name}: ordinary"] = float(right.mean())
    return result


def drawn_wishes(count: int, clauses: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Wishes: 1 for "with", -1 for "without", 0 for an attribute that is not spoken of."""
    order = torch.rand(count, ATTRIBUTES, generator=generator).argsort(-1).argsort(-1)
    low, high = clauses
    size = torch.randint(low, high + 1, (count, 1), generator=generator)
    sign = torch.where(torch.rand(count, ATTRIBUTES, generator=generator) < WITH_SHARE, 1.0, -1.0)
    return sign * (order < size)


def drawn_candidates(
    contexts: int, taste: Tensor, generator: torch.Generator
) -> tuple[Candidates, Tensor]:
    """Responses to wishes, the same under the wish with one clause turned round, and features."""
    wish = drawn_wishes(contexts, CLAUSES, generator)
    which = (wish.abs() * torch.rand(wish.shape, generator=generator)).argmax(-1, keepdim=True)
    turned = wish.scatter(1, which, -wish.gather(1, which))
    wishes = torch.stack([wish, turned], 1)[:, :, None]
    shape = (contexts, 1, RESPONSES)
    attributes = torch.randint(2, (*shape, ATTRIBUTES), generator=generator) * 2.0 - 1
    quality = torch.randn(*shape, QUALITIES, generator=generator)
    met = ((wishes * attributes) > 0).sum(-1) / (wishes != 0).sum(-1)
    worth = (quality @ taste / taste.norm()).expand_as(met)
    reward = torch.stack([met, worth + 2 * met], -1).flatten(0, 2)
    features = torch.cat(
        [part.expand(-1, 2, RESPONSES, -1) for part in (wishes, attributes, quality)],
        -1,
    ).flatten(0, 2)
    rows = len(reward)
    origin = torch.arange(contexts).repeat_interleave(2 * RESPONSES)
    swapped = torch.arange(2).repeat_interleave(RESPONSES).repeat(contexts)
    none = torch.zeros(rows)
    candidates = Candidates(
        context=origin + contexts * swapped,
        origin=origin,
        response=origin * RESPONSES + torch.arange(RESPONSES).repeat(2 * contexts),
        responses=torch.arange(contexts * RESPONSES),
        target=none.bool(),
        gate=~none.bool(),
        reward=reward,
        names=("met", "utility"),
        log_prob=none,
        distance=none,
        group=none.long(),
    )
    return candidates, features


def own(rows: Candidates) -> Candidates:
    """The same where swapped contexts are of no origin that ordinary pairs are built in."""
    swapped = rows.context != rows.origin
    gate = rows.gate & ~swapped
    return Candidates(**{**vars(rows), "gate": gate})


def compliance_pairs(generator: torch.Generator) -> Tensor:
    """Features of a response that meets a wish of many clauses, then of it with one broken."""
    wish = drawn_wishes(HELD, (HELD_CLAUSES, HELD_CLAUSES), generator)
    free = torch.randint(2, wish.shape, generator=generator) * 2.0 - 1
    meets = torch.where(wish != 0, wish, free)
    which = (wish.abs() * torch.rand(wish.shape, generator=generator)).argmax(-1, keepdim=True)
    breaks = meets.scatter(1, which, -meets.gather(1, which))
    quality = torch.randn(HELD, QUALITIES, generator=generator)
    both = [torch.cat([wish, attributes, quality], -1) for attributes in (meets, breaks)]
    return torch.stack(both, 1).flatten(0, 1)


def fitted(features: Tensor, compared: ComparedRows, seed: int) -> nn.Module:
    """A reward network trained on comparisons."""
    pairs = compared.pairs()
    width = features.shape[1]
    model = seeded(
        lambda: nn.Sequential(
            nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
        ),
        seed,
    )

    def loss(drawn: Tensor) -> Tensor:
        margin = model(features[pairs.better[drawn]]) - model(features[pairs.worse[drawn]])
        return bradley_terry_loss(margin[:, 0], pairs.win_share[drawn]).mean()

    train(model, loss, len(pairs), TRAINING)
    return model


if __name__ == "__main__":
    main()
