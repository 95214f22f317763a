"""A half seen through its own rewards, and one whose rewards are weighed in each context."""

import pytest
import torch

from data_prep.errors import ArtifactMismatch, InputError
from personalize.preference_optimization.extremes import BestAgainstWorst
from personalize.preference_optimization.tunable import TEST, TRAINING
from personalize.rewards.advantage import NormalizeThenSum
from personalize.rewards.combination import Separate, WeightedSum
from personalize.rewards.heads import ScalarHead
from personalize.rewards.judged_features import JudgedFeaturesSource, JudgedFeaturesTunable
from personalize.rewards.learned_reward import LearnedSource
from personalize.rewards.orchestrated import OrchestratedSource, OrchestratedTunable
from personalize.rewards.pipeline import RewardPipeline
from personalize.rewards.preference_model import PlainFeatures, PreferenceModel, Sizes
from personalize.rewards.stored_reward_model import write_reward_model
from personalize.rewards.weight_adapter_head import WeightAdapterHead
from tests.personalize.preference_optimization.toy_tunable import ToySource, ToyTunable
from tests.personalize.preference_optimization.tunable_laws import LAWS
from tests.personalize.rewards.adapter_layer import last_layer

UNITS = (0.5, 4.0)
SIZES = Sizes(2, 2, response_names=("match", "quality"), response_scale=UNITS)
CONTEXTS, RESPONSES = torch.tensor([4, 9, 6]), torch.tensor([[0, 5, 7], [3, 3, 1], [2, 4, 8]])


def model(sizes: Sizes = SIZES) -> PreferenceModel:
    """Weights that differ between contexts."""
    torch.manual_seed(0)
    head = WeightAdapterHead(sizes, 4, hidden=8)
    torch.nn.init.normal_(last_layer(head).weight)
    return PreferenceModel(PlainFeatures(sizes), head).eval()


def weighed() -> tuple[ToyTunable, OrchestratedTunable]:
    half = ToyTunable()
    return half, OrchestratedTunable(half, model(), "abc")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("kind", ["orchestrated", "judged"])
def test_both_obey_the_laws_of_what_can_be_tuned(law, kind):
    law(weighed()[1] if kind == "orchestrated" else JudgedFeaturesTunable(ToyTunable()))


def test_a_reward_model_sees_rewards_and_their_names():
    half = ToyTunable()
    seen = JudgedFeaturesTunable(half)
    context, response = seen.features(CONTEXTS, RESPONSES)
    assert seen.response_names == seen.reward_names == ("match", "quality")
    assert torch.equal(context, half.features(CONTEXTS, RESPONSES)[0])
    assert torch.equal(response, half.judge(CONTEXTS, RESPONSES).reward)
    assert torch.equal(seen.judge(CONTEXTS, RESPONSES).gate, half.judge(CONTEXTS, RESPONSES).gate)


def test_rewards_are_in_deviations_with_their_weighed_sum_before_them():
    half, orchestrated = weighed()
    found, known = orchestrated.judge(CONTEXTS, RESPONSES), half.judge(CONTEXTS, RESPONSES)
    assert orchestrated.reward_names == ("orchestrated", "match", "quality")
    torch.testing.assert_close(found.reward[..., 1], known.reward[..., 0] / 0.5)
    torch.testing.assert_close(found.reward[..., 2], known.reward[..., 1] / 4.0)
    assert torch.equal(found.gate, known.gate)
    weights = found.context_weights
    assert weights is not None
    assert not weights.requires_grad
    assert (weights[:, 0] == 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    assert float((weights[0] - weights[1]).abs().amax()) > 0.05
    total = found.reward[..., 1] * weights[:, 1:2] + found.reward[..., 2] * weights[:, 2:]
    torch.testing.assert_close(found.reward[..., 0], total)


def test_the_sum_ranks_as_the_model_does():
    half, orchestrated = weighed()
    with torch.no_grad():
        context, _ = half.features(CONTEXTS, RESPONSES)
        told = model().score(context, half.judge(CONTEXTS, RESPONSES).reward)[..., 0]
    found = orchestrated.judge(CONTEXTS, RESPONSES).reward[..., 0]
    torch.testing.assert_close(found, told)  # the sharpness is 1 at the start


def test_a_weighted_sum_takes_the_weights_of_the_context():
    half, orchestrated = weighed()
    found = orchestrated.judge(CONTEXTS, RESPONSES)
    parts = WeightedSum()(found.reward, found.context_weights)
    torch.testing.assert_close(parts.value[..., 0], found.reward[..., 0])
    gate = torch.ones_like(found.gate)
    apart = RewardPipeline(combination=Separate(), advantage=NormalizeThenSum())
    assert found.context_weights is not None
    with_sum = apart(found.reward, gate, found.reward[:, :0], found.context_weights)
    known = half.judge(CONTEXTS, RESPONSES).reward
    without = apart(known, gate, known[:, :0], found.context_weights[:, 1:])
    torch.testing.assert_close(with_sum, without, atol=1e-2, rtol=0)


def test_builders_compare_by_the_weighed_sum():
    _, orchestrated = weighed()
    contexts = torch.as_tensor(orchestrated.contexts(TRAINING)[:12])
    found = orchestrated.candidates(contexts, orchestrated.policy, seed=1)
    compared = BestAgainstWorst({"orchestrated": 1.0})(found)
    value = found.named("orchestrated")[compared.rows]
    assert len(compared) >= 10
    assert (value[:, 0] > value[:, 1]).all()


def test_what_the_model_weighs_must_be_what_the_half_has():
    half = ToyTunable()
    turned = Sizes(2, 2, response_names=("quality", "match"), response_scale=UNITS)
    with pytest.raises(ValueError, match="weighs quality, match, but the half's rewards are match"):
        OrchestratedTunable(half, model(turned), "abc")
    plain = PreferenceModel(PlainFeatures(SIZES), ScalarHead(SIZES, 4))
    with pytest.raises(TypeError, match="ScalarHead has no weights per context"):
        OrchestratedTunable(half, plain, "abc")
    again = Sizes(2, 3, response_names=("orchestrated", "match", "quality"),
                  response_scale=(1.0, 1.0, 1.0))  # fmt: skip
    with pytest.raises(ValueError, match="name the same judges in the same order"):
        OrchestratedTunable(weighed()[1], model(again), "abc")


def stored(folder, sizes: Sizes = SIZES, head: str = "weight_adapter_head.WeightAdapterHead"):
    made = model(sizes)
    options = {"hidden": 8}
    if "Scalar" in head:
        made, options = PreferenceModel(PlainFeatures(sizes), ScalarHead(sizes, 4)), {}
    parts = {
        "encoder": {"class_path": "personalize.rewards.preference_model.PlainFeatures"},
        "head": {"class_path": f"personalize.rewards.{head}", "init_args": options},
    }
    write_reward_model(folder, made, sizes, configuration={"model": parts}, inputs={}, facts={})
    return OrchestratedSource(source=ToySource(), reward_model=folder)


def test_a_source_opens_both_and_keeps_names_and_units(tmp_path):
    opened, straight = stored(tmp_path / "weights").open(), weighed()[1]
    found, known = (each.judge(CONTEXTS, RESPONSES) for each in (opened, straight))
    torch.testing.assert_close(found.reward, known.reward)
    torch.testing.assert_close(found.context_weights, known.context_weights)
    assert len(opened.inputs["reward_weights"]) == 64
    assert opened.inputs["toy"] == ToyTunable().inputs["toy"]


def test_a_source_says_what_does_not_fit(tmp_path):
    with pytest.raises(InputError, match=r"plain: ScalarHead has no weights per context"):
        stored(tmp_path / "plain", head="heads.ScalarHead").open()
    turned = Sizes(2, 2, response_names=("quality", "match"), response_scale=UNITS)
    with pytest.raises(InputError, match="name the same judges in the same order"):
        stored(tmp_path / "turned", turned).open()
    wide = Sizes(3, 2, response_names=("match", "quality"), response_scale=UNITS)
    with pytest.raises(ArtifactMismatch, match="learn one here"):
        stored(tmp_path / "wide", wide).open()


def test_learnt_rewards_are_weighed_from_within_and_not_from_outside(tmp_path):
    reads = Sizes(2, 3)
    made = PreferenceModel(PlainFeatures(reads), ScalarHead(reads, 5))
    parts = {
        "encoder": {"class_path": "personalize.rewards.preference_model.PlainFeatures"},
        "head": {"class_path": "personalize.rewards.heads.ScalarHead"},
    }
    reward = tmp_path / "reward"
    write_reward_model(reward, made, reads, configuration={"model": parts}, inputs={}, facts={})
    three = Sizes(2, 3, response_names=("learned_reward", "match", "quality"),
                  response_scale=(1.0, *UNITS))  # fmt: skip
    weights = stored(tmp_path / "weights", three)
    inside = LearnedSource(source=ToySource(), reward_model=reward)
    opened = OrchestratedSource(source=inside, reward_model=weights.reward_model).open()
    assert opened.reward_names == ("orchestrated", "learned_reward", "match", "quality")
    assert {"reward_model", "reward_weights", "toy"} <= set(opened.inputs)
    found = opened.judge(CONTEXTS, RESPONSES)
    assert found.context_weights is not None
    assert found.context_weights.shape == (3, 4)
    outside = LearnedSource(source=stored(tmp_path / "two"), reward_model=reward)
    with pytest.raises(InputError, match="put OrchestratedSource around LearnedSource instead"):
        outside.open()


def test_a_wrapped_source_is_the_half_itself_but_for_features():
    opened, half = JudgedFeaturesSource(source=ToySource()).open(), ToyTunable()
    contexts = torch.as_tensor(half.contexts(TEST))
    ours = opened.candidates(contexts, half.policy, seed=3)
    theirs = half.candidates(contexts, half.policy, seed=3)
    assert torch.equal(ours.reward, theirs.reward)
    assert opened.under_condition(contexts, "none") is None


def test_what_can_be_said_less_of_is_passed_on(monkeypatch):
    half, orchestrated = weighed()
    monkeypatch.setattr(
        half,
        "under_condition",
        lambda contexts, condition: contexts + 100 if condition == "none" else None,
    )
    found = orchestrated.under_condition(CONTEXTS, "none")
    assert found is not None
    assert found.tolist() == [104, 109, 106]
    assert orchestrated.under_condition(CONTEXTS, "inferred") is None


def test_how_a_half_sorts_responses_is_passed_on(monkeypatch):
    half = ToyTunable()
    with pytest.raises(TypeError, match="ToyTunable does not sort responses into kinds"):
        half.category(CONTEXTS, half.targets(CONTEXTS))
    monkeypatch.setattr(half, "category_names", ("even", "odd"))
    monkeypatch.setattr(half, "annotator_names", ("strict",))
    monkeypatch.setattr(half, "category", lambda _, responses: responses % 2)
    wrapped = JudgedFeaturesTunable(half)
    assert (wrapped.category_names, wrapped.annotator_names) == (("even", "odd"), ("strict",))
    assert wrapped.category(CONTEXTS, torch.tensor([[2], [3], [5]])).tolist() == [[0], [1], [1]]
