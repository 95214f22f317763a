"""The measures of a window of driving: the same function for logs and for rolled-out worlds."""

from dataclasses import replace

import torch
from torch.nn.functional import pad

from driving.style.conflicts import post_encroachment
from driving.style.kinematic_measures import (
    distance_travelled,
    lateral_acceleration,
    mean_where,
    peak_and_mean_acceleration,
    peak_braking,
    speed_to_limit,
    stop_deceleration,
)
from driving.style.lane_changes import lane_change, rear_gap
from driving.style.lane_frame import lane_frame
from driving.style.leader import (
    free_driving,
    leader,
    smallest_gap,
    smallest_time_to_collision,
    steady_time_gap,
)
from driving.style.measures import Measures, measures_of
from driving.style.smoothing import smoothed, unwrapped
from driving.world import World

WINDOW_STEPS = 40


def measure(world: World, *, first: int | None = None, steps: int = WINDOW_STEPS) -> Measures:
    """Everything in `MEASURES`, of the ego's motion in one window per sample.

    Speed and heading are smoothed before they are differentiated (`smoothing.smoothed`, which also
    says what noise remains); places are smoothed too. Nothing is measured of a sample whose ego was
    not seen throughout the window.

    Args:
        world: The surroundings; its ego may have been driven by a log or by a planner.
        first: Step at which the window begins; the present when not given.
        steps: Steps to the last one of the window, which is looked at too.

    Raises:
        ValueError: If the window reaches beyond the world.
    """
    first = world.now if first is None else first
    if first < 0 or first + steps >= world.ego_poses.shape[1]:
        raise ValueError(
            f"the window of steps {first} to {first + steps} reaches beyond the world, which has "
            f"{world.ego_poses.shape[1]} steps."
        )
    world = _with_somebody(world)
    window = slice(first, first + steps + 1)
    step_s = world.step_s
    places = smoothed(world.ego_poses[:, window, :2].mT, step_s=step_s).mT
    raw_heading = unwrapped(world.ego_poses[:, window, 2])
    heading = smoothed(raw_heading, step_s=step_s)
    poses = torch.cat([places, heading[..., None]], -1)
    raw_speed = world.ego_speed_mps[:, window]
    speed = smoothed(raw_speed, step_s=step_s)
    acceleration = smoothed(raw_speed, step_s=step_s, derivative=1)
    jerk = smoothed(raw_speed, step_s=step_s, derivative=2)
    sideways = lateral_acceleration(speed, smoothed(raw_heading, step_s=step_s, derivative=1))
    travelled = distance_travelled(places)
    lane = lane_frame(world, poses)
    change = lane_change(lane, speed, heading, step_s=step_s)
    ahead = leader(world, poses, first=first)
    margin, went_first = post_encroachment(world, poses, first=first)
    peak, mean = peak_and_mean_acceleration(acceleration)
    free = free_driving(ahead, speed, acceleration, sideways, step_s=step_s)
    whole = world.ego_mask[:, window].all(-1)
    always = torch.ones_like(whole)
    columns = {
        "mean_speed_mps": (speed.mean(-1), always),
        "peak_speed_mps": (speed.amax(-1), always),
        "speed_to_limit": speed_to_limit(speed, lane.limit_mps, lane.limit_mask),
        "free_speed_mps": mean_where(speed, free),
        "free_speed_to_limit": speed_to_limit(speed, lane.limit_mps, lane.limit_mask & free),
        "peak_acceleration_mps2": (peak, always),
        "mean_acceleration_mps2": (mean, always),
        "peak_braking_mps2": (peak_braking(acceleration), always),
        "peak_jerk_mps3": (jerk.abs().amax(-1), always),
        "jerk_deviation_mps3": (jerk.std(-1, correction=0), always),
        "heading_change_rad": ((heading[:, -1] - heading[:, 0]).abs(), always),
        "peak_lateral_acceleration_mps2": (sideways.abs().amax(-1), always),
        "distance_m": (travelled[:, -1], always),
        "time_gap_s": steady_time_gap(ahead, speed, acceleration, step_s=step_s),
        "smallest_time_to_collision_s": smallest_time_to_collision(ahead, speed),
        "smallest_gap_m": smallest_gap(ahead),
        "lane_change_peak_speed_mps": (change.peak_speed_mps, change.changed),
        "lane_change_peak_acceleration_mps2": (change.peak_acceleration_mps2, change.changed),
        "rear_gap_m": rear_gap(world, poses, lane, change, first=first),
        "post_encroachment_s": margin,
        "went_first": went_first,
        "stop_deceleration_mps2": stop_deceleration(speed, acceleration, travelled),
    }
    return measures_of({name: (value, mask & whole) for name, (value, mask) in columns.items()})


def _with_somebody(world: World) -> World:
    """The same world with a masked agent where there is none, so that minima have something."""
    if world.agent_mask.shape[1]:
        return world
    return replace(
        world,
        agent_poses=pad(world.agent_poses, (0, 0, 0, 0, 0, 1)),
        agent_velocities_mps=pad(world.agent_velocities_mps, (0, 0, 0, 0, 0, 1)),
        agent_mask=pad(world.agent_mask, (0, 0, 0, 1)),
        agent_sizes_m=pad(world.agent_sizes_m, (0, 0, 0, 1)),
        agent_kinds=pad(world.agent_kinds, (0, 1)),
    )
