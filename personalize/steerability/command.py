"""The command `personalize steerability`: its configuration, the run and the artifact."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.artifact import create_artifact
from data_prep.errors import InputError
from personalize.configured_command import configured
from personalize.steerability.configuration import Steerability


def run(*, config: Path, out: Path, overwrite: bool, changes: Sequence[str]) -> None:
    """Evaluate what a configuration names and write the artifact `steerability`.

    Args:
        config: The file.
        out: Folder to write.
        overwrite: Replace a report that is there.
        changes: Settings to change, as `NAME=VALUE`.

    Raises:
        InputError: If the configuration or what it names does not fit, or the artifact cannot be
            written.
    """
    from personalize.steerability.chains import evaluated_chains
    from personalize.steerability.metrics import all_metrics, hashes, rows_of
    from personalize.steerability.page import page
    from personalize.steerability.run import Asking, questions
    from personalize.steerability.tables import ROWS

    options, configuration = read_configuration(config, changes)
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; pass --overwrite to replace it.")
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
    config: Path, changes: Sequence[str] = ()
) -> tuple[Steerability, dict[str, Any]]:
    """What a file configures, and the same as plain values.

    Raises:
        InputError: If it cannot be read, or does not fit.
    """
    return configured(Steerability, "personalize steerability", config, changes)
