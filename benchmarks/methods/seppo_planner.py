"""Older checkpoints as opponents: does a planner learn more from its log than by cloning it?

The log is the winner; a plan that an older checkpoint draws stands against it. Cloning looks at the
log alone; `always the loser` is DPO against the checkpoint's plans (SPIN); SePPO takes them for
losers only where the planner has passed the checkpoint by on the log. The same steps from the same
trained planner under each driver's own earlier style, a sweep of learning rates each.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.methods.planner_tuning import (
    LARGEST_GRADIENT,
    Tuned,
    Tuning,
    average,
    changes,
    drivers,
    logged,
    means,
    opened,
    table,
    tuned,
)
from driving.tuned_plans import TunablePlans
from personalize.preference_optimization.comparison_objective import (
    CompareObjective,
    ImitateObjective,
)
from personalize.preference_optimization.contrast import Contrast
from personalize.preference_optimization.contrasts import DPO, SePPO
from personalize.preference_optimization.policy import frozen_copy
from personalize.preference_optimization.rounds import CheckpointPool
from personalize.preference_optimization.tunable import TEST, VALIDATION

EVERY, MOST = 30, 7
"""A checkpoint is kept so often, and so many of them."""
RATES = (1e-5, 1e-4)
CRITERION = "SePPO's distance to the log on test moments is below cloning's: interval below 0"


def main() -> None:
    """Tune, drive the test moments, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/demo-driving"))
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    half = opened(options.run, moments=options.moments, asked=("before",))
    result = experiment(half, options.run, options.steps, tuple(range(options.seeds)))
    print(table(result["means"]))
    for name, row in result["less_cloning"].items():
        cells = ", ".join(
            f"{m} {row[m]['mean']:+.4f} [{row[m]['low']:+.4f}, {row[m]['high']:+.4f}]"
            for m in ("ade_m", "pdms", "collision")
        )
        print(f"{name} less cloning: {cells}")
    if options.json:
        print(json.dumps(result | {"criterion": CRITERION}))


def experiment(half: TunablePlans, run: Path, steps: int, seeds: tuple[int, ...]) -> dict[str, Any]:
    """All three, as means over seeds in every context."""
    rows = logged(half)
    ways = {
        "cloning": lambda chosen: tuned(half, ImitateObjective, rows, chosen),
        "always the loser": lambda chosen: against_checkpoints(half, DPO(0.1), chosen),
        "SePPO": lambda chosen: against_checkpoints(half, SePPO(0.1), chosen),
    }
    groups = drivers(half, run / "styles", TEST)
    found = {"before": half.evaluate(half.policy, TEST)}
    facts: dict[str, Any] = {}
    for name, train in ways.items():
        made, facts[name] = nearest_to_log(half, train, steps, seeds)
        found[name] = average([half.evaluate(one.policy, TEST) for one in made])
    less = {
        name: changes(found[name], found["cloning"], groups)
        for name in ("always the loser", "SePPO")
    }
    return {
        "means": {name: means(value, groups) for name, value in found.items()},
        "less_cloning": less,
        "facts": facts,
        "contexts": len(groups),
        "drivers": len(np.unique(groups)),
        "steps": steps,
        "seeds": list(seeds),
        "shown": less["SePPO"]["ade_m"]["high"] < 0,
    }


def nearest_to_log(
    half: TunablePlans,
    train: Callable[[Tuning], Tuned],
    steps: int,
    seeds: tuple[int, ...],
) -> tuple[list[Tuned], dict[str, Any]]:
    """A policy per seed at the rate whose plans come nearest to the log of validation moments."""
    scores, made = {}, {}
    for rate in RATES:
        made[rate] = train(Tuning(rate, steps=steps, seed=seeds[0]))
        scores[rate] = float(half.evaluate(made[rate].policy, VALIDATION).values["ade_m"].mean())
    best = min(scores, key=lambda rate: scores[rate])
    others = [train(Tuning(best, steps=steps, seed=seed)) for seed in seeds[1:]]
    facts = {"learning_rate": best, "validation_ade_m": {f"{r:g}": s for r, s in scores.items()}}
    return [made[best], *others], facts


def against_checkpoints(half: TunablePlans, contrast: Contrast, settings: Tuning) -> Tuned:
    """The half's policy after some steps of the log against plans of older checkpoints."""
    policy, objective, rows = copy.deepcopy(half.policy), CompareObjective(contrast), logged(half)
    weights = [one for one in policy.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    generator = torch.Generator().manual_seed(settings.seed)
    pool, opponent = CheckpointPool(MOST, EVERY), frozen_copy(policy)
    losses, began = [], time.perf_counter()
    for step in range(settings.steps):
        pool.offer(step, policy.state_dict())
        opponent.load_state_dict(pool.draw(settings.seed * settings.steps + step))
        chosen = torch.randint(len(rows), (settings.batch_size,), generator=generator)
        batch = rows.batch(chosen, half)
        drawn = opponent.sample(batch.contexts, 1, seed=settings.seed * settings.steps + step)
        both = torch.cat([batch.responses, drawn.responses], 1)
        there = torch.ones(len(batch), 2, dtype=torch.bool)
        duel = replace(batch, responses=both, present=there, grade=torch.zeros(len(batch), 2))
        loss = objective(policy, opponent, duel)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, LARGEST_GRADIENT)
        optimizer.step()
        losses.append(float(loss.detach()))
    return Tuned(policy.eval(), losses, (time.perf_counter() - began) / settings.steps)


if __name__ == "__main__":
    main()
