"""The comparisons of a split, and what is said of a model on them."""

import math

import numpy as np
import pytest
import torch

from data_prep.errors import InputError
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.extremes import BestAgainstWorst
from personalize.preference_optimization.stored_comparisons import (
    StoredComparisons,
    kept_comparisons,
    write_comparisons,
)
from personalize.preference_optimization.tunable import TEST, TRAINING
from personalize.reward_learning.data import RewardData
from personalize.reward_learning.judged_split import (
    JudgedSplit,
    candidate_features,
    judged_split,
    stored_splits,
)
from personalize.reward_learning.report import calibrated, preference_report, split_logits
from personalize.rewards.feature_comparisons import FeatureTable
from personalize.rewards.heads import ScalarHead
from personalize.rewards.preference_model import PlainFeatures, PreferenceModel
from tests.personalize.preference_optimization.toy_tunable import ToySource, ToyTunable

BUILDER = BestAgainstWorst({"match": 1.0})


def test_only_so_many_contexts_of_the_split_are_compared():
    half = ToyTunable()
    found = judged_split(half, BUILDER, TRAINING, contexts=7, seed=0)
    compared = set(found.comparison_origin.tolist())
    assert 3 <= len(compared) <= 7
    assert compared <= set(half.contexts(TRAINING).tolist())
    assert compared == set(
        judged_split(half, BUILDER, TRAINING, contexts=7, seed=0).comparison_origin.tolist()
    )
    assert compared != set(
        judged_split(half, BUILDER, TRAINING, contexts=7, seed=1).comparison_origin.tolist()
    )


def test_features_are_those_of_each_candidate_in_its_own_context():
    half = ToyTunable()
    candidates = half.candidates(torch.tensor([3, 8]), half.policy, seed=0)
    table = candidate_features(half, candidates)
    for row in (0, 5, len(table) - 1):
        answer = candidates.responses[candidates.response[row]].view(1, 1)
        context, response = half.features(candidates.context[row : row + 1], answer)
        torch.testing.assert_close(table.context[row], context[0])
        torch.testing.assert_close(table.response[row], response[0, 0])
    assert table.names == ("match", "quality")
    assert torch.equal(table.quality, candidates.reward)


def test_an_empty_split_is_refused(monkeypatch):
    half = ToyTunable()
    monkeypatch.setattr(half, "contexts", lambda split: np.zeros(0, np.int64))
    with pytest.raises(InputError, match="the split test has no context"):
        judged_split(half, BUILDER, TEST, contexts=7, seed=0)


def test_qualities_are_in_deviations_of_the_training_rows():
    data = RewardData(ToySource(), BUILDER)
    quality = data.training.table.quality
    torch.testing.assert_close(quality.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(quality.std(0, correction=0), torch.ones(2))
    assert float(data.test.table.quality.mean(0).abs().amax()) > 1e-3
    assert data.sizes.annotators == 2
    assert data.facts()["training_comparisons"] == len(data.training.comparisons)


def kept(contexts: int) -> StoredComparisons:
    half = ToyTunable()
    numbers = torch.as_tensor(half.contexts(TRAINING)[:contexts])
    candidates = half.candidates(numbers, half.policy, seed=0)
    return kept_comparisons(BUILDER(candidates), candidates, {})


def test_stored_comparisons_are_parted_by_context():
    half, stored = ToyTunable(), kept(40)
    parts = stored_splits(half, stored, seed=0)
    assert sum(len(part.comparisons) for part in parts) == len(stored)
    contexts = [set(part.comparison_origin.tolist()) for part in parts]
    assert not contexts[0] & contexts[1] | contexts[0] & contexts[2] | contexts[1] & contexts[2]
    count = sum(len(some) for some in contexts)
    assert [len(some) for some in contexts] == [
        round(0.7 * count), round(0.85 * count) - round(0.7 * count), count - round(0.85 * count)
    ]  # fmt: skip
    other = stored_splits(half, stored, seed=1)
    assert contexts[0] != set(other[0].comparison_origin.tolist())
    best = parts[0].comparisons.rows[0, 0]
    match = half.judge(
        stored.context[best][None], stored.responses[stored.response[best]][None, None]
    )
    told = parts[0].table.context[best] @ parts[0].table.response[best, :2]
    assert float(told) == pytest.approx(float(match.reward[0, 0, 0]), abs=1e-5)


def test_too_few_contexts_cannot_be_parted():
    with pytest.raises(InputError, match="contexts are too few to part"):
        stored_splits(ToyTunable(), kept(1), seed=0)


def test_stored_comparisons_are_learnt_from_in_place_of_a_builder_s(tmp_path):
    write_comparisons(
        tmp_path / "stored", kept(40), command="test", configuration={}, inputs={"toy": "abc"}
    )
    data = RewardData(ToySource(), comparisons=tmp_path / "stored")
    assert data.sizes.qualities == ()
    assert len(data.input_hashes()["comparisons"]) == 64
    for both in ({}, {"builder": BUILDER, "comparisons": tmp_path / "stored"}):
        with pytest.raises(InputError, match=r"either data.builder or data.comparisons"):
            RewardData(ToySource(), **both)


def by_hand(strength: list[float], annotator: list[int], origin: list[int]) -> JudgedSplit:
    count = len(strength)
    table = FeatureTable.of(torch.zeros(2 * count, 1), torch.zeros(2 * count, 1))
    rows = torch.arange(2 * count).view(count, 2)
    compared = ComparedRows.of(
        rows, "test", strength=torch.tensor(strength), annotator=torch.tensor(annotator)
    )
    return JudgedSplit(table, compared, torch.tensor(origin).repeat_interleave(2))


def test_a_report_by_hand():
    split = by_hand([1.0, 1.0, 0.0], [0, 0, 0], [5, 5, 6])
    report = preference_report(torch.tensor([2.0, -1.0, 0.0]), split)
    losses = [math.log1p(math.exp(-2.0)), math.log1p(math.exp(1.0)), math.log(2)]
    assert report["log_loss"]["mean"] == pytest.approx(sum(losses) / 3, abs=1e-6)
    assert report["log_loss"]["rows"] == 2
    assert report["accuracy"]["mean"] == 0.5  # the comparison of equals has no right answer
    assert report["worst_group"] is None


def test_the_worst_group_is_that_with_the_least_accuracy_by_context():
    annotator = [3] * 12 + [7] * 5 + [9]
    origin = [*range(6), *range(6), *range(10, 15), 20]
    logit = torch.ones(18)
    logit[:2] = -1.0  # two of the six contexts of annotator 3 are half right
    logit[12:14] = -1.0  # two of the five of annotator 7 are wrong
    logit[17] = -1.0  # annotator 9 was heard once
    worst = preference_report(logit, by_hand([1.0] * 18, annotator, origin))["worst_group"]
    assert worst["annotator"] == 7
    assert worst["accuracy"]["mean"] == pytest.approx(0.6)
    assert worst["gap"]["mean"] == pytest.approx(5 / 6 - 0.6)


def test_the_temperature_is_set_on_validation_and_the_scale_on_all_training_rows():
    data = RewardData(ToySource(contexts=400), BUILDER)
    model = PreferenceModel(PlainFeatures(data.sizes), ScalarHead(data.sizes, 5))
    with torch.no_grad():
        for name, value in model.head.named_parameters():
            told = [0.0, 0.0, 0.3, 0.1, 0.0] if name == "layer.weight" else [0.0]
            value.copy_(torch.tensor(told))
    told = split_logits(model, data.test)
    assert len(told) == len(data.test.comparisons)
    facts = calibrated(model, data)
    torch.testing.assert_close(split_logits(model, data.test), told / facts["temperature"])
    assert facts["temperature"] != 1.0
    assert facts["after"]["log_loss"]["mean"] < facts["before"]["log_loss"]["mean"]
    with torch.no_grad():
        reward = model.reward(data.training.table.context, data.training.table.response)
    assert float(reward.mean()) == pytest.approx(0.0, abs=1e-5)
