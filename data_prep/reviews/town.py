"""A simulated town as a source of reviews, and the tables that hold its truth."""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from data_prep.artifact import ArtifactWriter
from data_prep.errors import InputError
from data_prep.reviews.prepare import ReviewSource
from data_prep.reviews.raw_review import RAW_ITEMS, RAW_REVIEWS
from data_prep.reviews.rejects import Rejects
from data_prep.reviews.town_catalogue import ASPECTS, town_catalogue
from data_prep.reviews.town_people import town_people
from data_prep.reviews.town_reviews import aspect_name, town_reviews
from data_prep.schema import PLANTED_ATTRIBUTES, PLANTED_MENTIONS, PLANTED_PREFERENCES

FIRST_MOMENT_S = 1_356_998_400  # 1 January 2013
DAY_S = 86_400


class TownSource(ReviewSource):
    """Simulated people and what they write; nothing of it was ever said by anybody."""

    def __init__(self, user_count: int, item_count: int, seed: int) -> None:
        """Simulate the town.

        Raises:
            InputError: If there are too few people or items for a town.
        """
        if user_count < 10 or item_count < 30:
            raise InputError(
                f"A town needs --users of at least 10 and --items of at least 30, got "
                f"{user_count} and {item_count}."
            )
        if seed < 0:
            raise InputError(f"--seed must be 0 or more, got {seed}.")
        self.seed = seed
        self.catalogue = town_catalogue(item_count, seed)
        self.people = town_people(self.catalogue, user_count, seed)
        self._mentions: list[tuple[int, str, str, str]] = []
        self._steps: list[tuple[int, int, int]] = []

    def reviews(self, rejects: Rejects) -> Iterator[pl.DataFrame]:
        """One frame of all reviews."""
        rows = []
        self._mentions.clear()
        self._steps.clear()
        for number, person in enumerate(self.people):
            times = self._times(number, len(person.items))
            written = town_reviews(person, self.catalogue, self.seed, number)
            for step, review in enumerate(written):
                review_id = len(rows)
                self._steps.append((review_id, number, step))
                for opinion, sentence in review.mentions:
                    polarity = "like" if opinion.like else "avoid"
                    self._mentions.append((review_id, aspect_name(opinion), polarity, sentence))
                rows.append(
                    (
                        review_id,
                        f"town-user-{number:06d}",
                        _item_key(person.items[step]),
                        times[step],
                        float(review.rating),
                        review.summary,
                        review.text,
                    )
                )
        rejects.read += len(rows)
        yield pl.DataFrame(rows, schema=RAW_REVIEWS, orient="row")

    def items(self, item_keys: Sequence[str], rejects: Rejects) -> pl.DataFrame:
        """The catalogue."""
        rejects.read += len(self.catalogue.items)
        wanted = set(item_keys)
        rows = [
            (
                _item_key(number),
                item.title,
                item.brand,
                item.categories,
                item.price_cents,
                item.description,
            )
            for number, item in enumerate(self.catalogue.items)
            if _item_key(number) in wanted
        ]
        return pl.DataFrame(rows, schema=RAW_ITEMS, orient="row")

    def write_truth(
        self, writer: ArtifactWriter, interactions: pl.DataFrame, items: pl.DataFrame
    ) -> None:
        """Write what was planted: preferences, mentions and attributes.

        Positions count the interactions that were kept, so a preference that no kept review could
        show is left out.
        """
        steps = pl.DataFrame(
            self._steps,
            schema={"review_id": pl.Int64(), "number": pl.Int64(), "step": pl.Int64()},
            orient="row",
        )
        placed = interactions.select("review_id", "user_id", "position").join(
            steps, on="review_id", how="inner"
        )
        mentions = pl.DataFrame(
            self._mentions,
            schema={
                "review_id": pl.Int64(),
                "aspect": pl.String(),
                "polarity": pl.String(),
                "sentence": pl.String(),
            },
            orient="row",
        ).join(placed, on="review_id", how="inner")
        writer.write_table(PLANTED_MENTIONS, mentions.select(PLANTED_MENTIONS.polars.names()))
        writer.write_table(PLANTED_PREFERENCES, self._planted_preferences(placed))
        writer.write_table(PLANTED_ATTRIBUTES, self._planted_attributes(items))

    def _planted_preferences(self, placed: pl.DataFrame) -> pl.DataFrame:
        kept: dict[int, list[int]] = {}
        user_ids: dict[int, int] = {}
        for user_id, number, step in placed.select("user_id", "number", "step").iter_rows():
            kept.setdefault(number, []).append(step)
            user_ids[number] = user_id
        rows = []
        for number, steps in kept.items():
            ordered = sorted(steps)
            for preference in self.people[number].preferences:
                start, end = np.searchsorted(ordered, [preference.start, preference.end]).tolist()
                if start < end:
                    rows.append(
                        (
                            user_ids[number],
                            aspect_name(preference),
                            "like" if preference.like else "avoid",
                            preference.strength,
                            start,
                            end if end < len(ordered) else None,
                        )
                    )
        return pl.DataFrame(rows, schema=PLANTED_PREFERENCES.polars, orient="row")

    def _planted_attributes(self, items: pl.DataFrame) -> pl.DataFrame:
        rows = []
        for item_id, key in items.select("item_id", "item_key").iter_rows():
            values = self.catalogue.attributes[int(key.rsplit("-", 1)[1])]
            rows += [
                (item_id, ASPECTS[aspect], float(value))
                for aspect, value in enumerate(values)
                if not np.isnan(value)
            ]
        return pl.DataFrame(rows, schema=PLANTED_ATTRIBUTES.polars, orient="row")

    def _times(self, number: int, count: int) -> list[int]:
        """Moments of a person's reviews in seconds since 1970, at least a day apart."""
        random = np.random.default_rng([self.seed, 5, number])
        gaps = 1 + random.geometric(1 / 30, count)
        gaps[0] += int(random.integers(0, 500))
        days = np.cumsum(gaps)
        return [FIRST_MOMENT_S + int(day) * DAY_S for day in days]


def _item_key(number: int) -> str:
    return f"town-item-{number:06d}"
