"""Does one critic learnt from mixed logs improve two generators that it never touched?

A point walks on a line for 8 steps towards a goal that its preference names; a step longer than
1.5, which no log holds, is a crash and costs 3. In the logs 30 % of the runs are driven well and
the others at random. Generator A makes what the logs hold, B is wider, shifted, and much of what it
makes was never seen. In the world `near` goals are reached; in `far` they never are, so a longer
step is better as far as the logs can tell.

The critic is learnt by IQL alone, with the candidates' term on what generator A makes, and with
random actions among the candidates, as released. Shown if in both worlds, over the seeds, the
return of re-ranked candidates of the last rises with every K of 1, 5, 10 and 50 for both generators
(the interval of each difference lies above 0), it ranks held-out good and bad actions right in at
least 80 %, and no action outside what was logged seems better than the best inside in at least
95 % of states.
"""

import argparse
import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from personalize.evaluation.intervals import bootstrap_interval
from personalize.rewards.critic import Critic, CriticContext, Transitions, returns_to_go
from personalize.rewards.critic_training import CriticTraining, fit_critic
from personalize.steering.particles import select

STEPS, WIDEST, DISCOUNT = 8, 1.5, 0.9
FARTHEST_GOAL = {"near": 1.5, "far": 8.0}
LONGEST_LOGGED, CRASHES_FROM, CRASH = 1.0, 1.5, 3.0
GOOD_SHARE, RUNS, RIDES = 0.3, 400, 100
COUNTS = (1, 5, 10, 50)
TERMS = {"iql": 0.0, "cal_ql": 1.0, "cal_ql_random": 1.0}
"""Weights of the candidates' term."""


@dataclass(frozen=True)
class Drawn:
    """Some points on the road: where they are and where they want to be."""

    place: Tensor
    goal: Tensor

    @property
    def states(self) -> Tensor:
        """What the critic sees of a place."""
        return torch.stack((self.place, self.place.square(), torch.ones_like(self.place)), -1)


def main() -> None:
    """Measure, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument(
        "--worlds", nargs="+", choices=tuple(FARTHEST_GOAL), default=[*FARTHEST_GOAL]
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    print(f"{'world and critic':20} {'measure':22}  mean   95 % interval")
    for world in options.worlds:
        for term in TERMS:
            name = f"{world} {term}"
            rows[name] = summary(
                [measured(world, term, seed, options.steps) for seed in range(options.seeds)]
            )
            for measure, (mean, low, high) in rows[name].items():
                print(f"{name:20} {measure:22} {mean:6.3f}  {low:6.3f} to {high:6.3f}", flush=True)
    shown = {
        name: all(row[f"gain_{g}_{k}"][1] > 0 for g in "AB" for k in COUNTS[1:])
        and row["ranked_right"][0] >= 0.8
        and row["outside_below"][0] >= 0.95
        for name, row in rows.items()
    }
    print(shown)
    if options.json:
        criterion = (__doc__ or "").split("\n\n")[-1].strip()
        print(
            json.dumps(
                {
                    "method": "v_gps",
                    "seeds": options.seeds,
                    "criterion": criterion,
                    "rows": rows,
                    "shown_by": shown,
                    "shown": all(shown[f"{world} cal_ql_random"] for world in options.worlds),
                }
            )
        )


def measured(world: str, term: str, seed: int, steps: int) -> dict[str, float]:
    """One critic in one world."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    data = logged(world, random, scattered=term.endswith("random"))
    critic = Critic(3, 2, 1, width=48, discount=DISCOUNT)
    weight = TERMS[term]
    fit_critic(
        critic,
        data,
        CriticTraining(steps=steps, learning_rate=2e-3, candidate_weight=weight, seed=seed),
    )
    rows: dict[str, float] = {}
    for generator in "AB":
        before = None
        for count in COUNTS:
            worth = ridden(critic, world, generator, count, seed)
            rows[f"return_{generator}_{count}"] = worth
            if before is not None:
                rows[f"gain_{generator}_{count}"] = worth - before
            before = worth
    rows |= ranked(critic, world, seed)
    return rows


def reward(at: Drawn, action: Tensor) -> tuple[Tensor, Tensor]:
    """What a step earns, and where it leads; the second number of an action is for nothing."""
    place = at.place + action[..., 0]
    crashed = action.norm(dim=-1) > CRASHES_FROM
    earned = 1 - (place - at.goal).abs() - 0.3 * action[..., 1].abs() - CRASH * crashed.float()
    return earned, torch.where(crashed, at.place, place)


def good(at: Drawn, random: torch.Generator) -> Tensor:
    """What a good driver does."""
    step = (at.goal - at.place).clamp(-0.6, 0.6)
    action = torch.stack((step, torch.zeros_like(step)), -1)
    return within(action + 0.1 * torch.randn(action.shape, generator=random))


def within(action: Tensor) -> Tensor:
    """Actions no longer than any that was logged."""
    return action / (action.norm(dim=-1, keepdim=True) / LONGEST_LOGGED).clamp_min(1)


def made(generator: str, at: Drawn, count: int, random: torch.Generator) -> Tensor:
    """Candidates of a generator, [point, candidate, 2]."""
    shape = (len(at.place), count, 2)
    if generator == "A":
        wide = within(0.5 * torch.randn(shape, generator=random))
        every = Drawn(at.place[:, None].expand(shape[:2]), at.goal[:, None].expand(shape[:2]))
        well = good(every, random)
        is_good = torch.rand(shape[:2], generator=random)[..., None] < GOOD_SHARE
        return torch.where(is_good, well, wide)
    return 1.0 * torch.randn(shape, generator=random) + torch.tensor([0.3, 0.3])


def start(world: str, count: int, random: torch.Generator) -> Drawn:
    """Points that begin anywhere on the road, and goals."""
    draw = 2 * (torch.rand(2, count, generator=random) - 0.5)
    goal = FARTHEST_GOAL[world] * draw[1]
    if world == "far":
        goal = goal + goal.sign() * FARTHEST_GOAL[world]
    return Drawn(WIDEST * draw[0], goal)


def logged(world: str, random: torch.Generator, *, scattered: bool) -> Transitions:
    """Mixed logs, run after run."""
    at = start(world, RUNS, random)
    well = (torch.rand(RUNS, generator=random) < GOOD_SHARE)[:, None]
    steps = []
    for _ in range(STEPS):
        wide = within(0.5 * torch.randn((RUNS, 2), generator=random))
        action = torch.where(well, good(at, random), wide)
        earned, place = reward(at, action)
        candidates = made("A", at, 8, random)
        if scattered:
            candidates = torch.cat(
                (candidates, 4 * torch.rand((RUNS, 8, 2), generator=random) - 2), 1
            )
        then = Drawn(place, at.goal)
        steps.append((at.states, action, earned, then.states, candidates))
        at = then
    state, action, earned, then, candidates = (
        torch.stack(part, 1).flatten(0, 1) for part in zip(*steps, strict=True)
    )
    ended = (torch.arange(len(earned)) % STEPS) == STEPS - 1
    goals = at.goal.repeat_interleave(STEPS)[:, None]
    to_go = returns_to_go(earned, ended, DISCOUNT)
    return Transitions(state, goals, action, earned, then, goals, ended, to_go, candidates)


@torch.no_grad()
def ridden(critic: Critic, world: str, generator: str, count: int, seed: int) -> float:
    """Mean return of runs whose every step is the critic's choice among so many candidates."""
    random = torch.Generator().manual_seed(1000 + seed)
    at = start(world, RIDES, random)
    total = torch.zeros(RIDES)
    for _ in range(STEPS):
        candidates = made(generator, at, count, random)
        worth = critic(candidates, CriticContext(at.states, at.goal[:, None]))
        action = candidates[torch.arange(RIDES), select(worth)]
        earned, place = reward(at, action)
        total = total + earned
        at = Drawn(place, at.goal)
    return float(total.mean())


@torch.no_grad()
def ranked(critic: Critic, world: str, seed: int) -> dict[str, float]:
    """How often a good action beats a random one, and the best inside beats all outside."""
    random = torch.Generator().manual_seed(2000 + seed)
    at = start(world, 1000, random)
    context = CriticContext(at.states, at.goal[:, None])
    wide = within(0.5 * torch.randn((1000, 2), generator=random))
    pair = torch.stack((good(at, random), wide), 1)
    better = reward(at, pair[:, 0])[0] > reward(at, pair[:, 1])[0] + 0.1
    worth = critic(pair, context)
    inside = critic(made("A", at, 50, random), context).amax(1)
    direction = torch.randn((1000, 50, 2), generator=random)
    far = 4 * direction / direction.norm(dim=-1, keepdim=True)
    outside = critic(far, context).amax(1)
    return {
        "ranked_right": float((worth[:, 0] > worth[:, 1])[better].float().mean()),
        "outside_below": float((outside < inside).float().mean()),
        "outside_excess": float((outside - inside).mean()),
    }


def summary(values: list[dict[str, float]]) -> dict[str, tuple[float, float, float]]:
    """Mean and interval over seeds of every measure."""
    rows = {}
    for name in values[0]:
        found = bootstrap_interval(np.array([value[name] for value in values]))
        rows[name] = (found.mean, found.low, found.high)
    return rows


if __name__ == "__main__":
    main()
