"""What was refused is kept, shown safely and counted."""

import pytest

from data_prep.errors import InputError
from data_prep.reviews.rejects import EVIDENTLY_WRONG, Rejects, printable_excerpt


def test_an_excerpt_is_one_short_printable_line() -> None:
    assert printable_excerpt(b"a\xffb\n\x00\x1b[31m") == "a\\xffb\\n\\x00\\x1b[31m"
    assert printable_excerpt("ü\u202e") == "ü\\u202e"
    assert len(printable_excerpt("\n" * 10_000)) == 160
    assert printable_excerpt("\ud800") == "\\ud800"


def test_a_share_is_of_lines_and_names_the_first() -> None:
    rejects = Rejects(read=100)
    rejects.add("b.json", 3, "second")
    rejects.add("a.json", 9, "first")
    rejects.add("a.json", 9, "the same line again")
    rejects.add("a.json", 0, "a remark on the file")
    rejects.check_share(0.02, "rows")
    with pytest.raises(InputError, match=r"2 of 100 rows were refused.*a\.json line 9: first"):
        rejects.check_share(0.019, "rows")
    assert rejects.frame().rows() == [
        ("a.json", 0, "a remark on the file", ""),
        ("a.json", 9, "first", ""),
        ("a.json", 9, "the same line again", ""),
        ("b.json", 3, "second", ""),
    ]


def test_nothing_refused_passes_even_a_share_of_zero() -> None:
    Rejects().check_share(0.0, "rows")
    Rejects(read=5).check_share(0.0, "rows")


def test_an_evidently_wrong_file_is_not_read_to_its_end() -> None:
    rejects = Rejects(read=EVIDENTLY_WRONG + 1)
    for line in range(1, EVIDENTLY_WRONG + 1):
        rejects.add("f", line, "bad")
    rejects.stop_early(0.01, "rows")
    rejects.add("f", EVIDENTLY_WRONG + 1, "bad")
    with pytest.raises(InputError, match="rows read so far were refused"):
        rejects.stop_early(0.01, "rows")
    rejects.read *= 11
    rejects.stop_early(0.01, "rows")
