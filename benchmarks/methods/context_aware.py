"""A reward that reads the context: reversals, with and without having trained on them.

Responses reach six goals; a context asks for one of them. A blind reward, one trained on pairs
whose winner is the same in every context, the same with reversals for half of its pairs, and one
trained on random pairs, all judged on reversals of responses they never saw. Then the probability
of a preference where the context is only guessed: the mean over contexts beside the likeliest one.
"""

import argparse
import json
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from personalize.evaluation.intervals import bootstrap_interval
from personalize.evaluation.reversals import reversal_report, reversals
from personalize.preference_optimization.comparisons import Comparisons, decided
from personalize.rewards.bradley_terry import RewardTraining
from personalize.rewards.context_reward import (
    ContextReward,
    chosen_win_share,
    context_posterior,
    fit_context_reward,
    marginal_win_share,
)

GOALS, WIDTH, RESPONSES, PAIRS = 6, 12, 400, 2000
SURENESS = 10.0
"""Bradley-Terry utility of a whole unit of a goal, for judges that are not always sure."""
TRAINING = RewardTraining(steps=500, batch_size=128, learning_rate=3e-3)
CRITERION = (
    "on held-out reversals the blind reward is right on exactly half, the one trained on reversals "
    "on more than 0.9, and more often than one trained without; the mean over contexts has the "
    "smaller calibration error than the likeliest context"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    found = experiment(tuple(range(options.seeds)))
    for name, value in found["measures"].items():
        print(f"{name:52} {value['mean']:6.3f}  [{value['low']:6.3f}, {value['high']:6.3f}]")
    if options.json:
        print(json.dumps(found))


def experiment(seeds: tuple[int, ...]) -> dict[str, Any]:
    """All measures over seeds, and whether the criterion is met."""
    rows = [one_seed(seed) for seed in seeds]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    measures = {name: vars(bootstrap_interval(values)) for name, values in columns.items()}
    trained = columns["accuracy, trained with reversals"]
    shown = (
        (columns["accuracy, blind"] == 0.5).all()
        and trained.mean() > 0.9
        and bootstrap_interval(trained - columns["accuracy, trained without reversals"]).low > 0
        and (
            columns["calibration error, mean over contexts"]
            < columns["calibration error, likeliest context"]
        ).all()
    )
    return {
        "measures": measures, "seeds": list(seeds), "criterion": CRITERION, "shown": bool(shown),
    }  # fmt: skip


def one_seed(seed: int) -> dict[str, float]:
    """One draw of responses."""
    generator = torch.Generator().manual_seed(seed)
    readout = torch.randn(WIDTH, GOALS, generator=generator) / WIDTH**0.5
    responses = torch.randn(2 * RESPONSES, WIDTH, generator=generator)
    goals = (responses @ readout).sigmoid()
    train, test = slice(0, RESPONSES), slice(RESPONSES, None)
    known = torch.ones(RESPONSES, GOALS, dtype=torch.bool)
    held = reversals(goals[test], known, margin=0.1, maximum=1000, seed=seed)
    flips = reversals(goals[train], known, margin=0.1, maximum=PAIRS // 4, seed=seed)
    agreed = same_winner(goals[train], generator)
    random = random_pairs(goals[train], generator)
    joined = _joined(agreed[: PAIRS // 2], (flips.response, flips.goal, flips.comparisons))
    tables = {
        "blind": _table(random),
        "trained without reversals": _table(agreed),
        "trained with reversals": joined,
        "trained on random pairs": _table(random),
    }
    result = {}
    for name, (response, goal, comparisons) in tables.items():
        contexts = torch.eye(GOALS)
        contexts = contexts * 0 if name == "blind" else contexts
        model = fit_context_reward(
            responses[train][response], contexts[goal], comparisons, width=64, training=TRAINING
        )
        with torch.no_grad():
            scores = model(responses[test][held.response], contexts[held.goal])
        report = reversal_report(scores, held)
        result[f"accuracy, {name}"] = report.accuracy.mean
        result[f"both right, {name}"] = report.both_right.mean
    response, goal, comparisons = _table(random_pairs(goals[train], generator, judged=True))
    judge = fit_context_reward(
        responses[train][response], torch.eye(GOALS)[goal], comparisons, width=32,
        training=TRAINING,
    )  # fmt: skip
    return result | guessed(judge, responses[test], goals[test], generator)


def guessed(
    model: ContextReward, responses: Tensor, goals: Tensor, generator: torch.Generator
) -> dict[str, float]:
    """How well preferences are predicted when the context must be guessed from two answers."""
    people, contexts = 1500, torch.eye(GOALS)
    with torch.no_grad():
        scores = model(
            responses[:, None].expand(-1, GOALS, -1), contexts.expand(len(responses), -1, -1)
        )
    wanted = torch.randint(GOALS, (people,), generator=generator)
    pairs = torch.randint(len(responses), (people, 3, 2), generator=generator)
    utility = (
        SURENESS * goals[pairs].gather(-1, wanted[:, None, None, None].expand(-1, 3, 2, 1))[..., 0]
    )
    win = torch.rand(people, 3, generator=generator) < (utility[..., 0] - utility[..., 1]).sigmoid()
    margins = scores[pairs[..., 0]] - scores[pairs[..., 1]]
    signed = torch.where(win[..., None], margins, -margins)
    shares = context_posterior(torch.zeros(GOALS).expand(people, -1), signed[:, :2])
    outcome = win[:, 2].float()
    own = margins[:, 2].gather(1, wanted[:, None])[:, 0].sigmoid()
    predictions = {
        "mean over contexts": marginal_win_share(shares, margins[:, 2]),
        "likeliest context": chosen_win_share(shares, margins[:, 2]),
        "context not guessed": marginal_win_share(
            torch.full_like(shares, 1 / GOALS), margins[:, 2]
        ),
        "context known": own,
    }
    result = {}
    for name, share in predictions.items():
        result[f"calibration error, {name}"] = calibration_error(share, outcome)
        result[f"right, {name}"] = float(((share > 0.5) == win[:, 2]).float().mean())
    return result


def calibration_error(share: Float[Tensor, " pair"], outcome: Float[Tensor, " pair"]) -> float:
    """Mean gap between what was said and what came, over ten equal groups by what was said."""
    order = share.argsort()
    said, came = share[order].view(10, -1).mean(1), outcome[order].view(10, -1).mean(1)
    return float((said - came).abs().mean())


def same_winner(goals: Tensor, generator: torch.Generator) -> Tensor:
    """(winner, loser, goal), the winner ahead on every goal: the context says nothing new."""
    pairs = torch.combinations(torch.arange(len(goals)), 2)
    gap = goals[pairs[:, 0]] - goals[pairs[:, 1]]
    first, second = (gap > 0).all(-1), (gap < 0).all(-1)
    found = torch.cat([pairs[first], pairs[second].flip(1)])
    found = found[torch.randperm(len(found), generator=generator)]
    found = found.repeat(1 + PAIRS // len(found), 1)[:PAIRS]
    asked = torch.randint(GOALS, (len(found), 1), generator=generator)
    return torch.cat([found, asked], 1)


def random_pairs(goals: Tensor, generator: torch.Generator, *, judged: bool = False) -> Tensor:
    """(winner, loser, goal) of random pairs under random goals; `judged` by who is not sure."""
    first = torch.randint(len(goals), (PAIRS,), generator=generator)
    step = torch.randint(1, len(goals), (PAIRS,), generator=generator)
    second = (first + step) % len(goals)
    asked = torch.randint(GOALS, (PAIRS,), generator=generator)
    gap = goals[first, asked] - goals[second, asked]
    unsure = torch.rand(PAIRS, generator=generator) < (SURENESS * gap).sigmoid()
    wins = (unsure if judged else gap > 0)[:, None]
    pairs = torch.stack([first, second], 1)
    return torch.cat([torch.where(wins, pairs, pairs.flip(1)), asked[:, None]], 1)


def _table(pairs: Tensor) -> tuple[Tensor, Tensor, Comparisons]:
    """Rows (response, goal) and their comparisons from (winner, loser, goal)."""
    rows = torch.arange(2 * len(pairs)).view(-1, 2)
    return pairs[:, :2].flatten(), pairs[:, 2].repeat_interleave(2), decided(rows)


def _joined(
    agreed: Tensor, flips: tuple[Tensor, Tensor, Comparisons]
) -> tuple[Tensor, Tensor, Comparisons]:
    response, goal, comparisons = _table(agreed)
    shift = len(response)
    pairs = torch.cat(
        [
            torch.stack([comparisons.better, comparisons.worse], 1),
            torch.stack([flips[2].better, flips[2].worse], 1) + shift,
        ]
    )
    return torch.cat([response, flips[0]]), torch.cat([goal, flips[1]]), decided(pairs)


if __name__ == "__main__":
    main()
