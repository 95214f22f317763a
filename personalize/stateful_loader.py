"""A loader whose order depends on (seed, epoch) alone, and which knows how far it has come.

Rows of similar length share a batch, so little of it is padding. The order of an epoch is a pure
function of seed and epoch and the state is two numbers, so a run that was killed in the middle of
an epoch goes on with the very batch that would have come next.
"""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Int

Batch = TypeVar("Batch")


def bucketed_batches(
    row_lengths: Int[np.ndarray, " row"],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    pool_batches: int = 32,
) -> list[Int[np.ndarray, " chosen"]]:
    """The rows of one epoch in batches of similar length, in random order.

    Rows are permuted, cut into pools, sorted by length inside a pool and cut into batches, whose
    order is then permuted. A pool of one batch is plain shuffling.

    Args:
        row_lengths: Length of every row.
        batch_size: Rows in a batch; the last one of an epoch's last pool may be smaller.
        seed: Seed of the run, 0 or greater.
        epoch: Number of the epoch, from 0.
        pool_batches: Batches that are sorted together; 0 keeps the rows in their own order.

    Returns:
        Every row exactly once.
    """
    if pool_batches == 0:
        rows = np.arange(len(row_lengths))
        return [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = generator.permutation(len(row_lengths))
    pools = np.arange(len(order)) // (batch_size * pool_batches)
    order = order[np.lexsort((row_lengths[order], pools))]
    batches = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    return [batches[number] for number in generator.permutation(len(batches))]


class StatefulLoader(Generic[Batch]):
    """Batches of an epoch, one after another, going on where a loaded state says.

    Lightning finds `set_epoch` through `sampler` and stores `state_dict` in its checkpoints. Used
    by hand, every new iteration after a whole epoch is the next epoch.
    """

    def __init__(
        self,
        row_lengths: Int[np.ndarray, " row"],
        collate: Callable[[np.ndarray, int], Batch],
        *,
        batch_size: int,
        seed: int = 0,
        pool_batches: int = 32,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Check the sizes.

        Args:
            row_lengths: Length of every row.
            collate: Makes a batch from row numbers and the epoch.
            batch_size: Rows in a batch, at least 1.
            seed: Seed of the run.
            pool_batches: Batches sorted by length together; 0 keeps the order of the rows.
            share: Rank of this process and number of processes. All get equally many batches.

        Raises:
            ValueError: If `batch_size` is below 1 or `pool_batches` is negative.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        if pool_batches < 0:
            raise ValueError(f"pool_batches must not be negative, got {pool_batches}.")
        self.row_lengths = row_lengths
        self.collate = collate
        self.batch_size = batch_size
        self.seed = seed
        self.pool_batches = pool_batches
        self.share = share
        self.epoch = 0
        self.batches_handed_out = 0

    @property
    def sampler(self) -> "StatefulLoader[Batch]":
        """Itself: what Lightning tells the number of the epoch."""
        return self

    @property
    def batch_sampler(self) -> "StatefulLoader[Batch]":
        """Itself: Lightning asks for it wherever there is a `sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch; the epoch that is under way goes on where it stands."""
        if epoch != self.epoch:
            self.epoch, self.batches_handed_out = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """Epoch and number of batches handed out."""
        return {"epoch": self.epoch, "batches_handed_out": self.batches_handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a state."""
        self.epoch, self.batches_handed_out = state["epoch"], state["batches_handed_out"]

    def __len__(self) -> int:
        """Number of batches of a whole epoch for this process."""
        batches = -(-len(self.row_lengths) // self.batch_size)
        return batches // self.share[1]

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the epoch that have not been handed out."""
        if self.batches_handed_out >= len(self):
            self.epoch, self.batches_handed_out = self.epoch + 1, 0
        epoch = self.epoch
        batches = bucketed_batches(
            self.row_lengths,
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=epoch,
            pool_batches=self.pool_batches,
        )
        rank, processes = self.share
        for rows in batches[rank::processes][self.batches_handed_out : len(self)]:
            self.batches_handed_out += 1
            yield self.collate(rows, epoch)
