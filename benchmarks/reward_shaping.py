"""Shaping on and off under a reward model that was hardly trained, on a real recommender.

A reward model learns for a few steps, or until it is done, what people met next; a recommender is
then tuned by GRPO to please it: by the raw score and by PAR, with advantages as large as rewards
say and the divergence taken off them, or scaled within each group beside a penalty. The proxy is
the model's score of what the tuned recommender draws for other people; the truth is how like the
item that was met next the drawn items are, and how often they are it, neither of which the model
is told. Over-optimised is what pleases more and is worse.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personalize.__main__ import main as personalize
from personalize.evaluation.intervals import bootstrap_interval, paired_comparison
from personalize.preference_optimization.comparison_set import LoggedTargets
from personalize.preference_optimization.objective import Objective
from personalize.preference_optimization.policy import Policy, frozen_copy
from personalize.preference_optimization.rolling_out import rolled_out
from personalize.preference_optimization.rollout_objective import Drawing, RolloutObjective
from personalize.preference_optimization.tunable import TEST, TRAINING, Tunable
from personalize.rewards.advantage import Advantage, NormalizeThenSum, NoScale
from personalize.rewards.combination import WeightedSum
from personalize.rewards.learned_reward import LearnedSource
from personalize.rewards.pipeline import RewardPipeline
from personalize.rewards.shaping import (
    PreferenceAsReward,
    Shaping,
    Unshaped,
)
from recsys.item_rewards import Hit, TargetLikeness
from recsys.tuning import TunedItems

UNSCALED = NormalizeThenSum(NoScale(), NoScale())
SHAPINGS: dict[str, tuple[Shaping, Advantage | None]] = {
    "raw": (Unshaped(), UNSCALED),
    "PAR": (PreferenceAsReward(), UNSCALED),
    "raw, groups scaled": (Unshaped(), None),
    "PAR, groups scaled": (PreferenceAsReward(), None),
}
DRAWN = 8
CRITERION = (
    "under the hardly trained model PAR loses less of the truth than the raw score at the same "
    "weight of the divergence (interval of the paired difference over people)"
)


def main() -> None:
    """Run all variants, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="run of a recommender")
    parser.add_argument("--preferences", type=Path, help="artifact `preferences`")
    parser.add_argument("--out", type=Path, required=True, help="folder for reward models")
    parser.add_argument("--steps", type=int, default=80, help="tuning steps")
    parser.add_argument("--batch", type=int, default=32, help="contexts in a step")
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--reward-steps", type=int, nargs="+", default=[4, 600])
    parser.add_argument("--kl", type=float, nargs="+", default=[0.05])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for reward_steps in options.reward_steps:
        half = judged_half(options, reward_steps)
        before = truth(half.policy, half)
        rows.append(shown("untuned", reward_steps, 0.0, before, before))
        for kl_weight in options.kl:
            for name, shaped in SHAPINGS.items():
                after = [
                    truth(tuned(half, shaped, kl_weight, options, seed), half)
                    for seed in range(options.seeds)
                ]
                mean = {key: np.mean([one[key] for one in after], axis=0) for key in before}
                rows.append(shown(name, reward_steps, kl_weight, before, mean))
    verdicts = compared(rows, options)
    for line in verdicts:
        print(line["sentence"])
    if options.json:
        for row in rows:
            row.pop("by_person")
        print(json.dumps({"criterion": CRITERION, "rows": rows, "verdicts": verdicts}))


def judged_half(options: argparse.Namespace, reward_steps: int) -> Tunable:
    """The recommender, judged by a reward model of so many steps."""
    folder = options.out / f"reward-{reward_steps}"
    judges = [Hit(), TargetLikeness()]
    half = {"checkpoint": str(options.checkpoint)}
    if options.preferences:
        half["preferences"] = str(options.preferences)
    builder = "personalize.preference_optimization.target_pairs"
    words = [f"--data.half.init_args.{name}={value}" for name, value in half.items()]
    personalize(
        [
            "reward",
            f"--run-folder={folder}",
            "--data.half=recsys.tuning.TunedItems",
            *words,
            f"--data.builder={builder}.TargetAgainstOthers",
            "--data.builder.init_args.negatives=1",
            f"--data.builder.init_args.choice={builder}.Drawn",
            "--data.contexts=1024",
            "--model.contrast=personalize.preference_optimization.contrasts.DPO",
            "--model.contrast.init_args.beta=1.0",
            f"--trainer.max_steps={reward_steps}",
            "--trainer.max_epochs=50",
            "--trainer.accelerator=cpu",
        ]
    )
    source = TunedItems(
        checkpoint=options.checkpoint, preferences=options.preferences, judges=judges
    )
    return LearnedSource(source=source, reward_model=folder / "reward_model").open()


def tuned(
    half: Tunable,
    shaped: tuple[Shaping, Advantage | None],
    kl_weight: float,
    options: argparse.Namespace,
    seed: int,
) -> Policy:
    """A copy that was tuned by GRPO on the model's score alone."""
    policy = frozen_copy(half.policy).requires_grad_(requires_grad=True)
    reference = frozen_copy(half.policy)
    weights = tuple(1.0 if number == 0 else 0.0 for number in range(len(half.reward_names)))
    shaping, advantage = shaped
    in_reward = kl_weight if advantage is not None else 0.0
    pipeline = RewardPipeline(
        combination=WeightedSum(weights),
        shaping=shaping,
        advantage=advantage,
        kl_weight=in_reward,
    )
    objective = RolloutObjective(
        pipeline=pipeline, drawing=Drawing(DRAWN), kl_weight=kl_weight - in_reward
    )
    contexts = torch.as_tensor(half.contexts(TRAINING))
    targets = LoggedTargets(contexts)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=options.rate, weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    for step in range(options.steps):
        chosen = torch.randint(len(targets), (options.batch,), generator=generator)
        one_step(policy, reference, half, objective, targets, chosen, optimizer, 1000 * seed + step)
    return policy.eval()


def one_step(  # noqa: PLR0913  (what a step needs)
    policy: Policy,
    reference: Policy,
    half: Tunable,
    objective: Objective,
    targets: LoggedTargets,
    chosen: Tensor,
    optimizer: torch.optim.Optimizer,
    seed: int,
) -> None:
    """Draw, judge, and step; gradients are clipped to a norm of 1."""
    batch = targets.batch(chosen, half)
    if batch.numbers is None:
        raise TypeError("a batch to draw in needs the numbers of its contexts.")
    rollouts = rolled_out(
        policy, reference, half, objective, batch.contexts, numbers=batch.numbers, seed=seed
    )
    optimizer.zero_grad(set_to_none=True)
    objective(policy, reference, batch, rollouts)["loss"].backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()


@torch.no_grad()
def truth(policy: Policy, half: Tunable) -> dict[str, np.ndarray]:
    """Per test person: the proxy, likeness and hits of what is drawn, and the divergence."""
    numbers = torch.as_tensor(half.contexts(TEST))[:400]
    found: dict[str, list[Tensor]] = {}
    for chunk in numbers.split(100):
        contexts = half.batch(chunk)
        drawn = policy.sample(contexts, DRAWN, seed=7)
        judged = half.judge(chunk, drawn.responses).reward.mean(1)
        theirs = half.policy.log_prob(contexts, drawn.responses).sum(-1)
        divergence = (drawn.log_prob.sum(-1) - theirs).mean(1)
        for name, value in (
            ("proxy", judged[:, 0]),
            ("hit", judged[:, half.reward_names.index("hit")]),
            ("likeness", judged[:, -1]),
            ("kl", divergence),
        ):
            found.setdefault(name, []).append(value)
    return {name: torch.cat(parts).double().numpy() for name, parts in found.items()}


def shown(
    name: str,
    reward_steps: int,
    kl_weight: float,
    before: dict[str, np.ndarray],
    after: dict[str, np.ndarray],
) -> dict[str, Any]:
    """Print and return one row."""
    change = bootstrap_interval(after["likeness"] - before["likeness"], resamples=2000)
    row = {
        "shaping": name,
        "reward_steps": reward_steps,
        "kl_weight": kl_weight,
        **{key: float(value.mean()) for key, value in after.items()},
        "likeness_change": [change.mean, change.low, change.high],
        "by_person": after["likeness"],
    }
    print(
        f"reward model of {reward_steps:4} steps, KL weight {kl_weight:5.3f}, {name:18}: proxy "
        f"{row['proxy']:+.3f}, likeness {row['likeness']:.4f} "
        f"({change.mean:+.4f} [{change.low:+.4f}, {change.high:+.4f}]), hits {row['hit']:.4f}, "
        f"KL {row['kl']:.2f}",
        flush=True,
    )
    return row


def compared(rows: list[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """PAR against the raw score, in the truth, at each weight of the divergence."""
    found = []
    for reward_steps in options.reward_steps:
        for kl_weight in options.kl:
            chosen = {
                row["shaping"]: row["by_person"]
                for row in rows
                if row["reward_steps"] == reward_steps and row["kl_weight"] == kl_weight
            }
            change = paired_comparison(chosen["PAR"], chosen["raw"], resamples=2000).difference
            found.append(
                {
                    "reward_steps": reward_steps,
                    "kl_weight": kl_weight,
                    "difference": [change.mean, change.low, change.high],
                    "shown": change.low > 0,
                    "sentence": (
                        f"PAR less raw, {reward_steps} steps of the reward model, KL weight "
                        f"{kl_weight}: {change.mean:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
                    ),
                }
            )
    return found


if __name__ == "__main__":
    main()
