"""Exact look-ahead on a tree: how good what lies under a prefix is, as a bias on logits."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


class TreeLookahead:
    """What lies under every node of a tree, level by level, for rewards of its leaves.

    The tilt of a node is `log E exp(strength * reward)` over the leaves under it, that is
    `strength * V(node)` of the soft value `V`; or, looking for the best, the highest
    `log prior(leaf | node) + strength * reward(leaf)`. Adding to each step's log-probability the
    tilt of the child less its parent's, what is added along a path is
    `strength * reward(leaf) - tilt(root)`, whatever lies between.

    For sampling the mean is right: where the prior is the generator's own distribution the tilted
    steps draw from `p(leaf) * exp(strength * reward)` exactly. For a search for the best leaves
    the best is right: with the generator's own distribution as the prior, a beam as wide as the
    number of leaves wanted misses none of them. A prior that is only about right, such as the mean
    over other people, costs a little of that, a uniform one a lot.

    Source:
        The value function of Feynman-Kac steering (Singhal et al., 2025, arXiv:2501.06848) on a
        tree that can be summed; looking for the best leaf is ours.
    """

    def __init__(
        self,
        first_child: Sequence[Int[Tensor, " _"]],
        log_prior: Float[Tensor, "prior leaf"],
    ) -> None:
        """Add up the prior under every node.

        Args:
            first_child: For each level from the root on, the first child of every node and one
                past the last child at the end: the children of a node are consecutive.
            log_prior: Logarithm of a distribution of leaves, up to a constant, for all rows or for
                each; `-inf` for leaves that are not to be looked at.
        """
        self._counts = [starts.diff().long() for starts in first_child]
        self._leaves = log_prior.mT.contiguous()
        self._masses = [self._leaves]
        for counts in reversed(self._counts):
            self._masses.append(_log_sums(self._masses[-1], counts))

    def tilts(
        self, rewards: Float[Tensor, "batch leaf"], *, strength: float, best: bool = False
    ) -> list[Float[Tensor, "batch _"]]:
        """The tilt of every node.

        Args:
            rewards: One per leaf, in the order of the tree's leaves.
            strength: What a reward of 1 is worth, in nats. At 0 the mean gives zeros.
            best: The best leaf's instead of the mean.

        Returns:
            One tensor for each level: the root's first, the leaves' last. A node with nothing to
            look at under it has 0.

        Example:
            >>> levels = [torch.tensor([0, 2]), torch.tensor([0, 1, 3])]
            >>> root, inner, leaves = TreeLookahead(levels, torch.zeros(1, 3)).tilts(
            ...     torch.tensor([[0.0, 1.0, 1.0]]), strength=2.0
            ... )
            >>> inner
            tensor([[0., 2.]])
        """
        total = self._leaves + strength * rewards.mT
        found = [total - self._masses[0]]
        for counts, mass in zip(reversed(self._counts), self._masses[1:], strict=True):
            total = _highest(total, counts) if best else _log_sums(total, counts)
            found.append(total - mass)
        return [torch.where(tilt.isfinite(), tilt, 0.0).mT for tilt in reversed(found)]


def _highest(
    values: Float[Tensor, "child batch"], counts: Int[Tensor, " node"]
) -> Float[Tensor, "node batch"]:
    """The highest of each run of children."""
    return torch.segment_reduce(values, "max", lengths=counts, axis=0)


def _log_sums(
    values: Float[Tensor, "child batch"], counts: Int[Tensor, " node"]
) -> Float[Tensor, "node batch"]:
    """The logarithm of the sum of exponentials over each run of children."""
    highest = _highest(values, counts).clamp_min(torch.finfo(values.dtype).min)
    every = highest.repeat_interleave(counts, 0, output_size=len(values))
    sums = torch.segment_reduce((values - every).exp(), "sum", lengths=counts, axis=0)
    return sums.log() + highest
