"""The record of comparisons: lists of rows of a table of (context, response), the best first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from personalize.preference_optimization.comparisons import Comparisons


@dataclass(frozen=True)
class ComparedRows:
    """Comparisons of two or more rows each; column 0 is the best.

    A row is a response in a context, and either may vary within a comparison: two responses to one
    context, or one response in two contexts. A comparison of two is a pair; of more, the first
    beats all others, and `grade` may rank these too.

    Attributes:
        rows: Numbers of rows in the caller's table; 0 where nothing is present.
        present: Which places are filled; the first two always are.
        strength: 0 to 1, see `Comparisons`.
        margin: What the first should lead by, in units of `beta` times the score; usually 0.
        weight: How much each counts; usually 1.
        grade: Graded relevance of each place; 0 where it is not known.
        annotator: Number of who judged: a person, a driver, a group, a rule.
        provenance: Number of what made each among `sources`.
        sources: Names of what made them, such as `near_misses`.

    Raises:
        ValueError: If lengths differ, a comparison has fewer than two rows or one of them twice, a
            row is negative, a strength lies outside [0, 1], or a source has no name.
    """

    rows: Int[Tensor, "comparison response"]
    present: Bool[Tensor, "comparison response"]
    strength: Float[Tensor, " comparison"]
    margin: Float[Tensor, " comparison"]
    weight: Float[Tensor, " comparison"]
    grade: Float[Tensor, "comparison response"]
    annotator: Int[Tensor, " comparison"]
    provenance: Int[Tensor, " comparison"]
    sources: tuple[str, ...]

    def __post_init__(self) -> None:
        count, places = self.rows.shape
        if places < 2:
            raise ValueError(f"a comparison needs at least two rows, got {places}.")
        for name in ("strength", "margin", "weight", "annotator", "provenance"):
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} must have {count} entries, one per comparison.")
        if not count:
            return
        if not self.present[:, :2].all():
            raise ValueError("the first two rows of every comparison must be present.")
        if (self.rows < 0).any():
            raise ValueError("rows must be 0 or more, got a negative number.")
        if not ((self.strength >= 0) & (self.strength <= 1)).all():
            raise ValueError("strength must lie in [0, 1].")
        named = (self.provenance >= 0) & (self.provenance < len(self.sources))
        if not named.all():
            raise ValueError(f"provenance must number the {len(self.sources)} sources.")
        again = (self.rows[:, :, None] == self.rows[:, None]).triu(1)
        if (again & self.present[:, :, None] & self.present[:, None]).any():
            raise ValueError("A row must not be compared with itself.")

    def __len__(self) -> int:
        """Number of comparisons."""
        return len(self.rows)

    @classmethod
    def of(
        cls,
        rows: Int[Tensor, "comparison response"],
        source: str,
        *,
        present: Bool[Tensor, "comparison response"] | None = None,
        strength: Float[Tensor, " comparison"] | None = None,
        grade: Float[Tensor, "comparison response"] | None = None,
        annotator: Int[Tensor, " comparison"] | None = None,
    ) -> "ComparedRows":
        """Comparisons of one source, with everything that is not given neutral.

        Example:
            >>> ComparedRows.of(torch.tensor([[3, 1]]), "by hand").strength
            tensor([1.])
        """
        count, device = len(rows), rows.device
        ones = torch.ones(count, device=device)
        none = torch.zeros(count, dtype=torch.long, device=device)
        return cls(
            rows=rows,
            present=torch.ones_like(rows, dtype=torch.bool) if present is None else present,
            strength=ones if strength is None else strength,
            margin=torch.zeros_like(ones),
            weight=ones,
            grade=torch.zeros(rows.shape, device=device) if grade is None else grade,
            annotator=none if annotator is None else annotator,
            provenance=none,
            sources=(source,),
        )

    @classmethod
    def of_pairs(cls, pairs: Comparisons, source: str) -> "ComparedRows":
        """Pairs as comparisons of two."""
        rows = torch.stack([pairs.better, pairs.worse], -1)
        return cls.of(rows, source, strength=pairs.strength)

    def pairs(self) -> Comparisons:
        """The first of every comparison against each of its others, as pairs."""
        others = self.present[:, 1:]
        first = self.rows[:, :1].expand_as(others)[others]
        strength = self.strength[:, None].expand_as(others)[others]
        return Comparisons(first, self.rows[:, 1:][others], strength)

    def some(self, chosen: Int[Tensor, " chosen"] | Bool[Tensor, " chosen"]) -> "ComparedRows":
        """Some of the comparisons."""
        kept = {
            name: getattr(self, name)[chosen]
            for name in vars(self)
            if isinstance(getattr(self, name), Tensor)
        }
        return replace(self, **kept)


def joined(parts: Sequence[ComparedRows]) -> ComparedRows:
    """Comparisons of several sources as one record; shorter ones are filled up.

    Raises:
        ValueError: If there is none.
    """
    if not parts:
        raise ValueError("there is nothing to join.")
    places = max(part.rows.shape[1] for part in parts)
    sources: tuple[str, ...] = ()
    found: dict[str, list[Tensor]] = {}
    for part in parts:
        missing = places - part.rows.shape[1]
        for name in vars(part):
            value = getattr(part, name)
            if not isinstance(value, Tensor):
                continue
            if name == "provenance":
                value = value + len(sources)
            elif value.dim() == 2:
                value = torch.nn.functional.pad(value, (0, missing))
            found.setdefault(name, []).append(value)
        sources += part.sources
    return ComparedRows(**{n: torch.cat(v) for n, v in found.items()}, sources=sources)
