"""The critic's losses by hand, its laws as a value, and what it learns of small worlds."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from personalize.rewards.critic import (
    Critic,
    CriticContext,
    Transitions,
    expectile_loss,
    returns_to_go,
    transitions_along,
)
from personalize.rewards.critic_training import CriticTraining, fit_critic, fitted_critic


def transitions(rows: int = 2, *, candidates: int = 2, seed: int = 0) -> Transitions:
    draw = torch.Generator().manual_seed(seed)
    return Transitions(
        state=torch.randn(rows, 3, generator=draw),
        preference=torch.randn(rows, 1, generator=draw),
        action=torch.randn(rows, 2, generator=draw),
        reward=torch.ones(rows),
        next_state=torch.randn(rows, 3, generator=draw),
        next_preference=torch.randn(rows, 1, generator=draw),
        ended=torch.arange(rows) % 2 == 1,
        to_go=torch.zeros(rows),
        candidates=torch.randn(rows, candidates, 2, generator=draw),
    )


def says(network: nn.Module, value: float) -> None:
    """Make a network answer one number whatever it is asked."""
    assert isinstance(network, nn.Sequential)
    last = network[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, value)


def constant_critic() -> Critic:
    critic = Critic(3, 2, 1, width=4, discount=0.5, expectile=0.75)
    for networks, values in ((critic.actions, (1.0, 3.0)), (critic.slow_actions, (4.0, 2.5))):
        for network, value in zip(networks, values, strict=True):
            says(network, value)
    says(critic.states, 2.0)
    return critic


def test_iql_by_hand():
    # aims: 1 + 0.5 * 2 = 2 for the first row, 1 for the second, which ended.
    # errors of actions: 1 - 2, 3 - 2, 1 - 1, 3 - 1: mean square 6 / 4; state: 2.5 - 2 = 0.5 > 0
    assert constant_critic().loss_iql(transitions()).item() == pytest.approx(1.5 + 0.75 * 0.25)


def test_cal_ql_by_hand():
    critic, data = constant_critic(), transitions()
    # candidates are worth what the log earned at least: (1 - 1 + 3 - 3) / 4 for to_go 0
    assert critic.loss_cal_ql(data).item() == pytest.approx(0.0, abs=1e-6)
    earned = replace(data, to_go=torch.tensor([2.0, 5.0]))
    # over networks 1 and 3: max(1, 2) - 1, max(1, 5) - 1, max(3, 2) - 3, max(3, 5) - 3
    assert critic.loss_cal_ql(earned).item() == pytest.approx((1 + 4 + 0 + 2) / 4)


def test_what_lies_below_the_log_is_not_pushed_further():
    critic, data = constant_critic(), transitions()
    last = [network[-1].bias for network in critic.actions]  # pyright: ignore[reportIndexIssue]
    critic.loss_cal_ql(replace(data, to_go=torch.full((2,), 9.0))).backward()
    # only what was done is raised, by a quarter for each network and row
    assert [bias.grad.item() for bias in last] == pytest.approx([-0.5, -0.5])
    critic.zero_grad()
    critic.loss_cal_ql(replace(data, to_go=torch.full((2,), -9.0))).backward()
    assert [bias.grad.item() for bias in last] == pytest.approx([0.0, 0.0], abs=1e-7)


def test_the_candidates_term_does_not_depend_on_their_number():
    critic = Critic(3, 2, 1, width=8)
    data = replace(transitions(), to_go=torch.full((2,), -99.0))
    twice = replace(data, candidates=data.candidates.repeat(1, 3, 1))
    found, again = critic.loss_cal_ql(data).item(), critic.loss_cal_ql(twice).item()
    assert again == pytest.approx(found, abs=1e-6)


def test_the_value_is_the_lower_slow_copy_whatever_the_quick_ones_say():
    critic = constant_critic()
    context = CriticContext(torch.zeros(1, 3), torch.zeros(1, 1))
    assert critic(torch.zeros(1, 2, 2), context).tolist() == [[2.5, 2.5]]
    critic.follow(0.5)
    assert critic(torch.zeros(1, 1, 2), context).item() == pytest.approx(2.5)  # of 2.5 and 2.75
    critic.follow(1.0)
    assert critic(torch.zeros(1, 1, 2), context).item() == pytest.approx(1.0)


def test_laws_of_a_value():
    torch.manual_seed(0)
    critic = Critic(3, 2, 1, width=8)
    x = torch.randn(4, 5, 2)
    context = CriticContext(torch.randn(4, 3), torch.randn(4, 1))
    found = critic(x, context)
    assert torch.allclose(critic(x[:, [4, 0, 1, 2, 3]], context), found[:, [4, 0, 1, 2, 3]])
    alone = CriticContext(context.state[2:3], context.preference[2:3])
    assert torch.allclose(critic(x[2:3], alone), found[2:3], atol=1e-6)
    other = CriticContext(context.state, context.preference + 1)
    assert not torch.allclose(critic(x, other), found)


def test_scales_take_units_away():
    data = transitions(50)
    metres, feet = (Critic(3, 2, 1, width=8) for _ in range(2))
    feet.load_state_dict(metres.state_dict())
    metres.fit_scales(data)
    feet.fit_scales(replace(data, action=data.action * 3.28))
    context = CriticContext(data.state, data.preference)
    assert torch.allclose(
        metres(data.candidates, context), feet(data.candidates * 3.28, context), atol=1e-5
    )
    still = replace(data, action=torch.full_like(data.action, 7.0))
    feet.fit_scales(still)
    assert feet.action_scale.tolist() == [1.0, 1.0]


def test_expectiles_weigh_the_two_sides():
    errors = torch.tensor([1.0, -1.0])
    assert expectile_loss(errors[:1], 0.9).item() == pytest.approx(0.9)
    assert expectile_loss(errors[1:], 0.9).item() == pytest.approx(0.1)


def test_returns_are_summed_run_by_run():
    rewards = torch.tensor([1.0, 1.0, 1.0, 5.0])
    ended = torch.tensor([False, False, True, True])
    assert returns_to_go(rewards, ended, 0.5).tolist() == [1.75, 1.5, 1.0, 5.0]
    assert returns_to_go(rewards[:0], ended[:0], 0.5).tolist() == []
    with pytest.raises(ValueError, match="ended must be true at the last row"):
        returns_to_go(rewards, torch.zeros(4, dtype=torch.bool), 0.5)


def test_it_learns_what_an_action_leads_to():
    # Two steps: the first earns nothing, but 1 leads to a state that earns 4 and -1 to one of 0.
    draw = torch.Generator().manual_seed(0)
    action = torch.randint(2, (256, 1), generator=draw) * 2.0 - 1
    begin, then = torch.zeros(256, 1), action
    data = Transitions(
        state=torch.cat((begin, then)),
        preference=torch.zeros(512, 0),
        action=torch.cat((action, torch.zeros(256, 1))),
        reward=torch.cat((torch.zeros(256), 2 + 2 * action[:, 0])),
        next_state=torch.cat((then, torch.zeros(256, 1))),
        next_preference=torch.zeros(512, 0),
        ended=torch.cat((torch.zeros(256), torch.ones(256))).bool(),
        to_go=torch.zeros(512),
        candidates=torch.zeros(512, 1, 1),
    )
    torch.manual_seed(0)
    critic = Critic(1, 1, 0, width=32, discount=0.5)
    losses = fit_critic(
        critic,
        data,
        CriticTraining(
            steps=200, batch_size=32, learning_rate=5e-3, candidate_weight=0.0, follow_rate=0.1
        ),
    )
    assert set(losses) == {"iql", "cal_ql"}
    assert losses["cal_ql"] == 0
    worth = critic(
        torch.tensor([[[1.0], [-1.0]]]), CriticContext(torch.zeros(1, 1), torch.zeros(1, 0))
    )
    assert worth[0].tolist() == pytest.approx([2.0, 0.0], abs=0.3)
    assert not critic.training


def test_the_same_seed_gives_the_same_critic():
    data, found = transitions(40), []
    for _ in range(2):
        torch.manual_seed(3)
        critic = Critic(3, 2, 1, width=8)
        fit_critic(critic, data, CriticTraining(steps=5, batch_size=8, seed=1))
        found.append(critic(data.candidates, CriticContext(data.state, data.preference)))
    assert torch.equal(found[0], found[1])


def test_a_new_critic_begins_with_equal_copies():
    critic = Critic(3, 2, 1, width=8)
    context = CriticContext(torch.randn(4, 3), torch.randn(4, 1))
    x = torch.randn(4, 5, 2)
    before = critic(x, context)
    critic.follow(1.0)
    assert torch.equal(critic(x, context), before)


def test_fitting_takes_scales_from_the_data_and_the_rates_from_the_settings():
    data = transitions(40)
    data = replace(data, action=10 * data.action + 5, to_go=torch.full((40,), -9.0))

    def fitted(**changed: float) -> Critic:
        settings = CriticTraining(steps=2, batch_size=8, learning_rate=1e-2)
        critic, _ = fitted_critic(data, replace(settings, **changed), width=8, discount=0.5)
        return critic

    still = fitted(follow_rate=0.0)
    assert torch.allclose(still.action_shift, data.action.mean(0))
    assert torch.allclose(still.action_scale, data.action.std(0, correction=0))
    started = fitted(follow_rate=0.0, learning_rate=1e-12)
    pairs = zip(still.slow_actions.parameters(), started.slow_actions.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    at_once = fitted(follow_rate=1.0)
    assert torch.equal(first_weight(at_once.slow_actions), first_weight(at_once.actions))
    light, heavy = (first_weight(fitted(candidate_weight=w).actions) for w in (0.01, 100.0))
    assert not torch.allclose(light, heavy, atol=1e-3)


def first_weight(network: nn.Module) -> torch.Tensor:
    return next(network.parameters())


def test_first_weights_follow_from_the_seed_and_nothing_else_does():
    data, settings = transitions(40), CriticTraining(steps=1, batch_size=8, seed=3)
    torch.manual_seed(0)
    first, _ = fitted_critic(data, settings, width=8, discount=0.5)
    drawn = torch.rand(3)
    second, _ = fitted_critic(data, settings, width=8, discount=0.5)
    context = CriticContext(data.state, data.preference)
    assert torch.equal(first(data.candidates, context), second(data.candidates, context))
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), drawn)


def test_transitions_lead_to_the_next_row_of_a_run():
    state, preference = torch.arange(6.0).view(3, 2), torch.arange(3.0)[:, None]
    found = transitions_along(
        CriticContext(state, preference),
        torch.zeros(3, 1),
        torch.tensor([1.0, 2.0, 4.0]),
        torch.tensor([False, True, True]),
        torch.zeros(3, 2, 1),
        discount=0.5,
    )
    assert torch.equal(found.next_state, state[[1, 1, 2]])
    assert found.next_preference[:, 0].tolist() == [1.0, 1.0, 2.0]
    assert found.to_go.tolist() == [2.0, 2.0, 4.0]


def test_errors():
    with pytest.raises(ValueError, match="discount must be from 0 to below 1"):
        Critic(1, 1, discount=1.0)
    with pytest.raises(ValueError, match="expectile between 0 and 1, got"):
        Critic(1, 1, expectile=0.0)
    for wrong in (
        lambda: CriticTraining(steps=0),
        lambda: CriticTraining(batch_size=0),
        lambda: CriticTraining(candidate_weight=-1.0),
    ):
        with pytest.raises(ValueError, match="steps and batch_size must be at least 1"):
            wrong()
