"""One raw review in the columns all formats share, and the rules a row must keep."""

from dataclasses import dataclass

import polars as pl

RAW_REVIEWS = pl.Schema(
    {
        "review_id": pl.Int64(),
        "user_key": pl.String(),
        "item_key": pl.String(),
        "timestamp_s": pl.Int64(),
        "rating": pl.Float32(),
        "summary": pl.String(),
        "text": pl.String(),
    }
)
RAW_ITEMS = pl.Schema(
    {
        "item_key": pl.String(),
        "title": pl.String(),
        "brand": pl.String(),
        "categories": pl.List(pl.String()),
        "price_cents": pl.Int32(),
        "description": pl.String(),
    }
)

LATEST_TIMESTAMP_S = 4_102_444_800  # the year 2100; more is a time in another unit


@dataclass(frozen=True)
class ReviewLayout:
    """Which field of a raw row holds what.

    Attributes:
        user: The person's key.
        item: The item's key.
        timestamp: Time of the review, or none where only the order is known.
        rating: Stars, or none.
        summary: Headline, or none.
        text: Body, or none.
        milliseconds: Whether the time counts milliseconds rather than seconds since 1970.
    """

    user: str
    item: str
    timestamp: str | None = None
    rating: str | None = None
    summary: str | None = None
    text: str | None = None
    milliseconds: bool = False

    def fields(self) -> dict[str, pl.DataType]:
        """Raw field names with the type each must have."""
        wanted = (
            (self.user, pl.String()),
            (self.item, pl.String()),
            (self.timestamp, pl.Int64()),
            (self.rating, pl.Float64()),
            (self.summary, pl.String()),
            (self.text, pl.String()),
        )
        return {name: dtype for name, dtype in wanted if name is not None}

    def reason(self) -> pl.Expr:
        """Why a row of raw fields is refused, or null for a good row."""
        reason = pl.lit(None, pl.String())
        if self.rating is not None:
            rating = pl.col(self.rating)
            bad = rating.is_nan() | (rating < 1) | (rating > 5)
            reason = (
                pl.when(bad).then(_said(self.rating, "is no rating from 1 to 5")).otherwise(reason)
            )
            reason = pl.when(rating.is_null()).then(_missing(self.rating)).otherwise(reason)
        if self.timestamp is not None:
            time, scale = pl.col(self.timestamp), 1000 if self.milliseconds else 1
            unit, other = ("milliseconds", "seconds")[:: 1 if self.milliseconds else -1]
            late = time > LATEST_TIMESTAMP_S * scale
            reason = (
                pl.when(late)
                .then(_said(self.timestamp, f"is after 2100 when read as {unit}"))
                .otherwise(reason)
            )
            if self.milliseconds:
                early = time < LATEST_TIMESTAMP_S
                reason = (
                    pl.when(early)
                    .then(_said(self.timestamp, f"looks like {other}, not {unit}"))
                    .otherwise(reason)
                )
            reason = (
                pl.when(time <= 0)
                .then(_said(self.timestamp, "is no time after 1970"))
                .otherwise(reason)
            )
            reason = pl.when(time.is_null()).then(_missing(self.timestamp)).otherwise(reason)
        for name in (self.item, self.user):
            empty = pl.col(name).is_null() | (pl.col(name).str.strip_chars() == "")
            reason = pl.when(empty).then(_missing(name)).otherwise(reason)
        return reason

    def shared(self) -> list[pl.Expr]:
        """The columns of `RAW_REVIEWS` except the review's number, from the raw fields."""
        seconds = pl.lit(None) if self.timestamp is None else pl.col(self.timestamp)
        if self.milliseconds:
            seconds = seconds.floordiv(1000)
        columns = {
            "user_key": pl.col(self.user),
            "item_key": pl.col(self.item),
            "timestamp_s": seconds,
            "rating": pl.lit(None) if self.rating is None else pl.col(self.rating),
            "summary": pl.lit(None) if self.summary is None else pl.col(self.summary),
            "text": pl.lit(None) if self.text is None else pl.col(self.text),
        }
        return [value.cast(RAW_REVIEWS[name]).alias(name) for name, value in columns.items()]


def _missing(name: str) -> pl.Expr:
    return pl.lit(f"{name} is missing")


def _said(name: str, what: str) -> pl.Expr:
    return pl.format("{} {} {}", pl.lit(name), pl.col(name), pl.lit(what))
