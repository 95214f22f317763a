"""Self-play: comparators' laws, one reward under three names, and rock-paper-scissors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalize.preference_optimization.ranked_factors import cycle_rate
from personalize.rewards.self_play import (
    LogisticWins,
    MajorityWins,
    RankedWins,
    SkewSymmetricWins,
    gated_wins,
    mean_win_share,
    nash_score,
)

VARIANTS = [
    LogisticWins(),
    LogisticWins(3.0),
    MajorityWins(),
    RankedWins((0.5, 0.1, 0.0, 0.2)),
    SkewSymmetricWins(),
]
BEATS = torch.tensor([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]], dtype=torch.float64)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
@given(seed=st.integers(0, 10**6))
def test_obeys_the_laws(variant, seed):
    first, second = drawn(seed, 2, 3, 4), drawn(seed + 1, 2, 5, 4)
    wins = variant(first, second)
    assert wins.shape == (2, 3, 5)
    torch.testing.assert_close(wins + variant(second, first).mT, torch.ones_like(wins))
    same = variant(first, first).diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(same, torch.full_like(same, 0.5))


def test_wins_by_hand():
    first = torch.tensor([[2.0, 0.0, 1.0, 0.0]])
    second = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    logistic = (torch.tensor([2.0, -2.0, 2.0, 0.0]).sigmoid().sum() / 4).item()
    assert LogisticWins(2.0)(first, second).item() == pytest.approx(logistic)
    assert MajorityWins()(first, second).item() == 1.0
    assert RankedWins((1.0, 0.5, 0.0, 0.0))(first, second).item() == 0.0
    assert RankedWins((1.0, 1.0, 1.0, 1.0))(first, second).item() == 0.5
    logit = (2.0 * 1.0 - 0.0 * 1.0) + (1.0 * 0.0 - 0.0 * 0.0)
    expected = torch.tensor(logit / 4.0).sigmoid().item()
    assert SkewSymmetricWins(4.0)(first, second).item() == pytest.approx(expected)


def test_a_skew_symmetric_model_holds_a_cycle_that_no_score_can():
    angle = torch.arange(3, dtype=torch.float64) * 2 * torch.pi / 3
    embedding = torch.stack([angle.cos(), angle.sin()], -1)
    wins = SkewSymmetricWins()(embedding, embedding)
    assert (wins > 0.99).sum().item() == 3
    assert cycle_rate((wins - 0.5).sign().long() * (1 - torch.eye(3).long())) == 1.0


def test_criteria_in_conflict_make_a_cycle():
    judged = torch.tensor([[3.0, 1.0, 2.0], [2.0, 3.0, 1.0], [1.0, 2.0, 3.0]])
    wins = MajorityWins()(judged, judged)
    assert wins.tolist() == [[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]
    assert mean_win_share(wins).tolist() == [0.5, 0.5, 0.5]


@given(seed=st.integers(0, 10**6))
def test_self_play_and_general_preference_optimisation_have_one_reward(seed):
    wins = SkewSymmetricWins()(drawn(seed, 6, 4), drawn(seed, 6, 4))
    slow = torch.stack(
        [torch.stack([wins[i, j] for j in range(6) if j != i]).mean() for i in range(6)]
    )
    torch.testing.assert_close(mean_win_share(wins), slow)
    centred = nash_score(wins) - nash_score(wins).mean()
    torch.testing.assert_close(slow - slow.mean(), centred * 6 / 5)


def test_nobody_who_fails_beats_one_who_passes():
    wins = torch.full((4, 4), 0.9).triu(1) + torch.full((4, 4), 0.1).tril(-1) + 0.5 * torch.eye(4)
    found = gated_wins(wins, torch.tensor([False, True, True, False]))
    assert found[0].tolist() == [0.5, 0.0, 0.0, 0.5]
    assert found[1].tolist() == pytest.approx([1.0, 0.5, 0.9, 1.0])
    assert found[2].tolist() == pytest.approx([1.0, 0.1, 0.5, 1.0])
    assert found[3].tolist() == [0.5, 0.0, 0.0, 0.5]


def test_one_alone_has_no_win():
    assert mean_win_share(torch.tensor([[0.5]])).tolist() == [0.0]


def test_the_average_of_self_play_is_the_minimax_winner_where_a_score_collapses():
    played = against_itself(torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64))
    average = played.mean(0)
    assert (BEATS @ average).amax().item() <= 0.55
    queued = against_itself(torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64), queue=20)
    assert (BEATS @ queued.mean(0)).amax().item() <= 0.55
    assert (BEATS @ played[-1]).amax().item() > 0.6  # the last iterate goes round
    # the scalar reward a fit to unequally frequent comparisons ends with: any strict order
    scalar = softmax_ascent(torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64))
    assert (BEATS @ scalar).amax().item() > 0.99


def against_itself(policy: torch.Tensor, queue: int = 1, steps: int = 4000) -> torch.Tensor:
    """Exponentiated ascent on wins against the newest policies; the exact expectation."""
    played = [policy]
    for _ in range(steps):
        opponent = torch.stack(played[-queue:]).mean(0)
        reward = nash_score(BEATS * opponent * 3)
        policy = policy * (0.05 * reward).exp()
        policy = policy / policy.sum()
        played.append(policy)
    return torch.stack(played)


def softmax_ascent(reward: torch.Tensor, steps: int = 4000) -> torch.Tensor:
    logits = torch.zeros_like(reward)
    return (logits + 0.05 * steps * reward).softmax(-1)


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="margins must be one or more and not negative"):
        RankedWins(())
    with pytest.raises(ValueError, match="margins must be one per part, got 2 for 4"):
        RankedWins((0.0, 0.0))(drawn(0, 2, 4), drawn(0, 2, 4))
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        SkewSymmetricWins(0.0)
    with pytest.raises(ValueError, match="an embedding must have even width, got 3"):
        SkewSymmetricWins()(drawn(0, 2, 3), drawn(0, 2, 3))
