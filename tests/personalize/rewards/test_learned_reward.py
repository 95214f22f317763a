"""A learnt reward in the places of a known one."""

import pytest
import torch

from data_prep.errors import ArtifactMismatch, InputError
from personalize.preference_optimization.tunable import TEST, TRAINING
from personalize.rewards.heads import ScalarHead, SkewSymmetricHead
from personalize.rewards.learned_reward import LearnedReward, LearnedSource, LearnedTunable
from personalize.rewards.preference_model import PlainFeatures, PreferenceModel, Sizes
from personalize.rewards.stored_reward_model import write_reward_model
from tests.personalize.preference_optimization.toy_tunable import ToySource, ToyTunable

SIZES = Sizes(2, 3, ("match", "quality"))


def model(head: type = ScalarHead) -> PreferenceModel:
    torch.manual_seed(0)
    made = PreferenceModel(PlainFeatures(SIZES), head(SIZES, 5))
    made.standardize(torch.randn(20, 2), torch.randn(20, 3))
    return made.eval()


def judged() -> tuple[ToyTunable, LearnedTunable]:
    half = ToyTunable()
    return half, LearnedTunable(half, model(), "abc")


def test_the_learnt_reward_comes_first_and_the_known_ones_stay():
    half, learned = judged()
    contexts, responses = torch.tensor([4, 9]), torch.tensor([[0, 5, 7], [3, 3, 1]])
    found, known = learned.judge(contexts, responses), half.judge(contexts, responses)
    assert learned.reward_names == ("learned_reward", "match", "quality")
    assert torch.equal(found.reward[..., 1:], known.reward)
    assert torch.equal(found.gate, known.gate)
    told = model().reward(*half.features(contexts, responses)).detach()
    torch.testing.assert_close(found.reward[..., :1], told)
    assert not found.reward.requires_grad


def test_candidates_have_the_learnt_reward_of_their_own_context():
    half, learned = judged()
    contexts = torch.tensor([4, 9])
    found = learned.candidates(contexts, half.policy, seed=1)
    assert found.names == ("learned_reward", "match", "quality")
    for row in (0, len(found.context) - 1):
        answer = found.responses[found.response[row]].view(1, 1)
        alone = learned.judge(found.context[row : row + 1], answer).reward[0, 0]
        torch.testing.assert_close(found.reward[row], alone)


def test_all_else_is_the_half_s_own():
    half, learned = judged()
    assert torch.equal(
        torch.as_tensor(learned.contexts(TEST)), torch.as_tensor(half.contexts(TEST))
    )
    contexts = torch.as_tensor(half.contexts(TRAINING)[:3])
    assert torch.equal(learned.targets(contexts), half.targets(contexts))
    assert torch.equal(learned.batch(contexts).numbers, half.batch(contexts).numbers)
    assert learned.policy is half.policy
    assert learned.inputs["reward_model"] == "abc"
    assert learned.inputs["toy"] == half.inputs["toy"]
    ours, theirs = (each.evaluate(half.policy, TEST).values for each in (learned, half))
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_tuning_moves_no_weight_of_the_reward():
    _, learned = judged()
    assert not any(weight.requires_grad for weight in learned._model.parameters())


def test_a_learnt_reward_is_a_reward_of_particles():
    half, _ = judged()

    def features(x: torch.Tensor, context: torch.Tensor):
        return half.features(context, x)

    reward = LearnedReward(model(), features)
    contexts, responses = torch.tensor([4, 9]), torch.tensor([[0, 5, 7], [3, 3, 1]])
    found = reward(responses, contexts)
    assert reward.names == ("learned_reward",)
    assert found.shape == (2, 3, 1)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(reward(responses[:, order], contexts), found[:, order])


def test_a_model_that_only_compares_is_no_reward():
    with pytest.raises(ValueError, match="only compares has no rewards"):
        LearnedTunable(ToyTunable(), model(SkewSymmetricHead), "abc")


def stored(folder, head: type = ScalarHead, sizes: Sizes = SIZES):
    torch.manual_seed(0)
    made = PreferenceModel(PlainFeatures(sizes), head(sizes, 2 + sizes.response_width))
    parts = {
        "encoder": {"class_path": "personalize.rewards.preference_model.PlainFeatures"},
        "head": {"class_path": f"personalize.rewards.heads.{head.__name__}"},
    }
    write_reward_model(folder, made, sizes, configuration={"model": parts}, inputs={}, facts={})
    return LearnedSource(source=ToySource(), reward_model=folder)


def test_a_source_opens_both(tmp_path):
    opened = stored(tmp_path / "reward").open()
    assert opened.reward_names[0] == "learned_reward"
    assert len(opened.facts["reward_model"]) == 64


def test_a_source_says_what_does_not_fit(tmp_path):
    with pytest.raises(ArtifactMismatch, match="learn one here"):
        stored(tmp_path / "wide", sizes=Sizes(2, 4)).open()
    with pytest.raises(InputError, match="only compares has no rewards"):
        stored(tmp_path / "skew", SkewSymmetricHead).open()
