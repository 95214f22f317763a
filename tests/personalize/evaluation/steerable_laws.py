"""The laws of a `Steerable`, to hold any half to: an AssertionError says which is broken."""

import numpy as np
import torch

from personalize.evaluation.steerable import REPORTED, TUNING, Outcome, Steerable
from personalize.steering.chain import Chain
from personalize.steering.goals import Goals, no_goals


def some_goals(half: Steerable, rows: int) -> Goals:
    """One dimension is wanted high in every row, one after the other."""
    mask = torch.eye(len(half.space), dtype=torch.bool)[torch.arange(rows) % len(half.space)]
    return Goals(mask * 0.8, mask)


def same(one: Outcome, two: Outcome) -> None:
    """Nothing but the time may differ."""
    assert (one.mask == two.mask).all()
    np.testing.assert_allclose(one.raw[one.mask], two.raw[one.mask], rtol=1e-4, atol=1e-5)
    assert set(one.quality) == set(two.quality)
    for name, values in one.quality.items():
        np.testing.assert_allclose(values, two.quality[name], rtol=1e-4, atol=1e-5)


def splits_share_nothing(half: Steerable) -> None:
    tuning, reported = half.contexts(TUNING), half.contexts(REPORTED)
    assert len(np.unique(tuning)) == len(tuning)
    assert not set(tuning.tolist()) & set(reported.tolist())


def shapes_fit(half: Steerable, chain: Chain) -> None:
    contexts = half.contexts(TUNING)[:3]
    found = half.generate(contexts, some_goals(half, 3), chain)
    assert found.raw.shape == found.mask.shape == (3, len(half.space))
    assert np.isfinite(found.raw[found.mask]).all()
    assert set(found.quality) == set(half.quality_names)
    assert len(half.groups(contexts)) == 3
    pool, known = half.pool(contexts)
    assert pool.shape == known.shape
    assert (pool.shape[0], pool.shape[2]) == (3, len(half.space))
    assert np.isfinite(pool[known]).all()


def the_same_question_has_the_same_answer(half: Steerable, chain: Chain) -> None:
    contexts = half.contexts(TUNING)[:3]
    goals = some_goals(half, 3)
    same(
        half.generate(contexts, goals, chain, seed=5), half.generate(contexts, goals, chain, seed=5)
    )


def contexts_do_not_influence_each_other(half: Steerable, chain: Chain) -> None:
    contexts = half.contexts(TUNING)[[0, 1, 2, 0]]
    goals = some_goals(half, 4)
    together = half.generate(contexts, goals, chain, seed=2)
    for row in range(4):
        alone = half.generate(contexts[[row]], goals.rows(slice(row, row + 1)), chain, seed=2)
        part = slice(row, row + 1)
        quality = {name: values[part] for name, values in together.quality.items()}
        same(alone, Outcome(together.raw[part], together.mask[part], quality, 0.0, 0.0))


def neutral_is_no_chain(half: Steerable, chain: Chain) -> None:
    contexts = half.contexts(TUNING)[:3]
    plain = half.generate(contexts, None, None, seed=1)
    same(plain, half.generate(contexts, some_goals(half, 3), Chain(), seed=1))
    same(plain, half.generate(contexts, some_goals(half, 3), None, seed=1))
    assert set(half.quality_names) == set(plain.quality)
    nothing = half.generate(contexts, no_goals(3, len(half.space)), chain, seed=1)
    same(plain, nothing)
