"""Rollouts: a policy answers a batch of contexts, and a half judges the answers."""

import torch
from jaxtyping import Int
from torch import Tensor

from personalize.preference_optimization.objective import Objective, Rollouts
from personalize.preference_optimization.policy import Policy, Rows
from personalize.preference_optimization.tunable import Tunable


@torch.no_grad()
def rolled_out(
    policy: Policy,
    reference: Policy | None,
    half: Tunable,
    objective: Objective,
    contexts: Rows,
    *,
    numbers: Int[Tensor, " batch"],
    seed: int,
) -> Rollouts:
    """What an objective wants drawn, drawn and judged.

    Args:
        policy: What draws.
        reference: Whose likeliest answer is judged too, where the objective asks for that.
        half: What judges.
        objective: How many answers it wants, and how.
        contexts: As the policy reads them, on its device.
        numbers: The same contexts as the half knows them.
        seed: Of what is drawn.
    """
    drawn = policy.sample(contexts, objective.group_size, seed=seed, beam=objective.beam)
    judged = half.judge(numbers.cpu(), drawn.responses)
    other = judged.reward[:, :0]
    if objective.judges_reference and reference is not None:
        best = reference.sample(contexts, 1, seed=seed, beam=True)
        other = half.judge(numbers.cpu(), best.responses).reward
    return Rollouts(
        drawn, judged.reward, judged.gate, other, half.reward_names, judged.context_weights
    )
