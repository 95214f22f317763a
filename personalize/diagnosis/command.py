"""The command `personalize diagnose`: what is asked, the run and the artifact."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from data_prep.artifact import create_artifact
from data_prep.errors import InputError
from personalize.configured_class import named_values, with_changes
from personalize.diagnosis.configuration import Diagnosis

NO_SETTINGS = frozenset({"half", "builder", "after", "before"})


def run(
    *,
    config: Path | None,
    before: Path | None,
    after: Sequence[Path],
    out: Path,
    overwrite: bool,
    changes: Sequence[str],
) -> None:
    """Diagnose what tuning did and write the artifact `diagnosis`.

    Args:
        config: A file of settings; None takes half and builder from the first run.
        before: A run or checkpoint to begin from instead of the half's generator.
        after: Runs or checkpoints that are judged; they win over the file's.
        out: Folder to write.
        overwrite: Replace a report that is there.
        changes: Settings to change, as `NAME=VALUE`.

    Raises:
        InputError: If the configuration, a run or what they name does not fit, or the artifact
            cannot be written.
    """
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; pass --overwrite to replace it.")
    options, configuration = read_configuration(config, before, after, changes)
    diagnose(options, configuration, out, overwrite=overwrite)


def diagnose(
    options: Diagnosis, configuration: dict[str, Any], out: Path, *, overwrite: bool
) -> None:
    """Measure every run and write the artifact; see `run`."""
    import polars as pl

    from personalize.diagnosis.drift import torch_device
    from personalize.diagnosis.held_out import held_out
    from personalize.diagnosis.measures import (
        Measured,
        check_fits,
        named_runs,
        pair_rows,
        plain_numbers,
    )
    from personalize.diagnosis.page import page
    from personalize.diagnosis.tables import ROWS
    from personalize.diagnosis.tuning_run import TuningRun
    from personalize.preference_optimization.policy import frozen_copy

    runs = named_runs([TuningRun.of(Path(path)) for path in options.after])
    first = TuningRun.of(Path(options.before)) if options.before else None
    half, device = options.half.open(), torch_device()
    start = frozen_copy(half.policy) if first is None else first.policy(half.policy)
    start = start.to(device).eval()
    found = held_out(half, options, start, device)
    check_fits(found)
    measured = Measured(found, start)
    told = {name: measured.run(run, name) for name, run in runs}
    metrics = {
        "facts": plain_numbers(half.facts),
        "settings": {
            name: value for name, value in configuration.items() if name not in NO_SETTINGS
        },
        "configuration": configuration,
        "held_out": {
            "contexts": len(found.contexts),
            "comparisons": len(found.compared),
            "pairs": len(found.origins),
            "probes": len(found.probes),
            "builder": type(options.builder).__name__,
        },
        "runs": [numbers for numbers, _ in told.values()],
    }
    inputs = {**half.inputs, **{f"run {name}": run.content_hash for name, run in runs}}
    with create_artifact(
        out,
        kind="diagnosis",
        command="personalize diagnose",
        configuration=configuration,
        inputs=inputs if first is None else {**inputs, "before": first.content_hash},
        overwrite=overwrite,
    ) as writer:
        writer.write_json("metrics", metrics)
        frames = [pl.DataFrame(pair_rows(found, name, pairs)) for name, (_, pairs) in told.items()]
        writer.write_table(ROWS, pl.concat(frames))
        writer.path("report.html").write_text(page(metrics), encoding="utf-8")
        writer.notes["verdict"] = {run["name"]: run["verdict"] for run in metrics["runs"]}
    for one in metrics["runs"]:
        sys.stderr.write("\n".join([f"{one['name']}:", *one["verdict"]]) + "\n")
    sys.stderr.write(f"{out / 'report.html'}\n")


def read_configuration(
    config: Path | None,
    before: Path | None,
    after: Sequence[Path],
    changes: Sequence[str] = (),
) -> tuple[Diagnosis, dict[str, Any]]:
    """What is configured, and the same as plain values.

    What the first run says of its half, builder and beta is the default; the file wins over it,
    options over the file.

    Raises:
        InputError: If neither a file nor a run is given, or what they say does not fit.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    from personalize.diagnosis.tuning_run import TuningRun, read_yaml

    document = {} if config is None else read_yaml(config)
    if after:
        document["after"] = [str(path) for path in after]
    if before is not None:
        document["before"] = str(before)
    runs = document.get("after") or []
    if not runs:
        raise InputError("Name a run to diagnose: --after RUN, or `after` in the file of --config.")
    if "half" not in document:
        document = {**TuningRun.of(Path(runs[0])).settings(), **document}
    parser = ArgumentParser(prog="personalize diagnose", exit_on_error=False)
    parser.add_class_arguments(Diagnosis)
    try:
        parsed = parser.parse_object(with_changes(document, named_values(changes)))
        plain = yaml.safe_load(parser.dump(parsed))
        built = Diagnosis(**parser.instantiate(parsed).as_dict())
    except (ArgumentError, ValueError) as error:
        words = " ".join(str(error).split())
        ending = "" if words.endswith(".") else "."
        raise InputError(f"The configuration does not fit: {words}{ending}") from error
    return built, plain
