"""The answer of a language model: its schema, its validation, and the search for its evidence."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from personalize.preferences.extractor import Opinion, Refusal

MOST_OPINIONS = 8
MOST_EVIDENCE_CHARACTERS = 240
_WEIGHTS = {"slight": 0.5, "clear": 0.8, "strong": 1.0}


class PreferenceParseError(ValueError):
    """An answer that does not fit the schema; the message says where, in words a model can use."""


class StatedOpinion(BaseModel):
    """One opinion as a model states it."""

    model_config = ConfigDict(extra="forbid")

    aspect: str = Field(max_length=40)
    polarity: Literal["like", "avoid"]
    strength: Literal["slight", "clear", "strong"]
    evidence: str = Field(min_length=2, max_length=MOST_EVIDENCE_CHARACTERS)


class StatedOpinions(BaseModel):
    """A whole answer."""

    model_config = ConfigDict(extra="forbid")

    opinions: list[StatedOpinion] = Field(max_length=MOST_OPINIONS)
    overall: str | None = Field(default=None, max_length=40)


def answer_schema(
    aspects: Sequence[str],
    evidence: Sequence[str] | None = None,
    *,
    labels: Sequence[str] = (),
) -> dict[str, Any]:
    """JSON schema of an answer: flat, without references, every string and list capped.

    Args:
        aspects: Names an opinion may be about.
        evidence: The only strings allowed as evidence; any capped string when not given.
        labels: What the text as a whole may be called; it is not asked for when empty.
    """
    opinion = _plain(StatedOpinion.model_json_schema())
    opinion["properties"]["aspect"] = {"type": "string", "enum": list(aspects)}
    if evidence is not None:
        opinion["properties"]["evidence"] = {"type": "string", "enum": list(evidence)}
    whole = _plain(StatedOpinions.model_json_schema())
    whole.pop("$defs", None)
    whole["properties"]["opinions"] = {
        "type": "array",
        "maxItems": MOST_OPINIONS,
        "items": opinion,
    }
    whole["properties"].pop("overall")
    if labels:
        whole["properties"]["overall"] = {"type": "string", "enum": list(labels)}
        whole["required"] = ["opinions", "overall"]
    return whole


def parse_answer(
    text: str, aspects: Sequence[str], *, labels: Sequence[str] = ()
) -> StatedOpinions:
    """The answer in a model's text, validated; a code fence or words around it are forgiven.

    Raises:
        PreferenceParseError: If there is no JSON object in it, or it does not fit the schema.
    """
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise PreferenceParseError("there is no complete JSON object in it.")
    try:
        raw = json.loads(text[start : end + 1])
        stated = StatedOpinions.model_validate(raw)
    except json.JSONDecodeError as error:
        raise PreferenceParseError(f"it is no JSON ({error.msg}).") from error
    except RecursionError as error:
        raise PreferenceParseError("it is nested too deeply.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the object"
        raise PreferenceParseError(f"{where}: {first['msg']}.") from error
    for number, opinion in enumerate(stated.opinions):
        if opinion.aspect not in aspects:
            raise PreferenceParseError(f"opinions.{number}.aspect: not one of the listed aspects.")
    if not labels and "overall" in stated.model_fields_set:
        raise PreferenceParseError("overall: Extra inputs are not permitted.")
    if labels and stated.overall not in labels:
        raise PreferenceParseError("overall: not one of the listed labels.")
    return stated


def grounded(
    stated: StatedOpinions, review_id: int, text: str
) -> tuple[tuple[Opinion, ...], tuple[Refusal, ...]]:
    """The opinions whose evidence really stands in the review, and refusals for the others.

    White space may differ, letters may not. Two opinions about one aspect with one polarity on the
    same span count once.

    Returns:
        Opinions in the order of their place in the text, and what was thrown away.
    """
    found: dict[tuple[str, str, int, int], Opinion] = {}
    refused = []
    for opinion in stated.opinions:
        span = find_evidence(text, opinion.evidence)
        if span is None:
            refused.append(
                Refusal(review_id, "the evidence is not in the review", opinion.evidence)
            )
            continue
        weight = _WEIGHTS[opinion.strength]
        key = (opinion.aspect, opinion.polarity, *span)
        found[key] = Opinion(opinion.aspect, opinion.polarity, weight, *span)
    kept = sorted(found.values(), key=lambda o: (o.start, o.end, o.aspect, o.polarity))
    return tuple(kept), tuple(refused)


def find_evidence(text: str, evidence: str) -> tuple[int, int] | None:
    r"""Where the evidence stands in the text, or nothing.

    Example:
        >>> find_evidence("It  is\nsturdy.", "is sturdy")
        (4, 13)
    """
    words = evidence.split()
    if not words or not any(character.isalnum() for character in evidence):
        return None
    match = re.search(r"\s+".join(re.escape(word) for word in words), text)
    return match.span() if match else None


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without titles and descriptions, which only cost tokens."""
    return {
        key: _plain(value) if isinstance(value, Mapping) else value
        for key, value in schema.items()
        if key not in ("title", "description")
    }
