"""Tests of the sentence splitter."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalize.preferences.sentences import MOST_CHARACTERS, split_clauses, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Quite affordable.I did not know.", ["Quite affordable.", "I did not know."]),
        ("Good (really good). Buy it!", ["Good (really good).", "Buy it!"]),
        ("It has v1.5 firmware, e.g. from 3.2 on.", ["It has v1.5 firmware, e.g. from 3.2 on."]),
        ("One\nTwo\r\n\r\nThree", ["One", "Two", "Three"]),
        ("Wait... what?! Fine.", ["Wait...", "what?!", "Fine."]),
        ("Made in the U.S.A. by hand", ["Made in the U.S.A. by hand"]),
        ("  \n ... !!", []),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in split_sentences(text)] == sentences


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("Great tone, but far too heavy.", ["Great tone", "but far too heavy."]),
        ("It works well; however it smells.", ["It works well", "however it smells."]),
        ("All but one.", ["All but one."]),
    ],
)
def test_clauses_part_praise_from_complaint(text: str, clauses: list[str]) -> None:
    assert [text[start:end] for start, end in split_clauses(text)] == clauses


@given(st.text(max_size=900))
def test_clauses_lie_in_the_text_in_order_and_lose_no_letter(text: str) -> None:
    spans = split_clauses(text)
    assert all(0 < end - start <= MOST_CHARACTERS for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    for start, end in spans:
        assert text[start:end] == text[start:end].strip()
    kept = sum(c.isalnum() for start, end in spans for c in text[start:end])
    assert kept == sum(c.isalnum() for c in text)


def test_only_the_first_clauses_are_kept() -> None:
    assert len(split_clauses("One. Two. Three. Four.", most=3)) == 3
