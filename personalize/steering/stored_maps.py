"""Fitted activation maps as an artifact: one set of maps for every quality they bring about."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from data_prep.artifact import ArtifactWriter, read_artifact
from data_prep.errors import ArtifactMismatch
from personalize.steering.edits import ActivationMap, Maps

KIND = "activation_maps"


def write_maps(writer: ArtifactWriter, sets: Mapping[str, Maps]) -> None:
    """Write sets of maps: `modules.json`, their names, and the numbers as safetensors.

    Args:
        writer: Of an artifact of the kind `activation_maps`, whose input `checkpoint` is what the
            maps were fitted to.
        sets: Maps by the name of what they bring about; names may hold no slash.
    """
    arrays = {
        f"{quality}/{module}/{part}": getattr(change, part).cpu().numpy().astype(np.float32)
        for quality, maps in sets.items()
        for module, change in maps.items()
        for part in ("scale", "shift")
    }
    writer.write_arrays(KIND, arrays)
    writer.write_json("modules", [[quality, list(maps)] for quality, maps in sets.items()])


def read_maps(
    folder: Path, *, checkpoint: str | None = None
) -> dict[str, dict[str, ActivationMap]]:
    """Sets of maps as they were written, in their order.

    Args:
        folder: Artifact `activation_maps`.
        checkpoint: Content hash of the checkpoint they are to be used with; None does not ask.

    Raises:
        ArtifactMismatch: If the artifact is damaged, of another kind, or was fitted to another
            checkpoint.
    """
    artifact = read_artifact(folder, kind=KIND)
    fitted_to = artifact.manifest.inputs.get("checkpoint")
    if checkpoint is not None and fitted_to != checkpoint:
        raise ArtifactMismatch(
            f"{folder} was fitted to another checkpoint; fit edits for this one, or pass that one."
        )
    arrays = artifact.arrays(KIND)

    def part(quality: str, module: str, name: str) -> torch.Tensor:
        return torch.from_numpy(np.array(arrays[f"{quality}/{module}/{name}"]))

    return {
        quality: {
            module: ActivationMap(part(quality, module, "scale"), part(quality, module, "shift"))
            for module in modules
        }
        for quality, modules in artifact.json("modules")
    }
