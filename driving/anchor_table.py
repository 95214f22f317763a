"""What every anchor's answer is worth in every context, driven at most once."""

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from personalize.preference_optimization.tunable import Judged


class AnchorTable:
    """Keeps what the untuned planner's candidates are worth, context by context.

    Whoever chooses among them is judged by looking up, for driving costs a hundred times as much.
    """

    def __init__(
        self,
        judge: Callable[[Int[Tensor, " row"]], Judged],
        shape: tuple[int, int, int],
    ) -> None:
        """Keep nothing yet.

        Args:
            judge: Judges all candidates in some contexts.
            shape: Contexts, candidates and rewards.
        """
        self._judge = judge
        self._reward = torch.zeros(shape)
        self._gate = torch.zeros(shape[:2], dtype=torch.bool)
        self._known = torch.zeros(shape[0], dtype=torch.bool)

    def __call__(
        self, contexts: Int[Tensor, " row"], numbers: Int[Tensor, "row particle"]
    ) -> Judged:
        """What candidates of these numbers are worth, on the CPU."""
        missing = contexts[~self._known[contexts]].unique()
        if len(missing):
            found = self._judge(missing)
            self._reward[missing], self._gate[missing] = found.reward, found.gate
            self._known[missing] = True
        row = contexts[:, None]
        return Judged(self._reward[row, numbers], self._gate[row, numbers])
