"""From raw reviews of any format to one `reviews` artifact, in two passes and bounded memory."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from data_prep.artifact import ArtifactWriter, create_artifact
from data_prep.errors import InputError
from data_prep.progress import track
from data_prep.reviews.core import k_core
from data_prep.reviews.deduplicate import first_occurrence
from data_prep.reviews.item_texts import (
    item_texts,
    nameless_items,
    quotable,
    quoted_reviews,
)
from data_prep.reviews.raw_review import RAW_ITEMS
from data_prep.reviews.rejects import Rejects
from data_prep.reviews.splits import GlobalTime, LeaveLastOut, Split
from data_prep.reviews.user_spool import UserSpool
from data_prep.schema import INTERACTIONS, ITEM_TEXTS, ITEMS, REJECTED, USERS


class ReviewSource(ABC):
    """One raw format: where reviews and item facts come from."""

    @abstractmethod
    def reviews(self, rejects: Rejects) -> Iterator[pl.DataFrame]:
        """Good reviews as frames of `RAW_REVIEWS`, review numbers rising; bad ones to `rejects`."""

    def items(self, item_keys: Sequence[str], rejects: Rejects) -> pl.DataFrame:
        """What is known of these items, as `RAW_ITEMS`; an unknown item has no row."""
        del item_keys, rejects
        return pl.DataFrame(schema=RAW_ITEMS)

    def place(self, review_id: int) -> tuple[str, int]:
        """File and line of a review, for the note on a repeated one."""
        return "", review_id + 1


@dataclass(frozen=True)
class Rules:
    """What is kept and how it is split.

    Attributes:
        core: Interactions every user and item must have; 0 keeps all.
        split: How interactions are divided.
        max_rejected_share: Largest share of refused rows that does not stop the command.
    """

    core: int = 5
    split: Split = field(default_factory=LeaveLastOut)
    max_rejected_share: float = 0.01

    def __post_init__(self) -> None:
        """Refuse senseless numbers.

        Raises:
            InputError: If the core is negative or the share not in [0, 1].
        """
        if self.core < 0:
            raise InputError(f"--core must be 0 or more, got {self.core}.")
        if not 0 <= self.max_rejected_share <= 1:
            raise InputError(
                f"--max-rejected-share must lie in [0, 1], got {self.max_rejected_share:g}."
            )


def rules(
    *, core: int, split: str, split_fractions: Sequence[float], max_rejected_share: float
) -> Rules:
    """The rules as options of the command line say them.

    Raises:
        InputError: If a number is out of range.
    """
    chosen: Split = LeaveLastOut() if split == "leave-last-out" else GlobalTime(*split_fractions)
    return Rules(core, chosen, max_rejected_share)


@dataclass(frozen=True)
class Destination:
    """Where the artifact goes and what its manifest says of its origin.

    Attributes:
        out: Folder the artifact will be.
        overwrite: Replace an artifact that is there.
        command: The command that writes it.
        configuration: Its options.
        inputs: Content hash by input name.
        notes: Facts for the manifest.
    """

    out: Path
    overwrite: bool
    command: str
    configuration: Mapping[str, Any]
    inputs: Mapping[str, str]
    notes: Mapping[str, Any] = field(default_factory=dict)


Finish = Callable[[ArtifactWriter, pl.DataFrame, pl.DataFrame], None]


def write_reviews(
    source: ReviewSource, kept: Rules, destination: Destination, *, finish: Finish | None = None
) -> None:
    """Prepare one source and write it as an artifact of kind `reviews`.

    The first pass reads the source once, spools texts to disk and keeps a few numbers per review
    in memory. Duplicates, core, order and split are decided on those; the second pass joins the
    texts to them, a partition at a time, straight into the final table.

    Args:
        source: The raw format.
        kept: What is kept and how it is split.
        destination: Where it goes.
        finish: Called with the writer, the numbered interactions (`review_id`, `user_id`,
            `position`, `item_id`, `split`) and the items, to add tables of the format's own.

    Raises:
        InputError: If too much is refused, nothing is left, or the destination is taken.
    """
    with (
        create_artifact(
            destination.out,
            kind="reviews",
            command=destination.command,
            configuration=destination.configuration,
            inputs=destination.inputs,
            overwrite=destination.overwrite,
        ) as writer,
        tempfile.TemporaryDirectory(dir=writer.folder, prefix=".spool.") as temporary,
    ):
        work = _Work(source, kept, writer, Path(temporary))
        work.run(finish)
        writer.notes.update(destination.notes)


class _Work:
    """The steps of one preparation and what they hand to each other."""

    def __init__(
        self, source: ReviewSource, kept: Rules, writer: ArtifactWriter, folder: Path
    ) -> None:
        self.source, self.kept, self.writer = source, kept, writer
        self.rejects, self.repeats, self.item_rejects = Rejects(), Rejects(), Rejects()
        (folder / "blocks").mkdir()
        (folder / "partitions").mkdir()
        self.partitions = folder / "partitions"
        self.spool = UserSpool(folder / "blocks")
        self.empty_texts = 0

    def run(self, finish: Finish | None) -> None:
        index = self._read()
        self.rejects.check_share(self.kept.max_rejected_share, "reviews")
        repeats = first_occurrence(index)
        self._note_repeats(repeats)
        index = index.join(repeats.select("review_id"), on="review_id", how="anti")
        unique_rows = index.height
        index = self._core(index)
        core_rows = index.height
        histories = self._histories(index)
        del index
        if not histories.height:
            raise InputError(
                f"Nothing is left of {self.rejects.read:,} reviews: {self.rejects.rows_refused:,} "
                f"were refused, {repeats.height:,} were repeats, and a core of {self.kept.core} "
                "dropped the rest; lower --core or bring more reviews."
            )
        numbered, users, items = self._number(histories)
        del histories
        facts = self.source.items(items["item_key"].to_list(), self.item_rejects)
        self.item_rejects.check_share(self.kept.max_rejected_share, "metadata rows")
        items = items.join(facts, on="item_key", how="left", maintain_order="left").with_columns(
            pl.col("categories").fill_null([])
        )
        quotes = self._write_interactions(numbered, users["user_key"], nameless_items(items))
        self.writer.write_table(USERS, users)
        self.writer.write_table(ITEMS, items)
        texts = item_texts(items, quotes)
        self.writer.write_table(ITEM_TEXTS, texts)
        refused = Rejects(rows=self.rejects.rows + self.repeats.rows + self.item_rejects.rows)
        self.writer.write_table(REJECTED, refused.frame())
        if finish is not None:
            finish(self.writer, numbered, items)
        self._note_counts(
            repeats.height, unique_rows - core_rows, core_rows - numbered.height, numbered, items
        )

    def _read(self) -> pl.DataFrame:
        found = []
        for frame in track(self.source.reviews(self.rejects), "reading blocks"):
            self.rejects.stop_early(self.kept.max_rejected_share, "reviews")
            self.spool.append(frame)
            found.append(
                frame.select(
                    "review_id",
                    pl.col("user_key").hash(seed=0).alias("user"),
                    pl.col("item_key").hash(seed=0).alias("item"),
                    "timestamp_s",
                    pl.col("text").hash(seed=0),
                )
            )
            short = frame["text"].filter(frame["text"].str.len_bytes() < 8)
            self.empty_texts += frame["text"].null_count()
            self.empty_texts += int((short.str.strip_chars() == "").sum())
        if not found:
            raise InputError("The input holds no reviews at all; is it the right file?")
        return pl.concat(found, rechunk=True)

    def _note_repeats(self, repeats: pl.DataFrame) -> None:
        keys = self.spool.pick(repeats["review_id"], ["user_key", "item_key"])
        for (number, first), row in zip(repeats.iter_rows(), keys.iter_rows(), strict=True):
            file, line = self.source.place(number)
            first_file, first_line = self.source.place(first)
            reason = f"repeats {first_file} line {first_line}"
            self.repeats.add(file, line, reason, f"{row[1]} {row[2]}")

    def _core(self, index: pl.DataFrame) -> pl.DataFrame:
        if self.kept.core < 2:
            return index
        users, items = (
            index[name].rank("dense").cast(pl.Int64).to_numpy() - 1 for name in ("user", "item")
        )
        return index.filter(pl.Series(k_core(users, items, self.kept.core)))

    def _histories(self, index: pl.DataFrame) -> pl.DataFrame:
        """Interactions by user and time with their split; a tie keeps file order."""
        ordered = index.select("review_id", "user", "item", "timestamp_s").sort(
            "user", "timestamp_s", "review_id"
        )
        position = pl.int_range(pl.len(), dtype=pl.Int32).over("user").alias("position")
        labelled = self.kept.split.label(ordered.with_columns(position))
        return labelled.with_columns(position)

    def _number(self, histories: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """Interactions with dense numbers, sorted by user and position; users; items."""
        users = self._keys(histories, "user", USERS.columns[0].name, "user_key")
        items = self._keys(histories, "item", ITEMS.columns[0].name, "item_key")
        numbered = (
            histories.join(users.drop("user_key"), on="user", how="left")
            .join(items.drop("item_key"), on="item", how="left")
            .select("review_id", "user_id", "position", "item_id", "timestamp_s", "split")
            .sort("user_id", "position")
        )
        return numbered, users.drop("user"), items.drop("item")

    def _keys(self, histories: pl.DataFrame, kind: str, number: str, key: str) -> pl.DataFrame:
        """Hash, number and key of every user or item, in the order of the key."""
        first = histories.group_by(kind).agg(pl.col("review_id").min()).sort("review_id")
        keys = self.spool.pick(first["review_id"], [key])
        named = first.join(keys, on="review_id", how="left").drop("review_id").sort(key)
        return named.select(kind, pl.int_range(pl.len(), dtype=pl.Int32).alias(number), key)

    def _write_interactions(
        self, numbered: pl.DataFrame, user_keys: pl.Series, nameless: pl.DataFrame
    ) -> pl.DataFrame:
        """Write the table; hand back what the texts of nameless items may quote, in order."""
        quotes = quoted_reviews(numbered.join(nameless, on="item_id", how="semi"))
        quoted: list[pl.DataFrame] = []

        def frames() -> Iterator[pl.DataFrame]:
            for frame in self.spool.in_order(numbered, user_keys, self.partitions):
                chosen = frame.join(quotes.select("review_id"), on="review_id", how="semi")
                quoted.append(chosen.select("review_id", *quotable()))
                yield frame.select(INTERACTIONS.polars.names())

        self.writer.write_stream(INTERACTIONS, frames())
        return quotes.join(pl.concat(quoted), on="review_id", how="left", maintain_order="left")

    def _note_counts(
        self,
        repeats: int,
        outside_core: int,
        outside_split: int,
        numbered: pl.DataFrame,
        items: pl.DataFrame,
    ) -> None:
        splits = dict(numbered["split"].value_counts().sort("split").iter_rows())
        self.writer.notes["reviews"] = {
            "read": self.rejects.read,
            "rejected": self.rejects.rows_refused,
            "duplicates": repeats,
            "dropped_by_core": outside_core,
            "outside_split": outside_split,
            "kept": numbered.height,
            "empty_texts_read": self.empty_texts,
        }
        self.writer.notes["metadata"] = {
            "read": self.item_rejects.read,
            "rejected": self.item_rejects.rows_refused,
        }
        self.writer.notes["interactions_by_split"] = splits
        self.writer.notes["items"] = items.height
