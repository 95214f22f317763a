"""Selection policies against a slow, obvious version, and never a look into the future."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from data_prep.schema import PREFERENCES, TEXTS
from personalize.conditioning.selection import (
    All,
    Latest,
    Nothing,
    Oracle,
    PreferenceIndex,
    Question,
    Retrieved,
)

WIDTH = 3
TEXT_VECTORS = np.random.default_rng(0).normal(size=(9, WIDTH)).astype(np.float32)


def index_of(rows):
    """An index from (subject, valid_from, number, text_id, avoid) tuples."""
    rows = sorted(set(rows))
    kept = {row[:3]: row for row in rows}
    columns = list(zip(*kept.values(), strict=True)) or [(), (), (), (), ()]
    return PreferenceIndex(
        subject_ids=np.array(columns[0], np.int64),
        valid_from=np.array(columns[1], np.int64),
        text_ids=np.array(columns[3], np.int64),
        avoid=np.array(columns[4], np.bool_),
        strength=np.linspace(1, 0, len(kept), dtype=np.float32),
    )


def slow(policy, index, subject, position, query, count):
    """The texts one row should get, by loops."""
    seen = [i for i in range(len(index.subject_ids)) if index.subject_ids[i] == subject]
    seen = [i for i in seen if index.valid_from[i] <= position]
    if not seen or isinstance(policy, Nothing):
        return []
    if isinstance(policy, Latest):
        newest = max(index.valid_from[i] for i in seen)
        seen = [i for i in seen if index.valid_from[i] == newest]
    seen.sort(key=lambda i: (-index.valid_from[i], i))
    distinct = {}
    for i in seen:
        distinct.setdefault(index.text_ids[i], i)
    chosen = list(distinct.values())
    if isinstance(policy, Oracle):
        chosen = [i for i in chosen if not index.avoid[i]]
    if isinstance(policy, Oracle | Retrieved):
        chosen.sort(key=lambda i: -float(TEXT_VECTORS[index.text_ids[i]] @ query))
    return [int(index.text_ids[i]) for i in chosen[:count]]


preference_rows = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 5), st.integers(0, 2), st.integers(0, 8), st.booleans()
    ),
    max_size=30,
)
policies = st.sampled_from([Nothing(), Latest(), All(), Retrieved(), Oracle()])


@given(preference_rows, policies, st.integers(0, 6), st.integers(0, 4))
def test_every_policy_equals_the_slow_version(rows, policy, position, count):
    index = index_of(rows)
    subjects = np.arange(5)
    queries = np.random.default_rng(1).normal(size=(5, WIDTH)).astype(np.float32)
    question = Question(subjects, np.full(5, position), queries, queries)
    chosen = policy.choose(index, question, text_vectors=TEXT_VECTORS, count=count)
    for subject in range(5):
        expected = slow(policy, index, subject, position, queries[subject], count)
        assert chosen.text_ids[subject][chosen.mask[subject]].tolist() == expected
        assert chosen.mask[subject].sum() == len(expected)


@given(preference_rows, policies, st.integers(0, 5))
def test_what_is_known_later_changes_nothing(rows, policy, position):
    queries = np.ones((4, WIDTH), np.float32)
    question = Question(np.arange(4), np.full(4, position), queries, queries)
    past = [row for row in rows if row[1] <= position]
    planted = [*past, *[(subject, position + 1, 0, 8, False) for subject in range(4)]]
    before = policy.choose(index_of(past), question, text_vectors=TEXT_VECTORS, count=3)
    after = policy.choose(index_of(planted), question, text_vectors=TEXT_VECTORS, count=3)
    assert (before.text_ids == after.text_ids).all()
    assert (before.mask == after.mask).all()
    assert (before.avoid == after.avoid).all()


def test_many_rows_are_chosen_in_chunks(monkeypatch):
    monkeypatch.setattr("personalize.conditioning.selection._CHUNK_PAIRS", 7)
    random = np.random.default_rng(2)
    rows = [tuple(random.integers((6, 5, 3, 9, 2)).tolist()) for _ in range(80)]
    index = index_of([(*row[:4], bool(row[4])) for row in rows])
    subjects = random.integers(0, 7, 50)
    positions = random.integers(0, 6, 50)
    queries = random.normal(size=(50, WIDTH)).astype(np.float32)
    question = Question(subjects, positions, queries, queries)
    for policy in (Latest(), All(), Retrieved(), Oracle()):
        chosen = policy.choose(index, question, text_vectors=TEXT_VECTORS, count=3)
        for row in range(50):
            expected = slow(policy, index, subjects[row], positions[row], queries[row], 3)
            assert chosen.text_ids[row][chosen.mask[row]].tolist() == expected


def test_the_index_reads_the_tables():
    texts = pl.DataFrame({"text_id": [0, 1], "text": ["a", "b"]}, schema=TEXTS.polars)
    row = {
        "subject_id": 4, "valid_from": 2, "preference_number": 0, "text": "b", "polarity": "avoid",
        "aspect": "size", "strength": 0.5, "confidence": 1.0, "evidence": [], "extractor": "x",
        "extractor_version": "1",
    }  # fmt: skip
    preferences = pl.DataFrame([row], schema=PREFERENCES.polars)
    index = PreferenceIndex.from_frames(preferences, texts)
    assert (index.subject_ids[0], index.valid_from[0], index.text_ids[0]) == (4, 2, 1)
    assert index.avoid[0]
    unknown = preferences.with_columns(text=pl.lit("c"))
    with pytest.raises(InputError, match="1 preferences have no vector; run personalize encode"):
        PreferenceIndex.from_frames(unknown, texts)


def test_missing_vectors_and_negative_counts_are_refused():
    question = Question(np.zeros(1, np.int64), np.zeros(1, np.int64))
    index = index_of([(0, 0, 0, 0, False)])
    with pytest.raises(ValueError, match="Retrieved needs query_vectors"):
        Retrieved().choose(index, question, text_vectors=TEXT_VECTORS, count=1)
    with pytest.raises(ValueError, match="Oracle needs target_vectors"):
        Oracle().choose(index, question, text_vectors=TEXT_VECTORS, count=1)
    with pytest.raises(ValueError, match="count must not be negative, got -1"):
        Latest().choose(index, question, text_vectors=TEXT_VECTORS, count=-1)
