"""The list of aspects: what reviewers talk about, read from an editable YAML file."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_prep.errors import InputError

DEFAULT_ASPECTS = Path(__file__).with_name("aspects.yaml")
_NEGATION_REACH = 4  # words between a negation and the word it turns round


class Aspect(BaseModel):
    """One aspect: how it is recognised, and the sentences a preference about it is written as."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    liked: str = Field(min_length=1)
    avoided: str = Field(min_length=1)
    words: tuple[str, ...] = ()
    like_words: tuple[str, ...] = ()
    avoid_words: tuple[str, ...] = ()
    like: tuple[str, ...] = Field(min_length=1)
    avoid: tuple[str, ...] = Field(min_length=1)


class AspectList(BaseModel):
    """All aspects with the words and background sentences they share."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, ignored_types=(cached_property,), arbitrary_types_allowed=True
    )

    aspects: dict[str, Aspect] = Field(min_length=1)
    background: tuple[str, ...] = ()
    praise: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()
    positive_words: tuple[str, ...] = ()
    negative_words: tuple[str, ...] = ()
    negation_words: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the aspects, in the order of the file."""
        return tuple(self.aspects)

    @property
    def fingerprint(self) -> str:
        """Hash of all that is in the list."""
        return sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @cached_property
    def cues(self) -> "Cues":
        """The words of the list, ready to be counted in a text."""
        return Cues(self)

    def sentence(self, aspect: str, polarity: str) -> str:
        """The sentence a preference for or against an aspect is written as."""
        entry = self.aspects[aspect]
        return entry.liked if polarity == "like" else entry.avoided


def read_aspects(path: Path | None = None) -> AspectList:
    """The list of aspects in a YAML file, the built-in one when no file is given.

    Raises:
        InputError: If the file cannot be read, is no YAML, or does not describe aspects.
    """
    path = path or DEFAULT_ASPECTS
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the aspects {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise InputError(f"The aspects {path} are no YAML: {line}.") from error
    try:
        return AspectList.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"The aspects {path}: {where}: {first['msg']}.") from error


@dataclass(frozen=True)
class CueCount:
    """What the words of a clause say, before any vector is looked at.

    Attributes:
        aspects: Aspects one of whose words occurs.
        signs: For each aspect with a word that carries an opinion, the sum of their signs.
        praise: General words of praise, negated ones taken off.
        complaint: General words of complaint, negated ones taken off.
        negations: Number of negations.
    """

    aspects: frozenset[str]
    signs: dict[str, int]
    praise: int
    complaint: int
    negations: int

    @property
    def any_opinion(self) -> bool:
        """Whether any word of an aspect, of praise or of complaint was there."""
        return bool(self.aspects or self.praise or self.complaint)


class Cues:
    """Finds the words of an aspect list in a text: one dictionary look-up per word."""

    def __init__(self, aspects: AspectList) -> None:
        self._single: dict[str, list[_Mark]] = {}
        self._stems: list[tuple[str, _Mark]] = []
        self._phrases: dict[str, list[tuple[tuple[str, ...], _Mark]]] = {}
        self._known: dict[str, tuple[_Mark, ...]] = {}
        for name, entry in aspects.aspects.items():
            self._learn(entry.words, _Mark("word", name, 0))
            self._learn(entry.like_words, _Mark("word", name, 1))
            self._learn(entry.avoid_words, _Mark("word", name, -1))
        self._learn(aspects.positive_words, _Mark("praise", "", 1))
        self._learn(aspects.negative_words, _Mark("complaint", "", 1))
        self._learn(aspects.negation_words, _Mark("negation", "", 0))

    def count(self, text: str) -> CueCount:
        """The cue words of one clause; a word soon after a negation counts as its opposite."""
        found = list(self._occurrences(text))
        inside = {  # "cannot stand" is a complaint, its "cannot" turns nothing round
            (place, occurrence.part)
            for occurrence in found
            if occurrence.mark.kind != "negation"
            for place in range(occurrence.place, occurrence.after[0])
        }
        negations = [
            occurrence.after
            for occurrence in found
            if occurrence.mark.kind == "negation"
            and (occurrence.place, occurrence.part) not in inside
        ]
        aspects: set[str] = set()
        signs: dict[str, int] = {}
        counts = {"praise": 0, "complaint": 0}
        for occurrence in found:
            mark = occurrence.mark
            turned = any(
                0 <= occurrence.place - after < _NEGATION_REACH and occurrence.part == part_after
                for after, part_after in negations
            )
            sign = -mark.sign if turned else mark.sign
            if mark.kind == "word":
                aspects.add(mark.aspect)
                if sign:
                    signs[mark.aspect] = signs.get(mark.aspect, 0) + sign
            elif mark.kind in counts:
                counts[mark.kind] += sign
        told = {name: sign for name, sign in signs.items() if sign}
        return CueCount(
            frozenset(aspects), told, counts["praise"], counts["complaint"], len(negations)
        )

    def telling_word(self, aspect: str, polarity: str, text: str) -> str:
        """The first word of the aspect that speaks for the polarity, or an empty string."""
        sign = 1 if polarity == "like" else -1
        wanted = _Mark("word", aspect, sign)
        for occurrence in self._occurrences(text):
            if occurrence.mark == wanted:
                return occurrence.words
        return ""

    def _learn(self, words: Sequence[str], mark: "_Mark") -> None:
        for word in words:
            pieces = _words(word)
            if not pieces:
                continue
            if len(pieces) > 1:
                self._phrases.setdefault(pieces[0], []).append((tuple(pieces), mark))
            elif word.endswith("*"):
                self._stems.append((pieces[0], mark))
            else:
                self._single.setdefault(pieces[0], []).append(mark)

    def _marks(self, word: str) -> tuple["_Mark", ...]:
        if word not in self._known:
            stems = [mark for stem, mark in self._stems if word.startswith(stem)]
            self._known[word] = tuple(self._single.get(word, []) + stems)
        return self._known[word]

    def _occurrences(self, text: str) -> Iterator["_Occurrence"]:
        places = [
            (match.group(), part)
            for part, piece in enumerate(text.lower().replace(_CURLY, "'").split(","))
            for match in _WORD.finditer(piece)
        ]
        words = [word for word, _ in places]
        for place, (word, part) in enumerate(places):
            for mark in self._marks(word):
                yield _Occurrence(mark, word, place, part, (place + 1, part))
            for phrase, mark in self._phrases.get(word, ()):
                after = place + len(phrase)
                if tuple(words[place:after]) == phrase:
                    yield _Occurrence(mark, " ".join(phrase), place, part, (after, part))


class _Mark(NamedTuple):
    """What a word says: of which kind it is, about which aspect, for or against."""

    kind: Literal["word", "praise", "complaint", "negation"]
    aspect: str
    sign: int


class _Occurrence(NamedTuple):
    """A word found: its place among the words, the part between commas, and the place after it."""

    mark: _Mark
    words: str
    place: int
    part: int
    after: tuple[int, int]


_CURLY = "\u2019"  # the apostrophe of word processors
_WORD = re.compile(r"\w+(?:'\w+)*")


def _words(text: str) -> list[str]:
    """The words of a text in lower case; a hyphen parts two words.

    Example:
        >>> _words("It's well-made*")
        ["it's", 'well', 'made']
    """
    return _WORD.findall(text.lower().replace(_CURLY, "'"))
