"""What may be said of a tuned generator, in sentences; nothing beyond its intervals."""

from collections.abc import Mapping
from typing import Any

from personalize.report.words import number, share, signed

Numbers = Mapping[str, Any]


def verdict(found: Numbers) -> list[str]:
    """Sentences about one run, the main one first.

    Args:
        found: Its numbers, as `Measured.run` makes them.
    """
    said = [_main(found["evaluation"])]
    said += _others(found["evaluation"])
    said += _groups(found["groups"], found["evaluation"])
    said += [_ranking(found["ranking"]), _displacement(found["displacement"])]
    said += _contexts(found["context"])
    said += _cycles(found["cycles"])
    said += _hacking(found["hacking"])
    said += _drift(found["drift"])
    said += _health(found["health"])
    return said


def _main(evaluation: Numbers) -> str:
    name = evaluation["main"]
    measure = evaluation["measures"][name]
    if "difference" not in measure:
        return f"{name} could not be measured in any context, so nothing is said of it."
    change = measure["difference"]
    words = {
        "better": f"Better: {name} goes",
        "worse": f"Worse: {name} goes",
        "no difference shown": f"No difference is shown: {name} goes",
    }[measure["verdict"]]
    return (
        f"{words} from {number(measure['before']['mean'])} to {number(measure['after']['mean'])} "
        f"({signed(change['mean'])}, {signed(change['low'])} to {signed(change['high'])}; "
        f"{measure['contexts']:,} contexts)."
    )


def _others(evaluation: Numbers) -> list[str]:
    """Measures beside the main one that changed for certain, the worse ones first."""
    said = []
    for verdict_word, start in (("worse", "Worse besides"), ("better", "Better besides")):
        changed = [
            f"{name} {signed(measure['difference']['mean'])}"
            for name, measure in sorted(evaluation["measures"].items())
            if name != evaluation["main"] and measure["verdict"] == verdict_word
        ]
        if changed:
            said.append(f"{start}: {', '.join(changed)}.")
    return said


def _groups(groups: Numbers | None, evaluation: Numbers) -> list[str]:
    if groups is None:
        return []
    paying = groups["pays"]
    if paying:
        lost = {one["name"]: one["change"] for one in groups["groups"]}
        said = [
            f"{name} ({signed(lost[name]['mean'])}, {signed(lost[name]['low'])} to "
            f"{signed(lost[name]['high'])}; {lost[name]['rows']:,} contexts)"
            for name in paying
        ]
        many = f"{len(said)} of {len(lost)} groups lose" if len(said) > 1 else "One group loses"
        return [f"{many} in {evaluation['main']}: {', '.join(said)}."]
    chance = groups["gap_p_value"] > 0.05
    gap = "a gap that chance alone makes as often" if chance else "more than chance makes"
    return [
        f"No group is sure to lose; the worst off is {groups['worst']}, and groups lie "
        f"{number(groups['gap']['mean'], 3)} apart, {gap}."
    ]


def _ranking(ranking: Numbers) -> str:
    right, before = ranking["accuracy"], ranking["reference_accuracy"]
    implicit = ranking["implicit_accuracy"]
    said = (
        f"Of held-out pairs it ranks {share(right['mean'])} correctly ({share(right['low'])} to "
        f"{share(right['high'])}), where it was {share(before['mean'])} before"
    )
    if implicit["low"] > right["high"]:
        said += (
            f"; the implicit accuracy of {share(implicit['mean'])} says how many margins grew, not "
            "how many are right"
        )
    flipped = ranking["errors_flipped"]
    if flipped is not None:
        said += f". Of the errors before, {share(flipped['mean'])} were turned right"
        kept = ranking["successes_kept"]
        if kept is not None:
            said += f", and of what was right {share(kept['mean'])} stayed so"
    return said + "."


def _displacement(found: Numbers) -> str:
    change, falls = found["winner_change"], found["winner_falls"]
    low, high = signed(change["low"], 3), signed(change["high"], 3)
    words = f"by {signed(change['mean'], 3)} ({low} to {high})"
    if change["high"] < 0:
        return (
            "Likelihood is displaced: the log-probability of what is preferred changes "
            f"{words} and falls in {share(falls['mean'])} of pairs{_where(found['mass'])}."
        )
    if change["low"] > 0:
        return f"What is preferred becomes likelier, its log-probability changing {words}."
    return f"The log-probability of what is preferred is not shown to change ({words})."


def _where(mass: Numbers | None) -> str:
    if mass is None:
        return ""
    gains = {name: one["mean"] for name, one in mass.items() if one["low"] > 0}
    if not gains:
        return ""
    name = max(gains, key=lambda key: gains[key])
    return f"; most of the mass goes to: {name} ({signed(gains[name], 3)})"


def _contexts(found: Numbers | None) -> list[str]:
    if found is None:
        return []
    before, after = found["before"]["reversal_rate"], found["after"]["reversal_rate"]
    said = [
        f"When what is preferred is reversed, {share(after['mean'])} of rankings turn with it "
        f"({share(after['low'])} to {share(after['high'])}; {share(before['mean'])} before)."
    ]
    lost, right = found["after"]["inference_error"], found["after"]["accuracy"]
    if lost is not None and right["inferred"]["low"] == right["inferred"]["high"] == 0.5:
        said.append("What can be inferred is the same on both sides, so it decides no reversal.")
    elif lost is not None and lost["low"] > 0:
        said.append(
            f"Told what can be inferred in place of what was said, it is right in "
            f"{share(right['inferred']['mean'])} of reversed pairs instead of "
            f"{share(right['true']['mean'])}."
        )
    return said


def drifted(drift: list[Numbers]) -> list[Numbers]:
    """The axes along which answers move for certain, though all of them were looked at."""
    return [one for one in drift if one["p_value"] < 0.05 / len(drift)]


def _cycles(found: Numbers | None) -> list[str]:
    if found is None or not found["cycle_rate"]["mean"]:
        return []
    said = f"The rewards contradict one another in circles in {share(found['cycle_rate']['mean'])} "
    said += "of triples, which no single score can rank"
    change = found.get("exploitability_change")
    if change is not None and change["high"] < 0:
        said += "; the tuned policy gives less away to the best answer than before"
    elif change is not None and change["low"] > 0:
        said += "; the tuned policy gives more away to the best answer than before"
    return [said + "."]


def _hacking(found: Numbers | None) -> list[str]:
    if found is None:
        return []
    gap, fall = found["points"][-1]["gap"], found["fall"]
    said = (
        f"{found['proxy']} gains {signed(gap['mean'], 2)} deviations more than {found['true']} "
        f"({signed(gap['low'], 2)} to {signed(gap['high'], 2)})"
    )
    if found["over_optimised"]:
        peak = number(found["peak_kl"], 2)
        return [
            f"{said}, and {found['true']} has fallen by {number(-fall['mean'], 2)} since KL "
            f"{peak}: the reward is hacked."
        ]
    if gap["low"] > 0:
        return [f"{said}: the reward rises beyond what was meant, which is not shown to fall."]
    return [f"{said}: no reward hacking is shown."]


def _drift(drift: list[Numbers]) -> list[str]:
    moved = drifted(drift)
    if not moved:
        return ["Answers are not shown to move between categories."] if drift else []
    most = max(moved, key=lambda one: one["total"])
    category = max(most["categories"], key=lambda one: abs(one["change"]["mean"]))
    return [
        f"Answers move most by {most['axis']}: {share(most['total'])} of them change their "
        f'category (noise {share(most["noise"])}), most of all "{category["name"]}", by '
        f"{signed(category['change']['mean'], 3)}."
    ]


def _health(health: list[Numbers]) -> list[str]:
    ill = [one["sentence"] for one in health if one["well"] is False]
    answered = sum(one["well"] is not None for one in health)
    if ill:
        return ill
    return [f"The loop is well by all {answered} checks that its log answers."] if answered else []
