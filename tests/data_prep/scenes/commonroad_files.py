"""Small CommonRoad files, written by hand."""

from pathlib import Path

STATE = """<{tag}><position><point><x>{x}</x><y>{y}</y></point></position>
<orientation><exact>{heading}</exact></orientation><time><exact>{step}</exact></time>
<velocity><exact>{speed}</exact></velocity></{tag}>"""

LANELET = """<lanelet id="{number}"><leftBound>{left}<lineMarking>solid</lineMarking></leftBound>
<rightBound>{right}<lineMarking>dashed</lineMarking></rightBound>{links}</lanelet>"""

PROLOG = '<?xml version="1.0" encoding="UTF-8"?>'
PROBLEM = """<planningProblem id="900"><initialState><position><point><x>0</x><y>0</y></point>
</position><orientation><exact>0</exact></orientation><time><exact>0</exact></time>
<velocity><exact>5</exact></velocity><yawRate><exact>0</exact></yawRate>
<slipAngle><exact>0</exact></slipAngle></initialState><goalState><time>
<intervalStart>1</intervalStart><intervalEnd>9</intervalEnd></time></goalState>
</planningProblem>"""


def bound(*points):
    return "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in points)


def lanelet(number, left, right, links=""):
    return LANELET.format(number=number, left=bound(*left), right=bound(*right), links=links)


def states(x, y=0.0, *, speed=10.0, steps=30, heading=0.0, first=0):
    """A straight drive along x with 0.1 s a step."""
    return [
        {"x": x + speed * 0.1 * k, "y": y, "heading": heading, "step": first + k, "speed": speed}
        for k in range(steps)
    ]


def obstacle(
    number, rows, *, version="2020a", kind="car", shape="", size=(4.5, 1.8), trajectory=True
):
    tag = "dynamicObstacle" if version == "2020a" else "obstacle"
    role = "" if version == "2020a" else "<role>dynamic</role>"
    box = f"<rectangle><length>{size[0]}</length><width>{size[1]}</width>{shape}</rectangle>"
    later = "".join(STATE.format(tag="state", **row) for row in rows[1:])
    later = f"<trajectory>{later}</trajectory>" if trajectory else ""
    first = STATE.format(tag="initialState", **rows[0])
    return (
        f'<{tag} id="{number}">{role}<type>{kind}</type><shape>{box}</shape>{first}{later}</{tag}>'
    )


ROAD = (
    lanelet(
        1,
        [(0, 2), (50, 2)],
        [(0, -2), (50, -2)],
        '<successor ref="2"/><adjacentLeft ref="3" drivingDir="same"/>',
    ),
    lanelet(2, [(50, 2), (300, 2)], [(50, -2), (300, -2)], '<predecessor ref="1"/>'),
    lanelet(3, [(0, 6), (50, 6)], [(0, 2), (50, 2)], '<adjacentRight ref="1" drivingDir="same"/>'),
)


def write(
    path: Path,
    obstacles,
    *,
    road=ROAD,
    extra="",
    version="2020a",
    benchmark="ZAM_Test-1_1_T-1",
    source="by hand",
):
    tags = ' tags="highway"' if version == "2018b" else ""
    body = (
        ""
        if version == "2018b"
        else (
            "<location><geoNameId>1</geoNameId><gpsLatitude>1</gpsLatitude>"
            "<gpsLongitude>1</gpsLongitude></location><scenarioTags><highway/></scenarioTags>"
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'{PROLOG}<commonRoad benchmarkID="{benchmark}" commonRoadVersion="{version}" '
        f'timeStepSize="0.1" author="a" affiliation="b" source="{source}" date="2020-01-01"{tags}>'
        f"{body}{''.join(road)}{extra}{''.join(obstacles)}{PROBLEM}</commonRoad>",
        encoding="utf-8",
    )
    return path
