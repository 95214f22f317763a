"""The first thing a report says: what the numbers allow to be said, and no more."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from personalize.report.words import MINUS
from recsys.report_numbers import TARGET_FREE
from recsys.report_runs import Run

Numbers = Mapping[str, Any]
_BY_CONDITION = {
    "none": "from the history alone",
    "latest": "with the newest preferences",
    "all": "with all preferences",
    "retrieved": "with preferences retrieved by the history",
}
_WIDE = 0.1


def best_retriever(runs: Sequence[Run], cells: Sequence[Numbers]) -> Numbers | None:
    """The cell of the retriever with the highest NDCG@10 that never looks at the target."""
    ours = {run.name for run in runs if not run.is_baseline}
    return max(_recommending(cells, ours), key=_ndcg, default=None)


def strongest_baseline(runs: Sequence[Run], cells: Sequence[Numbers]) -> Numbers | None:
    """The cell of the yardstick with the highest NDCG@10."""
    yardsticks = {run.name for run in runs if run.is_baseline}
    return max(_recommending(cells, yardsticks), key=_ndcg, default=None)


def preference_readers(runs: Sequence[Run]) -> dict[str, set[str]]:
    """The recommenders that read preferences, each with its conditions on the main axis."""
    return {
        run.name: {condition for axis, condition in run.asked() if axis == "recommendation"}
        for run in runs
        if run.notes.get("uses_preferences")
    }


def verdict(
    best: Numbers | None,
    comparisons: Sequence[Numbers],
    lifts: Sequence[Numbers],
    cells: Sequence[Numbers],
    pairs: Sequence[Numbers],
    readers: Mapping[str, Collection[str]],
) -> list[str]:
    """Sentences, the most important first.

    Args:
        best: The result of `best_retriever`.
        comparisons: Recommenders against the baseline, each with the baseline's name `against`.
        lifts: Conditions against `none`.
        cells: Means by recommender, axis and condition.
        pairs: Sentiment following.
        readers: The recommenders that read preferences, each with the conditions under which it
            was asked for recommendations (`preference_readers`).
    """
    if best is None:
        return ["No retriever was compared: the rows below are yardsticks."]
    return [
        sentence.replace(" -", f" {MINUS}").replace("(-", f"({MINUS}")
        for sentence in (
            _against_baseline(best, comparisons),
            _preferences(best, lifts, cells) or _nothing_to_compare(readers),
            _steering(best["model"], cells),
            _sentiment(best["model"], pairs),
            _width(best),
        )
        if sentence
    ]


def _against_baseline(best: Numbers, comparisons: Sequence[Numbers]) -> str:
    value = best["metrics"]["ndcg_10"]["value"]
    recall = best["metrics"]["recall_10"]["value"]
    name = f"{best['model']} ({_BY_CONDITION.get(best['condition'], best['condition'])})"
    opening = (
        f"{name} is the best retriever: of {best['answered']:,} questions it answers "
        f"{recall:.2%} within ten items (NDCG@10 {value:.4f})"
    )
    test = next(
        (
            test
            for test in comparisons
            if test["metric"] == "ndcg_10"
            and (test["model"], test["condition"]) == (best["model"], best["condition"])
        ),
        None,
    )
    if test is None:
        return f"{opening}; there is no yardstick beside it."
    gap = f"{test['difference']:+.4f}, 95 % from {test['low']:+.4f} to {test['high']:+.4f}"
    if test["low"] > 0:
        said = f"it beats {test['against']}, the strongest yardstick ({gap})"
    elif test["high"] < 0:
        said = f"it is behind {test['against']}, the strongest yardstick ({gap})"
    else:
        said = f"it cannot be told apart from {test['against']}, the strongest yardstick ({gap})"
    doubt = ""
    if (test["low"] > 0 or test["high"] < 0) and test["p_holm"] > 0.05:
        doubt = f", though not after Holm's correction (p = {test['p_holm']:.2f})"
    return f"{opening}; {said}{doubt}."


def _preferences(best: Numbers, lifts: Sequence[Numbers], cells: Sequence[Numbers]) -> str:
    """What preferences add, for the best retriever that reads them; empty where none can tell."""
    own = [
        lift for lift in lifts if lift["axis"] == "recommendation" and lift["metric"] == "ndcg_10"
    ]
    models = {lift["model"] for lift in own}
    if not models:
        return ""
    model = best["model"]
    if model not in models:
        model = max(_recommending(cells, models), key=_ndcg)["model"]
    free = [lift for lift in own if lift["model"] == model and lift["condition"] != "oracle"]
    oracle = next((x for x in own if x["model"] == model and x["condition"] == "oracle"), None)
    bound = (
        f" The oracle, which reads the answer, would change it by {oracle['difference']:+.4f}."
        if oracle
        else ""
    )
    if not free:
        return bound.strip()
    top = max(free, key=lambda lift: lift["difference"])
    gap = f"{top['difference']:+.4f}, 95 % from {top['low']:+.4f} to {top['high']:+.4f}"
    how = _BY_CONDITION.get(top["condition"], top["condition"])
    if top["low"] > 0:
        said = f"help {model} most {how}: NDCG@10 {gap}"
    elif top["high"] < 0:
        said = f"cost {model} accuracy, least {how}: NDCG@10 {gap}"
    else:
        said = f"change nothing that can be measured for {model}; at best, {how}, NDCG@10 {gap}"
    count = f" (best of {len(free)} ways to choose)" if len(free) > 1 else ""
    return f"Preferences chosen without looking at the target {said}{count}.{bound}"


def _nothing_to_compare(readers: Mapping[str, Collection[str]]) -> str:
    """Why nothing is known of what preferences add."""
    if not readers:
        return "No recommender here reads preferences."
    by_reason: dict[str, list[str]] = {}
    for name, conditions in sorted(readers.items()):
        by_reason.setdefault(_why_not_compared(conditions), []).append(name)
    said = "; ".join(
        f"{' and '.join(names)} read{'s' * (len(names) == 1)} preferences but {reason}"
        for reason, names in by_reason.items()
    )
    return f"What preferences add is not known: {said}."


def _why_not_compared(conditions: Collection[str]) -> str:
    if not conditions:
        return "answered no question of the recommendation axis"
    if set(conditions) == {"none"}:
        return "answered only without them"
    if "none" not in conditions:
        return "answered only with them"
    return "failed too often to be compared"


def _steering(model: str, cells: Sequence[Numbers]) -> str:
    parts = []
    asked = {
        (cell["model"], cell["axis"], cell["condition"]): cell["metrics"]["recall_10"]["value"]
        for cell in cells
        if "metrics" in cell
    }
    models = [model, *sorted({name for name, _, _ in asked} - {model})]
    chosen = next((m for m in models if (m, "fine_steering", "stated") in asked), None)
    chosen = chosen or next((m for m in models if (m, "coarse_steering", "stated") in asked), None)
    if chosen is None:
        return ""
    for axis, word in (("fine_steering", "fine"), ("coarse_steering", "coarse")):
        stated, none = asked.get((chosen, axis, "stated")), asked.get((chosen, axis, "none"))
        if stated is not None and none is not None:
            parts.append(f"{stated:.1%} of {word} steering questions ({none:.1%} unasked)")
    return (
        f"Told in one sentence what is wanted, beside a stranger's history, {chosen} returns the "
        f"item within ten in {' and '.join(parts)}."
    )


def _sentiment(model: str, pairs: Sequence[Numbers]) -> str:
    told = [pair for pair in pairs if pair["condition"] == "stated" and "at" in pair]
    own = [pair for pair in told if pair["model"] == model] or told
    if not own:
        return ""
    parts = own[0]["at"]["10"]
    return (
        f"Of {own[0]['pairs']:,} pairs about one item, {own[0]['model']} returns it when wanted "
        f"and leaves it out when avoided in {parts['both']['value']:.1%} (m@10; returned when "
        f"wanted {parts['wanted']['value']:.1%}, left out when avoided "
        f"{parts['spared']['value']:.1%})."
    )


def _width(best: Numbers) -> str:
    found = best["metrics"]["ndcg_10"]
    half = (found["high"] - found["low"]) / 2
    if not found["value"] or half / found["value"] < _WIDE:
        return ""
    return (
        f"{best['answered']:,} questions make wide intervals: NDCG@10 is known to "
        f"±{half:.4f} only, so small differences here mean nothing."
    )


def _recommending(cells: Sequence[Numbers], models: set[str]) -> list[Numbers]:
    return [
        cell
        for cell in cells
        if cell["axis"] == "recommendation"
        and cell["condition"] in TARGET_FREE
        and cell["model"] in models
        and "metrics" in cell
    ]


def _ndcg(cell: Numbers) -> float:
    return cell["metrics"]["ndcg_10"]["value"]
