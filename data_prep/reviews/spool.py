"""Review texts on disk between the two passes, so that memory holds only numbers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

PARTITION_BYTES = 32 << 20
PARTS_AT_ONCE = 4
CONTENT = ["review_id", "rating", "summary", "text"]


@dataclass
class Spool:
    """Raw reviews in the order in which they were read, one file per block.

    Attributes:
        folder: An empty folder that belongs to the spool.
        rows: Reviews written.
        bytes: Their size in memory.
    """

    folder: Path
    rows: int = 0
    bytes: int = 0
    _spans: list[tuple[Path, int, int]] = field(default_factory=list)

    def append(self, frame: pl.DataFrame) -> None:
        """Write one block; review numbers rise from block to block."""
        if not frame.height:
            return
        path = self.folder / f"{len(self._spans):06d}.arrow"
        frame.write_ipc(path, compression="uncompressed")
        first, last = frame["review_id"][0], frame["review_id"][-1]
        self._spans.append((path, first, last))
        self.rows += frame.height
        self.bytes += int(frame.estimated_size())

    def frames(self, columns: list[str]) -> Iterator[tuple[pl.DataFrame, int, int]]:
        """Every block's wanted columns, with its first and last review number."""
        for path, first, last in self._spans:
            yield pl.read_ipc(path, columns=columns), first, last

    def drop(self) -> None:
        """Delete the files."""
        for path, _, _ in self._spans:
            path.unlink()
        self._spans.clear()

    def pick(self, review_ids: pl.Series, columns: list[str]) -> pl.DataFrame:
        """Wanted columns of some reviews, sorted by review number.

        Args:
            review_ids: Review numbers, sorted.
            columns: Columns besides `review_id`.
        """
        wanted = review_ids.to_numpy()
        found = []
        for frame, first, last in self.frames(["review_id", *columns]):
            start, end = np.searchsorted(wanted, first), np.searchsorted(wanted, last, "right")
            if start < end:
                some = pl.DataFrame({"review_id": review_ids[int(start) : int(end)]})
                found.append(some.join(frame, on="review_id", maintain_order="left"))
        if not found:
            return pl.DataFrame({"review_id": review_ids})
        return pl.concat(found)


def in_order(
    spool: Spool, order: pl.DataFrame, folder: Path, *, partition_bytes: int | None = None
) -> Iterator[pl.DataFrame]:
    """The spooled reviews in another order, in frames of bounded size.

    Args:
        spool: The reviews; it is emptied, since each is needed once more only.
        order: Column `review_id` in the wanted order; its other columns are kept.
        folder: An empty folder for intermediate files.
        partition_bytes: Rough size of a frame that is handed out, 32 MiB if not given; a spool
            that holds no more is read back as it is, without intermediate files.

    Returns:
        Frames that, laid end to end, are `order` with the columns of the spool.
    """
    mean_bytes = max(1, spool.bytes // max(1, spool.rows))
    rows_each = max(1, (partition_bytes or PARTITION_BYTES) // mean_bytes)
    if spool.rows <= rows_each:
        yield _joined(order, [frame for frame, _, _ in spool.frames(CONTENT)])
        spool.drop()
        return
    targets = (
        order.select("review_id")
        .with_row_index("row")
        .select("review_id", (pl.col("row") // rows_each).alias("partition"))
        .sort("review_id")
    )
    parts = _shuffle(spool, targets, folder)
    for number, start in enumerate(range(0, order.height, rows_each)):
        found = [pl.read_ipc(path) for path in parts.pop(number, [])]
        yield _joined(order[start : start + rows_each], found)


def _joined(order: pl.DataFrame, found: list[pl.DataFrame]) -> pl.DataFrame:
    return order.join(pl.concat(found), on="review_id", how="left", maintain_order="left")


def _shuffle(spool: Spool, targets: pl.DataFrame, folder: Path) -> dict[int, list[Path]]:
    """Write every block's reviews to the partitions they belong to."""
    wanted = targets["review_id"].to_numpy()
    paths: dict[int, list[Path]] = {}
    waiting: list[pl.DataFrame] = []
    for frame, first, last in spool.frames(CONTENT):
        start, end = np.searchsorted(wanted, first), np.searchsorted(wanted, last, "right")
        waiting.append(targets[int(start) : int(end)].join(frame, on="review_id"))
        if len(waiting) == PARTS_AT_ONCE:
            _write_partitions(waiting, folder, paths)
    _write_partitions(waiting, folder, paths)
    spool.drop()
    return paths


def _write_partitions(
    waiting: list[pl.DataFrame], folder: Path, paths: dict[int, list[Path]]
) -> None:
    if not waiting:
        return
    groups = pl.concat(waiting).partition_by("partition", as_dict=True, include_key=False)
    waiting.clear()
    for (partition,), group in groups.items():
        known = paths.setdefault(int(partition), [])
        path = folder / f"{partition}-{len(known)}.arrow"
        group.write_ipc(path, compression="uncompressed")
        known.append(path)
