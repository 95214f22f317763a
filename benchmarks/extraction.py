"""How well the embedded extractor reads: planted preferences of towns, hand-labelled real clauses.

    python benchmarks/extraction.py --json --seeds 1 2 3 [--instruments reviews.json.gz]

The aspect list and the numbers of the extractor were chosen on town 0 and on the development part
of the labels. The other towns have other people, items and reviews, but draw on the same bank of
sentences. The real clauses are not used for fitting: people who wrote one are left out.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_prep.__main__ import main as data_prep
from data_prep.artifact import read_artifact
from data_prep.schema import INTERACTIONS, PLANTED_MENTIONS, PLANTED_PREFERENCES
from personalize.conditioning.text import SentenceEncoder
from personalize.preferences.aspects import read_aspects
from personalize.preferences.extract import extract_from_reviews, training_reviews
from personalize.preferences.extractive import ExtractiveExtractor
from personalize.preferences.scoring import score_against_planted
from tests.personalize.preferences.labelled import figures, labelled_clauses


def town_figures(seed: int, users: int) -> dict[str, Any]:
    """Agreement with one town's planted preferences, by every rule of `scoring`."""
    with tempfile.TemporaryDirectory() as folder:
        tables = Path(folder) / "tables"
        data_prep(["town", "--users", str(users), "--seed", str(seed), "--out", str(tables)])
        artifact = read_artifact(tables, kind="reviews")
        interactions = artifact.table(INTERACTIONS)
        planted = artifact.table(PLANTED_PREFERENCES)
        mentions = artifact.table(PLANTED_MENTIONS)
    started = time.perf_counter()
    aspects = read_aspects()
    extractor = ExtractiveExtractor.fitted(
        SentenceEncoder(), aspects, training_reviews(interactions)
    )
    found = extract_from_reviews(interactions, extractor, aspects).preferences
    seconds = time.perf_counter() - started
    scores = score_against_planted(found, planted, mentions, interactions)
    rules = {
        name: {
            **asdict(score),
            "precision": score.precision,
            "recall": score.recall,
            "f1": score.f1,
        }
        for name, score in scores.items()
    }
    return {"seed": seed, "users": users, "seconds": seconds, **rules}


def real_figures(instruments: Path) -> dict[str, Any]:
    """Agreement with the hand-labelled clauses, part by part."""
    clauses, others = labelled_clauses(instruments)
    extractor = ExtractiveExtractor.fitted(SentenceEncoder(), read_aspects(), others)
    found = {}
    for part in ("development", "test"):
        chosen = [clause for clause in clauses if clause.part == part]
        praise = extractor.praise([clause.review for clause in chosen])
        found[part] = {"clauses": len(chosen), **asdict(figures(extractor, chosen, praise))}
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3], help="towns to read")
    parser.add_argument("--users", type=int, default=600, help="people in a town")
    parser.add_argument("--instruments", type=Path, help="Musical Instruments reviews, 2014")
    options = parser.parse_args()
    report: dict[str, Any] = {"towns": [town_figures(s, options.users) for s in options.seeds]}
    if options.instruments:
        report["instruments"] = real_figures(options.instruments)
    if options.json:
        print(json.dumps(report))
        return
    for town in report["towns"]:
        for rule in ("planted", "revealed", "holding", "mentions"):
            score = town[rule]
            print(
                f"town {town['seed']} {rule:9} precision {score['precision']:.3f} "
                f"recall {score['recall']:.3f} F1 {score['f1']:.3f}"
            )
    for part, score in report.get("instruments", {}).items():
        print(
            f"real {part:11} precision {score['precision']:.3f} recall {score['recall']:.3f} "
            f"F1 {score['f1']:.3f} polarity {score['polarity_accuracy']:.3f}"
        )


if __name__ == "__main__":
    main()
