"""Preference degree: does telling how far a response was made worse help what pairs teach?

2401 responses of 4 digits below 7, each digit with a vector; a context wants some digits by a
hidden bilinear utility. A policy with its own vectors starts as a plain fit to what is logged, and
is tuned on pairs of the logged response and the same with one to four digits that another context
wants. Compared at equal steps: DPO; DPO with the degree read off the policy's inside; the same with
degrees shuffled among the spoilt, so that whole or spoilt is still told; and Preference Ranking,
which is told the same degrees by its grades.

On held-out contexts: `probe`, the accuracy of a linear readout of the degree fitted afterwards to
the frozen inside (chance 0.2); `order`, Spearman's correlation of the implicit reward with minus
the degree within a context; `utility`, the mean true utility of the policy's ten likeliest.
"""

import argparse
import json
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from personalize.evaluation.intervals import bootstrap_interval, paired_comparison
from personalize.evaluation.rank_correlation import rank_correlation
from personalize.preference_optimization.auxiliary import (
    Auxiliary,
    PreferenceDegree,
    fit_parts,
)
from personalize.preference_optimization.compared import ComparisonBatch
from personalize.preference_optimization.comparison_objective import CompareObjective
from personalize.preference_optimization.contrast import Contrast
from personalize.preference_optimization.contrasts import DPO
from personalize.preference_optimization.list_contrasts import OverPairs, PreferenceRanking
from personalize.preference_optimization.policy import Drawn, Policy, frozen_copy

DIGITS, CODES, FEATURES, WIDTH = 4, 7, 8, 24
TRAINING, HELD_OUT, LOGGED = 192, 96, 3
GAMMA, WEAK_GAMMA, BETA, STEPS, BATCH, RATE = 1.0, 0.1, 0.5, 400, 64, 3e-3
CRITERION = (
    "with the degree term beside DPO, probe accuracy and order on held-out contexts are above "
    "those of DPO alone and with shuffled degrees: all four intervals of the difference above 0"
)


@dataclass(frozen=True)
class Wishes:
    """Contexts that are vectors."""

    vectors: Float[Tensor, "batch feature"]

    def rows(self, numbers: Int[Tensor, " chosen"] | slice) -> "Wishes":
        """Some of the rows."""
        return Wishes(self.vectors[numbers])

    def to(self, target: torch.device | str) -> "Wishes":
        """On another device."""
        return Wishes(self.vectors.to(target))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.vectors)


@final
class DigitPolicy(Policy[Wishes]):
    """Digit after digit, each by the context and by all digits so far; responses are digits."""

    steps = DIGITS

    def __init__(self) -> None:
        super().__init__()
        self.context = nn.Linear(FEATURES, WIDTH)
        self.digit = nn.Embedding(DIGITS * CODES, WIDTH)
        self.hidden = nn.Sequential(
            nn.Linear(2 * WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH), nn.GELU()
        )
        self.choice = nn.Linear(WIDTH, DIGITS * CODES)

    def inside(
        self, context: Wishes, responses: Int[Tensor, "batch particle step"]
    ) -> Float[Tensor, "batch particle place width"]:
        """Hidden layer before each digit, and one after the last."""
        told = self.digit(responses + CODES * torch.arange(DIGITS)).cumsum(2)
        told = functional.pad(told, (0, 0, 1, 0))
        wish = self.context(context.vectors)[:, None, None].expand_as(told)
        return self.hidden(torch.cat([told, wish], -1))

    def represented_width(self) -> int:
        """Width of the hidden layer."""
        return WIDTH

    def represented(
        self, context: Wishes, responses: Int[Tensor, "batch particle step"]
    ) -> Float[Tensor, "batch particle width"]:
        """The hidden layer, averaged over places."""
        return self.inside(context, responses).mean(2)

    def log_prob(
        self, context: Wishes, responses: Int[Tensor, "batch particle step"]
    ) -> Float[Tensor, "batch particle step"]:
        """See `Policy`."""
        logits = self.choice(self.inside(context, responses)[:, :, :-1])
        logits = logits.unflatten(-1, (DIGITS, CODES)).diagonal(dim1=2, dim2=3).movedim(-1, 2)
        return logits.log_softmax(-1).gather(-1, responses[..., None])[..., 0]

    def sample(self, context: Wishes, count: int, *, seed: int, beam: bool = False) -> Drawn:
        """Nothing is drawn here: its responses are given."""
        raise TypeError("this policy only scores what it is given.")


@dataclass(frozen=True)
class World:
    """What is true and what was logged.

    Attributes:
        utility: Of every digit's code per feature of a context.
        training: Comparisons to learn from, the logged response first, then degrees 1 to 4.
        held_out: The same for other contexts.
        start: The policy fitted to what was logged.
    """

    utility: Float[Tensor, "digit code feature"]
    training: ComparisonBatch[Wishes]
    held_out: ComparisonBatch[Wishes]
    start: DigitPolicy


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    found = experiment(tuple(range(options.seeds)))
    for name, row in found["measures"].items():
        print(f"{name:50} {row['mean']:6.3f}  [{row['low']:6.3f}, {row['high']:6.3f}]")
    for name, row in found["differences"].items():
        print(f"{name:50} {row['mean']:6.3f}  [{row['low']:6.3f}, {row['high']:6.3f}]")
    if options.json:
        print(json.dumps(found))


def experiment(seeds: tuple[int, ...]) -> dict[str, Any]:
    """All measures over seeds, and whether the criterion is met."""
    rows = [one_seed(seed) for seed in seeds]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    differences = {
        f"{measure}: with degree - {other}": paired_comparison(
            columns[f"{measure}, DPO with degree"], columns[f"{measure}, {other}"]
        ).difference
        for measure in ("probe", "order", "utility")
        for other in ("DPO", "DPO with shuffled degree")
    }
    deciding = [value for name, value in differences.items() if not name.startswith("utility")]
    return {
        "measures": {name: vars(bootstrap_interval(values)) for name, values in columns.items()},
        "differences": {name: vars(value) for name, value in differences.items()},
        "seeds": list(seeds),
        "criterion": CRITERION,
        "shown": all(value.low > 0 for value in deciding),
    }


def one_seed(seed: int) -> dict[str, float]:
    """Every way of tuning in one small world."""
    drawn = world(seed)
    pairs, ranking = OverPairs(DPO(BETA), mean=True), PreferenceRanking()
    shuffled = replace(drawn.training, grade=shuffled_grades(drawn.training.grade, seed))
    cases: dict[str, tuple[Contrast, float, ComparisonBatch[Wishes]]] = {
        "DPO": (pairs, 0.0, drawn.training),
        "DPO with degree": (pairs, GAMMA, drawn.training),
        f"DPO with degree, gamma {WEAK_GAMMA:g}": (pairs, WEAK_GAMMA, drawn.training),
        "DPO with shuffled degree": (pairs, GAMMA, shuffled),
        "ranking": (ranking, 0.0, drawn.training),
    }
    result = measured(drawn, drawn.start, "before")
    for name, (contrast, gamma, batch) in cases.items():
        result |= measured(drawn, tuned(drawn.start, contrast, gamma, batch, seed), name)
    return result


def world(seed: int) -> World:
    """One draw of wishes, utilities and logged responses, and the policy fitted to these."""
    generator = torch.Generator().manual_seed(seed)
    utility = torch.randn(DIGITS, CODES, FEATURES, generator=generator) / FEATURES**0.5
    wishes = torch.randn(TRAINING + HELD_OUT, FEATURES, generator=generator)
    training = compared(wishes[:TRAINING], utility, generator)
    held_out = compared(wishes[TRAINING:], utility, generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        start = DigitPolicy()
    optimizer = torch.optim.Adam(start.parameters(), lr=RATE)
    for batch in batches(training, seed):
        optimizer.zero_grad()
        (-start.log_prob(batch.contexts, batch.responses[:, :1]).sum(-1).mean()).backward()
        optimizer.step()
    return World(utility, training, held_out, start)


def compared(
    wishes: Float[Tensor, "batch feature"],
    utility: Float[Tensor, "digit code feature"],
    generator: torch.Generator,
) -> ComparisonBatch[Wishes]:
    """What was logged for each wish, repeated, and the same with more and more of another's."""
    wishes = wishes.repeat_interleave(LOGGED, 0)
    liked = (2 * torch.einsum("lcf,bf->blc", utility, wishes)).softmax(-1)
    logged = torch.multinomial(liked.flatten(0, 1), 1, generator=generator).view(-1, DIGITS)
    other = logged[torch.randperm(len(logged), generator=generator)]
    other = torch.where(other == logged, (other + 1) % CODES, other)
    order = torch.rand(len(logged), DIGITS, generator=generator).argsort(1)
    degrees = torch.arange(DIGITS + 1)
    changed = order[:, None] < degrees[:, None]
    responses = torch.where(changed, other[:, None], logged[:, None])
    rows, grade = torch.ones(len(logged)), -degrees.float().expand(len(logged), -1)
    return ComparisonBatch(
        contexts=Wishes(wishes),
        responses=responses,
        present=torch.ones_like(grade, dtype=torch.bool),
        strength=rows,
        margin=torch.zeros_like(rows),
        weight=rows,
        grade=grade,
        group=torch.zeros(len(rows), dtype=torch.long),
    )


def shuffled_grades(
    grade: Float[Tensor, "comparison response"], seed: int
) -> Float[Tensor, "comparison response"]:
    """Degrees 1 to 4 in a random order in each comparison."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(len(grade), DIGITS, generator=generator).argsort(1)
    return torch.cat([grade[:, :1], grade[:, 1:].gather(1, order)], 1)


def batches(batch: ComparisonBatch[Wishes], seed: int) -> list[ComparisonBatch[Wishes]]:
    """As many random parts of a batch as there are steps."""
    generator = torch.Generator().manual_seed(seed)
    names = ("responses", "present", "strength", "margin", "weight", "grade", "group")
    chosen = torch.randint(len(batch), (STEPS, BATCH), generator=generator)
    return [
        replace(
            batch,
            contexts=batch.contexts.rows(rows),
            **{name: getattr(batch, name)[rows] for name in names},
        )
        for rows in chosen
    ]


def tuned(
    start: DigitPolicy,
    contrast: Contrast,
    gamma: float,
    comparisons: ComparisonBatch[Wishes],
    seed: int,
) -> DigitPolicy:
    """The policy after so many steps; without a gamma there is no term."""
    reference = frozen_copy(start)
    policy = frozen_copy(start).requires_grad_(requires_grad=True).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        terms: list[Auxiliary] = [PreferenceDegree(DIGITS + 1, gamma)] if gamma else []
        objective = CompareObjective(contrast, terms)
        fit_parts(objective, policy)
    optimizer = torch.optim.Adam([*policy.parameters(), *objective.parameters()], lr=RATE)
    for batch in batches(comparisons, seed):
        optimizer.zero_grad()
        objective(policy, reference, batch)["loss"].backward()
        optimizer.step()
    return policy.eval()


def measured(drawn: World, policy: DigitPolicy, name: str) -> dict[str, float]:
    """The three measures of a policy on held-out contexts."""
    held = drawn.held_out
    with torch.no_grad():
        ratio = policy.log_prob(held.contexts, held.responses).sum(-1)
        ratio -= drawn.start.log_prob(held.contexts, held.responses).sum(-1)
    order = [rank_correlation(a, b) for a, b in zip(ratio.numpy(), held.grade.numpy(), strict=True)]
    return {
        f"probe, {name}": probe_accuracy(policy, drawn.training, held),
        f"order, {name}": float(np.mean(order)),
        f"utility, {name}": best_utility(drawn, policy),
    }


def probe_accuracy(
    policy: DigitPolicy, known: ComparisonBatch[Wishes], held: ComparisonBatch[Wishes]
) -> float:
    """Accuracy of a linear readout of the degree, fitted to what is known, on what is held out."""
    with torch.no_grad():
        inside, held_inside = (
            policy.represented(batch.contexts, batch.responses).flatten(0, 1)
            for batch in (known, held)
        )
    degree, held_degree = ((-batch.grade).long().flatten() for batch in (known, held))
    weights = torch.zeros(WIDTH + 1, DIGITS + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=60)

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = inside @ weights[:-1] + weights[-1]
        loss = functional.cross_entropy(logits, degree) + 1e-4 * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    found = (held_inside @ weights[:-1] + weights[-1]).argmax(-1)
    return float((found == held_degree).double().mean())


def best_utility(drawn: World, policy: DigitPolicy) -> float:
    """Mean true utility of the ten likeliest of all responses, for some held-out contexts."""
    contexts = drawn.held_out.contexts.rows(slice(None, None, 3 * LOGGED))
    every = torch.cartesian_prod(*[torch.arange(CODES)] * DIGITS)
    with torch.no_grad():
        log_prob = policy.log_prob(contexts, every.expand(len(contexts), -1, -1)).sum(-1)
    likeliest = every[log_prob.topk(10).indices]
    liked = torch.einsum("lcf,bf->blc", drawn.utility, contexts.vectors)
    worth = liked.gather(2, likeliest.movedim(1, 2)).sum(1)
    return float(worth.mean())


if __name__ == "__main__":
    main()
