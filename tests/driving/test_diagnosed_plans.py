"""`personalize diagnose` on planners: of bells, of chains, of anchors."""

import json

import pytest
import torch
import yaml
from safetensors.torch import save

from data_prep.artifact import create_artifact
from driving.plan_kinds import KINDS
from personalize.__main__ import main
from personalize.checkpoint import KIND, WEIGHTS
from tests.driving.test_tuned_plans import POLICIES, checkpoint, opened, paths  # noqa: F401


@pytest.mark.parametrize("name", list(POLICIES))
def test_a_planner_is_diagnosed(name, checkpoint, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    policy = opened(checkpoint, POLICIES[name]).policy
    generator = torch.Generator().manual_seed(0)
    weights = {
        f"policy.{key}": value + 0.02 * torch.randn(value.shape, generator=generator)
        if value.is_floating_point()
        else value.clone()
        for key, value in policy.state_dict().items()
    }
    with create_artifact(
        tmp_path / "last-7", kind=KIND, command="tune", inputs={}, configuration={}
    ) as writer:
        writer.path(WEIGHTS).write_bytes(save(weights))
    kind = POLICIES[name]
    half = {
        "class_path": "driving.tuning.TunedPlans",
        "init_args": {"checkpoint": str(checkpoint), "moments": 4, "swaps": True,
                      "policy": {"class_path": f"{kind.__module__}.{kind.__name__}"}},
    }  # fmt: skip
    given = {"half": half, "after": ["last-7"], "contexts": 8, "probes": 4, "answers": 4,
             "resamples": 100}  # fmt: skip
    (tmp_path / "given.yaml").write_text(yaml.safe_dump(given))
    assert main(["diagnose", "--config", "given.yaml", "--out", "out"]) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    run = found["runs"][0]
    assert run["steps"] == 7
    assert run["displacement"]["winner_change"]["mean"] != 0
    assert (run["displacement"]["mass"] is None) == (name != "anchors")
    assert run["evaluation"]["main"] in run["evaluation"]["measures"]
    accuracy = run["context"]["after"]["accuracy"]
    assert set(accuracy) == {"true", "none", "inferred", "adversarial"}
    assert accuracy["inferred"]["mean"] == 0.5  # the driver's past is the same under both presets
    kinds = run["drift"][0]
    assert kinds["axis"] == "category"
    assert [one["name"] for one in kinds["categories"]] == list(KINDS)
    assert sum(one["first"] for one in kinds["categories"]) == pytest.approx(1)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Answers of last-7 by category" in page
    assert "what is inferred" in page
