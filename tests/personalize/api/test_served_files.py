"""Nothing outside of the root is opened, and nothing that its manifest does not describe."""

import os
from pathlib import Path

import numpy as np
import pytest

from data_prep.artifact import create_artifact
from data_prep.errors import ArtifactMismatch, InputError
from personalize.api.files import NotServedError, ServedFiles


@pytest.fixture
def root(tmp_path) -> Path:
    inside = tmp_path / "root"
    inside.mkdir()
    for folder in (inside / "vectors", tmp_path / "outside"):
        with create_artifact(
            folder, kind="vectors", command="test", configuration={}, inputs={}
        ) as writer:
            writer.write_arrays("vectors", {"values": np.ones((2, 3), np.float32)})
    return inside


def test_an_artifact_inside_is_opened_by_either_kind_of_path(root):
    files = ServedFiles(root)
    for path in (Path("vectors"), root / "vectors", Path("./x/../vectors")):
        assert files.artifact(path, kind="vectors").arrays("vectors")["values"].sum() == 6


@pytest.mark.parametrize("path", ["../outside", "/etc", "vectors/../../outside", "link"])
def test_what_leads_outside_is_refused(root, path):
    (root / "link").symlink_to(root.parent / "outside")
    with pytest.raises(InputError, match="lies outside"):
        ServedFiles(root).artifact(Path(path), kind="vectors")


def test_what_is_not_there_is_told_apart_from_what_is_damaged(root):
    files = ServedFiles(root)
    (root / "empty").mkdir()
    for path in ("nothing", "empty"):
        with pytest.raises(NotServedError):
            files.artifact(Path(path), kind="vectors")
    with pytest.raises(ArtifactMismatch, match="holds vectors, but index is needed"):
        files.artifact(Path("vectors"), kind="index")
    weights = root / "vectors" / "vectors.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(ArtifactMismatch, match="was changed after it was written"):
        files.artifact(Path("vectors"), kind="vectors")
    os.truncate(weights, 10)
    with pytest.raises(ArtifactMismatch, match="cut short"):
        files.artifact(Path("vectors"), kind="vectors")
