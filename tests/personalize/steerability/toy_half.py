"""A half in closed form: it knows its own gain, leak, cost and loss of quality."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from personalize.evaluation.goal_space import GoalDimension, GoalSpace
from personalize.evaluation.steerable import TUNING, Outcome, Steerable, SteerableSource
from personalize.steering.chain import Chain
from personalize.steering.goals import Goals

LEAK = 0.3
SPACE = GoalSpace(
    (
        GoalDimension("speed", "m/s", "faster", 10.0, 30.0),
        GoalDimension("comfort", "", "smoother", -1.0, 1.0),
        GoalDimension("speed in km/h", "km/h", "faster", 36.0, 108.0),
        GoalDimension("gap", "s", "farther", 0.0, 4.0),
        GoalDimension("colour", "", "redder", 5.0, 5.0),
    )
)


class Toy(Steerable):
    """Moves by `telling.strength` of what is asked, and further by the look-ahead.

    A look-ahead of strength `s` makes `s` of the way, and leaks 0.3 of what speed is asked into
    comfort. Quality falls by the square of the way. Particles cost a call each, and some more.
    """

    space = SPACE
    quality_names = ("score", "rare")
    facts: Mapping[str, Any] = {"generator": "closed form", "inputs": {"toy": "abc"}}

    def __init__(self, *, contexts: int = 120, gap_known: float = 0.7, overlap: int = 0) -> None:
        self.count, self.gap_known, self.overlap = contexts, gap_known, overlap
        self.asked_rows = 0

    def contexts(self, split):
        first = 0 if split == TUNING else self.count - self.overlap
        return np.arange(first, first + self.count)

    def groups(self, contexts) -> Sequence[str]:
        return ["town" if context % 3 else "country" for context in contexts]

    def place(self, context: int) -> np.ndarray:
        """Where an output lies without steering."""
        speed, comfort, gap = np.random.default_rng([7, context]).beta(2, 3, size=3)
        return np.array([speed, comfort, speed, gap, 0.0])

    def generate(self, contexts, goals: Goals | None, chain: Chain | None, *, seed: int = 0):
        self.asked_rows += len(contexts)
        z = np.stack([self.place(int(c)) for c in contexts])
        z = z + 0.01 * np.random.default_rng([seed, 3]).normal(size=5)  # the same for every row
        z[:, 2] = z[:, 0]
        before = z.copy()
        calls = 2.0
        if goals is not None and chain is not None:
            way = np.where(goals.mask.numpy(), goals.values.numpy() - z, 0.0)
            z = z + (chain.telling.strength + chain.lookahead.strength) * way
            z[:, 1] += LEAK * chain.lookahead.strength * way[:, 0]
            z[:, 2] = z[:, 0]
            if chain.particles is not None:
                calls = 3.0 + 2.0 * chain.particles.count
            if chain.lookahead.strength > 5:
                raise ValueError("the look-ahead is too strong.")
        known = np.ones(z.shape, bool)
        known[:, 3] = [c % 10 < 10 * self.gap_known for c in contexts]
        score = 1.0 - ((z - before) ** 2).sum(1)
        rare = np.where(np.array(contexts) % 2 == 0, score, np.nan)
        low = np.array([d.low for d in SPACE.dimensions])
        high = np.array([d.high for d in SPACE.dimensions])
        raw = np.where(known, low + z * (high - low), np.nan)
        return Outcome(raw, known, {"score": score, "rare": rare}, calls, 0.001 * calls)

    def pool(self, contexts):
        grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 6)] * 3, indexing="ij"), -1).reshape(-1, 3)
        z = np.column_stack([grid[:, 0], grid[:, 1], grid[:, 0], grid[:, 2], 0 * grid[:, 0]])
        low = np.array([d.low for d in SPACE.dimensions])
        high = np.array([d.high for d in SPACE.dimensions])
        raw = np.broadcast_to(low + z * (high - low), (len(contexts), *z.shape))
        return raw, np.ones(raw.shape, bool)


class ToySource(SteerableSource):
    """Names the toy in a configuration.

    Args:
        contexts: Contexts of a split.
        overlap: Contexts that both splits share, which no half may.
    """

    def __init__(self, *, contexts: int = 120, overlap: int = 0) -> None:
        self.contexts, self.overlap = contexts, overlap

    def open(self) -> Toy:
        return Toy(contexts=self.contexts, overlap=self.overlap)
