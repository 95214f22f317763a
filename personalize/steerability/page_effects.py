"""What moves when something is asked for: response matrices and dose curves."""

from typing import Any

from personalize.report.markup import Markup, element
from personalize.report.words import model_name, number
from personalize.steerability.page_cells import Numbers, words
from personalize.steerability.pictures import Curve, dose_curves, heat_map


def responses(metrics: Numbers) -> Markup:
    """The response matrix of every chain that steers."""
    panels = []
    for colour, chain in enumerate(metrics["chains"]):
        if chain["neutral"]:
            continue
        response = chain["response"]
        cells, names = response["cells"], response["dimensions"]

        def tip(row: int, column: int, cells: Any = cells, names: Any = names) -> str:  # noqa: ANN401
            found = cells[row][column]
            said = words(found, 3) if found else "never asked for alone"
            return f"asked for {names[row]}, {names[column]} moves: {said}"

        values = [[cell["value"] if cell else None for cell in row] for row in cells]
        picture = heat_map(values, names, title=f"Responses of {chain['chain']}", tips=tip)
        beside = response["side_to_target"]
        said = f"Off the diagonal over on it: {number(beside, 2)}."
        panels.append(
            element(
                "div",
                element("h3", model_name(chain["chain"], colour)),
                picture,
                element("p", said, class_="soft"),
            )
        )
    return element(
        "section",
        element("h2", "Responses"),
        element(
            "p",
            "Per unit asked of one dimension alone (row), how far each dimension (column) moves. "
            "Perfect steering is 1 on the diagonal and 0 off it.",
        ),
        element("div", *panels, class_="grid two"),
        id="response",
    )


def doses(metrics: Numbers) -> Markup:
    """The tuning sweep of every chain that lists strengths."""
    panels = [
        panel
        for colour, chain in enumerate(metrics["chains"])
        for panel in _dose_panels(colour, chain)
    ]
    tuning = metrics["coverage"]["tuning"]
    return element(
        "section",
        element("h2", "Doses"),
        element(
            "p",
            f"From the tuning sweep: {tuning['rows']:,} goals in {tuning['contexts']} contexts, "
            "none of which is reported above. The shaded strength was taken. Quality is a share of "
            "what it is unsteered."
            if panels
            else "No chain lists strengths to try.",
        ),
        element("div", *panels, class_="grid two"),
        id="doses",
    )


def _dose_panels(colour: int, chain: Numbers) -> list[Markup]:
    """One figure per setting that was tried, the others as they were taken."""
    if not chain["trials"]:
        return []
    taken, found = chain["trials"][chain["chosen"]], []
    for name in taken["settings"]:
        rest = {key: value for key, value in taken["settings"].items() if key != name}
        trials = [t for t in chain["trials"] if rest.items() <= t["settings"].items()]
        trials.sort(key=lambda trial: trial["settings"][name])
        if len(trials) < 2:
            continue
        measures = (("gain", 0), ("steering_error", 1), ("side_effects", 2))
        curves = [Curve(key.replace("_", " "), c, [t[key] for t in trials]) for key, c in measures]
        quality = chain["main_quality"]
        if quality:
            shares = [_kept_share(trial["quality"][quality]) for trial in trials]
            curves.append(Curve(f"{quality} kept", 4, shares))
        picture = dose_curves(
            curves,
            [trial["settings"][name] for trial in trials],
            chosen=trials.index(taken),
            title=f"{chain['chain']} over {name}",
        )
        label = element("h3", model_name(chain["chain"], colour), f" over {name}")
        found.append(element("div", label, picture))
    return found


def _kept_share(quality: Numbers) -> dict[str, float] | None:
    """What is left of a quality as a share, with the interval of its change."""
    if quality["change"] is None or quality["before"]["value"] <= 0:
        return None
    before = quality["before"]["value"]
    return {end: 1 + quality["change"][end] / before for end in ("value", "low", "high")}
