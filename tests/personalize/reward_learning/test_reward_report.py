"""The comparisons of a split, and what is said of a model on them."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from data_prep.errors import InputError
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.context_swaps import ContextSwaps
from personalize.preference_optimization.extremes import BestAgainstWorst
from personalize.preference_optimization.stored_comparisons import (
    StoredComparisons,
    kept_comparisons,
    write_comparisons,
)
from personalize.preference_optimization.tunable import TEST, TRAINING, VALIDATION
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
from personalize.rewards.judged_features import JudgedFeaturesSource
from personalize.rewards.preference_model import PlainFeatures, PreferenceModel, Sizes
from personalize.rewards.regret_features import RegretFeaturesSource
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


def kept(*splits: str, contexts: int = 40, swapped: bool = False) -> StoredComparisons:
    """Comparisons of some contexts of each split; all of one split alike, or of none."""
    half = ToyTunable()
    numbers = np.concatenate([half.contexts(split)[:contexts] for split in splits])
    candidates = half.candidates(torch.as_tensor(numbers), half.policy, seed=0)
    if swapped:
        return kept_comparisons(ContextSwaps({"match": 1.0})(candidates), candidates, {})
    return kept_comparisons(BUILDER(candidates), candidates, {})


def origins(stored: StoredComparisons, parts: list[JudgedSplit]) -> list[set[int]]:
    """The contexts of each part; a swapped context is that which it was made from."""
    return [{number % 100 for number in part.comparison_origin.tolist()} for part in parts]


def test_stored_comparisons_are_parted_by_the_splits_of_the_half():
    half, stored = ToyTunable(), kept(TRAINING, VALIDATION, TEST)
    parts, made = stored_splits(half, stored, seed=0)
    assert made == dict.fromkeys((TRAINING, VALIDATION, TEST), "the half's")
    assert sum(len(part.comparisons) for part in parts) == len(stored)
    for part, split in zip(origins(stored, parts), (TRAINING, VALIDATION, TEST), strict=True):
        assert part <= set(half.contexts(split).tolist())
    again, _ = stored_splits(half, stored, seed=1)
    assert origins(stored, again) == origins(stored, parts)
    best = parts[0].comparisons.rows[0, 0]
    match = half.judge(
        stored.context[best][None], stored.responses[stored.response[best]][None, None]
    )
    told = parts[0].table.context[best] @ parts[0].table.response[best, :2]
    assert float(told) == pytest.approx(float(match.reward[0, 0, 0]), abs=1e-5)


def test_a_swapped_context_goes_with_the_split_it_was_made_from():
    half, stored = ToyTunable(), kept(TRAINING, VALIDATION, TEST, swapped=True)
    assert (stored.context[stored.compared.rows] >= 100).any()
    parts, _ = stored_splits(half, stored, seed=0)
    for part, split in zip(origins(stored, parts), (TRAINING, VALIDATION, TEST), strict=True):
        assert part <= set(half.contexts(split).tolist())


def test_what_no_split_holds_is_parted_by_chance_from_what_would_be_learnt_from():
    half, stored = ToyTunable(), kept(TRAINING)
    parts, made = stored_splits(half, stored, seed=0)
    assert made == {TRAINING: "the half's", VALIDATION: "by chance", TEST: "by chance"}
    assert sum(len(part.comparisons) for part in parts) == len(stored)
    contexts = origins(stored, parts)
    assert not contexts[0] & contexts[1] | contexts[0] & contexts[2] | contexts[1] & contexts[2]
    count = sum(len(some) for some in contexts)
    share = round(0.15 * count)
    assert [len(some) for some in contexts] == [count - 2 * share, share, share]
    other, _ = stored_splits(half, stored, seed=1)
    assert contexts[1] != origins(stored, other)[1]


def test_what_a_split_holds_is_never_learnt_from():
    half, stored = ToyTunable(), kept(TRAINING, TEST)
    parts, made = stored_splits(half, stored, seed=0)
    assert made == {TRAINING: "the half's", VALIDATION: "by chance", TEST: "the half's"}
    learnt, checked, reported = origins(stored, parts)
    assert reported == {number for number in stored.origin.tolist() if number >= 80}
    assert max(learnt | checked) < 60
    assert checked


def test_comparisons_that_leave_nothing_to_learn_from_are_refused():
    with pytest.raises(InputError, match="no comparison belongs with a context that may be learnt"):
        stored_splits(ToyTunable(), kept(TEST), seed=0)


def test_too_few_contexts_cannot_be_parted():
    with pytest.raises(InputError, match="contexts are too few to part"):
        stored_splits(ToyTunable(), kept(TRAINING, contexts=1), seed=0)


def test_the_scale_is_that_of_what_is_compared_about_the_mean_of_its_context():
    response = torch.tensor([[1.0, 5.0], [3.0, 5.0], [10.0, 5.0], [16.0, 5.0], [999.0, 0.0]])
    table = FeatureTable.of(torch.zeros(5, 1), response)
    compared = ComparedRows.of(torch.tensor([[1, 0], [3, 2]]), "test")
    split = JudgedSplit(table, compared, torch.tensor([7, 7, 4, 4, 4]))
    # squares about the means 2 and 13, of four rows less two means; what never varies is 1
    told = torch.tensor([((1 + 1 + 9 + 9) / 2) ** 0.5, 1.0])
    torch.testing.assert_close(split.response_scale(), told)


def test_named_features_tell_their_names_and_scale():
    data = RewardData(JudgedFeaturesSource(source=ToySource()), BUILDER)
    assert data.sizes.response_names == ("match", "quality")
    torch.testing.assert_close(
        torch.tensor(data.sizes.response_scale), data.training.response_scale()
    )
    assert Sizes.of_plain(json.loads(json.dumps(asdict(data.sizes)))) == data.sizes
    plain = RewardData(ToySource(), BUILDER).sizes
    assert (plain.response_names, plain.response_scale, plain.response_parts) == ((), (), 1)
    offered = RewardData(RegretFeaturesSource(source=ToySource(), candidates=2), BUILDER).sizes
    assert (offered.response_parts, offered.response_width) == (5, 15)


def test_stored_comparisons_are_learnt_from_in_place_of_a_builder_s(tmp_path):
    write_comparisons(
        tmp_path / "stored", kept(TRAINING), command="test", configuration={}, inputs={"toy": "abc"}
    )
    data = RewardData(ToySource(), comparisons=tmp_path / "stored")
    assert data.sizes.qualities == ()
    assert data.facts()["splits"]["test"] == "by chance"
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
