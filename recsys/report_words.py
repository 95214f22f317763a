"""Names and short explanations a report uses for axes, conditions and numbers."""

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
