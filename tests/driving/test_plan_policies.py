"""The planner's policies: the laws of the slot, and what their log-probabilities mean."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from driving.planner.anchor_policy import AnchorPolicy, denoised
from driving.planner.chain_policy import ChainPolicy, chain_log_prob
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.diffusion_policy import DiffusionPolicy
from driving.planner.going_on import going_on
from driving.planner.plan_contexts import PlanContexts, chosen_anchors
from personalize.preference_optimization.auxiliary import PreferenceDegree
from personalize.preference_optimization.policy import frozen_copy
from tests.driving.planner_fixtures import (
    SMALL,
    padded_scene,
    random_scene,
    random_style,
)
from tests.personalize.preference_optimization.policy_laws import check_choices, check_policy

ROWS = 3
MAKERS = {
    "anchors": AnchorPolicy,
    "own steps": DiffusionPolicy,
    "drawn times": lambda planner: DiffusionPolicy(planner, drawn_times=2),
    "chain": ChainPolicy,
}


def planner_at_random(seed: int = 0, **options) -> DiffusionPlanner:
    torch.manual_seed(seed)
    planner = DiffusionPlanner(**SMALL, **options)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weights in planner.parameters():
            weights.add_(0.1 * torch.randn(weights.shape, generator=generator))
    return planner.eval()


@pytest.fixture(scope="module")
def planner() -> DiffusionPlanner:
    return planner_at_random()


@pytest.fixture(scope="module")
def context() -> PlanContexts:
    return PlanContexts(random_scene(ROWS, seed=2), random_style(ROWS, seed=2))


@pytest.fixture(params=list(MAKERS))
def policy(request, planner):
    return MAKERS[request.param](planner)


def test_a_policy_keeps_the_laws_of_the_slot(policy, context):
    check_policy(policy, context, tolerance=1e-4)


def test_padding_of_the_scene_changes_nothing(policy, context):
    drawn = policy.sample(context, 4, seed=1)
    padded = PlanContexts(padded_scene(context.scene), context.style)
    torch.testing.assert_close(
        policy.log_prob(padded, drawn.responses), drawn.log_prob, rtol=1e-4, atol=1e-4,
        check_device=False,
    )  # fmt: skip


def test_every_row_takes_the_same_random_numbers(policy, context):
    twice = context.rows(torch.tensor([1, 1]))
    drawn = policy.sample(twice, 6, seed=5)
    torch.testing.assert_close(drawn.responses[0], drawn.responses[1])
    other = policy.sample(twice, 6, seed=6)
    assert not torch.equal(drawn.responses, other.responses)


def test_a_beam_holds_distinct_answers_the_likeliest_first(policy, context):
    drawn = policy.sample(context, 4, seed=0, beam=True)
    assert not drawn.sampled
    if not isinstance(policy, AnchorPolicy | ChainPolicy):
        return
    choice = drawn.log_prob[..., 0]
    assert (choice.diff(dim=1) <= 1e-6).all()
    with pytest.raises(ValueError, match="a beam of 5 is more than the planner's 4 anchors"):
        policy.sample(context, 5, seed=0, beam=True)


def test_the_gradient_reaches_scores_and_poses(policy, context):
    drawn = policy.sample(context, 4, seed=1)
    policy.zero_grad()
    policy.log_prob(context, drawn.responses).var(1).sum().backward()
    weights = policy.planner.decoder.outer[-1].weight.grad
    assert weights is not None
    assert weights[-1].abs().sum() > 0
    assert weights[:-1].abs().sum() > 0
    policy.zero_grad()


def test_what_tells_safety_is_not_tuned(policy, context):
    names = {name for name, weights in policy.named_parameters() if weights.requires_grad}
    assert names
    assert all(name.startswith("planner.decoder.") for name in names)
    asked = copy.deepcopy(policy).requires_grad_(requires_grad=True)
    asked.log_prob(context, asked.sample(context, 3, seed=0).responses).var(1).sum().backward()
    got = {name for name, weights in asked.named_parameters() if weights.grad is not None}
    assert got
    assert got <= names


def test_anchors_choose_by_the_planners_own_scores(planner, context):
    policy = AnchorPolicy(planner)
    check_choices(policy, context)
    encoded = planner.encoder(context.scene)
    seen = planner.decoder.see(encoded.tokens, encoded.mask)
    _, logits = planner._denoised(seen, context.style, 0)
    drawn = policy.sample(context, 4, seed=0, beam=True)
    torch.testing.assert_close(policy.logits(context, drawn.responses)[:, 0, 0], logits)
    torch.testing.assert_close(drawn.responses, logits.topk(4).indices)
    with pytest.raises(TypeError, match="does not choose among finitely many"):
        DiffusionPolicy(planner).logits(context, drawn.responses)


def test_anchors_are_drawn_as_often_as_they_are_probable(planner, context):
    policy = AnchorPolicy(planner)
    drawn = policy.sample(context, 20_000, seed=0)
    share = policy.logits(context, drawn.responses[:, :1])[:, 0, 0].softmax(-1)
    found = torch.nn.functional.one_hot(drawn.responses, 4).double().mean(1)
    torch.testing.assert_close(found.float(), share.detach(), atol=0.015, rtol=0)


def test_guidance_of_the_planner_is_tuned_too(context):
    plain, guided = planner_at_random(), planner_at_random(guidance=3.0)
    torch.testing.assert_close(plain.decoder.noisy.weight, guided.decoder.noisy.weight)
    encoded = guided.encoder(context.scene)
    seen = guided.decoder.see(encoded.tokens, encoded.mask)
    _, logits = guided._denoised(seen, context.style, 0)
    torch.testing.assert_close(denoised(guided, context).logits, logits)
    assert (denoised(plain, context).logits - logits).abs().max() > 1e-3


def test_the_surrogate_is_a_mixture_of_bells_around_the_answers(planner, context):
    policy = DiffusionPolicy(planner, spread=0.7)
    found = denoised(planner, context)
    near = found.changes[:, :1] + torch.tensor([0.15, 0.1, 0.0])
    futures = going_on(context.scene).poses(near).detach()
    shares = found.logits.softmax(-1).detach()
    changes, answers = going_on(context.scene).changes(futures)[:, 0], found.changes.detach()
    for row in range(ROWS):
        total = 0.0
        for anchor in range(4):
            error = 0.0
            for time in range(8):
                for axis in range(2):
                    gap = float(changes[row, time, axis] - answers[row, anchor, time, axis])
                    error += (gap / float(planner.unit[time, axis])) ** 2 / 8
            total += float(shares[row, anchor]) * math.exp(-error / (2 * 0.49))
        said = float(policy.log_prob(context, futures)[row, 0, 0].detach())
        assert said == pytest.approx(math.log(total), rel=1e-3)


def test_what_is_nearer_to_an_answer_is_likelier(planner, context):
    policy = DiffusionPolicy(planner)
    best = policy.sample(context, 1, seed=0, beam=True).responses
    aside = torch.stack([best[:, 0] + torch.tensor([0.0, far, 0.0]) for far in (0, 0.05, 0.2)], 1)
    said = policy.log_prob(context, aside)[..., 0]
    assert (said.diff(dim=1) < 0).all()


def test_near_the_answer_it_was_drawn_at_the_gradient_is_that_of_the_drawn_numbers():
    """d/dmu of the density of the mean shift equals that of the surrogate, summed over times."""
    generator = torch.Generator().manual_seed(0)
    unit, spread = torch.rand(8, 2, generator=generator) + 0.5, 0.5
    mu = torch.randn(8, 2, generator=generator, requires_grad=True)
    z = torch.randn(2, generator=generator)
    drawn = (mu + spread * z * unit).detach()
    surrogate = -((drawn - mu) / unit).square().sum(-1).mean(-1) / (2 * spread**2)
    shift = ((drawn - mu) / unit).mean(0)
    exact = -shift.square().sum() / (2 * spread**2)
    first, second = (torch.autograd.grad(value, mu)[0] for value in (surrogate, exact))
    torch.testing.assert_close(first, second)


def test_the_same_noise_is_asked_of_policy_and_reference(planner, context):
    policy = DiffusionPolicy(planner, drawn_times=2)
    reference = frozen_copy(policy)
    responses = policy.sample(context, 3, seed=0).responses
    first = policy.log_prob(context, responses)
    torch.testing.assert_close(first, reference.log_prob(context, responses))
    policy.reseed(7)
    assert (policy.log_prob(context, responses) - first).abs().max() > 1e-4
    reference.reseed(7)
    torch.testing.assert_close(
        policy.log_prob(context, responses), reference.log_prob(context, responses)
    )


def test_the_mean_over_times_is_the_mean_of_the_surrogates(planner, context):
    """A decoder that is asked once and then twice draws the same first time and noise."""
    responses = DiffusionPolicy(planner).sample(context, 3, seed=0).responses
    one, both = (DiffusionPolicy(planner, drawn_times=count) for count in (1, 2))
    first, mean = (policy.log_prob(context, responses) for policy in (one, both))
    (_, other) = both._said(context)
    changes = going_on(context.scene).changes(responses)[:, :, None, :, :2]
    error = ((changes - other[0][:, None, :, :, :2]) / planner.unit[:, :2]).square()
    second = (other[1][:, None] - error.sum(-1).mean(-1) / (2 * 0.25)).logsumexp(-1)
    torch.testing.assert_close(mean[..., 0], (first[..., 0] + second) / 2)
    assert (first[..., 0] - second).abs().max() > 1e-3


def test_only_drawn_times_make_scores_noisy(planner, context):
    responses = DiffusionPolicy(planner).sample(context, 3, seed=0).responses
    for times in (0, 1):
        policy = DiffusionPolicy(planner, drawn_times=times)
        assert policy.draws_noise == bool(times)
        before = policy.log_prob(context, responses)
        policy.reseed(9)
        assert torch.equal(policy.log_prob(context, responses), before) != bool(times)


def test_a_policy_says_what_is_wrong(planner):
    with pytest.raises(ValueError, match=r"spread must be positive, got 0\."):
        DiffusionPolicy(planner, spread=0.0)
    with pytest.raises(ValueError, match=r"drawn_times must be 0 or more, got -1\."):
        DiffusionPolicy(planner, drawn_times=-1)


def test_a_chain_step_is_worth_two_normal_numbers():
    mean = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    state = mean + torch.tensor([0.1, -0.2])
    expected = sum(
        -0.5 * (moved / 0.2) ** 2 - math.log(0.2) - 0.5 * math.log(2 * math.pi)
        for moved in (0.1, -0.2)
    )
    assert float(chain_log_prob(state, mean, 0.2)) == pytest.approx(expected, rel=1e-5)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.floats(-100, 100), st.floats(0.04, 2.0))
def test_a_chain_step_is_clamped(moved: float, deviation: float):
    mean = torch.zeros(8, 2)
    said = float(chain_log_prob(mean + moved, mean, deviation))
    assert -10.0 <= said <= 4.0
    assert said <= float(chain_log_prob(mean, mean, deviation)) + 1e-6


def test_the_first_state_of_a_chain_says_its_anchor(planner, context):
    policy = ChainPolicy(planner)
    drawn = policy.sample(context, 8, seed=3)
    index = policy._anchor_of(drawn.responses.flatten(0, 1)[:, 0, :, :2])
    start = policy._start()[index]
    torch.testing.assert_close(drawn.responses.flatten(0, 1)[:, 0, :, :2], start)
    assert len(index.unique()) > 1


def test_a_chain_counts_later_steps_more(planner, context):
    whole, discounted = (ChainPolicy(planner, discount=value) for value in (1.0, 0.6))
    responses = whole.sample(context, 4, seed=0).responses
    expected = whole.log_prob(context, responses) * torch.tensor([1.0, 0.36, 0.6, 1.0])
    torch.testing.assert_close(discounted.log_prob(context, responses), expected)


def test_a_chain_ends_in_the_poses_it_means(planner, context):
    responses = ChainPolicy(planner).sample(context, 3, seed=0).responses
    assert responses.shape == (ROWS, 3, 5, 8, 3)
    last, poses = responses[:, :, -2], responses[:, :, -1]
    places = last[..., :2] * planner.scale_m + planner.centre_m
    expected = going_on(context.scene).poses(torch.cat([places, last[..., 2:]], -1))
    torch.testing.assert_close(poses, expected)


def test_a_chain_is_drawn_with_less_noise_than_it_is_scored_by(planner, context):
    policy = ChainPolicy(planner, least_drawn=0.07, least_scored=0.3)
    drawn = policy.sample(context.rows(slice(0, 1)), 600, seed=0)
    index = policy._anchor_of(drawn.responses[0, :, 0, :, :2])
    anchor = int(index.mode().values)
    last = drawn.responses[0, index == anchor, -2, :, :2].mean(-2)
    assert len(last) > 50
    spread = (last - last.mean(0)).std(0)
    torch.testing.assert_close(spread, torch.full((2,), 0.07), rtol=0.25, atol=0)


def test_a_chain_of_the_likeliest_is_scored_at_its_means(planner, context):
    policy = ChainPolicy(planner, discount=1.0)
    drawn = policy.sample(context, 2, seed=0, beam=True)
    at_mean = 2 * (-math.log(0.1) - 0.5 * math.log(2 * math.pi))
    torch.testing.assert_close(
        drawn.log_prob[..., 1:], torch.full_like(drawn.log_prob[..., 1:], at_mean)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"denoising_steps": 1}, "a chain needs at least 2 denoising_steps, got 1"),
        ({"least_drawn": 0.0}, "least_drawn and least_scored must be positive, got 0 and 0.1"),
        ({"discount": 1.5}, "discount and eta must be from 0 to 1, got 1.5 and 1"),
    ],
)
def test_a_chain_says_what_is_wrong(planner, options, message):
    with pytest.raises(ValueError, match=message):
        ChainPolicy(planner, **options)


def test_a_reinforced_answer_becomes_likelier(context):
    planner = planner_at_random()
    policy = DiffusionPolicy(planner)
    responses = policy.sample(context, 6, seed=0).responses
    advantage = torch.linspace(-1, 1, 6)
    optimizer = torch.optim.SGD(policy.parameters(), lr=1e-3)
    before = policy.log_prob(context, responses)[..., 0].detach()
    loss = -(policy.log_prob(context, responses)[..., 0] * advantage).mean()
    loss.backward()
    optimizer.step()
    after = policy.log_prob(context, responses)[..., 0].detach()
    assert ((after - before) * advantage).sum() > 0


def test_more_anchors_than_there_are_cannot_be_the_likeliest():
    with pytest.raises(ValueError, match="a beam of 3 is more than the planner's 2 anchors"):
        chosen_anchors(torch.zeros(1, 2), 3, seed=0, beam=True)


def test_what_an_anchor_policy_shows_obeys_the_laws_and_says_what_the_planner_answers(
    planner, context
):
    policy = AnchorPolicy(planner)
    responses = torch.tensor([[0, 2, 1, 0], [3, 3, 1, 2], [1, 0, 2, 3]])
    found = policy.represented(context, responses)
    assert found.shape == (ROWS, 4, policy.represented_width())
    alone = [
        policy.represented(context.rows(slice(row, row + 1)), responses[row : row + 1])
        for row in range(ROWS)
    ]
    torch.testing.assert_close(torch.cat(alone), found, rtol=1e-4, atol=1e-4)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(policy.represented(context, responses[:, order]), found[:, order])
    assert not torch.allclose(found[0, 0], found[0, 1])
    read = planner.decoder.outer[-1](found)[..., -1]
    logits = denoised(planner, context).logits.gather(1, responses)
    torch.testing.assert_close(read, logits, rtol=1e-4, atol=1e-4)
    planner.zero_grad(set_to_none=True)
    found.square().sum().backward()
    reached = [name for name, weight in planner.named_parameters() if weight.grad is not None]
    planner.zero_grad(set_to_none=True)
    assert len(reached) > 5
    assert all(name.startswith("decoder.") for name in reached)
    term = PreferenceDegree(2)
    term.fit_to(policy)
    with pytest.raises(ValueError, match="DiffusionPolicy has no `represented` to read a degree"):
        term.fit_to(DiffusionPolicy(planner))
