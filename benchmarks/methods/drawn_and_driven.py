"""What tuning did to the plans a planner may draw, to its likeliest one, and to the one it drives.

Policy optimisation raises what is drawn on average, in the moments it was judged in; what is driven
is a single plan, in other moments. Where the two part, this says by which plan, on which moments,
and whether by the shares of the candidates or by their poses.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.methods.planner_tuning import changes
from driving.planner.anchor_policy import denoised
from driving.planner.going_on import going_on
from driving.planner.guided_steps import Denoised
from driving.planner.plan_contexts import PlanContexts
from driving.tuned_plans import TunablePlans
from personalize.preference_optimization.policy import Policy
from personalize.preference_optimization.tunable import Evaluation

MEASURES = ("collision", "off_road", "style_match", "pdms")
OLD, NEW = "old", "new"
DRAWS, DRAWN_TOGETHER = 8, 8


@torch.no_grad()
def drawn_and_driven(
    half: TunablePlans, policy: Policy[PlanContexts], split: str
) -> dict[str, Evaluation]:
    """Measures of the plans drawn, likeliest and driven, by old and new shares and poses.

    The keys are such as `driven, new shares, old poses`. What is drawn is told as its exact
    expectation over the candidates.

    Args:
        half: What was tuned.
        policy: After that; its planner's own candidates are looked at.
        split: Of the moments.
    """
    contexts = torch.from_numpy(half.contexts(split))
    batch = half.batch(contexts)
    before: Any = half.policy.planner
    planner: Any = policy.planner
    found = {OLD: denoised(before, batch), NEW: denoised(planner, batch)}
    measured = {name: _measured(half, contexts, one) for name, one in found.items()}
    said = {}
    for shares, scorer in found.items():
        for poses, candidates in found.items():
            picked = planner.picked(
                batch.scene, candidates.encoded, candidates.changes, scorer.logits, batch.style
            )
            values = measured[poses]
            plans = {
                "drawn": (values * scorer.logits.softmax(-1)[..., None]).sum(1),
                "likeliest": _of(values, scorer.logits),
                "driven": _of(values, picked.scores),
            }
            for plan, value in plans.items():
                name = f"{plan}, {shares} shares, {poses} poses"
                said[name] = _evaluation({m: value[:, n] for n, m in enumerate(MEASURES)})
    return said


def parted(
    half: TunablePlans,
    policy: Policy[PlanContexts],
    split: str,
    groups: np.ndarray,
) -> dict[str, Any]:
    """Changes of what is drawn, likeliest and driven against the same before, with intervals.

    Args:
        half: What was tuned.
        policy: After that.
        split: Of the moments.
        groups: The driver of every context.
    """
    found = drawn_and_driven(half, policy, split)
    return {
        name: changes(value, found[f"{name.split(',')[0]}, {OLD} shares, {OLD} poses"], groups)
        for name, value in found.items()
        if NEW in name
    }


@torch.no_grad()
def drawn_gain(
    half: TunablePlans,
    policy: Policy[PlanContexts],
    split: str,
    weights: Mapping[str, float],
    groups: np.ndarray,
) -> dict[str, Any]:
    """What the policy draws less what it drew before tuning, by the rewards it was tuned on.

    Args:
        half: What was tuned.
        policy: After that.
        split: Of the moments.
        weights: Of named rewards; their sum is told as `reward`, and the gate as `passes`.
        groups: The driver of every context.
    """
    contexts = torch.from_numpy(half.contexts(split))
    after, before = (_drawn(half, one, contexts, weights) for one in (policy, half.policy))
    return changes(after, before, groups, names=("reward", "passes"))


def _drawn(
    half: TunablePlans,
    policy: Policy[PlanContexts],
    contexts: Tensor,
    weights: Mapping[str, float],
) -> Evaluation:
    """Means over what is drawn; contexts that are drawn for together share random numbers."""
    columns = [half.reward_names.index(name) for name in weights]
    each, parts = torch.tensor(list(weights.values())), []
    for seed, rows in enumerate(contexts.split(DRAWN_TOGETHER)):
        drawn = policy.sample(half.batch(rows), DRAWS, seed=seed)
        judged = half.judge(rows, drawn.responses)
        value = (judged.reward[..., columns] * each).sum(-1).mean(1).double()
        parts.append(torch.stack([value, judged.gate.double().mean(1)]))
    reward, passes = torch.cat(parts, 1)
    return _evaluation({"reward": reward, "passes": passes})


def _of(
    values: Float[Tensor, "row candidate measure"], scores: Float[Tensor, "row candidate"]
) -> Float[Tensor, "row measure"]:
    return values[torch.arange(len(values)), scores.argmax(-1)]


def _measured(
    half: TunablePlans, contexts: Tensor, found: Denoised
) -> Float[Tensor, "row candidate measure"]:
    """Every candidate, driven."""
    rows, batch = half.moment(contexts), half.batch(contexts)
    driven = half.driven(contexts, going_on(batch.scene).poses(found.changes))
    columns = {
        "collision": 1 - driven.parts["no_collision"],
        "off_road": 1 - driven.parts["drivable_area"],
        "style_match": half.judge_of.ruler.match(driven.measured, rows, batch.style),
        "pdms": driven.parts["pdms"],
    }
    return torch.stack([columns[name] for name in MEASURES], -1)


def _evaluation(columns: Mapping[str, Tensor]) -> Evaluation:
    values = {name: value.double().numpy() for name, value in columns.items()}
    return Evaluation(values, next(iter(values)), [""] * len(next(iter(values.values()))))
