"""The command `personalize steerability`: its configuration, the run and the artifact."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from data_prep.artifact import create_artifact
from data_prep.errors import InputError
from personalize.steerability.configuration import Steerability


def run(*, arguments: Sequence[str]) -> None:
    """Evaluate what a configuration names and write the artifact `steerability`.

    Args:
        arguments: Options of the command line.

    Raises:
        InputError: If the configuration or what it names does not fit, or the artifact cannot be
            written.
    """
    options, configuration, out, overwrite = read_configuration(arguments)
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; pass --overwrite to replace it.")
    from personalize.steerability.chains import evaluated_chains
    from personalize.steerability.metrics import all_metrics, hashes, rows_of
    from personalize.steerability.page import page
    from personalize.steerability.run import Asking, questions
    from personalize.steerability.tables import ROWS

    half = options.source.open()
    asking = Asking(half, options)
    asked = questions(asking)
    chains = evaluated_chains(asking, asked)
    metrics = all_metrics(asking, asked, chains, configuration)
    with create_artifact(
        out,
        kind="steerability",
        command="personalize steerability",
        configuration=configuration,
        inputs=hashes(half.facts),
        overwrite=overwrite,
    ) as writer:
        writer.write_json("metrics", metrics)
        writer.write_table(ROWS, rows_of(chains, half))
        writer.path("report.html").write_text(page(metrics), encoding="utf-8")
        writer.notes.update({"verdict": metrics["verdict"], "best": metrics["best"]})
    sys.stderr.write("\n".join(metrics["verdict"]) + f"\n{out / 'report.html'}\n")


def read_configuration(
    arguments: Sequence[str],
) -> tuple[Steerability, dict[str, Any], Path, bool]:
    """What a command line configures: options, the same as plain values, destination, overwrite.

    Raises:
        InputError: If it cannot be read, or does not fit.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(
        prog="personalize steerability",
        exit_on_error=False,
        description="Measure how well a trained recommender or planner can be steered, and report.",
    )
    parser.add_argument("--config", action="config", help="YAML file, such as steerability.yaml")
    parser.add_argument("--out", type=Path, help="folder to write the report to")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an artifact that is already there"
    )
    parser.add_class_arguments(Steerability)
    try:
        parsed = parser.parse_args(list(arguments))
        plain = yaml.safe_load(parser.dump(parsed))
        built = parser.instantiate(parsed).as_dict()
        out, overwrite = built.pop("out"), built.pop("overwrite")
        built.pop("config", None)
        options = Steerability(**built)
    except (ArgumentError, ValueError) as error:
        words = " ".join(str(error).split())
        ending = "" if words.endswith(".") else "."
        raise InputError(f"The configuration does not fit: {words}{ending}") from error
    if out is None:
        raise InputError("--out is needed: the folder to write the report to.")
    plain = {
        key: value for key, value in plain.items() if key not in ("config", "out", "overwrite")
    }
    return options, plain, out, bool(overwrite)
