"""Sentences and clauses of a review, each as an exact span of its characters.

Reviews are written without care: a full stop may have no space after it ("affordable.I did"), a
line break may stand for one, and one sentence may praise and complain at once ("great tone, but
heavy"). So a text is cut at sentence ends, then at contrastive words, and what is still too long
at a comma or a space.
"""

import re
from collections.abc import Iterator

MOST_CHARACTERS = 240

_ABBREVIATIONS = frozenset(
    word
    for line in ("mr mrs ms dr st vs etc inc ltd co", "approx dept est jr sr eg ie e.g i.e a.m p.m")
    for word in line.split()
)
_SENTENCE_END = re.compile(
    r"""
      [.!?…]+["'”\u2019)\]]*(?=\s|$)           # an end mark before a space
    | (?<=[a-z0-9)])[.!?]+(?=["'“(]?[A-Z])  # "affordable.I did"
    | [\u3002\uff01\uff1f]+                 # full-width end marks
    | \s*[\r\n]+\s*                         # a line break
    """,
    re.VERBOSE,
)
_CONTRAST = re.compile(
    r"""
      \s*;\s*
    | ,?\s+(?=(?:but|however|although|though|whereas|except\ that)\b)
    | ,\s+(?=(?:yet|while)\b)
    | \s+-{1,2}\s+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_FEWEST_CHARACTERS = 8


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences of a text, without the white space around them.

    Example:
        >>> text = "It is affordable.I like it! See v1.5, e.g. here"
        >>> [text[start:end] for start, end in split_sentences(text)]
        ['It is affordable.', 'I like it!', 'See v1.5, e.g. here']
    """
    spans, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        if text[match.start()] == "." and _ends_abbreviation(text, start, match.start()):
            continue
        spans.append((start, match.end()))
        start = match.end()
    spans.append((start, len(text)))
    return [span for raw in spans if (span := _strip(text, *raw)) is not None]


def split_clauses(text: str, *, most: int | None = None) -> list[tuple[int, int]]:
    """Spans of the clauses of a text: sentences, cut again at contrastive words and by length.

    Args:
        text: The text.
        most: Keep only so many clauses, from the beginning; all when not given.

    Returns:
        Non-empty spans in order, none overlapping, none longer than `MOST_CHARACTERS`.

    Example:
        >>> text = "Great tone, but it is far too heavy for me."
        >>> [text[start:end] for start, end in split_clauses(text)]
        ['Great tone', 'but it is far too heavy for me.']
    """
    clauses = [
        piece
        for start, end in split_sentences(text)
        for clause in _cut_at_contrast(text, start, end)
        for piece in _cut_by_length(text, *clause)
    ]
    return clauses if most is None else clauses[:most]


def _ends_abbreviation(text: str, start: int, stop: int) -> bool:
    """Whether the full stop at `stop` ends an abbreviation or an initial."""
    words = text[max(start, stop - 12) : stop].split()
    if not words or stop + 1 >= len(text) or text[stop + 1 : stop + 2] in "\r\n":
        return False
    word = words[-1].lower().lstrip("(\"'")
    if "." in word and not text[stop + 1 :].lstrip()[:1].isupper():
        return True  # "U.S.A. by hand"
    return word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word not in "ia")


def _cut_at_contrast(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a sentence around its contrastive words, where both parts say something."""
    for match in _CONTRAST.finditer(text, start, end):
        if match.start() - start < _FEWEST_CHARACTERS or end - match.end() < _FEWEST_CHARACTERS:
            continue
        if (span := _strip(text, start, match.start())) is not None:
            yield span
        start = match.end()
    if (span := _strip(text, start, end)) is not None:
        yield span


def _cut_by_length(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > MOST_CHARACTERS:
        limit = start + MOST_CHARACTERS
        cut = max(text.rfind(",", start + 1, limit), text.rfind(" ", start + 1, limit))
        comma = text.rfind(",", start + MOST_CHARACTERS // 2, limit)
        cut = comma + 1 if comma > 0 else (cut if cut > start else limit)
        if (span := _strip(text, start, cut)) is not None:
            yield span
        start = cut
    if (span := _strip(text, start, end)) is not None:
        yield span


def _strip(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without white space at its ends; nothing where it holds no letter or digit."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if not any(character.isalnum() for character in text[start:end]):
        return None
    return start, end
