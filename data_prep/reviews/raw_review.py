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
        rating_required: Whether a row without stars is refused.
    """

    user: str
    item: str
    timestamp: str | None = None
    rating: str | None = None
    summary: str | None = None
    text: str | None = None
    milliseconds: bool = False
    rating_required: bool = True

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
        rules = self._key_rules() + self._time_rules() + self._rating_rules()
        return pl.coalesce(pl.when(bad).then(why) for bad, why in rules)

    def _key_rules(self) -> list[tuple[pl.Expr, pl.Expr]]:
        return [
            (
                pl.col(name).is_null() | (pl.col(name).str.strip_chars() == ""),
                pl.lit(f"{name} is missing"),
            )
            for name in (self.user, self.item)
        ]

    def _time_rules(self) -> list[tuple[pl.Expr, pl.Expr]]:
        if self.timestamp is None:
            return []
        name, time = self.timestamp, pl.col(self.timestamp)
        rules = [
            (time.is_null(), pl.lit(f"{name} is missing")),
            (time <= 0, _said(name, "is no time after 1970")),
        ]
        if self.milliseconds:
            early, late = time < LATEST_TIMESTAMP_S, time > LATEST_TIMESTAMP_S * 1000
            rules.append((early, _said(name, "looks like seconds, not milliseconds")))
            return [*rules, (late, _said(name, "is after the year 2100"))]
        late = time > LATEST_TIMESTAMP_S
        return [*rules, (late, _said(name, "is after the year 2100, perhaps milliseconds"))]

    def _rating_rules(self) -> list[tuple[pl.Expr, pl.Expr]]:
        if self.rating is None:
            return []
        stars = pl.col(self.rating)
        outside = stars.is_nan() | (stars < 1) | (stars > 5)
        rules = [(outside, _said(self.rating, "is no rating from 1 to 5"))]
        if self.rating_required:
            rules.append((stars.is_null(), pl.lit(f"{self.rating} is missing")))
        return rules

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


def _said(name: str, what: str) -> pl.Expr:
    return pl.format("{} {} {}", pl.lit(name), pl.col(name), pl.lit(what))
