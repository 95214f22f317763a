"""What every evaluation axis starts from, and the rows it ends in.

A *question* is a history, some preferences, and an item a recommender should return (or should
leave out). An axis is a set of questions, asked under one or more conditions: the same question
has the same row number in every condition, so that conditions are compared row by row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from data_prep.schema import BENCHMARK_ROWS
from recsys.collate import Ragged

TextLists = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Targets:
    """Every interaction of the split that is asked about, in the order of person and position.

    Attributes:
        user_ids: Whose interaction it is.
        positions: Its place in the person's history.
        item_ids: The item.
        times_s: Seconds since 1970; 0 where `timed` is false.
        timed: Whether the time is known.
        histories: The items the person met before it, oldest first.
    """

    user_ids: Int[np.ndarray, " target"]
    positions: Int[np.ndarray, " target"]
    item_ids: Int[np.ndarray, " target"]
    times_s: Int[np.ndarray, " target"]
    timed: Bool[np.ndarray, " target"]
    histories: Ragged

    def __len__(self) -> int:
        """Number of targets."""
        return len(self.item_ids)

    def history(self, number: int) -> Int[np.ndarray, " step"]:
        """Items before one target, oldest first."""
        begin, end = self.histories.offsets[number : number + 2]
        return self.histories.values[begin:end]


@dataclass(frozen=True)
class ItemTexts:
    """How items are known by text.

    Attributes:
        text_ids: Text of each item, 0 where the mask is false.
        mask: Which items have a text.
        vectors: Unit vector of each item's text; zeros where it has none.
        titles: Title in lower case; empty where unknown.
    """

    text_ids: Int[np.ndarray, " item"]
    mask: Bool[np.ndarray, " item"]
    vectors: Float[np.ndarray, "item width"]
    titles: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """Texts that condition each question under one condition, most important first."""

    text_ids: TextLists
    avoid: Sequence[Sequence[bool]]

    @classmethod
    def none(cls, count: int) -> "Choice":
        """No text for any of `count` questions."""
        return cls([[]] * count, [[]] * count)


@dataclass(frozen=True)
class Questions:
    """The questions of one axis, whatever condition they are asked under.

    Attributes:
        axis: Name of the axis.
        user_ids: Whose history it is.
        histories: The items met before.
        target_item_ids: The item asked about.
        wanted: False where the item should be left out.
        pair_ids: Joins a wanted and an avoided question; None where the axis has no pairs.
    """

    axis: str
    user_ids: Int[np.ndarray, " row"]
    histories: Sequence[Sequence[int]]
    target_item_ids: Int[np.ndarray, " row"]
    wanted: Bool[np.ndarray, " row"]
    pair_ids: Int[np.ndarray, " row"] | None = None


@dataclass(frozen=True)
class Axis:
    """One axis, built: its rows and an account of what became of every candidate.

    Attributes:
        name: Name of the axis.
        unit: What a candidate is.
        candidates: How many there were.
        kept: How many are asked about.
        dropped: How many are not, by reason; kept and dropped add up to the candidates.
        rule: One sentence that says how the questions were made.
        thresholds: Numbers behind the rule.
        frame: Rows of the benchmark.
        extra: Facts worth keeping, by name.
    """

    name: str
    unit: str
    candidates: int
    kept: int
    dropped: Mapping[str, int]
    rule: str
    frame: pl.DataFrame
    thresholds: Mapping[str, float | int] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an account that does not add up.

        Raises:
            ValueError: If kept and dropped do not sum to the candidates.
        """
        total = self.kept + sum(self.dropped.values())
        if total != self.candidates:
            raise ValueError(
                f"The axis {self.name} accounts for {total} of {self.candidates} candidates."
            )

    def account(self) -> dict[str, object]:
        """The axis without its rows, as plain JSON values."""
        counts = self.frame.group_by("condition").len().sort("condition")
        return {
            "unit": self.unit,
            "candidates": self.candidates,
            "kept": self.kept,
            "dropped": dict(self.dropped),
            "rule": self.rule,
            "thresholds": dict(self.thresholds),
            "rows": dict(counts.iter_rows()),
            **self.extra,
        }


def read_targets(interactions: pl.DataFrame, split: str) -> Targets:
    """The interactions of one split, each with the history strictly before it.

    Args:
        interactions: The table of that name.
        split: `validation` or `test`.
    """
    ordered = interactions.sort("user_id", "position", maintain_order=True).with_row_index("row")
    starts = ordered.group_by("user_id", maintain_order=True).agg(pl.col("row").first())
    asked = ordered.filter(pl.col("split") == split)
    begins = asked.join(starts, on="user_id", how="left", maintain_order="left")["row_right"]
    lengths = (asked["row"].to_numpy() - begins.to_numpy()).astype(np.int64)
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    places = np.arange(offsets[-1]) + np.repeat(
        begins.to_numpy().astype(np.int64) - offsets[:-1], lengths
    )
    items = ordered["item_id"].to_numpy().astype(np.int64)
    return Targets(
        user_ids=asked["user_id"].to_numpy().astype(np.int64),
        positions=asked["position"].to_numpy().astype(np.int64),
        item_ids=asked["item_id"].to_numpy().astype(np.int64),
        times_s=asked["timestamp_s"].fill_null(0).to_numpy().astype(np.int64),
        timed=asked["timestamp_s"].is_not_null().to_numpy(),
        histories=Ragged(items[places], offsets),
    )


def question_rows(questions: Questions, condition: str, choice: Choice, split: str) -> pl.DataFrame:
    """Rows of the benchmark: every question of an axis under one condition."""
    polarities = [["avoid" if avoid else "like" for avoid in row] for row in choice.avoid]
    count = len(questions.target_item_ids)
    columns = {
        "axis": [questions.axis] * count,
        "condition": [condition] * count,
        "row_id": range(count),
        "split": [split] * count,
        "user_id": questions.user_ids,
        "history_item_ids": [[int(item) for item in row] for row in questions.histories],
        "preference_text_ids": [[int(text) for text in row] for row in choice.text_ids],
        "preference_polarities": polarities,
        "target_item_id": questions.target_item_ids,
        "target_wanted": questions.wanted,
        "pair_id": [None] * count if questions.pair_ids is None else questions.pair_ids,
    }
    return pl.DataFrame(
        [
            pl.Series(name, values, dtype=dtype, strict=False)
            for (name, values), dtype in zip(
                columns.items(), BENCHMARK_ROWS.polars.dtypes(), strict=True
            )
        ]
    )
