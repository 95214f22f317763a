"""Which items are compared in a context, beside the one that was met next."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ItemCandidates:
    """Which items are candidates in a context, beside the one that was met next.

    Attributes:
        beam: Likeliest items.
        drawn: Items drawn by their probability; what is drawn twice counts once.
        swapped: Judge them under another person's preferences too, and with likes and avoids
            exchanged: three times the rows.

    Raises:
        ValueError: If a number is negative.
    """

    beam: int = 20
    drawn: int = 0
    swapped: bool = False

    def __post_init__(self) -> None:
        if self.beam < 0 or self.drawn < 0:
            raise ValueError(f"beam and drawn must not be negative: {self.beam}, {self.drawn}.")
