"""Which items follow which within a few steps: a sparse prior over the next item."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from recsys.baselines.popularity import count_interactions
from recsys.batch import HistoryBatch


@dataclass(frozen=True)
class CooccurrenceSettings:
    """How pairs are counted and weighed; the formula is that of `CooccurrencePrior`.

    Attributes:
        decay: Weight of a pair per step between its items, 0 to 1.
        backward: Weight of a pair read backwards.
        popularity_power: How much frequent items are held back, 0 (not) to 1 (fully).
        recency: Weight of a history item per step of age, 0 to 1.
        smoothing: Weight of popularity against what was seen; above 0.
        maximum_lag: Steps over which two items form a pair.

    Raises:
        ValueError: If the smoothing or the lag is not positive.
    """

    decay: float = 0.8
    backward: float = 0.5
    popularity_power: float = 0.5
    recency: float = 0.6
    smoothing: float = 3.0
    maximum_lag: int = 20

    def __post_init__(self) -> None:
        """Refuse what would divide by zero or count nothing."""
        if self.smoothing <= 0:
            raise ValueError(f"smoothing must be positive, got {self.smoothing:g}.")
        if self.maximum_lag < 1:
            raise ValueError(f"maximum_lag must be at least 1, got {self.maximum_lag}.")


class CooccurrencePrior(nn.Module):
    """A distribution over the next item from how often items stood near each other.

    With `C[i, j]` the sum over histories of `decay ** (lag - 1)` for every pair of an item `i` and
    an item `j` that came `lag` steps later, and `n[i]` the number of times `i` was met:

        M[i, j] = (C[i, j] + backward * C[j, i]) / n[i] ** popularity_power
        s[j]    = sum over the history of  recency ** (steps before the last) * M[i, j]
        q[j]    = (s[j] + smoothing * popularity[j]) / (sum of s + smoothing)

    Pairs are read backwards too because many logs order a day's items arbitrarily. A history of
    which nothing is known gives the popularity, so every probability is positive.

    Source:
        Ours: an item-based neighbourhood model (Sarwar et al., 2001, doi:10.1145/371920.372071)
        with decays over the sequence.
    """

    row_starts: Int[Tensor, " start"]
    columns: Int[Tensor, " pair"]
    values: Float[Tensor, " pair"]
    popularity: Float[Tensor, " item"]

    def __init__(self, item_count: int, settings: CooccurrenceSettings | None = None) -> None:
        """Nothing was counted yet.

        Args:
            item_count: Number of items.
            settings: How pairs are counted and weighed.
        """
        super().__init__()
        self.item_count = item_count
        self.settings = settings or CooccurrenceSettings()
        self._pairs: list[list[Tensor]] = [[] for _ in range(self.settings.maximum_lag)]
        self._counts = torch.zeros(item_count, dtype=torch.int64)
        self._set_matrix(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0))

    def survey(self, batches: Iterable[HistoryBatch]) -> None:
        """Count all training histories, each interaction of them once, and build the prior.

        Raises:
            ValueError: If a batch has one target per row instead of one per step.
        """
        self._counts.zero_()
        for batch in batches:
            self._count(batch)
        self._finish()

    def _count(self, batch: HistoryBatch) -> None:
        history, targets = batch.history_item_ids.cpu(), batch.target_item_ids.cpu()
        if history.shape != targets.shape:
            raise ValueError("co-occurrence is counted on batches of sequences; set rows to them.")
        met, wanted = batch.history_mask.cpu(), batch.target_mask.cpu()
        count_interactions(self._counts, batch.to("cpu"))
        for lag in range(1, min(self.settings.maximum_lag, history.shape[1]) + 1):
            steps = history.shape[1] - lag + 1
            seen = met[:, :steps] & wanted[:, lag - 1 :]
            keys = history[:, :steps] * self.item_count + targets[:, lag - 1 :]
            self._pairs[lag - 1].append(keys[seen])

    def _finish(self) -> None:
        keys, values = [], []
        for lag, pairs in enumerate(self._pairs):
            if pairs:
                distinct, seen = torch.cat(pairs).unique(return_counts=True)
                keys.append(distinct)
                values.append(seen.double() * self.settings.decay**lag)
        self._pairs = [[] for _ in range(self.settings.maximum_lag)]
        key = torch.cat([*keys, torch.zeros(0, dtype=torch.int64)])
        first = torch.stack([key // self.item_count, key % self.item_count])
        value = torch.cat([*values, torch.zeros(0, dtype=torch.float64)])
        both = torch.cat([first, first.flip(0)], dim=1)
        weights = torch.cat([value, self.settings.backward * value])
        weights = (
            weights / self._counts.clamp_min(1)[both[0]].double() ** self.settings.popularity_power
        )
        self._set_matrix(both, weights)

    def forward(self, batch: HistoryBatch) -> Float[Tensor, "batch item"]:
        """Log-probability of every item to come after each row's last real step."""
        steps = batch.history_item_ids.shape[1]
        age = batch.history_mask.sum(1, keepdim=True) - 1
        age = age - torch.arange(steps, device=age.device)
        weights = torch.where(
            batch.history_mask, self.settings.recency ** age.clamp_min(0).float(), 0.0
        )
        near = self._near(batch.history_item_ids, weights)
        total = near.sum(1, keepdim=True) + self.settings.smoothing
        return ((near + self.settings.smoothing * self.popularity) / total).log()

    def _near(
        self, item_ids: Int[Tensor, "batch step"], weights: Float[Tensor, "batch step"]
    ) -> Float[Tensor, "batch item"]:
        """Weighted sum of the matrix's rows of each history; only what is not zero is touched."""
        starts = self.row_starts[item_ids].flatten()
        lengths = self.row_starts[item_ids + 1].flatten() - starts
        lengths = torch.where(weights.flatten() > 0, lengths, 0)
        owner = torch.arange(len(starts), device=starts.device).repeat_interleave(lengths)
        skipped = (lengths.cumsum(0) - lengths)[owner]
        place = torch.arange(len(owner), device=starts.device) - skipped + starts[owner]
        row = owner // item_ids.shape[1]
        near = torch.zeros(len(item_ids) * self.item_count, device=weights.device)
        near.index_add_(
            0,
            row * self.item_count + self.columns[place],
            self.values[place] * weights.flatten()[owner],
        )
        return near.view(len(item_ids), self.item_count)

    def get_extra_state(self) -> Float[Tensor, " number"]:
        """How often each item was met, then rows, columns and values of the matrix, end to end.

        One tensor, because a checkpoint holds tensors only. The counts and places are whole
        numbers below 2**53, which a double holds exactly.
        """
        lengths = self.row_starts.diff()
        rows = torch.arange(self.item_count, device=lengths.device).repeat_interleave(lengths)
        parts = [self._counts, rows, self.columns, self.values]
        return torch.cat([part.cpu().double() for part in parts])

    def set_extra_state(self, state: Float[Tensor, " number"]) -> None:
        """Take over a prior that was counted before."""
        pairs = state[self.item_count :].view(3, (len(state) - self.item_count) // 3)
        self._counts = state[: self.item_count].long()
        self._set_matrix(pairs[:2].long(), pairs[2])

    def take_over(self, trained: "CooccurrencePrior") -> None:
        """Become a counted prior whose items are the first of this one's; the rest were not met."""
        state = trained.get_extra_state()
        known = trained.item_count
        never = state.new_zeros(self.item_count - known)
        self.set_extra_state(torch.cat([state[:known], never, state[known:]]))

    def _set_matrix(self, indices: Int[Tensor, "two pair"], values: Float[Tensor, " pair"]) -> None:
        """Hold `M` row after row, and the smoothed popularity."""
        shape = (self.item_count, self.item_count)
        matrix = torch.sparse_coo_tensor(
            indices, values.double(), shape, check_invariants=True
        ).coalesce()
        rows, columns = matrix.indices()
        starts = torch.searchsorted(rows.contiguous(), torch.arange(self.item_count + 1))
        shares = (self._counts + 0.5) / (self._counts + 0.5).sum().clamp_min(0.5)
        self.register_buffer("row_starts", starts, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("values", matrix.values().float(), persistent=False)
        self.register_buffer("popularity", shares.float(), persistent=False)
