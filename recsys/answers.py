"""Ask a recommender the questions of a benchmark: each distinct question once, in batches.

The same history with the same preferences may be asked on several axes and under several
conditions. It is answered once, so every axis costs only what is new about it, and the answers
do not depend on the order of the rows or on the size of a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int

from data_prep.progress import track
from data_prep.schema import RECOMMENDATIONS
from recsys.collate import Ragged, RowPreferences, prefix_batch
from recsys.ranking import target_ranks
from recsys.recommender import Filters, Recommender

MOST_PREFERENCES = 20
_QUESTION = ("history_item_ids", "preference_text_ids", "preference_polarities")


@dataclass(frozen=True)
class AskingOptions:
    """How a recommender is asked.

    Attributes:
        count: Number of items asked for.
        batch_size: Questions asked at once.
        maximum_history: Newest items of a history that are shown.
        exclude_history: Leave out every item of the whole history.
        device: Where the recommender is.
    """

    count: int = 50
    batch_size: int = 256
    maximum_history: int = 20
    exclude_history: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Answers:
    """Items for each distinct question, best first, -1 where none was returned."""

    item_ids: Int[np.ndarray, "question rank"]
    scores: Float[np.ndarray, "question rank"]


def askable_rows(rows: pl.DataFrame, *, uses_preferences: bool) -> pl.DataFrame:
    """The rows a recommender can be asked: those under `none` where it reads no preferences."""
    return rows if uses_preferences else rows.filter(pl.col("condition") == "none")


def distinct_questions(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """The distinct questions among the rows, and the number of each row's question.

    Shorter histories come first, so that a batch has little padding.
    """
    questions = (
        rows.select(_QUESTION)
        .unique(maintain_order=True)
        .with_columns(pl.col("history_item_ids").list.len().alias("length"))
        .sort("length", maintain_order=True)
        .drop("length")
        .with_row_index("question")
    )
    numbered = rows.join(questions, on=list(_QUESTION), how="left", maintain_order="left")
    return questions, numbered["question"]


@torch.no_grad()
def ask(recommender: Recommender, questions: pl.DataFrame, options: AskingOptions) -> Answers:
    """Answers to distinct questions, in their order.

    A question counts as failed, and its answer is empty, where a returned item has a score that
    is not a number.

    Args:
        recommender: In evaluation mode, on the device of the options.
        questions: The result of `distinct_questions`.
        options: How to ask.
    """
    shape = (questions.height, options.count)
    item_ids, scores = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
    filters = Filters(exclude_history=options.exclude_history)
    histories = Ragged.from_series(questions["history_item_ids"])
    texts = Ragged.from_series(questions["preference_text_ids"])
    avoid = _flat_avoid(questions["preference_polarities"])
    for numbers in track(list(_batches(questions.height, options.batch_size)), "answering"):
        shown = texts.rows(numbers)
        flags = Ragged(avoid, texts.offsets).rows(numbers).values
        batch = prefix_batch(
            numbers,
            histories.rows(numbers).last(options.maximum_history),
            np.zeros(len(numbers), np.int64),
            RowPreferences.from_ragged(shown, flags, maximum=MOST_PREFERENCES),
        )
        found = recommender.recommend(
            batch.to(options.device), count=options.count, filters=filters
        )
        items = found.item_ids.cpu().numpy()
        values = found.scores.float().cpu().numpy()
        if options.exclude_history:
            items, values = _without_history(items, values, histories.rows(numbers))
        item_ids[numbers, : items.shape[1]] = items
        scores[numbers, : items.shape[1]] = values
    failed = (np.isnan(scores) & (item_ids >= 0)).any(axis=1)
    item_ids[failed], scores[failed] = -1, -np.inf
    return Answers(item_ids, scores)


def recommendation_rows(rows: pl.DataFrame, numbers: pl.Series, answers: Answers) -> pl.DataFrame:
    """Rows of the table `recommendations`: the answer to every row, and the target's rank in it."""
    question = numbers.to_numpy()
    item_ids, scores = answers.item_ids[question], answers.scores[question]
    ranks, found = target_ranks(
        torch.from_numpy(item_ids),
        torch.from_numpy(rows["target_item_id"].to_numpy().astype(np.int64)),
    )
    real = item_ids >= 0
    schema = RECOMMENDATIONS.polars
    return rows.select("axis", "condition", "row_id").with_columns(
        pl.Series("item_ids", _lists(item_ids, real), dtype=schema["item_ids"]),
        pl.Series("scores", _lists(scores, real), dtype=schema["scores"]),
        pl.Series("target_rank", np.where(found.numpy(), ranks.numpy(), 0), dtype=pl.Int32)
        .replace(0, None)
        .cast(schema["target_rank"]),
    )


def _batches(count: int, size: int) -> Iterator[np.ndarray]:
    for begin in range(0, count, size):
        yield np.arange(begin, min(begin + size, count))


def _flat_avoid(polarities: pl.Series) -> np.ndarray:
    flat = polarities.explode(empty_as_null=False)
    return (flat == "avoid").to_numpy().astype(np.int64)


def _lists(values: np.ndarray, real: np.ndarray) -> list[list[int | float]]:
    return [row[keep].tolist() for row, keep in zip(values, real, strict=True)]


def _without_history(
    items: np.ndarray, scores: np.ndarray, histories: Ragged
) -> tuple[np.ndarray, np.ndarray]:
    """The answers without items of the whole history, which may be longer than what was shown."""
    kept_items, kept_scores = np.full_like(items, -1), np.full_like(scores, -np.inf)
    for row in range(len(items)):
        seen = histories.values[histories.offsets[row] : histories.offsets[row + 1]]
        keep = (items[row] >= 0) & ~np.isin(items[row], seen)
        kept_items[row, : keep.sum()] = items[row][keep]
        kept_scores[row, : keep.sum()] = scores[row][keep]
    return kept_items, kept_scores
