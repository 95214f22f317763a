"""Clauses of real reviews labelled by hand, and how well an extractor agrees with the labels."""

import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personalize.preferences.extractor import Extractor, Review

LABELS = Path(__file__).parents[2] / "data" / "instruments_labels.json"


@dataclass(frozen=True)
class Labelled:
    """One labelled clause as a review of its own, with the stars of the review it stands in.

    Attributes:
        review: The clause.
        part: `development` or `test`.
        polarity: Of the clause as a whole: like, avoid, none or mixed.
        opinions: Pairs of aspect and polarity.
    """

    review: Review
    part: str
    polarity: str
    opinions: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Figures:
    """Agreement with the labels: opinions as (aspect, polarity), and polarity alone."""

    precision: float
    recall: float
    f1: float
    aspect_f1: float
    polarity_accuracy: float
    opinions: int
    polar_clauses: int


def labelled_clauses(instruments_file: Path) -> tuple[list[Labelled], list[Review]]:
    """The labelled clauses, and all reviews of people none of whose clauses is labelled.

    Raises:
        ValueError: If a clause is not what was labelled.
    """
    with gzip.open(instruments_file, "rt", encoding="utf-8") as stream:
        raw = [json.loads(line) for line in stream]
    by_key = {(row["reviewerID"], row["asin"]): row for row in raw}
    rows = json.loads(LABELS.read_text(encoding="utf-8"))["clauses"]
    found = []
    for number, row in enumerate(rows):
        source = by_key[row["reviewer"], row["asin"]]
        text = source["reviewText"][row["start"] : row["end"]]
        if hashlib.sha256(text.encode()).hexdigest()[:16] != row["sha256"]:
            raise ValueError(f"Clause {number} is not what was labelled.")
        opinions = frozenset((o["aspect"], o["polarity"]) for o in row["opinions"])
        review = Review(number, text, source["overall"])
        found.append(Labelled(review, row["part"], row["polarity"], opinions))
    people = {row["reviewer"] for row in rows}
    others = [
        Review(number, row["reviewText"], row["overall"])
        for number, row in enumerate(raw)
        if row["reviewerID"] not in people
    ]
    return found, others


def figures(extractor: Extractor, clauses: list[Labelled], polar: np.ndarray) -> Figures:
    """How well the extractor agrees.

    Args:
        extractor: Reads each clause as a review.
        clauses: The labelled clauses.
        polar: For each clause, whether the polarity head says praise.
    """
    hits = extracted = true = aspect_hits = 0
    for clause, answer in zip(clauses, extractor.read([c.review for c in clauses]), strict=True):
        found = {(opinion.aspect, str(opinion.polarity)) for opinion in answer.opinions}
        hits += len(found & clause.opinions)
        extracted += len(found)
        true += len(clause.opinions)
        aspect_hits += len({a for a, _ in found} & {a for a, _ in clause.opinions})
    pairs = [
        (bool(praise), clause.polarity == "like")
        for praise, clause in zip(polar, clauses, strict=True)
        if clause.polarity in ("like", "avoid")
    ]
    return Figures(
        precision=hits / max(extracted, 1),
        recall=hits / max(true, 1),
        f1=2 * hits / max(extracted + true, 1),
        aspect_f1=2 * aspect_hits / max(extracted + true, 1),
        polarity_accuracy=sum(said == is_so for said, is_so in pairs) / max(len(pairs), 1),
        opinions=true,
        polar_clauses=len(pairs),
    )
