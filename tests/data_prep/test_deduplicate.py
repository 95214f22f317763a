"""Which rows repeat which."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from data_prep.reviews.deduplicate import first_occurrence

rows = st.lists(
    st.tuples(
        st.integers(0, 1), st.integers(0, 1), st.none() | st.integers(1, 2), st.none() | st.just(3)
    ),
    max_size=12,
)


@given(rows)
def test_the_earliest_of_equal_rows_stands_for_all(
    raw: list[tuple[int, int, int | None, int | None]],
) -> None:
    names = ["user", "item", "timestamp_s", "text"]
    frame = pl.DataFrame(raw, schema=dict.fromkeys(names, pl.Int64()), orient="row")
    found = first_occurrence(frame.with_row_index("review_id").cast(pl.Int64))
    seen: dict[tuple[int | None, ...], int] = {}
    expected = []
    for number, row in enumerate(raw):
        if row[2] is not None and row in seen:
            expected.append((number, seen[row]))
        seen.setdefault(row, number)
    assert found.rows() == expected
