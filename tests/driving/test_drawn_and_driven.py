"""What tuning did to the plans drawn, likeliest and driven: told as the planner's evaluation is."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.methods.drawn_and_driven import drawn_and_driven, drawn_gain, parted
from driving.planner.anchor_policy import AnchorPolicy, denoised
from driving.planner.sub_score_heads import Selection
from driving.tuned_plans import TunablePlans
from driving.tuning import TunedPlans
from personalize.preference_optimization.tunable import TEST
from tests.driving.planning_artifacts import write_planning_artifacts
from tests.driving.planning_checkpoint import write_random_planner


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> TunablePlans:
    paths = write_planning_artifacts(tmp_path_factory.mktemp("parts"))
    checkpoint: Path = write_random_planner(tmp_path_factory.mktemp("runs") / "diffusion", paths)
    half = TunedPlans(checkpoint=checkpoint, policy=AnchorPolicy, moments=4).open()
    planner: Any = half.policy.planner
    planner.selection = Selection(central=False)  # of four the middle hardly changes
    return half


@pytest.fixture(scope="module")
def moved(half) -> AnchorPolicy:
    policy = copy.deepcopy(half.policy)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in policy.planner.decoder.parameters():
            weights.add_(0.3 * torch.randn(weights.shape, generator=generator))
        scores = policy.planner.decoder.outer[-1].weight[-1]
        scores.add_(10 * torch.randn(scores.shape, generator=generator))
    return policy


@pytest.fixture(scope="module")
def found(half, moved):
    return drawn_and_driven(half, moved, TEST)


@pytest.mark.parametrize(("which", "name"), [("half", "old"), ("moved", "new")])
def test_what_is_driven_is_what_the_evaluation_drives(half, moved, found, which, name):
    expected = half.evaluate(half.policy if which == "half" else moved, TEST)
    said = found[f"driven, {name} shares, {name} poses"]
    for measure, values in said.values.items():
        np.testing.assert_allclose(values, expected.values[measure], atol=1e-6)


def test_the_likeliest_and_the_drawn_are_by_the_shares_of_the_candidates(half, moved, found):
    contexts = torch.from_numpy(half.contexts(TEST))
    count = len(half.policy.planner.anchors)
    every = torch.arange(count).expand(len(contexts), -1)
    judged = half.judge(contexts, every)  # by the poses of the untuned planner
    match = judged.reward[..., half.reward_names.index("style_match")].double()
    share = denoised(moved.planner, half.batch(contexts)).logits.softmax(-1).detach().double()
    drawn = found["drawn, new shares, old poses"].values["style_match"]
    np.testing.assert_allclose(drawn, (share * match).sum(-1), atol=1e-6)
    likeliest = found["likeliest, new shares, old poses"].values["style_match"]
    rows = torch.arange(len(contexts))
    np.testing.assert_allclose(likeliest, match[rows, share.argmax(-1)], atol=1e-6)
    assert np.abs(drawn - likeliest).max() > 1e-3


def test_what_would_be_driven_by_new_shares_is_picked_by_them(half, moved, found):
    contexts = torch.from_numpy(half.contexts(TEST))
    batch, count = half.batch(contexts), len(half.policy.planner.anchors)
    old, new = (denoised(one.planner, batch) for one in (half.policy, moved))
    picked = moved.planner.picked(batch.scene, old.encoded, old.changes, new.logits, batch.style)
    judged = half.judge(contexts, torch.arange(count).expand(len(contexts), -1))
    match = judged.reward[..., half.reward_names.index("style_match")].double()
    expected = match[torch.arange(len(contexts)), picked.scores.argmax(-1)]
    said = found["driven, new shares, old poses"].values["style_match"]
    np.testing.assert_allclose(said, expected, atol=1e-6)
    before = found["driven, old shares, old poses"].values["style_match"]
    assert np.abs(said - before).max() > 1e-3


def test_every_part_of_what_moved_matters(found):
    told = {name: one.values["style_match"] for name, one in found.items()}
    assert len(told) == 12
    old = told["drawn, old shares, old poses"]
    for changed in ("new shares, old poses", "old shares, new poses", "new shares, new poses"):
        assert np.abs(told[f"drawn, {changed}"] - old).max() > 1e-4


def test_nothing_changes_where_nothing_was_tuned(half, found):
    contexts = half.contexts(TEST)
    groups = np.arange(len(contexts))
    rows = parted(half, half.policy, TEST, groups)
    assert len(rows) == 9
    assert not any("old shares, old poses" in name for name in rows)
    gain = drawn_gain(half, half.policy, TEST, {"pdms": 1.0}, groups)
    for row in [*rows.values(), gain]:
        assert row
        assert all(value["mean"] == 0 for value in row.values())


def test_changes_are_those_from_before(half, moved, found):
    for name, row in parted(half, moved, TEST, np.arange(len(half.contexts(TEST)))).items():
        plan = name.split(",")[0]
        before = found[f"{plan}, old shares, old poses"].values
        for measure, told in row.items():
            expected = float(np.mean(found[name].values[measure] - before[measure]))
            assert told["mean"] == pytest.approx(expected, abs=1e-6)


def test_what_a_policy_draws_is_told_by_its_own_rewards(half, moved):
    contexts = torch.from_numpy(half.contexts(TEST))
    groups = np.arange(len(contexts))
    gain = drawn_gain(half, moved, TEST, {"pdms": 1.0, "style_match": 0.5}, groups)
    means, passes, names = [], [], half.reward_names
    for policy in (moved, half.policy):
        drawn = policy.sample(half.batch(contexts), 8, seed=0)
        judged = half.judge(contexts, drawn.responses)
        pdms, match = (judged.reward[..., names.index(n)] for n in ("pdms", "style_match"))
        means.append(float((pdms + 0.5 * match).mean()))
        passes.append(float(judged.gate.double().mean()))
    assert gain["reward"]["mean"] == pytest.approx(means[0] - means[1], abs=1e-6)
    assert gain["reward"]["mean"] != 0
    assert gain["passes"]["mean"] == pytest.approx(passes[0] - passes[1], abs=1e-6)


def test_not_all_contexts_are_drawn_for_by_the_same_random_numbers(half, moved, monkeypatch):
    contexts, seeds = half.contexts(TEST), []
    monkeypatch.setattr("benchmarks.methods.drawn_and_driven.DRAWN_TOGETHER", 3)
    sample = AnchorPolicy.sample

    def spied(self, context, count, *, seed, beam=False):
        seeds.append((len(context), seed))
        return sample(self, context, count, seed=seed, beam=beam)

    monkeypatch.setattr(AnchorPolicy, "sample", spied)
    drawn_gain(half, moved, TEST, {"pdms": 1.0}, np.arange(len(contexts)))
    assert seeds == 2 * [(3, 0), (3, 1), (2, 2)]
