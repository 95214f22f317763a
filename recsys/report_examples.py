"""Real people of the report: what they met, what they are read to want, what each model says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from data_prep.artifact import Artifact
from data_prep.schema import (
    BENCHMARK_ROWS,
    INTERACTIONS,
    ITEM_TEXTS,
    ITEMS,
    PREFERENCES,
    TEXTS,
)
from recsys.report_runs import Run, Sources

SHOWN_HISTORY = 8
SHOWN_ITEMS = 5
SHOWN_PREFERENCES = 5
_LONGEST = 90
_LONGEST_EVIDENCE = 180


@dataclass(frozen=True)
class Library:
    """Words for numbers: items, texts and the evidence behind preferences."""

    items: list[str]
    texts: list[str]
    item_texts: list[str | None]
    interactions: pl.DataFrame
    preferences: pl.DataFrame

    @classmethod
    def of(cls, sources: Sources) -> "Library":
        """The words of the artifacts behind predictions."""
        return cls(
            items=item_names(sources.tables),
            texts=sources.vectors.table(TEXTS)["text"].to_list(),
            item_texts=sources.tables.table(ITEM_TEXTS)["text"].to_list(),
            interactions=sources.tables.table(INTERACTIONS),
            preferences=sources.preferences.table(PREFERENCES),
        )

    def evidence(self, user_id: int, text: str, before: int) -> str | None:
        """The words behind a preference of a person, from before a position."""
        found = self.preferences.filter(
            (pl.col("subject_id") == user_id)
            & (pl.col("text") == text)
            & (pl.col("valid_from") <= before)
        ).sort("valid_from", descending=True)
        for record in found.head(1).to_dicts():
            for span in reversed(record["evidence"]):
                source = self._source(span["source_id"], record["extractor_version"])
                if source and source[span["start"] : span["end"]].strip():
                    return shortened(source[span["start"] : span["end"]], _LONGEST_EVIDENCE)
        return None

    def _source(self, review_id: int, extractor_version: str) -> str | None:
        review = self.interactions.filter(pl.col("review_id") == review_id)
        if not review.height:
            return None
        if "item-metadata" in extractor_version:
            return self.item_texts[review["item_id"][0]]
        return review["text"][0]


def item_names(tables: Artifact) -> list[str]:
    """What each item is called: its title, else the beginning of its text, else its key."""
    items = tables.table(ITEMS)
    texts = tables.table(ITEM_TEXTS)["text"].to_list()
    return [
        shortened(title or text or key, _LONGEST)
        for title, text, key in zip(items["title"], texts, items["item_key"], strict=True)
    ]


def shortened(text: str, longest: int) -> str:
    """The text on one line, cut at a word where it is too long.

    Example:
        >>> shortened("a long story about nothing", 12)
        'a long story …'
    """
    line = " ".join(text.split())
    if len(line) <= longest:
        return line
    cut = line[: longest + 1].rsplit(" ", 1)[0] or line[:longest]
    return f"{cut[:longest]} …"


def chosen_people(best: Run, condition: str, baseline: Run | None, *, seed: int) -> list[int]:
    """Rows worth a look: two the retriever alone found, one only the baseline found, two nobody.

    Chosen by outcome so that success and failure both show, at random within each; where a kind
    has no row, another fills its place.
    """
    rows = best.at("recommendation", condition).filter("answered").sort("row_id")
    hit = rows["recall_10"].to_numpy() > 0
    base_hit = np.zeros_like(hit)
    if baseline is not None:
        other = baseline.at("recommendation", "none").select("row_id", "recall_10")
        merged = rows.join(other, on="row_id", how="left", suffix="_base", maintain_order="left")
        base_hit = merged["recall_10_base"].fill_null(0.0).to_numpy() > 0
    generator = np.random.default_rng([seed, 5])
    numbers = rows["row_id"].to_numpy()
    kinds = ((hit & ~base_hit, 2), (hit & base_hit, 1), (~hit & base_hit, 1), (~hit & ~base_hit, 2))
    chosen: list[int] = []
    for mask, count in kinds:
        chosen.extend(generator.permutation(numbers[mask])[:count].tolist())
    for number in generator.permutation(numbers).tolist():
        if len(chosen) >= min(6, len(numbers)):
            break
        if number not in chosen:
            chosen.append(number)
    return chosen


def recommendation_example(
    runs: Sequence[Run],
    row_id: int,
    conditions: Mapping[str, str],
    sources: Sources,
    library: Library,
) -> dict[str, Any]:
    """One person: history, preferences with evidence, and the answers of every recommender.

    Args:
        runs: The recommenders.
        row_id: Row of the recommendation axis.
        conditions: Condition under which each recommender is shown, by name.
        sources: The artifacts.
        library: Words for numbers.
    """
    questions = sources.benchmark.table(BENCHMARK_ROWS).filter(
        (pl.col("axis") == "recommendation") & (pl.col("row_id") == row_id)
    )
    shown = next((c for c in conditions.values() if c != "none" and questions.height), "none")
    question = questions.filter(pl.col("condition") == shown).to_dicts()
    if not question:
        question = questions.to_dicts()
    asked = question[0]
    return {
        "row_id": row_id,
        "person": f"person {asked['user_id']}",
        "history": _history(asked, library),
        "history_length": len(asked["history_item_ids"]),
        "condition": shown,
        "preferences": _preferences(asked, library, len(asked["history_item_ids"])),
        "target": library.items[asked["target_item_id"]],
        "answers": [
            answer
            for run in runs
            if (answer := _answer(run, "recommendation", conditions[run.name], row_id, library))
        ],
    }


def steering_example(
    run: Run, axis: str, row_id: int, sources: Sources, library: Library
) -> dict[str, Any]:
    """One steered question: what is returned before and after the sentence."""
    question = (
        sources.benchmark.table(BENCHMARK_ROWS)
        .filter(
            (pl.col("axis") == axis)
            & (pl.col("row_id") == row_id)
            & (pl.col("condition") == "stated")
        )
        .to_dicts()[0]
    )
    answers = [_answer(run, axis, condition, row_id, library) for condition in ("none", "stated")]
    return {
        "axis": axis,
        "row_id": row_id,
        "history": _history(question, library),
        "history_length": len(question["history_item_ids"]),
        "asked": [library.texts[text] for text in question["preference_text_ids"]],
        "target": library.items[question["target_item_id"]],
        "answers": [answer for answer in answers if answer],
    }


def steered_rows(run: Run, axis: str, *, seed: int) -> list[int]:
    """One row where the sentence brought the target into the first ten, one where it did not."""
    stated = run.at(axis, "stated").filter("answered").sort("row_id")
    none = run.at(axis, "none").select("row_id", "recall_10")
    merged = stated.join(none, on="row_id", suffix="_none", maintain_order="left")
    won = (merged["recall_10"] > merged["recall_10_none"]).to_numpy()
    generator = np.random.default_rng([seed, 6])
    numbers = merged["row_id"].to_numpy()
    return [int(generator.choice(numbers[mask])) for mask in (won, ~won) if mask.any()]


def _history(question: dict[str, Any], library: Library) -> list[str]:
    newest = question["history_item_ids"][-SHOWN_HISTORY:]
    return [library.items[item] for item in newest]


def _preferences(
    question: dict[str, Any], library: Library, position: int
) -> list[dict[str, str | None]]:
    pairs = zip(question["preference_text_ids"], question["preference_polarities"], strict=True)
    return [
        {
            "text": library.texts[text],
            "polarity": polarity,
            "evidence": library.evidence(question["user_id"], library.texts[text], position),
        }
        for text, polarity in list(pairs)[:SHOWN_PREFERENCES]
    ]


def _answer(
    run: Run, axis: str, condition: str, row_id: int, library: Library
) -> dict[str, Any] | None:
    rows = run.at(axis, condition).filter(pl.col("row_id") == row_id).to_dicts()
    if not rows:
        return None
    row = rows[0]
    items = row["item_ids"][:SHOWN_ITEMS]
    return {
        "model": run.name,
        "condition": condition,
        "items": [
            {"name": library.items[item], "target": item == row["target_item_id"]} for item in items
        ],
        "target_rank": row["target_rank"],
        "returned": len(row["item_ids"]),
    }
