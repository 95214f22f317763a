"""Reward models written and read back, and what is refused."""

import json

import pytest
import torch

from data_prep.errors import ArtifactMismatch, InputError
from personalize.rewards.group_heads import MixtureHead
from personalize.rewards.preference_model import LayeredEncoder, PreferenceModel, Sizes
from personalize.rewards.stored_reward_model import read_reward_model, write_reward_model

SIZES = Sizes(2, 3, ("near",), annotators=5, comparisons=7)
PARTS = {
    "encoder": {
        "class_path": "personalize.rewards.preference_model.LayeredEncoder",
        "init_args": {"width": 4, "layers": 1},
    },
    "head": {
        "class_path": "personalize.rewards.group_heads.MixtureHead",
        "init_args": {"groups": 3},
    },
}


def model() -> PreferenceModel:
    torch.manual_seed(0)
    head = MixtureHead(SIZES, 4, groups=3)
    head.group_of.copy_(torch.tensor([2, 0, 1, 1, 2]))
    made = PreferenceModel(LayeredEncoder(SIZES, width=4, layers=1), head)
    made.temperature.fill_(1.7)
    made.standardize(torch.randn(9, 2), torch.randn(9, 3))
    return made


def write(folder, **changes):
    options = {
        "configuration": {"model": PARTS},
        "inputs": {"checkpoint": "abc"},
        "facts": {"temperature": 1.7},
    }
    write_reward_model(folder, model(), SIZES, **{**options, **changes})


def test_what_is_read_answers_as_what_was_written(tmp_path):
    write(tmp_path / "reward")
    stored, made = read_reward_model(tmp_path / "reward"), model().eval()
    context, first, second = torch.randn(6, 2), torch.randn(6, 3), torch.randn(6, 3)
    with torch.no_grad():
        assert torch.equal(stored.model.reward(context, first), made.reward(context, first))
        assert torch.equal(
            stored.model.compare(context, first, second), made.compare(context, first, second)
        )
    assert stored.model.head.state_dict()["group_of"].tolist() == [2, 0, 1, 1, 2]
    assert not stored.model.training
    assert stored.sizes == SIZES
    assert stored.facts["temperature"] == 1.7
    assert stored.model.names == ("group_0", "group_1", "group_2")


def test_there_is_no_pickle_in_it(tmp_path):
    write(tmp_path / "reward")
    names = {path.suffix for path in (tmp_path / "reward").iterdir()}
    assert names == {".json", ".safetensors"}


def test_features_of_other_widths_are_refused(tmp_path):
    write(tmp_path / "reward")
    stored = read_reward_model(tmp_path / "reward")
    assert stored.for_widths(2, 3) is stored.model
    with pytest.raises(ArtifactMismatch, match="reads 2 numbers of a context and 3 of a response"):
        stored.for_widths(2, 4)


def test_a_model_of_another_version_is_said_to_be_one(tmp_path):
    other = {**PARTS, "head": {**PARTS["head"], "init_args": {"groups": 2}}}
    write(tmp_path / "reward", configuration={"model": other})
    with pytest.raises(ArtifactMismatch, match="reward model of another version"):
        read_reward_model(tmp_path / "reward")


def test_another_class_than_a_head_is_refused(tmp_path):
    other = {**PARTS, "head": PARTS["encoder"]}
    write(tmp_path / "reward", configuration={"model": other})
    with pytest.raises(ArtifactMismatch, match="which is no PreferenceHead"):
        read_reward_model(tmp_path / "reward")


def test_a_damaged_model_is_refused(tmp_path):
    write(tmp_path / "reward")
    file = tmp_path / "reward" / "reward_model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "names": []}))
    with pytest.raises(ArtifactMismatch):
        read_reward_model(tmp_path / "reward")


def test_a_model_that_is_there_is_not_replaced_unasked(tmp_path):
    write(tmp_path / "reward")
    with pytest.raises(InputError, match="exists"):
        write(tmp_path / "reward")
    write(tmp_path / "reward", overwrite=True)
