"""A checkpoint of a small planner at random, as `driving fit` would have written it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from data_prep.artifact import create_artifact
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.learned import LearnedPlanner
from personalize.checkpoint import KIND, WEIGHTS
from tests.driving.planner_fixtures import SMALL


def write_random_planner(folder: Path, paths: Mapping[str, Path]) -> Path:
    """A diffusion planner whose every weight says something."""
    torch.manual_seed(0)
    planner = DiffusionPlanner(**SMALL)
    with torch.no_grad():
        for weights in planner.parameters():
            weights.add_(0.05 * torch.randn(weights.shape))
    return write_checkpoint(folder, planner, SMALL, paths)


def write_checkpoint(
    folder: Path, planner: LearnedPlanner, options: Mapping[str, Any], paths: Mapping[str, Path]
) -> Path:
    """A checkpoint of a planner, its average being itself."""
    class_path = f"{type(planner).__module__}.{type(planner).__name__}"
    chosen = {"class_path": class_path, "init_args": dict(options)}
    data = {name: str(path) for name, path in paths.items()}
    tensors = {
        f"{prefix}.{name}": tensor.detach().clone().contiguous()
        for prefix in ("planner", "averaged")
        for name, tensor in planner.state_dict().items()
    }
    with create_artifact(
        folder, kind=KIND, command="driving fit", inputs={},
        configuration={"model": {"planner": chosen}, "data": data},
    ) as writer:  # fmt: skip
        writer.path(WEIGHTS).write_bytes(save(tensors))
        writer.write_json("style", {"dimensions": list(STYLE_DIMENSIONS)})
    return folder
