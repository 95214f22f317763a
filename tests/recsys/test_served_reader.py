"""Reviews that are sent along are read as those of a table, with quotes."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.artifact import read_artifact
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS
from personalize.api.messages import ReadRequest
from personalize.api.ports import RequestRefused
from personalize.conditioning.statement import Statement
from personalize.conditioning.text import SentenceEncoder
from personalize.preferences.aspects import read_aspects
from personalize.preferences.extract import extract_from_reviews
from personalize.preferences.extractive import ExtractiveExtractor
from recsys.embed import ITEM_VECTORS, write_item_vectors
from recsys.load import load_recommender
from recsys.served_reader import ReviewReader
from tests.recsys.served_world import ServedWorld, causal_of
from tests.recsys.small_artifacts import write_tables

TEXTS = [
    "Light enough to carry all day. Sadly it broke after a week.",
    "It is far too expensive for what it is. So light to carry!",
    "The sound is wonderful and clear.",
]


@pytest.fixture(scope="module")
def aspects_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three aspects, so that few sentences are to be encoded."""
    import yaml

    path = tmp_path_factory.mktemp("aspects") / "aspects.yaml"
    whole = yaml.safe_load(Path("personalize/preferences/aspects.yaml").read_text(encoding="utf-8"))
    kept = {name: whole["aspects"][name] for name in ("weight", "price", "sound")}
    path.write_text(yaml.safe_dump(whole | {"aspects": kept}), encoding="utf-8")
    return path


def test_reviews_are_read_as_those_of_a_table(tmp_path: Path, aspects_file: Path):
    aspects, sentences = read_aspects(aspects_file), SentenceEncoder()
    histories = [[0, 1, 2, 3]]  # the review at the last position is read by nobody
    texts = {(0, place): text for place, text in enumerate([*TEXTS, "Unread."])}
    tables = write_tables(tmp_path / "tables", histories, item_count=4, texts=texts)
    interactions = read_artifact(tables, kind="reviews").table(INTERACTIONS)
    reader = ReviewReader(
        sentences, aspects, interactions, Statement(sentences.encode, sentences.width)
    )
    reviews = [{"text": text, "rating": 5, "id": number} for number, text in enumerate(TEXTS)]
    request = ReadRequest.model_validate({"reviews": reviews})
    assert request.reviews is not None
    answer = reader.read(request.reviews)
    extractor = ExtractiveExtractor.fitted(sentences, aspects, [])
    known = extract_from_reviews(interactions, extractor, aspects).preferences
    newest = known.filter(known["valid_from"] == 3)
    assert newest.height >= 2
    columns = ("text", "polarity", "aspect")
    assert [tuple(getattr(p, c) for c in columns) for p in answer.preferences] == list(
        newest.select(columns).iter_rows()
    )
    assert [p.strength for p in answer.preferences] == pytest.approx(newest["strength"].to_list())
    spans = [[(q.source, q.start, q.end) for q in p.evidence] for p in answer.preferences]
    assert spans == [
        [(s["source_id"], s["start"], s["end"]) for s in row] for row in newest["evidence"]
    ]
    for preference in answer.preferences:
        for quote in preference.evidence:
            assert TEXTS[quote.source][quote.start : quote.end] == quote.quote
    assert len(answer.conditioning.values) == sentences.width
    assert all(answer.conditioning.mask)
    assert np.linalg.norm(answer.conditioning.values) == pytest.approx(1.0, abs=1e-4)
    nothing = ReadRequest.model_validate({"reviews": [{"text": "..."}]})
    assert nothing.reviews is not None
    empty = reader.read(nothing.reviews)
    assert empty.preferences == []
    assert not any(empty.conditioning.mask)


@pytest.mark.parametrize("ids", [(7, 7), (None, 0), (1, None)])
def test_reviews_that_share_an_id_are_refused(world: ServedWorld, ids: tuple[int | None, ...]):
    reviews = [{"id": number, "text": "Light."} for number in ids]
    with pytest.raises(RequestRefused, match="Two reviews have the id"):
        world.opened().read(ReadRequest.model_validate({"reviews": reviews}))


def test_the_artifact_of_item_vectors(world: ServedWorld, tmp_path: Path):
    written = read_artifact(world.root / "causal_vectors", kind="item_vectors")
    model = causal_of(load_recommender(world.root / "causal").recommender)
    keys = model.dense_keys().detach().numpy()
    assert np.array_equal(written.arrays("item_vectors")["values"], keys)
    table = written.table(ITEM_VECTORS)
    assert table["item_id"].to_list() == table["vector_row"].to_list() == list(range(24))
    assert written.manifest.notes == {"items": 24, "width": 33, "space": "model"}
    checkpoint = read_artifact(world.root / "causal", kind="checkpoint")
    assert written.manifest.inputs["checkpoint"] == checkpoint.content_hash
    texts = read_artifact(world.root / "tiger_vectors", kind="item_vectors")
    assert texts.manifest.notes == {"items": 24, "width": 16, "space": "text"}
    lengths = np.linalg.norm(texts.arrays("item_vectors")["values"], axis=1)
    assert lengths == pytest.approx(np.ones(24), abs=1e-5)
    with pytest.raises(InputError, match="pass some as --vectors"):
        write_item_vectors(checkpoint=world.root / "tiger", out=tmp_path / "out")
