"""StyleDrive's own label files: read them, and write ours in their layout."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from data_prep.errors import InputError
from data_prep.scenes.style_dimensions import StyleLabel

_LETTERS: Mapping[str, StyleLabel] = {"A": "aggressive", "N": "normal", "C": "conservative"}


def read_styledrive_labels(path: Path) -> dict[str, StyleLabel]:
    """The label of every scene in `styletrain.json` or `styletest.json`, by OpenScene token.

    Raises:
        InputError: If the file cannot be read, is no such file, or a record has no known label.

    Source:
        `docs/dataset_stat.md` of github.com/AIR-THU/StyleDrive: one object keyed by token, of
        which training reads `ANC_result`.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}; check --labels.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON; --labels takes StyleDrive's label file.") from error
    if not isinstance(records, dict) or not records:
        raise InputError(f"{path} must hold one object keyed by token; check --labels.")
    found: dict[str, StyleLabel] = {}
    for token, record in records.items():
        letter = record.get("ANC_result") if isinstance(record, dict) else None
        if not isinstance(letter, str) or letter not in _LETTERS:
            raise InputError(f"{path}: the record {token!r} has no ANC_result of A, N or C.")
        found[token] = _LETTERS[letter]
    return found


def styledrive_records(
    samples: pl.DataFrame, styles: pl.DataFrame, measures: pl.DataFrame
) -> dict[str, dict[str, Any]]:
    """Our labels in StyleDrive's layout: one record per sample that has a token.

    Written are `token`, `scenario_type`, `ANC_result`, and of the measures `v_avg`, `a_max` and
    `with_lead`; their other fields are raw signals at 2 Hz that their training does not read.

    Args:
        samples: The table `samples`.
        styles: The table `styles` of the same artifact.
        measures: The table `measures` of the same artifact.
    """
    letters = {label: letter for letter, label in _LETTERS.items()}
    joined = (
        samples.filter(pl.col("token").is_not_null())
        .join(styles, on="sample_id")
        .join(measures, on="sample_id")
        .sort("token")
    )
    return {
        row["token"]: {
            "token": row["token"],
            "scenario_type": row["scenario_type"],
            "ANC_result": letters[row["label"]],
            "v_avg": row["mean_speed_mps"],
            "a_max": row["peak_acceleration_mps2"],
            "with_lead": "Yes" if row["leader"] else "No",
        }
        for row in joined.iter_rows(named=True)
    }
