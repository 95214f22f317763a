"""Divergence of a policy from its reference, estimated from draws or exact from logits."""

import torch
from jaxtyping import Float
from torch import Tensor


def divergence_k1(
    log_prob: Float[Tensor, "*shape"], reference: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """`log p - log q` of what `p` drew: unbiased for `KL(p || q)`, and negative at times.

    Source:
        Schulman, 2020, Approximating KL divergence.
    """
    return log_prob - reference


def divergence_k3(
    log_prob: Float[Tensor, "*shape"], reference: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """`q / p - 1 - log(q / p)` of what `p` drew: unbiased for `KL(p || q)` and never negative.

    As a value. Differentiated, as GRPO does, its gradient is on average that of `KL(q || p)`, the
    other direction; near `p = q` the two agree.

    Source:
        Schulman, 2020, Approximating KL divergence; the penalty of TRL's GRPO trainer.

    Example:
        >>> divergence_k3(torch.tensor([0.5]).log(), torch.tensor([0.25]).log())
        tensor([0.1931])
    """
    gap = reference - log_prob
    return gap.clamp(max=20.0).exp() - gap - 1  # so far off, e^20 is penalty enough


def exact_divergence(
    logits: Float[Tensor, "*shape choice"], reference: Float[Tensor, "*shape choice"]
) -> Float[Tensor, "*shape"]:
    """`KL(p || q)` of the softmaxes; choices that are closed (`-inf`) in both take no part.

    Returns:
        Infinite where the reference rules out what the policy does not.
    """
    log_p, log_q = finite_log_softmax(logits), reference.log_softmax(-1)
    share = log_p.exp()
    gap = torch.where(share > 0, log_p - log_q, 0)
    return (share * gap).sum(-1)


def entropy(logits: Float[Tensor, "*shape choice"]) -> Float[Tensor, "*shape"]:
    """Entropy of the softmax in nats; closed choices (`-inf`) take no part.

    Example:
        >>> entropy(torch.tensor([0.0, 0.0, -torch.inf]))
        tensor(0.6931)
    """
    log_share = finite_log_softmax(logits)
    return -(log_share.exp() * log_share).sum(-1)


def finite_log_softmax(
    logits: Float[Tensor, "*shape choice"],
) -> Float[Tensor, "*shape choice"]:
    """Log-softmax with a very small number in place of `-inf`, whose probability is still 0."""
    return logits.log_softmax(-1).clamp_min(-1e4)
