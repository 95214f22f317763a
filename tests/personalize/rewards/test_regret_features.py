"""Regret read off a half: the best of what a context offers, and when that matters."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_prep.errors import InputError
from personalize.evaluation.intervals import bootstrap_interval
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.contrasts import DPO
from personalize.preference_optimization.tabular_policy import TabularPolicy
from personalize.preference_optimization.tunable import TRAINING
from personalize.rewards.feature_comparisons import FeatureComparisons, FeatureTable
from personalize.rewards.judged_features import JudgedFeaturesSource, JudgedFeaturesTunable
from personalize.rewards.preference_model import PlainFeatures, PreferenceModel, Sizes
from personalize.rewards.regret import RegretHead, candidate_regret
from personalize.rewards.regret_features import RegretFeaturesSource, RegretFeaturesTunable
from tests.personalize.preference_optimization.toy_tunable import ToySource, ToyTunable
from tests.personalize.preference_optimization.tunable_laws import LAWS

WEIGHT = torch.tensor([1.0, 0.5])
CONTEXTS, RESPONSES = torch.tensor([4, 9, 6, 4]), torch.tensor([[0, 5], [3, 1], [2, 4], [7, 8]])


def offering(candidates: int = 3, half: ToyTunable | None = None) -> RegretFeaturesTunable:
    return RegretFeaturesTunable(JudgedFeaturesTunable(half or ToyTunable()), candidates)


def likeliest(toy: ToyTunable, contexts: torch.Tensor, count: int) -> torch.Tensor:
    """By the table itself."""
    assert isinstance(toy.policy, TabularPolicy)
    return toy.policy.probabilities[toy.kinds(contexts)].topk(count).indices


def told(half: RegretFeaturesTunable, *, regret: bool = True) -> PreferenceModel:
    """A model with the head, whose reward has the weights above."""
    sizes = Sizes(2, 2 * half.response_parts, response_parts=half.response_parts)
    head = RegretHead(sizes, 1, regret=regret, softness=1e-4)
    model = PreferenceModel(PlainFeatures(sizes), head)
    head.weight.data.copy_(WEIGHT)
    return model


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_it_obeys_the_laws_of_what_can_be_tuned(law):
    law(offering())


def test_a_score_is_minus_the_regret_to_the_likeliest_answers():
    half = ToyTunable()
    seen = offering(half=half)
    with torch.no_grad():
        found = told(seen).score(*seen.features(CONTEXTS, RESPONSES))[..., 0]
    offered = half.judge(CONTEXTS, likeliest(half, CONTEXTS, 3)).reward @ WEIGHT
    own = half.judge(CONTEXTS, RESPONSES).reward @ WEIGHT
    torch.testing.assert_close(found, own - offered.amax(1, keepdim=True), atol=1e-4, rtol=0)
    together = torch.cat([own[:, :1], offered], 1)
    is_best = own[:, 0] >= offered.amax(1)
    inside = candidate_regret(together, torch.ones_like(together).bool())[:, 0]
    torch.testing.assert_close(found[~is_best, 0], -inside[~is_best], atol=1e-4, rtol=0)


def test_within_a_context_it_is_partial_return_and_between_two_it_is_not():
    half = offering()
    models = told(half), told(half, regret=False)
    numbers = torch.arange(8).repeat_interleave(12)
    context, response = half.features(numbers, torch.arange(12).repeat(8)[:, None])
    with torch.no_grad():
        scores = [model.score(context, response[:, 0])[:, 0] for model in models]
    lead = [score[:, None] - score[None] for score in scores]
    same = numbers[:, None] == numbers[None]
    torch.testing.assert_close(lead[0][same], lead[1][same], atol=1e-4, rtol=0)
    assert float((lead[0] - lead[1])[~same].abs().amax()) > 0.5


def test_what_is_offered_is_found_once_and_stays_when_the_policy_is_tuned(monkeypatch):
    half = ToyTunable()
    seen = offering(half=half)
    first = seen.offered(torch.tensor([4, 9]))
    with torch.no_grad():
        for table in half.policy.parameters():
            table.neg_()
    again = seen.offered(torch.tensor([9, 4, 5]))
    assert torch.equal(again[:2], first.flip(0))
    begun = likeliest(ToyTunable(), torch.tensor([5]), 3)
    assert torch.equal(again[2:], begun)
    monkeypatch.delattr(TabularPolicy, "sample")  # whoever asks again fails
    assert torch.equal(seen.offered(torch.tensor([5])), begun)


def between_contexts(half: RegretFeaturesTunable, split: str) -> FeatureComparisons:
    """One response in two contexts: the better is where it falls less short of the best offered."""
    toy = ToyTunable(contexts=400)
    contexts = torch.as_tensor(half.contexts(split))
    generator = torch.Generator().manual_seed(len(contexts))
    one, other = (contexts[torch.randint(len(contexts), (600,), generator=generator)] for _ in "ab")
    numbers = torch.stack([one, other], 1).flatten()
    answers = torch.randint(12, (600,), generator=generator).repeat_interleave(2)[:, None]
    every = likeliest(toy, numbers, 2)
    best = (toy.judge(numbers, every).reward @ WEIGHT).amax(1)
    score = (toy.judge(numbers, answers).reward @ WEIGHT)[:, 0] - best
    score = score.view(-1, 2).detach()
    decided = (score[:, 0] - score[:, 1]).abs() > 0.05
    rows = torch.arange(len(numbers)).view(-1, 2)
    rows = torch.where((score[:, 0] > score[:, 1])[:, None], rows, rows.flip(-1))
    context, response = half.features(numbers, answers)
    table = FeatureTable.of(context, response[:, 0])
    return table.compared(ComparedRows.of(rows[decided], "planted"))


def held_out(half: RegretFeaturesTunable, *, regret: bool) -> np.ndarray:
    sizes = Sizes(2, 2 * half.response_parts, response_parts=half.response_parts)
    model = PreferenceModel(PlainFeatures(sizes), RegretHead(sizes, 1, regret=regret))
    learnt, other = (between_contexts(half, split) for split in (TRAINING, "test"))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        model.loss(learnt, DPO(beta=1.0)).backward()
        optimizer.step()
    with torch.no_grad():
        return (model.logit(other) > 0).double().numpy()


def test_regret_predicts_comparisons_of_contexts_that_partial_return_does_not():
    half = offering(2, ToyTunable(contexts=400))
    with_regret, without = (held_out(half, regret=chosen) for chosen in (True, False))
    assert with_regret.mean() > 0.97
    assert bootstrap_interval(with_regret - without, resamples=500).low > 0.05


def test_the_number_of_candidates_comes_from_the_data_or_must_be_that_of_it():
    half = offering(3)
    sizes = Sizes(2, 2 * half.response_parts, response_parts=half.response_parts)
    assert RegretHead(sizes, 1).policies == 3
    with pytest.raises(ValueError, match="policies must be 3 as in the data, got 1"):
        RegretHead(replace(sizes, response_width=21), 1, policies=1)
    with pytest.raises(ValueError, match="must be a multiple of 1 for 0 policies"):
        RegretHead(Sizes(2, 14), 1)


def test_a_source_opens_and_says_what_does_not_fit():
    source = RegretFeaturesSource(source=JudgedFeaturesSource(source=ToySource()), candidates=4)
    opened = source.open()
    assert (opened.response_parts, opened.response_names) == (9, ())
    assert opened.features(CONTEXTS, RESPONSES)[1].shape == (4, 2, 18)
    for wrong, reason in ((0, "candidates must be 1 or more, got 0"), (13, "a beam of 13 is more")):
        with pytest.raises(InputError, match=reason):
            RegretFeaturesSource(source=ToySource(), candidates=wrong).open()
