"""The k-core against a slow, obvious version, and its definition as a property."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.reviews.core import k_core

pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=40)


def slow_core(edges: list[tuple[int, int]], k: int) -> list[bool]:
    kept = [True] * len(edges)
    while True:
        users = Counter(user for (user, _), keep in zip(edges, kept, strict=True) if keep)
        items = Counter(item for (_, item), keep in zip(edges, kept, strict=True) if keep)
        after = [
            keep and users[user] >= k and items[item] >= k
            for (user, item), keep in zip(edges, kept, strict=True)
        ]
        if after == kept:
            return kept
        kept = after


@given(pairs, st.integers(0, 4))
def test_it_equals_the_obvious_version(edges: list[tuple[int, int]], k: int) -> None:
    users, items = (np.array([edge[side] for edge in edges], dtype=np.int64) for side in (0, 1))
    assert k_core(users, items, k).tolist() == slow_core(edges, k)


def test_a_drop_may_pull_others_with_it() -> None:
    users, items = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1])
    assert k_core(users, items, 2).tolist() == [True, True, True, True, False]
    assert not k_core(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).any()


def test_senseless_input_is_refused() -> None:
    with pytest.raises(ValueError, match="equally many, got 1, 2"):
        k_core(np.array([0]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        k_core(np.array([0]), np.array([0]), -1)
