"""The objective of policy optimisation, on a policy that can be solved exactly."""

from dataclasses import replace

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from personalize.preference_optimization.compared import ComparisonBatch
from personalize.preference_optimization.divergence import (
    divergence_k3,
    entropy,
    exact_divergence,
)
from personalize.preference_optimization.objective import Objective, Rollouts
from personalize.preference_optimization.policy import Policy, frozen_copy
from personalize.preference_optimization.rollout_objective import (
    Drawing,
    RolloutObjective,
    ratio_health,
    step_log_probs,
)
from personalize.preference_optimization.surrogates import (
    Clipped,
    EarlyClipped,
    PairwiseJoint,
    Reinforce,
)
from personalize.preference_optimization.tabular_policy import NumberedContexts, TabularPolicy
from personalize.preference_optimization.token_weights import EntropyStabilized
from personalize.rewards.advantage import NoScale, SumThenNormalize
from personalize.rewards.combination import WeightedSum
from personalize.rewards.pipeline import RewardPipeline
from personalize.rewards.shaping import PreferenceAsReward

PLAIN = RewardPipeline(WeightedSum(), advantage=SumThenNormalize(NoScale()))
CONTEXTS, CHOICES = 4, 6


class NoLogits(Policy):
    """A tabular policy that does not say what it chose among."""

    def __init__(self, inner: TabularPolicy) -> None:
        super().__init__()
        self.inner, self.steps = inner, 1

    def log_prob(self, context, responses):
        return self.inner.log_prob(context, responses)

    def sample(self, context, count, *, seed, beam=False):
        return self.inner.sample(context, count, seed=seed, beam=beam)


def policy(seed: int = 0) -> TabularPolicy:
    generator = torch.Generator().manual_seed(seed)
    return TabularPolicy(torch.randn(CONTEXTS, CHOICES, generator=generator)).eval()


def worth() -> Tensor:
    return torch.randn(CONTEXTS, CHOICES, 2, generator=torch.Generator().manual_seed(9))


def batch() -> ComparisonBatch:
    numbers = torch.arange(CONTEXTS)
    ones = torch.ones(len(numbers))
    return ComparisonBatch(
        contexts=NumberedContexts(numbers),
        responses=torch.stack([numbers % CHOICES, numbers % CHOICES], 1),
        present=torch.tensor([[True, False]]).expand(len(numbers), -1),
        strength=ones,
        margin=0 * ones,
        weight=ones,
        grade=torch.zeros(len(numbers), 2),
        group=torch.zeros(len(numbers), dtype=torch.long),
    )


def rollouts(of: Policy, *, group: int = 5, seed: int = 1, beam: bool = False) -> Rollouts:
    numbers = torch.arange(CONTEXTS)
    drawn = of.sample(NumberedContexts(numbers), group, seed=seed, beam=beam)
    reward = worth()[numbers[:, None], drawn.responses]
    gate = torch.ones_like(drawn.responses, dtype=torch.bool)
    return Rollouts(drawn, reward, gate, reward[:, :1], ("match", "novelty"))


def slope(found, of: TabularPolicy) -> Tensor:
    return torch.autograd.grad(found["loss"], of.table)[0]


def test_is_the_surrogate_on_the_advantages():
    mine, there = policy(), rollouts(policy())
    found = RolloutObjective(Reinforce(), PLAIN)(mine, None, batch(), there)
    total = there.reward.sum(-1)
    advantage = total - total.mean(1, keepdim=True)
    said = mine.log_prob(batch().contexts, there.drawn.responses)[..., 0]
    expected = -(advantage * said).mean()
    torch.testing.assert_close(found["loss"], expected)
    torch.testing.assert_close(slope(found, mine), torch.autograd.grad(expected, mine.table)[0])
    assert found["loss"].requires_grad
    assert not any(value.requires_grad for name, value in found.items() if name != "loss")


def test_terms_add_up_and_are_told():
    mine, reference = policy(0), frozen_copy(policy(3))
    there = rollouts(policy(1))
    objective = RolloutObjective(Clipped(), PLAIN, kl_weight=0.7, imitation_weight=0.3)
    found = objective(mine, reference, batch(), there)
    contexts = batch().contexts
    new = mine.log_prob(contexts, there.drawn.responses)
    with torch.no_grad():
        theirs = reference.log_prob(contexts, there.drawn.responses)
    divergence = divergence_k3(new, theirs).mean().detach()
    torch.testing.assert_close(found["kl"], divergence)
    torch.testing.assert_close(found["penalty"], 0.7 * divergence)
    target = -mine.log_prob(contexts, batch().responses[:, :1]).mean().detach()
    torch.testing.assert_close(found["imitation"], 0.3 * target)
    parts = found["surrogate"] + found["penalty"] + found["imitation"]
    torch.testing.assert_close(found["loss"].detach(), parts)
    torch.testing.assert_close(found["reward_match"], there.reward[..., 0].mean())
    torch.testing.assert_close(found["reward_novelty"], there.reward[..., 1].mean())
    spread = entropy(mine.table.detach()).mean()
    torch.testing.assert_close(found["entropy"], spread)
    ratio = (new - there.drawn.log_prob).exp().detach()[..., 0]
    torch.testing.assert_close(found["ratio_max"], ratio.max())
    size = torch.stack([row.sum() ** 2 / (row**2).sum() / 5 for row in ratio]).mean()
    torch.testing.assert_close(found["effective_sample_share"], size)
    assert found["gate_pass_share"] == 1


def test_nothing_has_moved_where_the_policy_itself_drew():
    mine = policy()
    found = RolloutObjective(Clipped(), PLAIN)(mine, frozen_copy(mine), batch(), rollouts(mine))
    assert found["effective_sample_share"].item() == pytest.approx(1.0)
    assert found["ratio_max"].item() == pytest.approx(1.0)
    assert found["kl"].item() == pytest.approx(0.0, abs=1e-6)
    assert found["clip_share"].item() == 0.0
    assert found["zero_variance_share"].item() == 0.0


def test_the_gradient_of_the_divergence_holds_the_policy_back():
    mine, reference = policy(0), frozen_copy(policy(3))
    there = rollouts(mine, group=30_000)
    equal = replace(there, reward=torch.zeros_like(there.reward))
    objective = RolloutObjective(Clipped(), PLAIN, kl_weight=1.0)
    found = slope(objective(mine, reference, batch(), equal), mine)
    share = mine.probabilities.detach() - reference.probabilities
    torch.testing.assert_close(found, share / CONTEXTS, atol=6e-3, rtol=0)


def test_the_divergence_in_the_reward_has_the_gradient_of_the_divergence():
    mine, reference = policy(0), frozen_copy(policy(3))
    there = rollouts(mine, group=30_000)
    equal = replace(there, reward=torch.zeros_like(there.reward))
    objective = RolloutObjective(Clipped(), replace(PLAIN, kl_weight=1.0))
    assert objective.uses_reference
    assert not objective.judges_reference
    found = slope(objective(mine, reference, batch(), equal), mine)
    exact = exact_divergence(mine.table, reference.table).mean()
    expected = torch.autograd.grad(exact, mine.table)[0]
    torch.testing.assert_close(found, expected, atol=6e-3, rtol=0)


def test_counts_clipped_steps_of_any_surrogate():
    old = torch.zeros(1, 4, 1)
    new = torch.tensor([1.0, 1.5, 0.5, 3.0]).log()[None, :, None]
    advantage = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    assert ratio_health(Clipped(), new, old, advantage)["clip_share"].item() == pytest.approx(1 / 3)
    advantage = torch.tensor([[1.0, -1.0, -1.0, 2.0]])
    assert ratio_health(Clipped(), new, old, advantage)["clip_share"].item() == pytest.approx(0.5)
    early = ratio_health(EarlyClipped(), new, old, advantage)["clip_share"].item()
    assert early == pytest.approx(0.5)
    far = torch.tensor([2.0, 0.5]).log()[None, :, None]
    pair = ratio_health(PairwiseJoint(), far, old[:, :2], torch.tensor([[1.0, -1.0]]))
    assert pair["clip_share"].item() == 1.0
    nothing = ratio_health(Clipped(), new, old, torch.zeros(1, 4))
    assert nothing["clip_share"].item() == 0.0


def test_counts_groups_that_tell_nothing():
    there = rollouts(policy())
    same = there.reward.clone()
    same[1] = 0.3
    gate = there.gate.clone()
    gate[2] = False
    changed = replace(there, reward=same, gate=gate)
    found = RolloutObjective(Clipped())(policy(), None, batch(), changed)
    assert found["zero_variance_share"].item() == 0.5
    assert found["gate_pass_share"].item() == 0.75


def test_a_beam_is_no_estimate():
    objective = RolloutObjective(Clipped(), drawing=Drawing(group_size=4, beam=True))
    there = rollouts(policy(), group=4, beam=True)
    found = objective(policy(), frozen_copy(policy(1)), batch(), there)
    assert {"beam_kl", "beam_entropy"} <= set(found)
    assert not {"kl", "entropy"} & set(found)
    assert objective.beam


def test_several_updates_on_the_same_rollouts_reach_the_clip():
    mine = policy()
    there = rollouts(mine)
    objective = RolloutObjective(Clipped(), PLAIN, drawing=Drawing(updates=30))
    optimizer = torch.optim.SGD(mine.parameters(), lr=1.0)
    seen = []
    for _ in range(objective.updates):
        found = objective(mine, None, batch(), there)
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        seen.append((found["clip_share"].item(), found["effective_sample_share"].item()))
    assert seen[0] == (0.0, pytest.approx(1.0))
    assert seen[-1][0] > 0.3
    assert seen[-1][1] < 0.99


def test_finds_the_best_response_and_keeps_off_a_failing_one():
    mine = policy()
    objective = RolloutObjective(Clipped(), PLAIN, drawing=Drawing(group_size=16))
    optimizer = torch.optim.Adam(mine.parameters(), lr=0.1)
    best = worth().sum(-1)
    unsafe = best.argmax(1)  # what looks best is not safe
    for step in range(150):
        there = rollouts(mine, group=16, seed=step)
        gate = there.drawn.responses != unsafe[:, None]
        found = objective(mine, None, batch(), replace(there, gate=gate))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
    share = mine.probabilities.detach()
    assert share.gather(1, unsafe[:, None]).max() < 0.02
    second = best.scatter(1, unsafe[:, None], -torch.inf)
    assert ((share * second.where(second.isfinite(), 0)).sum(1) > 0.8 * second.amax(1)).all()


def test_imitates_the_reference_anew_in_every_step():
    mine, reference = policy(0), frozen_copy(policy(3))
    samples = 10_000
    objective, resumed = (
        RolloutObjective(Reinforce(), PLAIN, imitation_weight=1.0, imitation_samples=samples)
        for _ in range(2)
    )
    assert objective.uses_reference
    there = rollouts(mine)
    first, second = (objective(mine, reference, batch(), there) for _ in range(2))
    assert first["imitation"] != second["imitation"]
    crossed = -(reference.probabilities * mine.table.log_softmax(-1)).sum(-1).mean()
    assert first["imitation"].item() == pytest.approx(crossed.item(), abs=0.02)
    resumed.load_state_dict(objective.state_dict())
    third = objective(mine, reference, batch(), there)["imitation"]
    again = resumed(mine, reference, batch(), there)["imitation"]
    assert torch.equal(third, again)


def test_weighs_steps_by_what_the_policy_says_there():
    mine, there = policy(), rollouts(policy())
    plain = RolloutObjective(Reinforce(), PLAIN)(mine, None, batch(), there)
    weigh = EntropyStabilized(0.2, 5.0)
    found = RolloutObjective(Reinforce(), PLAIN, token_weight=weigh)(mine, None, batch(), there)
    torch.testing.assert_close(found["loss"], plain["loss"])
    responses, contexts = there.drawn.responses, batch().contexts
    advantage = PLAIN(there.reward, there.gate, there.reference_reward)
    weight = weigh(mine.logits(contexts, responses).detach(), responses[..., None], advantage)
    loss = -(weight * advantage[..., None] * mine.log_prob(contexts, responses)).mean()
    expected = torch.autograd.grad(loss, mine.table)[0]
    torch.testing.assert_close(slope(found, mine), expected)
    with pytest.raises(TypeError, match="token_weight needs logits; NoLogits has none"):
        RolloutObjective(Reinforce(), token_weight=weigh)(NoLogits(mine), None, batch(), there)


def test_log_probabilities_are_the_same_with_and_without_logits():
    mine, there = policy(), rollouts(policy())
    contexts, responses = batch().contexts, there.drawn.responses
    with_logits, logits = step_log_probs(mine, contexts, responses)
    without, none = step_log_probs(NoLogits(mine), contexts, responses)
    torch.testing.assert_close(with_logits, without)
    assert logits is not None
    assert none is None
    first = RolloutObjective(Clipped())(mine, None, batch(), there)
    second = RolloutObjective(Clipped())(NoLogits(mine), None, batch(), there)
    torch.testing.assert_close(first["loss"], second["loss"])
    assert "entropy" not in second


def test_weights_of_the_context_are_handed_on():
    there = rollouts(policy())
    weights = torch.tensor([[1.0, 0.0]]).expand(CONTEXTS, -1)
    weighed = replace(there, context_weights=weights)
    alone = replace(there, reward=there.reward * torch.tensor([1.0, 0.0]))
    found = [
        RolloutObjective(Reinforce(), PLAIN)(policy(), None, batch(), each)["loss"]
        for each in (weighed, alone)
    ]
    torch.testing.assert_close(found[0], found[1])


def test_asks_for_a_reference_where_it_needs_one():
    shaped = RewardPipeline(shaping=PreferenceAsReward())
    needs = {
        "kl": RolloutObjective(Clipped(), kl_weight=0.1),
        "shaping": RolloutObjective(Clipped(), shaped),
        "imitation": RolloutObjective(Clipped(), imitation_weight=0.1, imitation_samples=1),
    }
    assert all(objective.uses_reference for objective in needs.values())
    assert [o.judges_reference for o in needs.values()] == [False, True, False]
    assert all(objective.asks_reference for objective in needs.values())
    free = RolloutObjective(Clipped(), imitation_weight=0.1)
    assert not free.uses_reference
    assert not free.asks_reference
    assert free.surrogate == RolloutObjective().surrogate
    assert not RolloutObjective(Clipped(), imitation_samples=3).uses_reference
    assert (free.group_size, free.updates, free.beam) == (16, 1, False)
    for objective in needs.values():
        with pytest.raises(ValueError, match="reference must be given"):
            objective(policy(), None, batch(), rollouts(policy()))


def test_parts_are_chosen_by_class_path():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Objective, "objective")
    package = "personalize.preference_optimization"
    chosen = {
        "surrogate": {"class_path": f"{package}.surrogates.Clipped", "init_args": {"high": 0.28}},
        "pipeline": {
            "combination": {"class_path": "personalize.rewards.combination.WeightedSum"},
            "advantage": {
                "class_path": "personalize.rewards.advantage.SumThenNormalize",
                "init_args": {"scale": {"class_path": "personalize.rewards.advantage.NoScale"}},
            },
        },
        "drawing": {"group_size": 4, "updates": 2},
    }
    path = f"{package}.rollout_objective.RolloutObjective"
    given = parser.parse_object({"objective": {"class_path": path, "init_args": chosen}})
    found = parser.instantiate(given)["objective"]
    assert found.surrogate == Clipped(high=0.28)
    assert found.pipeline == PLAIN
    assert (found.group_size, found.updates) == (4, 2)


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="rollouts must be given"):
        RolloutObjective(Clipped())(policy(), None, batch())
    with pytest.raises(ValueError, match="group_size must be 2 or more, got 1"):
        Drawing(group_size=1)
    with pytest.raises(ValueError, match="updates must be 1 or more, got 0"):
        Drawing(updates=0)
    with pytest.raises(ValueError, match=r"must not be negative, got -0.1, 0 and 0"):
        RolloutObjective(Clipped(), kl_weight=-0.1)
    with pytest.raises(ValueError, match=r"must not be negative, got 0, -0.1 and 0"):
        RolloutObjective(Clipped(), imitation_weight=-0.1)
    with pytest.raises(ValueError, match="must not be negative, got"):
        RolloutObjective(Clipped(), imitation_samples=-1)
