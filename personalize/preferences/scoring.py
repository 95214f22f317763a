"""How well extracted preferences agree with planted ones: precision, recall and F1 by stated rules.

The unit is a triple (user, aspect, polarity). What is extracted is a person's last snapshot: all
that was read before the last position, in the aspects that the town plants at all: of the others
(such as delivery) its truth says nothing, right or wrong. What is true depends on the question, so
four rules stand side by side:

- `planted`: every planted preference, whether a review spoke of it or not, whether it still holds
  or has ended. The headline: nothing is left out of it.
- `revealed`: planted preferences of which some review before the last position spoke. No extractor
  can find the others.
- `holding`: planted preferences that still hold at the last position. No review says that a
  preference has ended, so an extractor pays here for what was true once.
- `mentions`: single opinions, (user, position, aspect, polarity), among all that reviews before the
  last position reveal; read from the evidence, which keeps only the newest spans, hence recall only
  where `evidence` was not cut.
"""

from dataclasses import dataclass

import polars as pl

KEY = ("user_id", "aspect", "polarity")


@dataclass(frozen=True)
class Agreement:
    """Counts of one comparison and what follows from them.

    Attributes:
        hits: Extracted and true.
        extracted: All that was extracted.
        true: All that is true.
    """

    hits: int
    extracted: int
    true: int

    @property
    def precision(self) -> float:
        """Share of the extracted that is true; 0 where nothing was extracted."""
        return self.hits / self.extracted if self.extracted else 0.0

    @property
    def recall(self) -> float:
        """Share of the true that was extracted; 0 where nothing is true."""
        return self.hits / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.extracted + self.true
        return 2.0 * self.hits / both if both else 0.0


def agreement(extracted: pl.DataFrame, true: pl.DataFrame) -> Agreement:
    """The overlap of two tables that have the same columns; rows that repeat count once.

    Example:
        >>> found = pl.DataFrame({"user_id": [1, 1, 2]})
        >>> agreement(found, pl.DataFrame({"user_id": [2, 3, 4]}))
        Agreement(hits=1, extracted=2, true=3)
    """
    extracted, true = extracted.unique(), true.select(extracted.columns).unique()
    hits = extracted.join(true, on=extracted.columns, how="semi").height
    return Agreement(hits, extracted.height, true.height)


def last_snapshot(preferences: pl.DataFrame) -> pl.DataFrame:
    """The newest snapshot of every person, as (user, aspect, polarity)."""
    newest = pl.col("valid_from").max().over("subject_id")
    return preferences.filter(pl.col("valid_from") == newest).select(
        pl.col("subject_id").alias("user_id"), "aspect", "polarity"
    )


def score_against_planted(
    preferences: pl.DataFrame,
    planted: pl.DataFrame,
    mentions: pl.DataFrame,
    interactions: pl.DataFrame,
) -> dict[str, Agreement]:
    """Agreement by each rule of this module.

    Args:
        preferences: As extracted.
        planted: Planted preferences of the simulated town.
        mentions: Planted mentions of the town.
        interactions: Its interactions, which tell everybody's last position.
    """
    last = interactions.group_by("user_id").agg(last=pl.col("position").max())
    told = mentions.join(last, on="user_id").filter(pl.col("position") < pl.col("last"))
    over = pl.col("valid_until").is_not_null() & (pl.col("valid_until") <= pl.col("last"))
    begun = planted.join(last, on="user_id").filter(pl.col("valid_from") < pl.col("last"))
    preferences = preferences.filter(pl.col("aspect").is_in(planted["aspect"].unique().to_list()))
    extracted = last_snapshot(preferences)
    read = (
        preferences.explode("evidence")
        .unnest("evidence")
        .join(
            interactions.select("review_id", "position"), left_on="source_id", right_on="review_id"
        )
        .select(pl.col("subject_id").alias("user_id"), "position", "aspect", "polarity")
    )
    return {
        "planted": agreement(extracted, begun.select(KEY)),
        "revealed": agreement(extracted, begun.join(told, on=KEY, how="semi").select(KEY)),
        "holding": agreement(extracted, begun.filter(~over).select(KEY)),
        "mentions": agreement(read, told.select("user_id", "position", "aspect", "polarity")),
    }
