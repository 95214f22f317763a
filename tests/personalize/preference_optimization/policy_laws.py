"""The laws of a policy, for the tests of every variant."""

import torch
from torch import Tensor

from personalize.preference_optimization.policy import Policy, Rows


def check_policy(policy: Policy, context: Rows, *, count: int = 5, tolerance: float = 1e-5) -> None:
    """Hold a policy, in evaluation mode, to the laws of the slot on a batch of contexts."""
    drawn = policy.sample(context, count, seed=3)
    again = policy.sample(context, count, seed=3)
    assert torch.equal(drawn.responses, again.responses)
    assert drawn.log_prob.shape == (len(context), count, policy.steps)
    assert drawn.sampled
    said = policy.log_prob(context, drawn.responses)
    assert said.requires_grad
    close(said.detach(), drawn.log_prob, tolerance)
    alone = [
        policy.log_prob(context.rows(slice(row, row + 1)), drawn.responses[row : row + 1])
        for row in range(len(context))
    ]
    close(torch.cat(alone).detach(), said.detach(), tolerance)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    close(
        policy.log_prob(context, drawn.responses[:, order]).detach(),
        said[:, order].detach(),
        tolerance,
    )


def check_choices(policy: Policy, context: Rows, *, count: int = 5) -> None:
    """Hold a policy that chooses among finitely many to the law of its logits."""
    drawn = policy.sample(context, count, seed=4)
    shares = policy.logits(context, drawn.responses).log_softmax(-1)
    chosen = policy.choices(drawn.responses)[..., None]
    close(shares.gather(-1, chosen)[..., 0].detach(), drawn.log_prob, 1e-5)


def close(first: Tensor, second: Tensor, tolerance: float) -> None:
    """Equal up to a tolerance, relative and absolute."""
    torch.testing.assert_close(first, second, rtol=tolerance, atol=tolerance)
