"""Cycles of preference: what no score can rank, and what a policy gives away by it."""

import numpy as np
import torch
from jaxtyping import Float

from personalize.preference_optimization.ranked_factors import cycle_rate

_ROUNDING = 1e-6


def win_matrix(rewards: Float[np.ndarray, "judge choice"]) -> Float[np.ndarray, "choice choice"]:
    """Share of judges who prefer the row's response to the column's, equals counting half.

    Example:
        >>> win_matrix(np.array([[1.0, 0.0], [2.0, 1.0], [0.0, 1.0]])).round(2).tolist()
        [[0.5, 0.67], [0.33, 0.5]]
    """
    first, second = rewards[:, :, None], rewards[:, None]
    return ((first > second) + 0.5 * (first == second)).mean(0)


def majority_cycle_rate(win: Float[np.ndarray, "choice choice"]) -> float:
    """Share of cycles among the triples that majorities decide; see `cycle_rate`.

    Raises:
        ValueError: If the matrix and its transpose do not sum to 1.
    """
    _check(win)
    sign = np.where(np.abs(win - 0.5) <= _ROUNDING, 0, np.sign(win - 0.5)).astype(np.int64)
    return cycle_rate(torch.as_tensor(sign))


def exploitability(
    policy: Float[np.ndarray, " choice"], win: Float[np.ndarray, "choice choice"]
) -> float:
    """By how much the best single answer to a policy wins more than half of the comparisons.

    Args:
        policy: Probabilities of the responses.
        win: Probability that the row's response wins.

    Returns:
        0 for a minimax winner, at most 1/2.

    Raises:
        ValueError: If the policy is no distribution, or the matrix and its transpose do not sum to
            1.

    Source:
        Swamy et al., 2024, A Minimaximalist Approach to Reinforcement Learning from Human Feedback,
        arXiv:2401.04056: its solution, the minimax winner, has 0.

    Example:
        >>> beats = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])
        >>> exploitability(np.array([1.0, 0.0, 0.0]), beats)
        0.5
    """
    _check(win)
    if policy.min() < -_ROUNDING or abs(policy.sum() - 1) > _ROUNDING:
        raise ValueError("policy must be probabilities that sum to 1.")
    return float((win @ policy).max() - 0.5)


def certain_exploitability(win: Float[np.ndarray, "choice choice"]) -> float:
    """The least that a policy of one certain answer gives away; 0 where one beats all others."""
    _check(win)
    return float(win.max(0).min() - 0.5)


def minimax_winner(win: Float[np.ndarray, "choice choice"]) -> Float[np.ndarray, " choice"]:
    """A policy that no other beats in more than half of the comparisons, by linear programming.

    It is not always unique; which of several comes back is the solver's choice.

    Args:
        win: Probability that the row's response wins.

    Raises:
        ValueError: If the matrix and its transpose do not sum to 1.
    """
    from scipy.optimize import linprog

    _check(win)
    count = len(win)
    # Maximise v subject to: against every single answer the policy wins at least v.
    found = linprog(
        c=np.append(np.zeros(count), -1.0),
        A_ub=np.column_stack([-win.T, np.ones(count)]),
        b_ub=np.zeros(count),
        A_eq=np.append(np.ones(count), 0.0)[None],
        b_eq=np.ones(1),
        bounds=[(0.0, 1.0)] * count + [(None, None)],
    )
    policy = np.clip(found.x[:count], 0.0, None)
    return policy / policy.sum()


def _check(win: np.ndarray) -> None:
    if np.abs(win + win.T - 1).max() > _ROUNDING:
        raise ValueError("win and its transpose must sum to 1: if a beats b, b loses.")
