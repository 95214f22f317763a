"""How alike two lists order the same rows."""

import numpy as np
from jaxtyping import Float


def rank_correlation(a: Float[np.ndarray, " row"], b: Float[np.ndarray, " paired"]) -> float:
    """Spearman's rank correlation, with mean ranks for equals; 0 where one side is constant.

    Example:
        >>> rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([0.1, 0.5, 0.4]))
        0.5
    """
    ranks_a, ranks_b = mean_ranks(a), mean_ranks(b)
    a_centred, b_centred = ranks_a - ranks_a.mean(), ranks_b - ranks_b.mean()
    size = np.sqrt((a_centred**2).sum() * (b_centred**2).sum())
    return float((a_centred * b_centred).sum() / size) if size > 0 else 0.0


def mean_ranks(values: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    """Ranks from 1; equal values share the mean of theirs.

    Example:
        >>> mean_ranks(np.array([5.0, 2.0, 5.0])).tolist()
        [2.5, 1.0, 2.5]
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]
