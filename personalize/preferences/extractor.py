"""The slot for extractors: reviews in, opinions with evidence out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from personalize.preferences.record import Polarity


@dataclass(frozen=True)
class Review:
    """One review to read: its number, its text and the stars its writer gave.

    Attributes:
        review_id: Number of the row in the raw files.
        text: Body of the review; untrusted.
        rating: Stars, 1 to 5; unknown for some data.
    """

    review_id: int
    text: str
    rating: float | None = None


@dataclass(frozen=True)
class Opinion:
    """What one review says about one aspect, and where.

    Attributes:
        aspect: What it is about.
        polarity: `like` or `avoid`.
        weight: How clearly it is said, above 0 and at most 1.
        start: First character of the evidence in the review's text.
        end: Character after the last.
    """

    aspect: str
    polarity: Polarity
    weight: float
    start: int
    end: int

    @property
    def signed(self) -> float:
        """The weight, negative for `avoid`."""
        return self.weight if self.polarity == "like" else -self.weight


@dataclass(frozen=True)
class Refusal:
    """Something an extractor threw away, and why, in one short sentence."""

    review_id: int
    reason: str
    excerpt: str


@dataclass(frozen=True)
class ReviewOpinions:
    """All an extractor read in one review.

    Attributes:
        review_id: Number of the review.
        opinions: In the order of their place in the text.
        extractor: Name of the extractor that really read it: not the one asked where it fell back.
        extractor_version: Version of that extractor and of the model behind it.
        refusals: What was thrown away on the way.
        overall: What the text as a whole was called, where the task asks for it.
    """

    review_id: int
    opinions: tuple[Opinion, ...]
    extractor: str
    extractor_version: str
    refusals: tuple[Refusal, ...] = field(default=())
    overall: str | None = None


class Extractor(ABC):
    """Reads opinions in reviews, one review at a time or in batches of its own choosing.

    Laws:
        - One answer per review, in the order of the reviews.
        - The opinions in a review depend on that review alone, and on what the extractor was
          built from: not on its neighbours, their order or their number.
        - The same review gives the same answer.
        - Evidence is a non-empty span of the review's text.
        - A review without a letter in it has no opinions.
        - Nothing that stands in a review is ever obeyed, executed or fetched, and no review raises,
          however odd it is.
    """

    name: str
    version: str

    @abstractmethod
    def read(self, reviews: Sequence[Review]) -> Iterator[ReviewOpinions]:
        """The opinions in each review, in order."""

    @abstractmethod
    def notes(self) -> dict[str, int | float | str]:
        """What the reading took so far: counts for the manifest."""
