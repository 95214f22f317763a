"""What contrasts teach in small exact worlds: the benchmarks, cut to seconds."""

import torch

from benchmarks.methods import cpl, preference_degree, preference_ranking, rpo
from personalize.preference_optimization.list_contrasts import SDPO, PreferenceRanking
from personalize.preference_optimization.policy import Policy


def test_a_ranking_is_learnt_whole_where_the_best_against_the_rest_learns_its_top():
    truth = torch.tensor([[3.0, 0.0, 5.0, 2.0, 4.0, 1.0]], dtype=torch.float64)
    whole = preference_ranking.learnt(PreferenceRanking(), truth, steps=60)
    assert torch.equal(whole.argsort(), truth[0].argsort())
    top = preference_ranking.learnt(SDPO(beta=1.0), truth, steps=60)
    assert top.argmax() == truth.argmax()
    rest = top[truth[0] < 5]
    assert (rest - rest.mean()).abs().max() < 1e-9  # nothing is known of the others


def test_the_optimal_policy_is_found_from_regret_and_not_from_reward():
    optimal, reward = cpl.world(0)
    everything = torch.ones_like(reward, dtype=torch.bool)
    by_regret = cpl.learnt(cpl.TEMPERATURE * optimal.log(), everything, 1.0, steps=200)
    by_reward = cpl.learnt(reward, everything, 1.0, steps=200)
    assert cpl.divergence(optimal, by_regret) < 0.01 < cpl.divergence(optimal, by_reward)


def test_imitation_keeps_probability_from_what_was_never_compared():
    found = rpo.experiment((0, 1, 2), steps=300)["measures"]
    unseen = [found[f"unseen, eta {eta:g}"]["mean"] for eta in (0.0, 0.2, 1.0)]
    assert unseen[0] > unseen[1] > unseen[2]
    assert unseen[0] > 0.9 > 0.7 > unseen[2]


def test_degrees_change_as_many_digits():
    generator = torch.Generator().manual_seed(0)
    wishes = torch.randn(20, preference_degree.FEATURES, generator=generator)
    utility = torch.randn(4, preference_degree.CODES, preference_degree.FEATURES)
    batch = preference_degree.compared(wishes, utility, generator)
    changed = (batch.responses != batch.responses[:, :1]).sum(-1)
    assert torch.equal(changed, (-batch.grade).long())
    assert changed[0].tolist() == [0, 1, 2, 3, 4]


def test_the_policy_of_digits_is_a_distribution():
    policy: Policy = preference_degree.DigitPolicy()
    context = preference_degree.Wishes(torch.randn(2, preference_degree.FEATURES))
    every = torch.cartesian_prod(*[torch.arange(preference_degree.CODES)] * 4)
    total = policy.log_prob(context, every.expand(2, -1, -1)).sum(-1).logsumexp(-1)
    torch.testing.assert_close(total.detach(), torch.zeros(2), atol=1e-4, rtol=0)
