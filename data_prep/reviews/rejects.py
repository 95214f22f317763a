"""What was refused while raw files were read: file, line, reason, and how it began."""

from dataclasses import dataclass, field

import polars as pl

from data_prep.errors import InputError
from data_prep.schema import REJECTED

EXCERPT_CHARACTERS = 160
EVIDENTLY_WRONG = 10_000


def printable_excerpt(raw: bytes | str) -> str:
    """The beginning of a raw line as one printable line; foreign bytes appear as escapes."""
    head = raw[: EXCERPT_CHARACTERS * 4]
    text = head.decode("utf-8", errors="backslashreplace") if isinstance(head, bytes) else head
    shown = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text[:EXCERPT_CHARACTERS]
    )
    return shown[:EXCERPT_CHARACTERS]


@dataclass
class Rejects:
    """Refused rows of one kind of input; every one is kept, with its place and its reason.

    Attributes:
        read: Rows that were read, good or bad.
        rows: The refused ones as (file, line, reason, excerpt).
        rows_in_line: Rows beyond the first in refused lines, where a line holds several.
    """

    read: int = 0
    rows: list[tuple[str, int, str, str]] = field(default_factory=list)
    rows_in_line: int = 0

    def add(self, file: str, line: int, reason: str, raw: bytes | str = "") -> None:
        """Refuse what stands at one line; line 0 means the file as a whole."""
        self.rows.append((file, line, reason, printable_excerpt(raw)))

    def extend(self, others: "Rejects") -> None:
        """Take over what was read and refused elsewhere."""
        self.read += others.read
        self.rows += others.rows
        self.rows_in_line += others.rows_in_line

    @property
    def rows_refused(self) -> int:
        """Refused rows; remarks on a file as a whole (line 0) are no rows."""
        lines = {(file, line) for file, line, _, _ in self.rows if line > 0}
        return len(lines) + self.rows_in_line

    def check_share(self, limit: float, what: str) -> None:
        """Stop when too much was refused.

        Args:
            limit: Largest share of refused rows that is accepted, 0 to 1.
            what: What the rows are, for the message.

        Raises:
            InputError: If the share is larger; the message names the first refused row.
        """
        refused = self.rows_refused
        if refused and refused > limit * self.read:
            file, line, reason, _ = min(row for row in self.rows if row[1] > 0)
            raise InputError(
                f"{refused:,} of {self.read:,} {what} were refused, more than the share {limit:g} "
                f"that is allowed; the first is {file} line {line}: {reason}. "
                "Mend the file or raise --max-rejected-share."
            )

    def stop_early(self, limit: float, what: str) -> None:
        """Stop in the middle of a long file that is evidently not what it should be.

        Raises:
            InputError: If thousands of rows were refused, ten times more than the share allows.
        """
        if len(self.rows) > EVIDENTLY_WRONG and len(self.rows) > 10 * limit * self.read:
            self.check_share(limit, f"{what} read so far")

    def frame(self) -> pl.DataFrame:
        """The refused rows as a table; a repeated remark appears once."""
        return pl.DataFrame(sorted(set(self.rows)), schema=REJECTED.polars, orient="row").unique(
            subset=list(REJECTED.key), keep="first", maintain_order=True
        )
