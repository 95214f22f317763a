"""Tables of a diagnosis with a line per measure: rankings of pairs, and reversed contexts."""

from personalize.diagnosis.page_cells import Numbers, figure, head
from personalize.evaluation.context_suite import ADVERSARIAL, INFERRED, NONE, TRUE
from personalize.report.markup import Markup, element, table
from personalize.report.words import number

RANKINGS = (
    ("reference_accuracy", "right before", "pairs whose preferred response was likelier"),
    ("accuracy", "right after", "the same after tuning"),
    ("implicit_accuracy", "margin grew", "the implicit accuracy: not how many are right"),
    ("idealised_accuracy", "ideal", "what the exact minimum of the DPO loss would rank right"),
    ("alignment_gap", "short of ideal", "idealised less reached"),
    ("errors_flipped", "errors turned", "of pairs wrong before, share right after"),
    ("successes_kept", "kept right", "of pairs right before, share right after"),
    ("difficulty", "difficulty", "nats by which the other response was ahead before"),
    ("loss", "loss", "mean DPO loss of the pairs"),
)
CONDITIONS = (
    (TRUE, "what is preferred", "right when told what holds in the context"),
    (NONE, "nothing", "right when nothing is said of what is preferred"),
    (INFERRED, "what is inferred", "right when told what the past or others suggest instead"),
    (ADVERSARIAL, "the opposite", "right when told what holds in the other context"),
)
SUITE = (
    ("inference_error", "lost by inferring", "what is preferred less what is inferred"),
    ("use_of_context", "use of the context", "what is preferred less the opposite; 0 ignores it"),
    ("reversal_rate", "turns", "both pairs of a reversal are right"),
    ("wrong_way", "turns wrongly", "both are wrong"),
)


def rankings(metrics: Numbers) -> Markup:
    """The section on pairs."""
    rows = [
        [
            name,
            *(figure(run["ranking"][key]) for run in metrics["runs"]),
            element("td", meaning, class_="soft"),
        ]
        for key, name, meaning in RANKINGS
    ]
    names = [run["name"] for run in metrics["runs"]]
    return element(
        "section",
        element("h2", "Rankings"),
        element(
            "p",
            "A loss can fall because margins grow while the wrong response stays ahead, so the "
            "implicit accuracy is no accuracy of the ranking. The idealised one supposes that "
            f"{metrics['settings']['judges_share']:.0%} of judges prefer each winner.",
        ),
        table([*head("measure", *names), "meaning"], rows),
        *(element("p", _worst(run)) for run in metrics["runs"] if run["annotators"]),
        id="rankings",
    )


def _worst(run: Numbers) -> str:
    found = run["annotators"]
    right = found["worst_utility"]
    return (
        f"{run['name']}: of {len(found['groups'])} annotators, or groups of contexts that stand "
        f"for them, the pairs of {found['worst']} are ranked worst, with "
        f"{number(right['mean'], 3)} right ({number(right['low'], 3)} to "
        f"{number(right['high'], 3)})."
    )


def reversals(metrics: Numbers) -> list[Markup]:
    """What is told, and how many of the reversed pairs are right then."""
    runs = [run for run in metrics["runs"] if run["context"]]
    if not runs:
        return [
            element(
                "p",
                "Not measured: no two responses were seen in two contexts that want opposite "
                "things. Let the half judge its candidates under swapped contexts too, and by a "
                "reward that depends on them.",
            )
        ]
    columns = [runs[0]["context"]["before"], *(run["context"]["after"] for run in runs)]
    found = [
        *([told, [one["accuracy"].get(key) for one in columns], said]
          for key, told, said in CONDITIONS),
        *([name, [one[key] for one in columns], said] for key, name, said in SUITE),
    ]  # fmt: skip
    rows = [
        [name, *(figure(value) for value in values), element("td", said, class_="soft")]
        for name, values, said in found
        if any(value is not None for value in values)
    ]
    return [
        element(
            "p",
            "Two responses in two contexts that want opposite things: a score that does not read "
            "what is preferred is right on half of them, in every condition, and so is one that is "
            "told the same in both.",
        ),
        table([*head("told", "before", *(run["name"] for run in runs)), "meaning"], rows),
    ]
