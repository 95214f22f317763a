"""Checkpoints as artifacts: folders that are whole or absent, hashed, and free of pickle.

A run folder holds `checkpoints/last-<step>` (two of them, everything needed to go on) and
`checkpoints/best-<step>` (weights only). Which one is the last is read from manifests, never from
file times; a damaged one is named and the one before it is used.
"""

import io
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from data_prep.artifact import Artifact, create_artifact, read_artifact, read_manifest
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.temporary_folder import remove_abandoned

KIND = "checkpoint"
WEIGHTS = "weights.safetensors"
TRAINING_STATE = "training_state.pt"
FOLDER = "checkpoints"
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


def weights_of(source: Artifact) -> dict[str, Tensor]:
    """The weights of a checkpoint by name.

    Raises:
        ArtifactMismatch: If the file is no safetensors file.
    """
    path = source.file(WEIGHTS)
    try:
        return load_tensors(path.read_bytes())
    except SafetensorError as error:
        raise ArtifactMismatch(f"{path} is no safetensors file: {error}.") from error


def local_folder(path: str | Path) -> Path:
    """The path of a checkpoint on this machine.

    Raises:
        InputError: If it is a URL: weights from elsewhere are fetched and looked at by hand first.
    """
    if "://" in str(path):
        raise InputError(f"{path} is a URL; fetch the checkpoint first and give its folder.")
    return Path(path)


def checkpoint_folders(run_folder: Path, prefix: str) -> list[Path]:
    """Checkpoints of a run whose name begins with a prefix, newest step first, unread."""
    found = []
    for path in (run_folder / FOLDER).glob(f"{prefix}-*"):
        matched = re.fullmatch(rf"{prefix}-(\d+)", path.name)
        if matched:
            found.append((int(matched[1]), path))
    return [path for _, path in sorted(found, reverse=True)]


def newest_whole(run_folder: Path, prefix: str) -> Path | None:
    """The newest undamaged checkpoint of a run; one sentence on standard error for each other.

    Args:
        run_folder: Folder of the run.
        prefix: `last` or `best`.

    Returns:
        Its folder; None where there is no undamaged one.
    """
    for path in checkpoint_folders(run_folder, prefix):
        try:
            read_artifact(path, kind=KIND)
        except InputError as error:
            sys.stderr.write(f"Skipping a damaged checkpoint: {error}\n")
            continue
        return path
    return None


def find_checkpoint(path: str | Path, *, prefer: str = "best") -> Path:
    """The checkpoint meant by a path: the folder itself, or one of a run folder.

    Args:
        path: Folder of a checkpoint or of a run.
        prefer: `best` or `last`; the other is taken where there is none.

    Raises:
        InputError: If nothing whole is there, or the path is a URL.
    """
    folder = local_folder(path)
    if (folder / "manifest.json").is_file():
        if read_manifest(folder).kind != KIND:
            raise ArtifactMismatch(f"{folder} is no checkpoint but {read_manifest(folder).kind}.")
        return folder
    order = ("best", "last") if prefer == "best" else ("last", "best")
    for prefix in order:
        found = newest_whole(folder, prefix)
        if found is not None:
            return found
    raise InputError(f"{folder} is neither a checkpoint nor a run with a whole checkpoint in it.")


def _own(tensor: Tensor) -> Tensor:
    """A copy that shares no memory: tied weights are stored under each of their names."""
    return tensor.detach().cpu().clone().contiguous()
