"""Self-play on preferences without a best: who is hard to beat, and who is beaten by everything?

Rock, paper and scissors, and a tournament of five arms with random margins. A policy climbs its
exact mean share of wins against itself or against a queue of its former selves; what the best
response wins against its average over time, against its last iterate and against the average of the
queue says how far from the minimax winner each is. The scalar way fits Bradley-Terry scores to
unequally frequent comparisons and climbs those.
"""

import argparse
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personalize.evaluation.intervals import bootstrap_interval
from personalize.rewards.self_play import nash_score

RATE, STEPS, QUEUES = 0.05, 4000, (1, 20, 100)
CRITERION = (
    "rock, paper, scissors: the best response wins at most 0.55 against the average of self-play, "
    "in every seed, and more than 0.95 against the policy of a scalar reward"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    rows = [one_seed(seed) for seed in range(options.seeds)]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    measures = {name: vars(bootstrap_interval(values)) for name, values in columns.items()}
    for name, value in measures.items():
        print(f"{name:58} {value['mean']:6.3f}  [{value['low']:6.3f}, {value['high']:6.3f}]")
    average = columns["rock-paper-scissors, against itself, average"]
    scalar = columns["rock-paper-scissors, scalar reward"]
    shown = bool((average <= 0.55).all() and (scalar > 0.95).all())
    found: dict[str, Any] = {"measures": measures, "seeds": list(range(options.seeds))}
    if options.json:
        print(json.dumps({**found, "criterion": CRITERION, "shown": shown}))


def one_seed(seed: int) -> dict[str, float]:
    """What the best response wins against every way's policy."""
    generator = torch.Generator().manual_seed(seed)
    cycle = torch.tensor([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]], dtype=torch.float64)
    margins = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    tournament = (2 * (margins - margins.T)).sigmoid()
    result = {}
    for name, wins in (("rock-paper-scissors", cycle), ("five arms", tournament)):
        start = torch.rand(len(wins), generator=generator, dtype=torch.float64)
        for queue in QUEUES:
            played = against_itself(wins, start / start.sum(), queue)
            way = "against itself" if queue == 1 else f"against a queue of {queue}"
            result[f"{name}, {way}, average"] = exploited(wins, played.mean(0))
            result[f"{name}, {way}, last"] = exploited(wins, played[-1])
            if queue > 1:
                result[f"{name}, {way}, queue"] = exploited(wins, played[-queue:].mean(0))
        often = torch.rand(len(wins), len(wins), generator=generator, dtype=torch.float64)
        scores = fitted_scores(wins, often + often.T)
        scalar = (RATE * STEPS * scores).softmax(-1)
        result[f"{name}, scalar reward"] = exploited(wins, scalar)
    return result


def against_itself(wins: Tensor, policy: Tensor, queue: int) -> Tensor:
    """Policies of exponentiated ascent on wins against the newest few; expectations are exact."""
    played = [policy]
    for _ in range(STEPS):
        opponent = torch.stack(played[-queue:]).mean(0)
        reward = nash_score(wins * opponent * len(opponent))
        grown = played[-1] * (RATE * reward).exp()
        played.append(grown / grown.sum())
    return torch.stack(played)


def exploited(wins: Tensor, policy: Tensor) -> float:
    """What the best response wins against a policy; 1/2 for the minimax winner."""
    return float((wins @ policy).amax())


def fitted_scores(wins: Tensor, often: Tensor) -> Tensor:
    """Bradley-Terry scores of comparisons that are `often` made, by gradient steps to the end."""
    scores = torch.zeros(len(wins), dtype=torch.float64)
    for _ in range(3000):
        gap = often * (wins - (scores[:, None] - scores).sigmoid())
        scores = scores + 0.2 * gap.sum(1)
    return scores


if __name__ == "__main__":
    main()
