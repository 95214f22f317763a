"""A critic on disk is the critic that was written, for the checkpoint it was written for."""

import json
from pathlib import Path

import pytest
import torch

from data_prep.errors import ArtifactMismatch
from personalize.rewards.critic import Critic, CriticContext
from personalize.rewards.stored_critic import read_critic, write_critic


def written(out: Path) -> Critic:
    torch.manual_seed(0)
    critic = Critic(3, 2, 1, width=8, discount=0.9, expectile=0.6)
    critic.action_shift.fill_(0.5)
    write_critic(
        out,
        critic,
        command="test",
        configuration={},
        inputs={"checkpoint": "abc"},
        facts={"ranked_right": 0.75},
    )
    return critic


def test_it_comes_back_whole(tmp_path: Path):
    critic = written(tmp_path / "critic")
    stored = read_critic(tmp_path / "critic")
    x, context = torch.randn(2, 4, 2), CriticContext(torch.randn(2, 3), torch.randn(2, 1))
    found = stored.for_checkpoint("abc")
    assert torch.equal(found(x, context), critic(x, context))
    assert (found.discount, found.expectile) == (0.9, 0.6)
    assert not found.training
    assert stored.facts == {"ranked_right": 0.75}


def test_another_checkpoint_is_refused(tmp_path: Path):
    written(tmp_path / "critic")
    with pytest.raises(ArtifactMismatch, match="another checkpoint encodes"):
        read_critic(tmp_path / "critic").for_checkpoint("xyz")


@pytest.mark.parametrize("change", [{"width": 9}, {"tilt": 1}])
def test_another_version_is_refused(tmp_path: Path, change: dict[str, int]):
    written(tmp_path / "critic")
    folder = tmp_path / "critic"
    sizes = json.loads((folder / "critic.json").read_text()) | change
    (folder / "critic.json").write_text(json.dumps(sizes))
    manifest = json.loads((folder / "manifest.json").read_text())
    from data_prep.artifact import file_sha256

    path = folder / "critic.json"
    manifest["files"]["critic.json"] |= {
        "sha256": file_sha256(path),
        "size_bytes": path.stat().st_size,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactMismatch, match="holds a critic of another version"):
        read_critic(folder)
