"""`personalize diagnose` on recommenders: of codes and of scores of items."""

import json

import pytest
import torch
import yaml
from safetensors.torch import save

from data_prep.artifact import create_artifact
from personalize.__main__ import main
from personalize.checkpoint import KIND, WEIGHTS
from recsys.item_categories import THIRDS
from tests.recsys.test_item_tuning import opened


@pytest.mark.parametrize("model", ["mender_emb", "causal"])
def test_a_recommender_is_diagnosed(model, one_world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    policy = opened(one_world, model).policy
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    weights = {f"policy.{name}": value.clone() for name, value in policy.state_dict().items()}
    with create_artifact(
        tmp_path / "last-7", kind=KIND, command="tune", inputs={}, configuration={}
    ) as writer:
        writer.path(WEIGHTS).write_bytes(save(weights))
    half = {
        "class_path": "recsys.tuning.TunedItems",
        "init_args": {
            "checkpoint": str(one_world.root / model),
            "preferences": str(one_world.root / "preferences"),
            "candidates": {"beam": 6},
        },
    }
    given = {"half": half, "after": ["last-7"], "probes": 8, "answers": 4, "resamples": 100}
    (tmp_path / "given.yaml").write_text(yaml.safe_dump(given))
    for options in ([], ["--set", "half.init_args.candidates.swapped=true"]):
        asked = ["--config", "given.yaml", "--out", "out", "--overwrite", *options]
        assert main(["diagnose", *asked]) == 0
        run = json.loads((tmp_path / "out" / "metrics.json").read_text())["runs"][0]
        page = (tmp_path / "out" / "report.html").read_text()
        kinds = run["drift"][0]
        assert kinds["axis"] == "category"
        assert [one["name"] for one in kinds["categories"]] == list(THIRDS)
        if not options:
            assert run["context"] is None
            assert "no two responses were seen in two contexts" in page
    accuracy = run["context"]["after"]["accuracy"]
    assert set(accuracy) == {"true", "none", "inferred", "adversarial"}
    assert accuracy["none"]["mean"] == 0.5
    if model == "causal":  # the other one hardly reads preferences with drawn weights
        assert accuracy["inferred"]["mean"] not in (0.5, accuracy["true"]["mean"])
    assert "what is inferred" in page
