"""Reviews spooled by ranges of users come back in the order of users."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.reviews import user_spool
from data_prep.reviews.raw_review import RAW_REVIEWS
from data_prep.reviews.user_spool import UserSpool


def blocks_of(users: list[str], rows_each: int) -> list[pl.DataFrame]:
    rows = [(n, user, f"i{n % 3}", n, 1.0, f"s{n}", f"t{n}") for n, user in enumerate(users)]
    frame = pl.DataFrame(rows, schema=RAW_REVIEWS, orient="row")
    return [frame[start : start + rows_each] for start in range(0, len(rows), rows_each)]


def read_back(folder: Path, blocks: list[pl.DataFrame], kept: set[int]) -> pl.DataFrame:
    (folder / "spool").mkdir(parents=True)
    (folder / "partitions").mkdir()
    spool = UserSpool(folder / "spool")
    for block in blocks:
        spool.append(block)
    whole = pl.concat(blocks).filter(pl.col("review_id").is_in(list(kept)))
    keys = whole["user_key"].unique().sort()
    names = pl.DataFrame({"user_key": keys}).with_row_index("user_id")
    order = (
        whole.join(names.with_columns(pl.col("user_id").cast(pl.Int32)), on="user_key")
        .select("review_id", "user_id")
        .sort("user_id", "review_id", descending=[False, True])
    )
    picked = spool.pick(order["review_id"].sort(), ["user_key", "item_key"])
    assert picked.equals(whole.select("review_id", "user_key", "item_key").sort("review_id"))
    frames = list(spool.in_order(order, keys, folder / "partitions"))
    found = pl.concat(frames)
    assert found.select("review_id", "user_id").equals(order)
    assert not [path for path in (folder / "spool").rglob("*") if path.is_file()]
    expected = order.join(
        whole, on="review_id", how="left", maintain_order="left"
    ).select("rating", "summary", "text")  # fmt: skip
    assert found.select("rating", "summary", "text").equals(expected)
    return found


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    users=st.lists(st.text("abÄ€", min_size=1, max_size=3), min_size=1, max_size=40),
    rows_each=st.integers(1, 9),
    buffer_bytes=st.sampled_from([1, 200, 1000, 1 << 20]),
    data=st.data(),
)
def test_any_reviews_come_back_whatever_fits_in_the_buffer(
    tmp_path_factory: pytest.TempPathFactory,
    users: list[str],
    rows_each: int,
    buffer_bytes: int,
    data: st.DataObject,
) -> None:
    kept = data.draw(st.sets(st.integers(0, len(users) - 1), min_size=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_spool, "BUFFER_BYTES", buffer_bytes)
        patch.setattr(user_spool, "RANGES", 4)
        read_back(tmp_path_factory.mktemp("case"), blocks_of(users, rows_each), kept)


@pytest.mark.parametrize("descending", [False, True])
def test_users_in_the_order_of_their_keys_fill_one_range_and_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, descending: bool
) -> None:
    monkeypatch.setattr(user_spool, "BUFFER_BYTES", 500)
    monkeypatch.setattr("data_prep.reviews.spool.PARTITION_BYTES", 300)
    users = sorted((f"u{n // 3:03d}" for n in range(90)), reverse=descending)
    read_back(tmp_path, blocks_of(users, 7), set(range(0, 90, 2)))
