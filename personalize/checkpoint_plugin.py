"""Checkpoints written and read back while training: Lightning's plugin for folders of ours."""

import io
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors.torch import save as save_tensors
from torch import Tensor

from data_prep.artifact import create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch
from data_prep.temporary_folder import remove_abandoned
from personalize.checkpoint import KIND, WEIGHTS, local_folder, weights_of

TRAINING_STATE = "training_state.pt"
_ANY_NAME = r"[a-z]+-\d+"


@dataclass(frozen=True)
class RunRecord:
    """What every checkpoint of a run says about the run.

    Attributes:
        command: The command that trains, such as `recsys fit`.
        configuration: All options, plain JSON values.
        inputs: Content hash of every artifact that was read, by option.
        documents: JSON documents a reader of the weights needs, by name (a codec, sizes).
    """

    command: str
    configuration: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, Any] = field(default_factory=dict)


class FolderCheckpoints(CheckpointIO):
    """Writes and reads Lightning's checkpoints as artifacts of the kind `checkpoint`."""

    def __init__(self, record: RunRecord) -> None:
        self.record = record

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401  (Lightning's signature)
    ) -> None:
        """Write a checkpoint to the folder `path`.

        Raises:
            InputError: If the folder cannot be written (read-only, full, a file in the way).
        """
        destination = local_folder(path)
        remove_abandoned(destination.parent, _ANY_NAME)  # a killed run's, of an earlier step
        weights = {name: _own(value) for name, value in checkpoint["state_dict"].items()}
        rest = {name: value for name, value in checkpoint.items() if name != "state_dict"}
        buffer = io.BytesIO()
        torch.save(rest, buffer)
        with create_artifact(
            destination,
            kind=KIND,
            command=self.record.command,
            configuration=self.record.configuration,
            inputs=self.record.inputs,
            overwrite=True,
        ) as writer:
            writer.path(WEIGHTS).write_bytes(save_tensors(weights))
            writer.path(TRAINING_STATE).write_bytes(buffer.getbuffer())
            for name, document in self.record.documents.items():
                writer.write_json(name, document)
            writer.notes["epoch"] = checkpoint.get("epoch", 0)
            writer.notes["step"] = checkpoint.get("global_step", 0)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = None,  # noqa: ANN401  (Lightning's signature)
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Everything a checkpoint holds; pickled objects are refused whatever is asked for.

        Raises:
            ArtifactMismatch: If the folder is damaged, no checkpoint, or holds pickled objects.
            InputError: If the path is a URL.
        """
        source = read_artifact(local_folder(path), kind=KIND)
        path = source.file(TRAINING_STATE)
        try:
            state = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except UnpicklingError as error:
            raise ArtifactMismatch(
                f"{path} holds objects that are not plain numbers, texts and tensors; it was not "
                "written by this program and is not loaded."
            ) from error
        return state | {"state_dict": weights_of(source)}

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint's folder."""
        shutil.rmtree(local_folder(path), ignore_errors=True)


def _own(tensor: Tensor) -> Tensor:
    """A copy that shares no memory: tied weights are stored under each of their names."""
    return tensor.detach().cpu().clone().contiguous()
