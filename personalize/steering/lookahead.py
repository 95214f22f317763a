"""Exact look-ahead on a tree: how good what lies under a prefix is, as a bias on logits."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def tilts_by_level(
    rewards: Float[Tensor, "batch leaf"],
    first_child: Sequence[Int[Tensor, " node_and_end"]],
    *,
    strength: float,
    log_prior: Float[Tensor, " leaf"] | None = None,
) -> list[Float[Tensor, "batch node"]]:
    """`log E exp(strength * reward)` of the leaves under every node, level by level.

    That is `strength * V(node)` of the soft value `V`, so that the bias of a child is its tilt less
    its parent's. Along a path these add up to `strength * reward(leaf) - tilt(root)`: adding them
    to log-probabilities, a beam search over prefixes looks for the best of
    `log p(leaf) + strength * reward(leaf)` without looking at a single leaf too early.

    Args:
        rewards: One per leaf, in the order of the tree's leaves; `-inf` for a leaf that may not
            be reached.
        first_child: For each level from the root on, the first child of every node and one past
            the last child at the end: the children of a node are consecutive.
        strength: How much a reward of 1 is worth, in nats; 0 gives zeros.
        log_prior: Log-probability of each leaf in the expectation, up to a constant; None is
            uniform.

    Returns:
        One tensor for each level: the root's first, the leaves' last. A node under which no leaf
        may be reached has `-inf`.

    Source:
        The exact value function of Feynman-Kac steering (Singhal et al., 2025, arXiv:2501.06848)
        on a finite tree; ours.

    Example:
        >>> levels = [torch.tensor([0, 2]), torch.tensor([0, 1, 3])]
        >>> root, inner, leaves = tilts_by_level(
        ...     torch.tensor([[0.0, 1.0, 1.0]]), levels, strength=2.0
        ... )
        >>> inner
        tensor([[0., 2.]])
    """
    prior = torch.zeros_like(rewards[0]) if log_prior is None else log_prior
    total = prior + strength * rewards if strength else prior.expand_as(rewards)
    total = total.masked_fill(rewards == -torch.inf, -torch.inf)
    weight = prior.unsqueeze(0)
    found = [total - weight]
    for starts in reversed(first_child):
        total, weight = _log_sums(total, starts), _log_sums(weight, starts)
        found.append(total - weight)
    return found[::-1]


def _log_sums(
    values: Float[Tensor, "batch child"], starts: Int[Tensor, " node_and_end"]
) -> Float[Tensor, "batch node"]:
    """The logarithm of the sum of exponentials over each run of children."""
    nodes = torch.arange(len(starts) - 1, device=values.device)
    counts = starts.diff().long()
    parent = nodes.repeat_interleave(counts, output_size=values.shape[1]).expand_as(values)
    shape = (values.shape[0], len(nodes))
    highest = values.new_full(shape, -torch.inf).scatter_reduce(1, parent, values, "amax")
    highest = highest.clamp_min(torch.finfo(values.dtype).min)
    shifted = (values - highest.gather(1, parent)).exp()
    return values.new_zeros(shape).scatter_add(1, parent, shifted).log() + highest
