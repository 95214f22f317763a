"""Checkpoints as artifacts: folders that are whole or absent, hashed, and free of pickle.

A run folder holds `checkpoints/last-<step>` (two of them, everything needed to go on) and
`checkpoints/best-<step>` (weights only). Which one is the last is read from manifests, never from
file times; a damaged one is named and the one before it is used. They are written by
`personalize.checkpoint_plugin`; what only reads them imports no trainer.
"""

import re
import sys
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from data_prep.artifact import Artifact, read_artifact, read_manifest
from data_prep.errors import ArtifactMismatch, InputError
from personalize.run_folder import TUNED

KIND = "checkpoint"
WEIGHTS = "weights.safetensors"
FOLDER = "checkpoints"


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


def generator_checkpoint(path: str | Path, part: str) -> Path:
    """The checkpoint of a generator meant by a path: as `find_checkpoint`, or what a tuning made.

    Args:
        path: Folder of a checkpoint, of a run, or of a tuning run that has finished.
        part: What the configuration of its model names: `recommender` or `planner`.

    Raises:
        InputError: If nothing whole is there, or the path is a URL.
        ArtifactMismatch: If the checkpoint is not of such a generator.
    """
    tuned = local_folder(path) / TUNED
    folder = tuned if (tuned / "manifest.json").is_file() else find_checkpoint(path)
    model = read_manifest(folder).configuration.get("model") or {}
    if part not in model:
        raise ArtifactMismatch(
            f"{folder} holds no {part}; of a tuning run pass the folder `{TUNED}`, which is there "
            "when it has finished."
        )
    return folder


def best_checkpoint(run: Path, gone_on_from: Path | None) -> Path:
    """The checkpoint of a run that validated best.

    A run that went on from another one's state and never did better has none of its own; the best
    of that one is meant then, unless it is from after that state.

    Args:
        run: Folder of the run.
        gone_on_from: The state it went on from, if any.

    Raises:
        InputError: If nothing whole is there.
    """
    own = newest_whole(run, "best")
    if own is None and gone_on_from is not None:
        earlier = newest_whole(gone_on_from.parent.parent, "best")
        if earlier is not None and _steps(earlier) <= _steps(gone_on_from):
            return earlier
    return own or find_checkpoint(run)


def _steps(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
