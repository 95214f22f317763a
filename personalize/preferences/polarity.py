"""Praise or complaint: a logistic regression on clause vectors and counted words.

It is trained on the data's own stars (a clause inherits the stars of its review, which is noisy but
plentiful) together with the example sentences of the aspect list. The examples are a prior: data
with few or no low ratings still has both classes. Sentence vectors are weak at negation, so counts
of praising, complaining and negating words stand beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from personalize.preferences.aspects import AspectList, CueCount

CUE_WIDTH = 4
_CUE_SCALE = 0.5  # a clause vector has length one; cues of this size weigh about as much
_LIKED_STARS, _AVOIDED_STARS = 4.0, 2.0


@dataclass(frozen=True)
class Clauses:
    """Clauses with all that is known of them, row by row.

    Attributes:
        texts: Their words.
        vectors: Their sentence vectors.
        cues: Their counted words.
    """

    texts: Sequence[str]
    vectors: Float[np.ndarray, "clause width"]
    cues: Sequence[CueCount]

    @property
    def features(self) -> Float[np.ndarray, "clause feature"]:
        """Vector and counts side by side, as the head reads them."""
        counts = np.array(
            [
                [
                    np.clip(cue.praise, -2, 2),
                    np.clip(cue.complaint, -2, 2),
                    min(cue.negations, 2),
                    np.clip(sum(cue.signs.values()), -2, 2),
                ]
                for cue in self.cues
            ],
            dtype=np.float32,
        ).reshape(len(self.texts), CUE_WIDTH)
        return np.concatenate([self.vectors, _CUE_SCALE * counts], axis=1)


@dataclass(frozen=True)
class PolarityHead:
    """A linear head: the log-odds that a clause praises.

    Attributes:
        weights: One number per feature of `Clauses.features`.
        bias: Log-odds of a clause without features.
        rated_clauses: How many star-rated clauses of each class it saw, complaint and praise.
    """

    weights: Float[np.ndarray, " feature"]
    bias: float
    rated_clauses: tuple[int, int]

    def __call__(
        self, features: Float[np.ndarray, "clause feature"]
    ) -> Float[np.ndarray, " clause"]:
        """Log-odds of praise, clause by clause."""
        return (features.astype(np.float64) @ self.weights + self.bias).astype(np.float64)


def star_class(rating: float | None) -> int | None:
    """1 for a liked review (four stars or more), 0 for a disliked one (two or fewer), else None."""
    if rating is None:
        return None
    if rating >= _LIKED_STARS:
        return 1
    return 0 if rating <= _AVOIDED_STARS else None


def example_texts(aspects: AspectList) -> tuple[list[str], Bool[np.ndarray, " clause"]]:
    """The example sentences of an aspect list and whether each is praise."""
    praise = [text for entry in aspects.aspects.values() for text in entry.like]
    complaints = [text for entry in aspects.aspects.values() for text in entry.avoid]
    praise += aspects.praise
    complaints += aspects.complaints
    return praise + complaints, np.array([True] * len(praise) + [False] * len(complaints))


def fit_polarity_head(
    examples: Clauses,
    example_is_praise: Bool[np.ndarray, " example"],
    rated: Clauses,
    rated_is_praise: Bool[np.ndarray, " rated"],
    *,
    example_share: float = 0.5,
    inverse_penalty: float = 4.0,
) -> PolarityHead:
    """A head fitted to example sentences and star-rated clauses.

    Both classes weigh the same, whatever their numbers; so do, at the default share, examples and
    stars. Where one class has no star-rated clause the examples alone decide.

    Args:
        examples: Example sentences of the aspect list.
        example_is_praise: Their class.
        rated: Clauses of training reviews.
        rated_is_praise: Whether their review was liked.
        example_share: Share of the whole weight that the examples get, above 0 and at most 1.
        inverse_penalty: Inverse strength of the L2 penalty.

    Raises:
        ValueError: If `example_share` is outside (0, 1] or a class has no example.
    """
    from sklearn.linear_model import LogisticRegression

    if not 0.0 < example_share <= 1.0:
        raise ValueError(f"example_share must lie in (0, 1], got {example_share:g}.")
    if example_is_praise.all() or not example_is_praise.any():
        raise ValueError("The aspect list must hold examples of praise and of complaint.")
    low, high = int((~rated_is_praise).sum()), int(rated_is_praise.sum())
    parts = [(examples, example_is_praise, example_share if low and high else 1.0)]
    if low and high and example_share < 1.0:
        parts.append((rated, rated_is_praise, 1.0 - example_share))
    features = np.concatenate([part.features for part, _, _ in parts]).astype(np.float64)
    classes = np.concatenate([is_praise for _, is_praise, _ in parts])
    weights = np.concatenate(
        [share * _balanced_weights(is_praise) for _, is_praise, share in parts]
    )
    model = LogisticRegression(C=inverse_penalty, max_iter=1000, tol=1e-5)
    model.fit(features, classes, sample_weight=weights * 1000.0)
    return PolarityHead(model.coef_[0], float(np.ravel(model.intercept_)[0]), (low, high))


def _balanced_weights(is_praise: Bool[np.ndarray, " clause"]) -> Float[np.ndarray, " clause"]:
    """Weights that sum to one half in each class."""
    high = int(is_praise.sum())
    low = is_praise.size - high
    return np.where(is_praise, 0.5 / max(high, 1), 0.5 / max(low, 1))
