"""Hindsight labels of RLHS: who is preferred, an assistant that exaggerates or one that does not?

Three products at different prices have the wanted feature or not, each with the same probability.
The assistant is honest, claims it of all, claims it of the cheapest alone, or says nothing. The
customer buys the cheapest product of which it is claimed, and nothing where it is claimed of none;
where nothing is said, the cheapest. Right after buying, the customer believes the claims; in
hindsight the feature is there or missing, which is worth -1. Labels by foresight, by partial and by
full hindsight train the same policy, a table of what is said when, by DPO.
"""

import argparse
import json
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from personalize.evaluation.intervals import bootstrap_interval
from personalize.preference_optimization.candidates import Candidates, PairBuilder
from personalize.preference_optimization.extremes import PairsByReward
from personalize.preference_optimization.hindsight import HindsightPairs
from personalize.preference_optimization.policy import frozen_copy
from personalize.preference_optimization.tabular_policy import NumberedContexts, TabularPolicy
from personalize.rewards.bradley_terry import bradley_terry_loss

PRODUCTS, SAYS = 3, ("honest", "claims it of all", "claims it of the cheapest", "says nothing")
HONEST, EXAGGERATES = 0, (1, 2)
SCENARIOS, STEPS, BETA, LEARNING_RATE = 400, 150, 0.5, 0.1
EXPECTED, OUTCOME = {"expected": 1.0}, {"outcome": 1.0}
ARMS: dict[str, PairBuilder] = {
    "foresight": PairsByReward(EXPECTED, per_context=6),
    "partial hindsight": HindsightPairs(EXPECTED, OUTCOME, see_both=False, per_context=6),
    "full hindsight": HindsightPairs(EXPECTED, OUTCOME, per_context=6),
}
CRITERION = (
    "where a claim can be false, foresight prefers exaggeration to honesty in at least .4 of the "
    "comparisons and full hindsight in none; tuned by foresight satisfaction rises and true "
    "utility falls, tuned by full hindsight true utility rises"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    found = experiment(tuple(range(options.seeds)))
    for name, value in found["measures"].items():
        print(f"{name:60} {value['mean']:6.3f}  [{value['low']:6.3f}, {value['high']:6.3f}]")
    print(f"shown: {found['shown']}")
    if options.json:
        print(json.dumps({**found, "criterion": CRITERION}))


def experiment(seeds: tuple[int, ...]) -> dict[str, Any]:
    """All measures over seeds, and whether the criterion is met."""
    rows = [one_seed(seed) for seed in seeds]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    measures = {name: vars(bootstrap_interval(values)) for name, values in columns.items()}
    shown = (
        measures["foresight: prefers exaggeration"]["low"] >= 0.4
        and measures["full hindsight: prefers exaggeration"]["high"] == 0
        and measures["foresight: gain in satisfaction"]["low"] > 0
        and measures["foresight: gain in true utility"]["high"] < 0
        and measures["full hindsight: gain in true utility"]["low"] > 0
    )
    return {"measures": measures, "seeds": list(seeds), "shown": bool(shown)}


def one_seed(seed: int) -> dict[str, float]:
    """Labels and policies on one draw of scenarios."""
    generator = torch.Generator().manual_seed(seed)
    price = (0.2 + 0.6 * torch.rand(SCENARIOS, PRODUCTS, generator=generator)).sort(-1).values
    there = torch.rand(SCENARIOS, PRODUCTS, generator=generator) < 0.5
    expected, outcome = utilities(price, there)
    rows = candidates(expected, outcome)
    kinds = (there.long() * 2 ** torch.arange(PRODUCTS)).sum(-1)
    result = {}
    for name, builder in ARMS.items():
        compared = builder(rows, seed=seed)
        said = rows.response[compared.rows]
        wrong = ~there[rows.context[compared.rows[:, 0]], 0]  # of the cheapest, so a claim is false
        false = torch.isin(said, torch.tensor(EXAGGERATES))
        asked = wrong & (said == HONEST).any(-1) & false.any(-1)
        result[f"{name}: prefers exaggeration"] = float(false[asked, 0].double().mean())
        contexts = kinds[rows.context[compared.rows[:, 0]]]
        probabilities = tuned(contexts, said)
        for measure, utility in (("satisfaction", expected), ("true utility", outcome)):
            gain = (probabilities[kinds] - 1 / len(SAYS)) * utility
            result[f"{name}: gain in {measure}"] = float(gain.sum(-1).mean())
    return result


def utilities(
    price: Float[Tensor, "scenario product"], there: Tensor
) -> tuple[Float[Tensor, "scenario says"], Float[Tensor, "scenario says"]]:
    """What the customer believes to have gained right after each answer, and what is true."""
    claims = torch.stack(
        [
            there,
            torch.ones_like(there),
            torch.arange(PRODUCTS).expand_as(there) == 0,
            torch.ones_like(there),
        ],
        1,
    )
    buys = claims.any(-1)
    bought = claims.long().argmax(-1)  # the first is the cheapest
    kept = there.gather(1, bought)
    worth = 1 - price.gather(1, bought)
    believed = torch.ones_like(buys)
    believed[:, 3] = False  # where nothing is said the feature is as likely there as not
    expected = torch.where(believed, worth, (worth - 1) / 2)
    outcome = torch.where(kept, worth, -1.0)
    none = torch.zeros_like(worth)
    return torch.where(buys, expected, none), torch.where(buys, outcome, none)


def candidates(expected: Tensor, outcome: Tensor) -> Candidates:
    """Every answer in every scenario, with both rewards."""
    scenarios, says = expected.shape
    context = torch.arange(scenarios).repeat_interleave(says)
    none = torch.zeros(len(context))
    return Candidates(
        context=context,
        origin=context,
        response=torch.arange(says).repeat(scenarios),
        responses=torch.arange(says),
        target=none.bool(),
        gate=~none.bool(),
        reward=torch.stack([expected, outcome], -1).flatten(0, 1),
        names=("expected", "outcome"),
        log_prob=none,
        distance=none,
        group=none.long(),
    )


def tuned(contexts: Tensor, said: Tensor) -> Float[Tensor, "kind says"]:
    """What a policy says in each kind of scenario after DPO from saying all alike."""
    policy = TabularPolicy(torch.zeros(2**PRODUCTS, len(SAYS)))
    reference = frozen_copy(policy)
    optimizer = torch.optim.Adam(policy.parameters(), lr=LEARNING_RATE)
    where = NumberedContexts(contexts)
    for _ in range(STEPS):
        ratio = (policy.log_prob(where, said) - reference.log_prob(where, said)).sum(-1)
        margin = BETA * (ratio[:, 0] - ratio[:, 1])
        loss = bradley_terry_loss(margin, torch.ones_like(margin)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy.probabilities.detach()


if __name__ == "__main__":
    main()
