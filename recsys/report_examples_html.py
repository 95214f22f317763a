"""The report's people: what they met, what they are read to want, what each recommender says."""

from collections.abc import Mapping, Sequence
from typing import Any

from personalize.report.markup import Markup, element, joined
from recsys.report_words import AXIS_NAMES, condition_name

Numbers = Mapping[str, Any]


def examples_section(metrics: Numbers, colours: Mapping[str, int]) -> Markup:
    """People and steered questions."""
    examples = metrics["examples"]
    return element(
        "section",
        element("h2", "People"),
        element(
            "p",
            f"Picked by outcome and then at random: found by {examples['lead']} alone, by it and "
            "the yardstick, by the yardstick alone, by neither. The item the person met next is "
            "marked.",
        ),
        *(_person(person, colours) for person in examples["people"]),
        _steered(examples, colours),
        id="people",
    )


def _person(person: Numbers, colours: Mapping[str, int]) -> Markup:
    return element(
        "article",
        element(
            "header",
            element("h3", person["person"].capitalize()),
            element(
                "span",
                "met next: ",
                element("span", person["target"], class_="target"),
            ),
        ),
        element(
            "div",
            _history(person),
            _preferences(person["preferences"], person["condition"]),
            class_="told",
        ),
        _answers(person["answers"], colours),
        class_="panel person",
    )


def _history(question: Numbers) -> Markup:
    count, shown = question["history_length"], len(question["history"])
    which = f"the newest {shown} of {count} items" if count > shown else f"{count} items"
    start = count - shown + 1
    return element(
        "div",
        element("h4", f"History, {which}, oldest first"),
        element("ol", *(element("li", name) for name in question["history"]), start=start),
    )


def _preferences(preferences: Sequence[Numbers], condition: str) -> Markup:
    said = [
        element(
            "li",
            element(
                "span", entry["text"], class_="want" if entry["polarity"] == "like" else "shun"
            ),
            element("blockquote", f"“{entry['evidence']}”") if entry["evidence"] else None,
        )
        for entry in preferences
    ]
    nothing = element(
        "p", "None was known, or none of these recommenders reads any.", class_="soft"
    )
    return element(
        "div",
        element("h4", f"Preferences ({condition_name(condition)}), with the words behind them"),
        element("ul", *said, class_="plain") if said else nothing,
    )


def _answers(answers: Sequence[Numbers], colours: Mapping[str, int]) -> Markup:
    return element(
        "div",
        *(
            element(
                "div",
                element(
                    "h4",
                    answer["model"],
                    " ",
                    element("small", condition_name(answer["condition"])),
                ),
                element(
                    "ol",
                    *(
                        element("li", item["name"], class_="hit" if item["target"] else None)
                        for item in answer["items"]
                    ),
                ),
                element("p", _rank(answer), class_="rank"),
                class_=f"c{colours[answer['model']] % 8}",
            )
            for answer in answers
        ),
        class_="answers",
    )


def _rank(answer: Numbers) -> str:
    if not answer["returned"]:
        return "no answer"
    if answer["target_rank"] is None:
        return f"target not among {answer['returned']}"
    return f"target at rank {answer['target_rank']}"


def _steered(examples: Numbers, colours: Mapping[str, int]) -> Markup | None:
    if not examples["steered"]:
        return None
    return joined(
        [
            element("h3", f"Steering {examples['steered_model']} by one sentence"),
            *(
                element(
                    "article",
                    element(
                        "header",
                        element("h3", AXIS_NAMES[example["axis"]]),
                        element(
                            "span",
                            "asked for: ",
                            element("span", example["target"], class_="target"),
                        ),
                    ),
                    *(element("p", f"“{said}”", class_="asked") for said in example["asked"]),
                    element("div", _history(example), class_="told"),
                    _answers(example["answers"], colours),
                    class_="panel person",
                )
                for example in examples["steered"]
            ),
        ]
    )
