"""Labels of an artifact `styles` in StyleDrive's layout, and theirs as ours."""

from pathlib import Path
from typing import Any

import polars as pl

from data_prep.scenes.style_dimensions import StyleLabel
from driving.scene_store import SceneStore
from driving.style.styledrive_fields import FRAME_COUNT, FRAME_S, styledrive_fields, ten_frames
from driving.style.styledrive_file import StyleDriveLabel, read_styledrive_file
from driving.world import World

BATCH = 64


def read_styledrive_labels(path: Path) -> dict[str, StyleLabel]:
    """The label of every scene of StyleDrive's `styletrain.json` or `styletest.json`, by token.

    Raises:
        InputError: If the file cannot be read, is no such file, or a record has no known label.
    """
    return {token: one.label for token, one in read_styledrive_file(path).items()}


def styledrive_labels(
    store: SceneStore, samples: pl.DataFrame, styles: pl.DataFrame, measures: pl.DataFrame
) -> list[StyleDriveLabel]:
    """Our labels of the samples that have a token, with StyleDrive's fields.

    Their fields look five seconds ahead; of a sample that is seen for less only `v_avg`, `a_max`
    and `with_lead` are given, from our own measures. A token of two samples is written once.

    Args:
        store: The scenes.
        samples: The table `samples`.
        styles: The table `styles` of the same artifact.
        measures: The table `measures` of the same artifact.
    """
    named = (
        samples.filter(pl.col("token").is_not_null()).unique("token", keep="first").sort("token")
    )
    facts = named.join(styles, on="sample_id", maintain_order="left").join(
        measures, on="sample_id", maintain_order="left"
    )
    found = []
    for first in range(0, named.height, BATCH):
        part = named.slice(first, BATCH)
        world = store.world(part, history_s=0.0, future_s=FRAME_COUNT * FRAME_S)
        for row, fact in enumerate(facts.slice(first, BATCH).iter_rows(named=True)):
            found.append(
                StyleDriveLabel(
                    token=fact["token"],
                    label=fact["label"],
                    scenario_type=fact["scenario_type"],
                    fields=_fields(world, row, fact),
                )
            )
    return found


def _fields(world: World, row: int, fact: dict[str, Any]) -> dict[str, Any]:
    stride = round(FRAME_S / world.step_s)
    if bool(world.ego_mask[row, world.now :: stride].all()):
        return styledrive_fields(ten_frames(world, row))
    return {
        "v_avg": fact["mean_speed_mps"],
        "a_max": fact["peak_acceleration_mps2"],
        "with_lead": "Yes" if fact["leader"] else "No",
    }
