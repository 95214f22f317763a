"""What a reward model learns from: features of (context, response) rows, and comparisons."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from personalize.preference_optimization.compared_rows import ComparedRows


@dataclass(frozen=True)
class FeatureComparisons:
    """A batch of comparisons as features; column 0 is the best of each.

    Attributes:
        context: Features of the context of every place.
        response: Features of its response.
        quality: Named qualities of it, for heads that tell them; no column where none is known.
        present: Which places are filled.
        strength: 0 to 1, see `Comparisons`.
        margin: What the best should lead by.
        weight: How much each counts.
        grade: Graded relevance of each place.
        annotator: Number of who judged.
        number: Number of each comparison among all that are learnt from.
    """

    context: Float[Tensor, "comparison response context_width"]
    response: Float[Tensor, "comparison response response_width"]
    quality: Float[Tensor, "comparison response dimension"]
    present: Bool[Tensor, "comparison response"]
    strength: Float[Tensor, " comparison"]
    margin: Float[Tensor, " comparison"]
    weight: Float[Tensor, " comparison"]
    grade: Float[Tensor, "comparison response"]
    annotator: Int[Tensor, " comparison"]
    number: Int[Tensor, " comparison"]

    def __len__(self) -> int:
        """Number of comparisons."""
        return len(self.present)

    @property
    def win_share(self) -> Float[Tensor, " comparison"]:
        """The probability the best should win with."""
        return (1 + self.strength) / 2

    def to(self, target: torch.device | str) -> "FeatureComparisons":
        """The same on another device."""
        moved = {field.name: getattr(self, field.name).to(target) for field in fields(self)}
        return FeatureComparisons(**moved)


@dataclass(frozen=True)
class FeatureTable:
    """Rows of (context, response) as a reward model sees them.

    Attributes:
        context: Features of each row's context.
        response: Features of its response.
        quality: Named qualities; no column where none is known.
        names: Their names.

    Raises:
        ValueError: If the rows differ in number, or the qualities are not as many as their names.
    """

    context: Float[Tensor, "row context_width"]
    response: Float[Tensor, "paired response_width"]
    quality: Float[Tensor, "judged dimension"]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.context) == len(self.response) == len(self.quality):
            raise ValueError(
                f"context, response and quality must have as many rows, got {len(self.context)}, "
                f"{len(self.response)} and {len(self.quality)}."
            )
        if self.quality.shape[1] != len(self.names):
            raise ValueError(
                f"names must be one per quality, got {len(self.names)} for "
                f"{self.quality.shape[1]} qualities."
            )

    @classmethod
    def of(
        cls,
        context: Float[Tensor, "row context_width"],
        response: Float[Tensor, "paired response_width"],
    ) -> "FeatureTable":
        """A table whose qualities are not known."""
        return cls(context, response, response.new_zeros(len(response), 0))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.context)

    def compared(
        self, comparisons: ComparedRows, chosen: Int[Tensor, " chosen"] | None = None
    ) -> FeatureComparisons:
        """Comparisons of the rows as features, all of them or some by number."""
        numbers = torch.arange(len(comparisons)) if chosen is None else chosen
        some = comparisons.some(numbers)
        return FeatureComparisons(
            context=self.context[some.rows],
            response=self.response[some.rows],
            quality=self.quality[some.rows],
            present=some.present,
            strength=some.strength,
            margin=some.margin,
            weight=some.weight,
            grade=some.grade,
            annotator=some.annotator,
            number=numbers,
        )


def in_pairs(comparisons: ComparedRows) -> ComparedRows:
    """Lists as pairs of the first and each of the others; all else of a list is kept.

    Grades are kept as well, so a pair of a graded list knows both of its grades.
    """
    listed = comparisons.present[:, 1:].nonzero()
    number, other = listed[:, 0], listed[:, 1] + 1
    if comparisons.rows.shape[1] == 2:
        return comparisons
    some = comparisons.some(number)

    def two(values: Tensor) -> Tensor:
        return torch.stack([values[:, 0], values.gather(1, other[:, None])[:, 0]], 1)

    return replace(
        some,
        rows=two(some.rows),
        present=torch.ones_like(some.present[:, :2]),
        grade=two(some.grade),
    )
