"""Road networks for simulated traffic, made by SUMO's `netconvert` from a plan."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import quoteattr

from data_prep.errors import InputError
from data_prep.scenes.raw_scene import Area, RoadClass

MISSING_EXTRA = "simulated traffic needs SUMO: pip install 'personalize[traffic]'."


@dataclass(frozen=True)
class Flow:
    """Vehicles that drive one route.

    Attributes:
        edges: Edges of the route, in order.
        vehicles_per_hour: How many enter in the mean; they come independently of one another.
    """

    edges: tuple[str, ...]
    vehicles_per_hour: float


@dataclass(frozen=True)
class RoadPlan:
    """What `netconvert` is given, and who drives on it.

    Attributes:
        name: `motorway`, `grid`, `roundabout` or `rural`.
        road_class: What kind of road all of it is.
        nodes: Attributes per node.
        edges: Attributes per edge.
        connections: Attributes per connection; empty where they may be guessed.
        options: Further options of `netconvert`.
        flows: Who drives on it.
        junction_areas: Where not every junction is an `intersection`: the area by junction.
        edge_areas: Area of edges that do not lie on open road.
        walkers_per_hour: Pedestrians per crossing; 0 where there are none.
    """

    name: str
    road_class: RoadClass
    nodes: tuple[Mapping[str, str], ...]
    edges: tuple[Mapping[str, str], ...]
    flows: tuple[Flow, ...]
    connections: tuple[Mapping[str, str], ...] = ()
    options: tuple[str, ...] = ()
    junction_areas: Mapping[str, Area] = field(default_factory=dict)
    edge_areas: Mapping[str, Area] = field(default_factory=dict)


def build_network(plan: RoadPlan, folder: Path) -> Path:
    """Write a plan's XML and have `netconvert` make a network of it.

    Args:
        plan: What to build.
        folder: Existing folder for the files.

    Returns:
        The `.net.xml`; the same plan gives the same network.

    Raises:
        InputError: If SUMO is not installed, or refuses the plan.
    """
    arguments = ["--xml-validation", "never", "--no-turnarounds", "--precision", "3"]
    arguments += ["--junctions.limit-turn-speed", "-1", "--junctions.internal-link-detail", "16"]
    for option, root, row, rows in (
        ("--node-files", "nodes", "node", plan.nodes),
        ("--edge-files", "edges", "edge", plan.edges),
        ("--connection-files", "connections", "connection", plan.connections),
    ):
        if rows:
            file = folder / f"{plan.name}.{root}.xml"
            file.write_text(_xml(root, row, rows), encoding="utf-8")
            arguments += [option, str(file)]
    network = folder / f"{plan.name}.net.xml"
    command = [str(sumo_program("netconvert")), *arguments, *plan.options, "-o", str(network)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not network.is_file():
        message = " ".join(done.stderr.split())[:300]
        raise InputError(f"netconvert refused the road {plan.name!r}: {message}")
    return network


def sumo_program(name: str) -> Path:
    """Where the installed wheel of SUMO keeps one of its programs.

    Args:
        name: Such as `netconvert`.

    Raises:
        InputError: If the wheel is not installed or lacks the program.
    """
    try:
        import sumo
    except ImportError as error:
        raise InputError(MISSING_EXTRA) from error
    folder = Path(sumo.SUMO_HOME) / "bin"
    for file in (folder / name, folder / f"{name}.exe"):
        if file.is_file():
            return file
    raise InputError(f"{folder} has no {name}: reinstall eclipse-sumo.")


def _xml(root: str, row: str, rows: tuple[Mapping[str, str], ...]) -> str:
    lines = [
        f"  <{row} " + " ".join(f"{key}={quoteattr(value)}" for key, value in each.items()) + "/>"
        for each in rows
    ]
    return f"<{root}>\n" + "\n".join(lines) + f"\n</{root}>\n"
