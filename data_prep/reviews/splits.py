"""Which interaction trains, which validates and which tests."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import polars as pl

from data_prep.errors import InputError


class Split(ABC):
    """Labels interactions; laws that every split keeps.

    Within a user, training interactions come before the validation target and that before the
    test target. A user has at most one target of each kind. No row changes place.
    """

    @abstractmethod
    def label(self, histories: pl.DataFrame) -> pl.DataFrame:
        """The rows that stay, with a column `split`.

        Args:
            histories: Columns `user`, `position`, `timestamp_s`, sorted by user and position.
        """


@dataclass(frozen=True)
class LeaveLastOut(Split):
    """The last interaction of a user tests, the one before it validates, the others train.

    A user with fewer than three interactions keeps all of them in training.
    """

    def label(self, histories: pl.DataFrame) -> pl.DataFrame:
        """All rows, labelled."""
        length = pl.len().over("user")
        from_end = length - pl.col("position")
        label = (
            pl.when((length < 3) | (from_end > 2))
            .then(pl.lit("train"))
            .when(from_end == 2)
            .then(pl.lit("validation"))
            .otherwise(pl.lit("test"))
        )
        return histories.with_columns(label.alias("split"))


@dataclass(frozen=True)
class GlobalTime(Split):
    """Two moments cut the whole data; nothing after a moment trains what is asked before it.

    Interactions before the first moment train. A user's first interaction from the first moment
    on and before the second is the validation target, the first from the second moment on the
    test target. What follows a target before the next cut is left out, and so is everything of a
    user who has nothing to train on.

    Attributes:
        validation_fraction: Share of the interactions that lie between the two moments.
        test_fraction: Share of the interactions from the second moment on.
    """

    validation_fraction: float = 0.1
    test_fraction: float = 0.1

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to train on.

        Raises:
            InputError: If a share is not in (0, 1) or both together reach 1.
        """
        shares = (self.validation_fraction, self.test_fraction)
        if min(shares) <= 0 or sum(shares) >= 1:
            raise InputError(
                f"The shares of --split global-time must be positive and together below 1, got "
                f"{shares[0]:g} and {shares[1]:g}."
            )

    def label(self, histories: pl.DataFrame) -> pl.DataFrame:
        """The rows before the cuts and the first of each user after each cut.

        Raises:
            InputError: If the interactions have no times.
        """
        if histories["timestamp_s"].null_count():
            raise InputError(
                "--split global-time needs the time of every interaction, and this input has "
                "none; use --split leave-last-out."
            )
        times = histories["timestamp_s"].sort()
        first = times[self._row(len(times), self.validation_fraction + self.test_fraction)]
        second = times[self._row(len(times), self.test_fraction)]
        moment = pl.col("timestamp_s")
        label = (
            pl.when(moment < first)
            .then(pl.lit("train"))
            .when(moment < second)
            .then(pl.lit("validation"))
            .otherwise(pl.lit("test"))
        )
        labelled = histories.with_columns(label.alias("split"))
        earliest = pl.col("position") == pl.col("position").min().over("user", "split")
        trained = (pl.col("split") == "train").any().over("user")
        return labelled.filter(trained & ((pl.col("split") == "train") | earliest))

    @staticmethod
    def _row(count: int, fraction: float) -> int:
        return min(count - 1, count - round(count * fraction))
