"""Names and short explanations a report uses for axes, conditions and numbers."""

from collections.abc import Mapping

from recsys.markup import Markup, element

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
AXIS_NAMES = {
    "recommendation": "Recommendation",
    "history_consolidation": "History consolidation",
    "fine_steering": "Fine steering",
    "coarse_steering": "Coarse steering",
    "sentiment_following": "Sentiment following",
    "sentiment_following_with_history": "Sentiment following with history",
}
AXIS_MEANINGS = {
    "recommendation": "the next item, from a person's own history and own preferences",
    "history_consolidation": "the next item, when every preference ever stated comes along",
    "fine_steering": "a similar item, asked for in one sentence against a stranger's history",
    "coarse_steering": "a different item, asked for in one sentence against a stranger's history",
    "sentiment_following": "one item, wanted and then avoided, from the sentence alone",
    "sentiment_following_with_history": "one item, wanted and then avoided, beside a history",
}
CONDITION_NAMES = {
    "none": "none",
    "latest": "newest",
    "all": "all",
    "retrieved": "retrieved",
    "stated": "one sentence",
    "oracle": "oracle (bound)",
}


def condition_name(condition: str) -> str:
    """How a condition is called on the page."""
    return CONDITION_NAMES.get(condition, condition)


def model_name(model: str, colour: int) -> Markup:
    """A recommender's name with its colour."""
    return element("span", element("span", model), class_=f"name dotmark c{colour % 8}")


def number(value: float | int | None, digits: int = 4) -> str:
    """A number of fixed decimals, with a real minus sign; a dash where there is none."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | int, digits: int = 4) -> str:
    """A number with its sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def interval(found: Mapping[str, float]) -> Markup:
    """The ends of an interval, small."""
    return element("span", f"{number(found['low'])}{DASH}{number(found['high'])}", class_="ci")


def share(value: float) -> str:
    """A share in per cent."""
    return f"{value:.1%}"


def yes_no(value: object, yes: str, no: str) -> Markup:
    """A fact of a protocol; what makes a number look better than it is stands out."""
    if value is None:
        return element("span", "not stated", class_="pill")
    return element("span", yes if value else no, class_="pill yes" if value else "pill")
