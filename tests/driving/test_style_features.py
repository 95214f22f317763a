"""The measures of a window, on scenes worked out by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from driving.style.features import measure
from driving.style.kinematic_measures import stop_deceleration
from driving.style.leader import Leader, free_driving, steady_time_gap, stretched
from driving.style.measures import MEASURE_NAMES, Measures, measures_of
from driving.style.smoothing import smoothed, smoothing_weights, unwrapped
from driving.world import AGENT_PEDESTRIAN, World
from tests.driving.tiny_worlds import NOW, STEP_S, STEPS, straight, tiny_world


def value(found: Measures, name: str) -> float:
    """One measure of the only sample; it must have been measured."""
    values, mask = found.column(name)
    assert mask[0], f"{name} was not measured"
    return values[0].item()


def known(found: Measures, name: str) -> bool:
    return bool(found.column(name)[1][0])


def from_speed(speed_mps: torch.Tensor) -> torch.Tensor:
    """Poses along x of a speed that is constant within each step."""
    x = torch.cat([torch.zeros(1), (speed_mps[1:] + speed_mps[:-1]).cumsum(0) * STEP_S / 2])
    x = x - x[NOW]
    return torch.stack([x, torch.zeros_like(x), torch.zeros_like(x)], -1)


def test_steady_driving_behind_a_leader():
    # centres 30 m apart, half lengths 2 + 2.5: gap 25.5 m; at 10 m/s 2.55 s
    found = measure(tiny_world(straight(10.0), [straight(10.0, x_m=30.0)]))
    assert value(found, "mean_speed_mps") == pytest.approx(10.0, abs=1e-4)
    assert value(found, "speed_to_limit") == pytest.approx(10 / 15, abs=1e-4)
    assert value(found, "time_gap_s") == pytest.approx(2.55, abs=1e-3)
    assert not known(found, "free_speed_mps")
    alone = measure(tiny_world(straight(10.0)))
    assert value(alone, "free_speed_to_limit") == pytest.approx(10 / 15, abs=1e-4)
    assert value(alone, "free_speed_mps") == pytest.approx(10.0, abs=1e-3)
    assert value(found, "smallest_gap_m") == pytest.approx(25.5, abs=1e-2)
    assert value(found, "distance_m") == pytest.approx(40.0, abs=1e-3)
    assert value(found, "peak_braking_mps2") == pytest.approx(0.0, abs=1e-3)
    assert not known(found, "smallest_time_to_collision_s")
    assert not known(found, "lane_change_peak_speed_mps")
    assert not known(found, "post_encroachment_s")
    assert not known(found, "stop_deceleration_mps2")


def test_closing_in_gives_a_time_to_collision_and_no_steady_gap():
    # closing at 4 m/s from a gap of 40 - 4.5 m; after 4 s the gap is 19.5 m: 4.875 s
    found = measure(tiny_world(straight(10.0), [straight(6.0, x_m=40.0)]))
    assert value(found, "smallest_time_to_collision_s") == pytest.approx(19.5 / 4, abs=1e-2)
    assert value(found, "smallest_gap_m") == pytest.approx(19.5, abs=1e-2)
    assert not known(found, "time_gap_s")


def test_nobody_beside_behind_or_oncoming_leads():
    oncoming = straight(-8.0, x_m=60.0)
    oncoming[:, 2] = torch.pi
    others = [straight(10.0, x_m=20.0, y_m=3.5), straight(10.0, x_m=-20.0), oncoming]
    found = measure(tiny_world(straight(10.0), others))
    assert not known(found, "smallest_gap_m")


def test_the_leader_is_the_nearest_of_several_and_walkers_are_none():
    others = [straight(10.0, x_m=50.0), straight(10.0, x_m=25.0), straight(10.0, x_m=12.0)]
    found = measure(tiny_world(straight(10.0), others, kinds=[0, 0, AGENT_PEDESTRIAN]))
    assert value(found, "smallest_gap_m") == pytest.approx(20.5, abs=1e-2)


def test_a_leader_beyond_the_driven_way_is_found_along_the_route():
    """The route bends away to the left where the ego's way ends; the leader is on it."""
    found = measure(bent_route(y_at_leader=True))
    assert known(found, "smallest_gap_m")
    assert not known(measure(bent_route(y_at_leader=False)), "smallest_gap_m")


def bent_route(*, y_at_leader: bool) -> World:
    world = tiny_world(straight(2.0), [straight(0.0)])
    x = torch.linspace(0.0, 40.0, 101)
    bend = torch.stack([x, (x - 10).clamp_min(0) * 0.5], -1)
    leader = torch.tensor([30.0, 10.0 if y_at_leader else 0.0, 0.46])
    return dataclasses.replace(
        world,
        route_points=bend[None],
        agent_poses=leader.expand(1, 1, STEPS, 3),
        agent_velocities_mps=torch.zeros(1, 1, STEPS, 2),
    )


def test_a_ramp_of_speed_has_its_acceleration_and_no_jerk():
    time_s = (torch.arange(STEPS) - NOW) * STEP_S
    speed = 8.0 + 1.5 * time_s
    found = measure(tiny_world(from_speed(speed), speed_mps=speed))
    assert value(found, "peak_acceleration_mps2") == pytest.approx(1.5, abs=1e-3)
    assert value(found, "mean_acceleration_mps2") == pytest.approx(1.5, abs=1e-3)
    assert value(found, "peak_jerk_mps3") == pytest.approx(0.0, abs=1e-2)
    assert value(found, "peak_speed_mps") == pytest.approx(14.0, abs=1e-3)
    braking = measure(tiny_world(from_speed(20 - speed), speed_mps=20 - speed))
    assert value(braking, "peak_braking_mps2") == pytest.approx(1.5, abs=1e-3)
    assert value(braking, "peak_acceleration_mps2") == pytest.approx(0.0, abs=1e-3)


def test_constant_jerk_is_found():
    time_s = (torch.arange(STEPS) - NOW) * STEP_S
    speed = 6.0 + 0.5 * 0.8 * time_s**2
    found = measure(tiny_world(from_speed(speed), speed_mps=speed))
    assert value(found, "peak_jerk_mps3") == pytest.approx(0.8, abs=1e-2)
    assert value(found, "jerk_deviation_mps3") == pytest.approx(0.0, abs=1e-2)


def test_a_circle_has_the_square_of_speed_over_radius():
    time_s = (torch.arange(STEPS) - NOW) * STEP_S
    angle = 8.0 / 32.0 * time_s
    poses = torch.stack([32 * angle.sin(), 32 * (1 - angle.cos()), angle], -1)
    speed = torch.full((STEPS,), 8.0)
    for turn in (1.0, -1.0):
        mirrored = poses * torch.tensor([1.0, turn, turn])
        found = measure(tiny_world(mirrored, speed_mps=speed))
        assert value(found, "peak_lateral_acceleration_mps2") == pytest.approx(2.0, abs=1e-2)
        assert value(found, "heading_change_rad") == pytest.approx(1.0, abs=1e-2)


def lane_changing(duration_s: float, *, width_m: float = 3.5) -> torch.Tensor:
    """A lane change to the left at 15 m/s, half a cosine that is half done 2 s from now."""
    time_s = (torch.arange(STEPS) - NOW) * STEP_S
    share = ((time_s - 2.0) / duration_s + 0.5).clamp(0.0, 1.0)
    y = width_m * (1 - torch.cos(torch.pi * share)) / 2
    rate = torch.where(
        (share > 0) & (share < 1),
        width_m * torch.pi / duration_s / 2 * torch.sin(torch.pi * share),
        torch.zeros(()),
    )
    return torch.stack([15.0 * time_s, y, torch.atan2(rate, torch.full_like(rate, 15.0))], -1)


def test_a_lane_change_and_the_gap_behind():
    follower = straight(15.0, x_m=-18.0, y_m=3.5)
    world = tiny_world(lane_changing(4.0), [follower], lanes=(0.0, 3.5))
    found = measure(world)
    # half a cosine over 4 s and 3.5 m: at most 3.5 pi / 8 = 1.37 m/s across
    assert value(found, "lane_change_peak_speed_mps") == pytest.approx(1.37, abs=0.06)
    # both at 15 m/s: the centres stay 18 m apart, less 2 + 2.5
    assert value(found, "rear_gap_m") == pytest.approx(13.5, abs=0.2)


def test_a_quicker_lane_change_is_more_abrupt():
    slow = measure(tiny_world(lane_changing(4.0), lanes=(0.0, 3.5)))
    quick = measure(tiny_world(lane_changing(2.5), lanes=(0.0, 3.5)))
    for name in ("lane_change_peak_speed_mps", "lane_change_peak_acceleration_mps2"):
        assert value(quick, name) > 1.3 * value(slow, name)
    assert not known(slow, "rear_gap_m")


def test_a_lane_that_jumps_under_a_straight_ego_is_no_lane_change():
    world = tiny_world(straight(10.0), lanes=(0.3, 3.0))
    lines = world.line_points.clone()
    lines[0, 0, 20:] = 500.0  # the first lane ends ahead, only the other goes on
    world = dataclasses.replace(world, line_points=lines)
    assert not known(measure(world), "lane_change_peak_speed_mps")


def crossing(delay_s: float) -> torch.Tensor:
    """Somebody at 5 m/s along y who passes (20, 0) so many seconds from now."""
    time_s = (torch.arange(STEPS) - NOW) * STEP_S
    y = 5.0 * (time_s - delay_s)
    return torch.stack([torch.full_like(y, 20.0), y, torch.full_like(y, torch.pi / 2)], -1)


def test_the_ego_crosses_first_and_how_much_time_is_left():
    # the ego passes (20, 0) at 2.0 s, the other at 3.53 s; half lengths take 0.2 s and 0.5 s
    found = measure(tiny_world(straight(10.0), [crossing(3.53)]))
    assert value(found, "post_encroachment_s") == pytest.approx(1.53 - 0.7, abs=1e-3)
    assert value(found, "went_first") == 1.0


def test_the_ego_gives_way_to_somebody_who_passed_before_the_window():
    found = measure(tiny_world(straight(10.0), [crossing(-0.53)]))
    assert value(found, "post_encroachment_s") == pytest.approx(2.53 - 0.7, abs=1e-3)
    assert value(found, "went_first") == 0.0


def test_a_stop_is_measured_over_its_last_metres():
    # 6 m/s, braking at 2 m/s2 from now: stands after 3 s
    time_s = (torch.arange(STEPS) - NOW) * STEP_S
    speed = (6.0 - 2.0 * time_s.clamp_min(0)).clamp_min(0.0)
    found = measure(tiny_world(from_speed(speed), speed_mps=speed))
    assert value(found, "stop_deceleration_mps2") == pytest.approx(2.0, abs=0.15)


def test_only_the_last_metres_before_the_first_standstill_count():
    speed = torch.tensor([[8.0, 4.0, 3.0, 1.0, 0.1, 5.0, 0.1]])
    acceleration = torch.tensor([[-9.0, -4.0, -3.0, -1.0, 0.0, 7.0, -7.0]])
    travelled = torch.tensor([[0.0, 2.0, 6.0, 7.5, 8.0, 9.0, 20.0]])
    mean, mask = stop_deceleration(speed, acceleration, travelled)
    assert mask.tolist() == [True]
    assert mean.item() == pytest.approx(2.0)  # of 3 and 1: those 2 m and 0.5 m before
    assert not stop_deceleration(speed[:, :4], acceleration[:, :4], travelled[:, :4])[1].any()


def test_an_ego_that_is_missing_in_the_window_is_not_measured():
    world = tiny_world(straight(10.0))
    mask = world.ego_mask.clone()
    mask[0, -1] = False
    assert not measure(dataclasses.replace(world, ego_mask=mask)).mask.any()
    assert measure(dataclasses.replace(world, ego_mask=mask), first=0).mask.any()


def test_a_window_beyond_the_world_is_refused():
    with pytest.raises(ValueError, match="reaches beyond the world"):
        measure(tiny_world(straight(10.0)), first=20)


def test_a_batch_gives_what_its_rows_give():
    worlds = [
        tiny_world(straight(10.0), [straight(10.0, x_m=30.0)], lanes=(0.0, 3.5)),
        tiny_world(lane_changing(3.0), [straight(15.0, x_m=-18.0, y_m=3.5)], lanes=(0.0, 3.5)),
        tiny_world(straight(9.0), [crossing(3.0)], lanes=(0.0, 3.5)),
    ]
    names = [f.name for f in dataclasses.fields(World) if f.name not in ("step_s", "now")]
    whole = dataclasses.replace(
        worlds[0], **{n: torch.cat([getattr(w, n) for w in worlds]) for n in names}
    )
    found = measure(whole)
    for row, world in enumerate(worlds):
        alone = measure(world)
        assert torch.equal(alone.mask[0], found.mask[row])
        torch.testing.assert_close(alone.values[0], found.values[row], atol=1e-4, rtol=1e-4)


def test_masked_agents_and_lines_change_nothing():
    world = tiny_world(straight(10.0), [straight(10.0, x_m=30.0)], lanes=(0.0, 3.5))
    odd = dataclasses.replace(
        tiny_world(
            straight(10.0), [straight(10.0, x_m=30.0), straight(3.0, x_m=9.0)], lanes=(0.0, 3.5)
        ),
        agent_mask=torch.tensor([True, False])[None, :, None].expand(1, 2, STEPS),
    )
    assert torch.equal(measure(world).values, measure(odd).values)


@given(st.floats(-3.1, 3.1), st.floats(-50, 50))
def test_turning_the_world_changes_nothing(turn_rad: float, shift_m: float):
    world = tiny_world(
        lane_changing(3.0), [straight(15.0, x_m=-18.0, y_m=3.5), straight(15.0, x_m=30.0, y_m=3.5)],
        lanes=(0.0, 3.5),
    )  # fmt: skip
    found, moved = measure(world), measure(turned(world, turn_rad, shift_m))
    assert torch.equal(found.mask, moved.mask)
    torch.testing.assert_close(found.values, moved.values, atol=5e-3, rtol=5e-3)


def turned(world: World, turn_rad: float, shift_m: float) -> World:
    cosine, sine = np.cos(turn_rad), np.sin(turn_rad)
    matrix = torch.tensor([[cosine, sine], [-sine, cosine]], dtype=torch.float32)

    def poses(old: torch.Tensor) -> torch.Tensor:
        places = old[..., :2] @ matrix + shift_m
        heading = torch.remainder(old[..., 2:] + turn_rad + torch.pi, 2 * torch.pi) - torch.pi
        return torch.cat([places, heading], -1)

    return dataclasses.replace(
        world,
        ego_poses=poses(world.ego_poses),
        agent_poses=poses(world.agent_poses),
        agent_velocities_mps=world.agent_velocities_mps @ matrix,
        line_points=world.line_points @ matrix + shift_m,
        route_points=world.route_points @ matrix + shift_m,
    )


def test_smoothing_agrees_with_scipy():
    scipy = pytest.importorskip("scipy.signal")
    signal = np.random.default_rng(0).normal(size=41)
    for derivative in (0, 1, 2):
        expected = scipy.savgol_filter(signal, 15, 2, deriv=derivative, delta=0.1)
        found = smoothed(torch.tensor(signal), step_s=0.1, derivative=derivative)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_the_noise_floor_is_what_the_docstring_says():
    slope = np.linalg.norm(smoothing_weights(41, 1), axis=1) / STEP_S
    assert slope[20] == pytest.approx(0.6, abs=0.01)
    assert slope[0] == pytest.approx(2.26, abs=0.01)
    bend = np.linalg.norm(smoothing_weights(41, 2), axis=1) / STEP_S**2
    np.testing.assert_allclose(bend, 3.1, atol=0.05)


def test_smoothing_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="window must be odd"):
        smoothing_weights(41, 0, window=10)
    with pytest.raises(ValueError, match="too short"):
        smoothing_weights(2, 0)


def test_angles_unwrap_both_ways():
    angle = torch.linspace(-9.0, 9.0, 40)
    wrapped = torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi
    for sign in (1.0, -1.0):
        found = unwrapped(sign * wrapped)
        torch.testing.assert_close(found - found[0], sign * (angle - angle[0]))


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(1, 6))
def test_stretches_against_a_loop(begins: list[bool], length: int):
    expected = [False] * (len(begins) + length - 1)
    for start, begin in enumerate(begins):
        if begin:
            expected[start : start + length] = [True] * length
    assert stretched(torch.tensor([begins]), length)[0].tolist() == expected


def steady(
    *, gap: list[float], speed: float = 10.0, leads: float = 10.0, braking: float = 0.0
) -> tuple[float, bool]:
    """The steady time gap of a window of 8 steps of 0.5 s."""
    count = len(gap)
    ahead = Leader(
        torch.tensor([gap]), torch.full((1, count), leads), torch.tensor([[g > 0 for g in gap]])
    )
    found, mask = steady_time_gap(
        ahead, torch.full((1, count), speed), torch.full((1, count), -braking), step_s=0.5
    )
    return found.item(), bool(mask)


def test_free_driving_by_hand():
    def free(gap: float = 0.0, speed: float = 10.0, along: float = 0.0, across: float = 0.0):
        ahead = Leader(
            torch.full((1, 4), gap), torch.full((1, 4), 9.0), torch.full((1, 4), gap > 0)
        )
        signals = (torch.full((1, 4), value) for value in (speed, along, across))
        return free_driving(ahead, *signals, step_s=0.3).all().item()

    assert free()
    assert free(gap=31.0)
    assert not free(gap=29.0)
    assert not free(speed=1.5)
    assert not free(along=-0.6)
    assert not free(across=-1.1)
    short = Leader(torch.zeros(1, 4), torch.zeros(1, 4), torch.zeros(1, 4, dtype=torch.bool))
    speeds = torch.tensor([[10.0, 10.0, 10.0, 1.0]])
    nothing = torch.zeros(1, 4)
    assert not free_driving(short, speeds, nothing, nothing, step_s=0.3).any()  # only 0.9 s


def test_a_steady_time_gap_by_hand():
    assert steady(gap=[20.0] * 8) == (2.0, True)
    # the last 8 of 9 steps have a leader: the first does not count
    assert steady(gap=[0.0] + [15.0] * 4 + [25.0] * 4) == (2.0, True)
    assert not steady(gap=[20.0] * 7)[1]
    assert not steady(gap=[20.0] * 7 + [0.0] + [20.0] * 7)[1]
    assert steady(gap=[20.0] * 8, leads=11.5)[1]
    assert not steady(gap=[20.0] * 8, leads=11.6)[1]
    assert not steady(gap=[20.0] * 8, leads=8.4)[1]
    assert steady(gap=[20.0] * 8, braking=0.7)[1]
    assert not steady(gap=[20.0] * 8, braking=0.8)[1]
    assert not steady(gap=[20.0] * 8, braking=-0.8)[1]
    assert not steady(gap=[20.0] * 8, speed=1.9, leads=1.9)[1]


def test_measures_must_be_complete():
    column = (torch.tensor([1.0]), torch.tensor([True]))
    with pytest.raises(ValueError, match="went_first"):
        measures_of({name: column for name in MEASURE_NAMES if name != "went_first"})
    odd = (torch.tensor([torch.nan]), torch.tensor([True]))
    assert not measures_of(dict.fromkeys(MEASURE_NAMES, odd)).mask.any()
