"""The same review told twice: same person, item, second and text."""

import polars as pl


def first_occurrence(index: pl.DataFrame) -> pl.DataFrame:
    """For every review the one it repeats, or itself.

    Two rows are one review when person, item, timestamp and text are the same; the earliest in
    file order stands for all. Rows without a timestamp never repeat each other: where only the
    order is known, meeting an item twice is a fact and no mistake.

    Args:
        index: Columns `review_id`, `user`, `item`, `timestamp_s`, `text` (a hash will do), sorted
            by `review_id`.

    Returns:
        Columns `review_id` and `first_id`, sorted by `review_id`, only for the repeated rows.
    """
    same = ["user", "item", "timestamp_s", "text"]
    # one number per row finds the few candidates in little memory; they are then compared whole
    alike = index.select(pl.struct(same).hash(seed=1).is_duplicated()).to_series()
    timed = index.filter(alike & index["timestamp_s"].is_not_null())
    firsts = timed.unique(subset=same, keep="first", maintain_order=True)
    if firsts.height == timed.height:
        return pl.DataFrame(schema={"review_id": pl.Int64(), "first_id": pl.Int64()})
    repeats = timed.join(firsts.select("review_id"), on="review_id", how="anti")
    return (
        repeats.join(firsts.rename({"review_id": "first_id"}), on=same, nulls_equal=True)
        .select("review_id", "first_id")
        .sort("review_id")
    )
