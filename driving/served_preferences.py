"""What a driver shows in a scene, as preferences with the sentences that tell of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.artifact import Artifact
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from data_prep.schema import PREFERENCES
from driving.served_scenes import ServedScenes
from driving.style.driver_preferences import dimension_words
from driving.style.reader import VERSION
from personalize.api.messages import (
    Conditioning,
    PreferencesAnswer,
    Quote,
    ReadPreference,
    ReadRequest,
)
from personalize.api.ports import RequestRefused
from personalize.conditioning.attributes import Attributes
from personalize.preferences.record import Preference

HEURISTIC = "heuristic"
MOST_QUOTES = 4
LEAST_STRENGTH = 1e-4
_Shown = tuple[Preference, Sequence[int]]
"""A preference, and the samples it was read in."""


@dataclass(frozen=True)
class DriverPreferences:
    """Reads preferences in scenes.

    What the driver did in earlier windows comes first, as `driving annotate` keeps it; a driver
    without any is read in this very window. Either way the vector is what `Attributes` makes of
    the preferences, so that editing them and encoding again gives the vector of what was edited.

    Attributes:
        scenes: What is served.
        known: Rows of `preferences` by driver and step.
    """

    scenes: ServedScenes
    known: Mapping[tuple[int, int], list[Mapping[str, Any]]]

    @classmethod
    def of(cls, scenes: ServedScenes, styles: Artifact) -> "DriverPreferences":
        """Those that an artifact `styles` holds of the drivers served."""
        keys = scenes.samples.select(subject_id="driver_id", valid_from="step")
        held = styles.table(PREFERENCES).join(keys, on=["subject_id", "valid_from"], how="semi")
        known: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
        for row in held.sort("subject_id", "valid_from", "preference_number").iter_rows(named=True):
            known.setdefault((row["subject_id"], row["valid_from"]), []).append(row)
        return cls(scenes, known)

    def read(self, request: ReadRequest) -> PreferencesAnswer:
        """The preferences shown in a scene, strongest first.

        Raises:
            RequestRefused: If there is no such scene, or reviews are to be read.
        """
        if request.scene is None:
            raise RequestRefused(
                "Reviews are read by the recommender, which is not served here; name a scene.",
                param="reviews",
            )
        row = self.scenes.row(request.scene)
        driver, step = self.scenes.samples.select("driver_id", "step").row(row)
        earlier = self.known.get((driver, step), [])
        found = [_stored(one) for one in earlier] if earlier else self._shown(row)
        preferences = [preference for preference, _ in found]
        vector = Attributes(STYLE_DIMENSIONS).encode(preferences)
        return PreferencesAnswer(
            extractor=_named({one.extractor for one in preferences} or {HEURISTIC}),
            extractor_version=_named({one.extractor_version for one in preferences} or {VERSION}),
            preferences=[
                ReadPreference(
                    text=one.text,
                    polarity=one.polarity,
                    aspect=one.aspect,
                    strength=round(one.strength, 4),
                    confidence=round(one.confidence, 4),
                    evidence=self._quotes(one.aspect, sample_ids),
                )
                for one, sample_ids in found
            ],
            conditioning=Conditioning(
                encoder="attributes",
                dimensions=list(STYLE_DIMENSIONS),
                values=[round(float(value), 6) for value in vector.values],
                mask=[bool(known) for known in vector.mask],
            ),
        )

    def _quotes(self, dimension: str, sample_ids: Sequence[int]) -> list[Quote]:
        """The sentences on a dimension in the descriptions of some samples, newest first."""
        quotes = []
        for number in sorted(set(sample_ids), reverse=True):
            row = self.scenes.row_of_number(number)
            text = self.scenes.texts[row] if row >= 0 else None
            span = text.span(dimension) if text else None
            if text is not None and span is not None:
                quote = text.description[slice(*span)]
                quotes.append(Quote(source=number, start=span[0], end=span[1], quote=quote))
        return quotes[:MOST_QUOTES]

    def _shown(self, row: int) -> list[_Shown]:
        """This window's own style as preferences."""
        driver, step = self.scenes.samples.select("driver_id", "step").row(row)
        style = self.scenes.texts[row].style
        own = [int(self.scenes.numbers[row])]
        found = [
            Preference(
                subject_id=driver,
                valid_from=step,
                text=f"Here the driver {dimension_words(name, value)} than most in the same "
                "situation.",
                polarity="like" if value > 0 else "avoid",
                aspect=name,
                strength=min(abs(value), 1.0),
                confidence=1.0,
                evidence=(),
                extractor=HEURISTIC,
                extractor_version=VERSION,
            )
            for name, value in style.items()
            if abs(value) >= LEAST_STRENGTH
        ]
        return [(one, own) for one in sorted(found, key=lambda one: (-one.strength, one.aspect))]


def _stored(row: Mapping[str, Any]) -> _Shown:
    names = ("subject_id", "valid_from", "text", "polarity", "aspect", "strength", "confidence")
    said = {name: row[name] for name in (*names, "extractor", "extractor_version")}
    return Preference(**said, evidence=()), [span["source_id"] for span in row["evidence"]]


def _named(names: set[str]) -> str:
    return "; ".join(sorted(names))
