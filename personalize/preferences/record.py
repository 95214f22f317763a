"""The preference record that joins both halves of the project."""

from dataclasses import dataclass
from typing import Literal

Polarity = Literal["like", "avoid"]


@dataclass(frozen=True)
class Evidence:
    """Where a preference was read: a source text and the characters that say it.

    Attributes:
        source_id: Number of the review or scene.
        start: First character of the span in the source text.
        end: Character after the last.
    """

    source_id: int
    start: int
    end: int


@dataclass(frozen=True)
class Preference:
    """What a subject wants or wants to avoid, as known at one position in time.

    Attributes:
        subject_id: The user or scene it belongs to.
        valid_from: Position in the subject's history; every evidence lies strictly before it.
        text: The preference as a sentence.
        polarity: `like` or `avoid`.
        aspect: What it is about.
        strength: How much it matters, 0 to 1.
        confidence: How sure the extractor is, 0 to 1.
        evidence: Where it was read.
        extractor: `chat`, `local` or `extractive`.
        extractor_version: Version of the extractor and of the model behind it.
    """

    subject_id: int
    valid_from: int
    text: str
    polarity: Polarity
    aspect: str
    strength: float
    confidence: float
    evidence: tuple[Evidence, ...]
    extractor: str
    extractor_version: str

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            ValueError: If strength or confidence is outside [0, 1], the polarity is unknown, the
                text is empty or an evidence span is empty or negative.
        """
        if self.polarity not in ("like", "avoid"):
            raise ValueError(f"polarity must be like or avoid, got {self.polarity!r}.")
        for name, value in (("strength", self.strength), ("confidence", self.confidence)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {value:g}.")
        if not self.text.strip():
            raise ValueError("text must not be empty.")
        for span in self.evidence:
            if not 0 <= span.start < span.end:
                raise ValueError(
                    f"evidence must span at least one character, got {span.start} to {span.end}."
                )
