"""The work behind the `data-prep` commands of driving; imports Polars only when threads are set."""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def commonroad(**options: Any) -> None:  # noqa: ANN401  (argparse)
    """Prepare CommonRoad scenarios."""
    _write("commonroad", "CommonRoadSource", (options["logs"],), options)


def scenarionet(**options: Any) -> None:  # noqa: ANN401  (argparse)
    """Prepare ScenarioNet files."""
    _write("scenarionet", "ScenarioNetSource", (options["logs"],), options)


def argoverse2_sensor(**options: Any) -> None:  # noqa: ANN401  (argparse)
    """Prepare Argoverse 2 sensor logs."""
    _write("argoverse2-sensor", "Argoverse2SensorSource", (options["logs"],), options)


def argoverse2_forecasting(**options: Any) -> None:  # noqa: ANN401  (argparse)
    """Prepare Argoverse 2 motion-forecasting scenarios."""
    _write("argoverse2-forecasting", "Argoverse2ForecastingSource", (options["logs"],), options)


def nuplan(**options: Any) -> None:  # noqa: ANN401  (argparse)
    """Prepare nuPlan databases."""
    _mapped("nuplan", "NuPlanSource", options)


def openscene(**options: Any) -> None:  # noqa: ANN401  (argparse)
    """Prepare OpenScene logs."""
    _mapped("openscene", "OpenSceneSource", options)


def _mapped(command: str, source_name: str, options: dict[str, Any]) -> None:
    arguments = (options["logs"], options["maps"])
    _write(command, source_name, arguments, options, tokens=options["tokens"])


def traffic(**options: Any) -> None:  # noqa: ANN401  (argparse)
    """Simulate traffic of drivers whose style is written down."""
    arguments = (
        tuple(options["roads"]),
        options["scenes"],
        options["duration_s"],
        options["seed"],
    )
    _write("traffic", "TrafficSource", arguments, options)


def join(*, scenes: Sequence[Path], out: Path, overwrite: bool, threads: int | None) -> None:
    """Join artifacts of scenes into one."""
    _set_threads(threads)
    from data_prep.scenes.join import join_scenes
    from data_prep.scenes.scene_rules import SceneDestination

    shown = {"scenes": [folder.name for folder in scenes]}
    join_scenes(scenes, SceneDestination(out, overwrite, "data-prep join", shown))


def _set_threads(threads: int | None) -> None:
    """Bound Polars's threads; it reads the variable once, when it is first imported."""
    if threads is not None:
        os.environ["POLARS_MAX_THREADS"] = str(max(1, threads))


def _write(
    command: str,
    source_name: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    **more: Any,  # noqa: ANN401
) -> None:
    _set_threads(options["threads"])
    module = importlib.import_module(f"data_prep.scenes.{command.replace('-', '_')}")
    from data_prep.artifact import file_sha256
    from data_prep.scenes.prepare import write_scenes
    from data_prep.scenes.scene_rules import SceneDestination, SceneRules

    validation, test = options["split_fractions"]
    rules = SceneRules(
        step_s=options["step_s"],
        seed=options["seed"],
        validation=validation,
        test=test,
        max_rejected_share=options["max_rejected_share"],
    )
    source = getattr(module, source_name)(*arguments, **more)
    left_out = ("out", "overwrite", "threads")
    shown = {name: _plain(value) for name, value in options.items() if name not in left_out}
    destination = SceneDestination(
        out=options["out"],
        overwrite=options["overwrite"],
        command=f"data-prep {command}",
        configuration=shown,
        inputs={name: file_sha256(path) for name, path in _named(source.files()).items()},
    )
    write_scenes(source, rules, destination)


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Files by their name, or by their path below the folder that holds all of them."""
    if len({path.name for path in paths}) == len(paths):
        return {path.name: path for path in paths}
    top = Path(os.path.commonpath([path.resolve().parent for path in paths]))
    return {path.resolve().relative_to(top).as_posix(): path for path in paths}


def _plain(value: Any) -> Any:  # noqa: ANN401  (a JSON value)
    """A JSON value; of a path only the name, since the content hash tells the rest."""
    if isinstance(value, Path):
        return value.name
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
