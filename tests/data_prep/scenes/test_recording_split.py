"""Splits by recording: balanced by states, and what a source fixes stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from data_prep.scenes.raw_scene import Split
from data_prep.scenes.recording_split import recording_split


def shares(parts, states):
    total = sum(states.values())
    return {
        name: sum(states[one] for one, part in parts.items() if part == name) / total
        for name in ("train", "validation", "test")
    }


def test_balanced_by_states_not_by_recordings():
    states = {"big": 700, "mid": 150, **{f"small{k}": 10 for k in range(15)}}
    parts = recording_split(states, {})
    expected = {"train": 0.7, "validation": 0.15, "test": 0.15}
    assert shares(parts, states) == pytest.approx(expected, abs=0.03)
    assert parts["big"] == "train"


def test_equal_recordings():
    states = {f"r{k:03d}": 50 for k in range(100)}
    parts = recording_split(states, {}, validation=0.1, test=0.3)
    assert shares(parts, states) == pytest.approx({"train": 0.6, "validation": 0.1, "test": 0.3})
    assert parts == recording_split(states, {}, validation=0.1, test=0.3)
    assert parts != recording_split(states, {}, validation=0.1, test=0.3, seed=1)


@given(st.lists(st.integers(0, 10_000), min_size=3, max_size=12), st.integers(0, 3))
def test_every_part_gets_a_recording(counts, seed):
    states = {f"r{k}": count for k, count in enumerate(counts)}
    parts = recording_split(states, {}, seed=seed)
    assert set(parts) == set(states)
    assert set(parts.values()) == {"train", "validation", "test"}


def test_one_recording_trains():
    assert recording_split({"a": 5}, {}) == {"a": "train"}


def test_the_source_decides():
    states = {"a": 1000, "b": 1, "c": 1, "d": 1}
    fixed: dict[str, Split] = {"a": "test", "b": "train"}
    parts = recording_split(states, fixed)
    assert (parts["a"], parts["b"]) == ("test", "train")
    assert set(parts) == set(states)
    assert recording_split({"a": 5}, {"a": "validation"}) == {"a": "validation"}


def test_a_share_of_nothing_gets_nothing():
    parts = recording_split({f"r{k}": 10 for k in range(9)}, {}, validation=0.0, test=0.3)
    assert sorted(set(parts.values())) == ["test", "train"]


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.1), (0.5, 0.5)])
def test_senseless_shares_are_refused(validation, test):
    with pytest.raises(InputError, match="--split-fractions must be 0 or more"):
        recording_split({"a": 1}, {}, validation=validation, test=test)
