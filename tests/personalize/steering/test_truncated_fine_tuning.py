"""Truncated fine-tuning against mixtures of Gaussians, whose exact denoiser is known."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalize.steering.truncated_fine_tuning import (
    NoiseSchedule,
    TruncatedStates,
    mixed_weights,
    pseudo_huber,
    truncated_loss,
    truncated_states,
)

CLASSES = ((-2.0, -1.0), (1.0, 2.0))
SPREAD = 0.5
WANTED = 1
STEPS_TAKEN = 5
ROWS = 100_000


class Mixture:
    """The exact denoiser of equally likely Gaussians: what is expected of the clean state."""

    def __init__(self, means: tuple[float, ...], schedule: NoiseSchedule) -> None:
        self.means, self.schedule = torch.tensor(means), schedule

    def __call__(self, noisy: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        scale, noise = self.schedule.scale[step][:, None], self.schedule.noise[step][:, None]
        variance = scale**2 * SPREAD**2 + noise**2
        away = noisy - scale * self.means
        shares = (-(away**2) / (2 * variance)).softmax(-1)
        return (shares * (self.means + scale * SPREAD**2 / variance * away)).sum(-1, keepdim=True)


def from_a_start(start_noise: float) -> NoiseSchedule:
    """Five steps down to half the noise of the start, and one above it with half as much again."""
    down = torch.linspace(0.5, 1.0, STEPS_TAKEN + 1)
    noise = start_noise * torch.cat([down, torch.tensor([1.5])])
    return NoiseSchedule(torch.ones_like(noise), noise)


def drawn(means: tuple[float, ...], schedule: NoiseSchedule) -> torch.Tensor:
    """Noised draws of a mixture at the last but one step of a schedule."""
    clean = torch.tensor(means)[torch.randint(len(means), (ROWS,))] + SPREAD * torch.randn(ROWS)
    return schedule.noised(clean[:, None], torch.randn(ROWS, 1), STEPS_TAKEN)


def unconditional_share(start_noise: float, *, from_data: bool = True, told: bool = False) -> float:
    """How far what a student would learn lies from conditional (0) to unconditional (1).

    It is read at the noisiest step, from the means of the targets that a squared error leads to.
    """
    torch.manual_seed(0)
    schedule = from_a_start(start_noise)
    every = Mixture(CLASSES[0] + CLASSES[1], schedule)
    one = Mixture(CLASSES[WANTED], schedule)
    teacher = one if told else every
    start = drawn(CLASSES[WANTED] if from_data else CLASSES[0] + CLASSES[1], schedule)
    states = truncated_states(teacher, start, schedule, range(STEPS_TAKEN, -1, -1))
    at = states.noisier_step == STEPS_TAKEN + 1
    target = teacher(states.reached, states.reached_step)[at]
    noisy, step = states.noisier[at], states.noisier_step[at]
    conditional = one(noisy, step)
    apart = every(noisy, step) - conditional
    return float((apart * (target - conditional)).sum() / apart.square().sum())


def test_an_exact_teacher_that_is_told_changes_nothing():
    for start_noise in (1.2, 2.8, 6.6):
        assert abs(unconditional_share(start_noise, told=True)) < 0.02


def test_a_teacher_that_is_told_nothing_takes_the_condition_away_more_so_with_noise():
    shares = [unconditional_share(noise) for noise in (1.2, 2.8, 6.6)]
    for share, (low, high) in zip(shares, ((0.2, 0.45), (0.6, 0.8), (0.87, 0.96)), strict=True):
        assert low < share < high
    assert shares == sorted(shares)


def test_from_noise_that_knows_no_condition_all_of_it_is_taken_away():
    assert unconditional_share(2.8, from_data=False) == pytest.approx(1.0, abs=0.05)


class Corrected:
    """A student: the exact denoiser, corrected by bumps at seven places, all 0 at first."""

    def __init__(self, exact: Mixture) -> None:
        self.exact = exact
        self.places = torch.linspace(-4.0, 6.0, 7)
        self.weights = torch.zeros(7, 1, requires_grad=True)

    def correction(self, noisy: torch.Tensor) -> torch.Tensor:
        return (-((noisy - self.places) ** 2) / 4).exp() @ self.weights

    def __call__(self, noisy: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return self.exact(noisy, step) + self.correction(noisy)


def learnt_correction(corner: float, teacher: tuple[float, ...] = CLASSES[WANTED]) -> float:
    """The mean correction that a student of an exact teacher has learnt, where its states lie."""
    torch.manual_seed(0)
    schedule = from_a_start(1.2)
    told = Mixture(teacher, schedule)
    start = drawn(CLASSES[WANTED], schedule)
    states = truncated_states(told, start, schedule, range(STEPS_TAKEN, -1, -1))
    student = Corrected(Mixture(CLASSES[WANTED], schedule))
    optimizer = torch.optim.Adam([student.weights], lr=0.05)
    for number in range(100):
        part = slice((number * 2048) % (ROWS - 2048), (number * 2048) % (ROWS - 2048) + 2048)
        optimizer.zero_grad()
        rows = TruncatedStates(*(value[part] for value in vars(states).values()))
        loss = truncated_loss(student, told, rows, corner=corner)
        (loss * max(1.0, corner)).backward()
        optimizer.step()
    with torch.no_grad():
        return float(student.correction(states.noisier).abs().mean())


def test_a_student_of_an_exact_teacher_stays_with_it_and_leaves_one_that_is_told_nothing():
    stays = learnt_correction(100.0)
    leaves = learnt_correction(100.0, CLASSES[0] + CLASSES[1])
    assert stays < 0.03
    assert leaves > 5 * stays


def test_two_steps_of_noise_are_one_of_the_later_steps_noise():
    schedule = NoiseSchedule.of_signal(torch.tensor([0.81, 0.64, 0.25]))
    clean, first, second = torch.tensor([[2.0]]), torch.tensor([[1.0]]), torch.tensor([[1.0]])
    noisy = schedule.noised(clean, first, 0)
    later = schedule.renoised(noisy, second, 0, torch.tensor([2]))
    kept = 0.5 / 0.9  # by hand: of sqrt(0.25) what sqrt(0.81) has left
    variance = 0.75 - 0.19 * 0.25 / 0.81
    expected = kept * (0.9 * 2.0 + 0.19**0.5) + variance**0.5
    assert float(later) == pytest.approx(expected, rel=1e-5)
    assert (0.19 * kept**2 + variance) == pytest.approx(0.75)


def test_every_row_is_noised_to_its_own_step():
    schedule = from_a_start(2.0)
    noisy = torch.arange(6.0).reshape(2, 3)
    later = schedule.renoised(noisy, torch.ones(2, 3), 1, torch.tensor([2, 6]))
    for row, step in enumerate((2, 6)):
        more = (schedule.noise[step] ** 2 - schedule.noise[1] ** 2).sqrt()
        assert torch.allclose(later[row], noisy[row] + more)


@given(st.integers(0, 5), st.integers(1, 6), st.integers(0, 99))
def test_a_step_that_knows_the_clean_end_keeps_the_noise(earlier: int, step: int, seed: int):
    schedule = NoiseSchedule.of_signal(torch.linspace(0.99, 0.05, 7, dtype=torch.float64))
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    found = schedule.denoised(schedule.noised(clean, noise, step), clean, step, earlier)
    assert torch.allclose(found, schedule.noised(clean, noise, earlier))


def test_the_reference_takes_one_step_fewer_than_the_path_has_and_is_asked_where_it_stopped():
    asked = []

    def reference(noisy: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        asked.append(step.tolist())
        return torch.zeros_like(noisy)

    schedule = from_a_start(2.0)
    start = torch.full((3, 1), 2.0)
    states = truncated_states(reference, start, schedule, (5, 3, 1))
    assert asked == [[5, 5, 5], [3, 3, 3]]
    assert torch.allclose(states.reached, start * schedule.noise[1] / schedule.noise[5])
    assert states.reached_step.tolist() == [1, 1, 1]
    truncated_loss(reference, reference, states)
    assert asked[2:] == [[1, 1, 1], states.noisier_step.tolist()]


def test_later_steps_are_all_those_above_the_last_of_the_path():
    schedule = from_a_start(2.0)
    states = truncated_states(lambda noisy, _: noisy, torch.zeros(500, 1), schedule, (5, 2))
    assert sorted(set(states.noisier_step.tolist())) == [3, 4, 5, 6]


def test_the_same_generator_draws_the_same_states():
    schedule = from_a_start(2.0)
    first, second = (
        truncated_states(
            lambda noisy, _: noisy / 2, torch.ones(9, 2), schedule, (4, 1),
            generator=torch.Generator().manual_seed(3),
        )
        for _ in range(2)
    )  # fmt: skip
    assert all(torch.equal(vars(first)[name], vars(second)[name]) for name in vars(first))


def test_the_target_of_the_loss_has_no_gradient_and_the_student_has_one():
    weight = torch.tensor(0.5, requires_grad=True)
    schedule = from_a_start(2.0)

    def model(noisy: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return weight * noisy

    states = truncated_states(model, torch.ones(2, 1), schedule, (4, 1))
    states = TruncatedStates(
        torch.tensor([[4.0]]), states.reached_step[:1], torch.tensor([[2.0]]),
        states.noisier_step[:1],
    )  # fmt: skip
    loss = truncated_loss(model, model, states, corner=1e-6)
    loss.backward()
    assert loss.item() == pytest.approx(1.0, abs=1e-5)  # |0.5 * 2 - 0.5 * 4|
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(-2.0, abs=1e-4)  # +2 were the target moved too


def test_pseudo_huber_is_a_square_below_its_corner_and_a_distance_above():
    assert float(pseudo_huber(torch.tensor(0.01), corner=10.0)) == pytest.approx(5e-6, rel=0.05)
    assert float(pseudo_huber(torch.tensor(-7.0), corner=1e-3)) == pytest.approx(7.0 - 1e-3, 1e-5)


def test_offsets_are_added_whatever_their_order_and_no_share_is_the_base():
    base = {"w": torch.tensor([1.0, 2.0]), "count": torch.tensor(3)}
    better = {"w": torch.tensor([2.0, 2.0]), "count": torch.tensor(9)}
    worse = {"w": torch.tensor([1.0, 0.0]), "count": torch.tensor(7)}
    mixed = mixed_weights(base, (better, 0.5), (worse, 2.0))
    assert mixed["w"].tolist() == [1.5, -2.0]
    assert mixed["count"].item() == 3
    assert mixed_weights(base, (worse, 2.0), (better, 0.5))["w"].tolist() == [1.5, -2.0]
    assert torch.equal(mixed_weights(base, (worse, 0.0))["w"], base["w"])
    assert torch.equal(mixed_weights(base, (worse, 1.0))["w"], worse["w"])


def test_copies_with_other_names_are_refused():
    with pytest.raises(ValueError, match="names of the base, got v in one only"):
        mixed_weights({"w": torch.zeros(1)}, ({"w": torch.zeros(1), "v": torch.zeros(1)}, 1.0))


@pytest.mark.parametrize("path", [(), (2, 3), (4, 4)])
def test_a_path_that_does_not_go_down_is_refused(path: tuple[int, ...]):
    with pytest.raises(ValueError, match="path must go down from step to step"):
        truncated_states(lambda noisy, _: noisy, torch.zeros(1, 1), from_a_start(1.0), path)


@pytest.mark.parametrize("path", [(7, 3), (6,), (3, -1)])
def test_a_path_that_leaves_no_later_step_is_refused(path: tuple[int, ...]):
    with pytest.raises(ValueError, match="path must lie within the 7 steps and end before"):
        truncated_states(lambda noisy, _: noisy, torch.zeros(1, 1), from_a_start(1.0), path)


def test_a_schedule_that_is_none_is_refused():
    with pytest.raises(ValueError, match="as many steps each and positive scales, got 2 and 3"):
        NoiseSchedule(torch.ones(2), torch.arange(3.0))
    with pytest.raises(ValueError, match="positive scales"):
        NoiseSchedule(torch.tensor([1.0, 0.0]), torch.arange(2.0))
    with pytest.raises(ValueError, match="must rise from step to step"):
        NoiseSchedule(torch.ones(3), torch.tensor([0.0, 2.0, 1.0]))
