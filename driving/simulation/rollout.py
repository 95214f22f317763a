"""Closed loop: plan, drive half a second by tracker and bicycle, look again; a batch at a time.

The loop has no memory but its state. Safety gates stand outside the planner's scores, and so
outside any style: they see every candidate as it would be driven and can only forbid.
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from driving.planner.planner import PLAN_STEPS, Planner, Plans, StyleCondition
from driving.planner_input import HISTORY_STEPS, planner_input
from driving.simulation.agents import Traffic, advance, traffic_of
from driving.simulation.frames import from_frame
from driving.simulation.kinematics import (
    STEP_S,
    STEPS_PER_PLAN_STEP,
    plan_to_reference,
    present_motion,
    track,
)
from driving.simulation.slowing import lost_speed_mps2, slowing_on
from driving.simulation.state import Motion
from driving.world import World

PLAN_SPAN = PLAN_STEPS * STEPS_PER_PLAN_STEP


@runtime_checkable
class Gate(Protocol):
    """A check that forbids candidates."""

    def __call__(self, world: World, motion: Motion, /) -> Bool[Tensor, "batch candidate"]:
        """Which candidates may be driven.

        Args:
            world: As it is when the plan is made (`world.now`), with nothing of the logged future:
                over the next four seconds, everybody goes on as `predicted` and lights stay.
            motion: How tracker and bicycle would drive each candidate, from the present on.
        """
        ...


@dataclass(frozen=True)
class LoopState:
    """Everything that the loop knows at one step.

    Attributes:
        world: The ego and the others are as rolled out up to `step`, and logged from there on.
        step: Index of the world's steps.
        ego: Motion since the present of the world's log, with it.
        traffic: Those who react; nobody if everybody is replayed.
    """

    world: World
    step: int
    ego: Motion
    traffic: Traffic | None


@dataclass(frozen=True)
class Rollout:
    """What happened in closed loop, from the present of the log on (which is the first step).

    Attributes:
        ego: How the ego drove, in the world's frame.
        agent_poses: Everybody else, as replayed or as they reacted.
        agent_velocities_mps: Along x and y.
        agent_mask: Where they were.
        plans: The plans that were followed, in the world's frame, one per planning.
        replan_s: Seconds from one planning to the next.
    """

    ego: Motion
    agent_poses: Float[Tensor, "batch agent step 3"]
    agent_velocities_mps: Float[Tensor, "batch agent step 2"]
    agent_mask: Bool[Tensor, "batch agent step"]
    plans: Float[Tensor, "batch plan time 3"]
    replan_s: float

    def as_world(self, world: World) -> World:
        """The world with what happened in place of its log, cut where the rollout ends."""
        now, steps = world.now, self.ego.poses.shape[1]
        whole = slice(0, now + steps)
        return replace(
            world,
            ego_poses=torch.cat((world.ego_poses[:, :now], self.ego.poses), 1),
            ego_speed_mps=torch.cat((world.ego_speed_mps[:, :now], self.ego.speed_mps), 1),
            ego_mask=torch.cat(
                (world.ego_mask[:, :now], torch.ones_like(self.ego.speed_mps, dtype=torch.bool)), 1
            ),
            agent_poses=torch.cat((world.agent_poses[:, :, :now], self.agent_poses), 2),
            agent_velocities_mps=torch.cat(
                (world.agent_velocities_mps[:, :, :now], self.agent_velocities_mps), 2
            ),
            agent_mask=torch.cat((world.agent_mask[:, :, :now], self.agent_mask), 2),
            line_lights=world.line_lights[..., whole],
            route_lights=world.route_lights[..., whole],
        )


def first_state(world: World, *, reactive: bool) -> LoopState:
    """The loop at the present of a world's log.

    Raises:
        ValueError: If the world's steps are not 0.1 s or its past is shorter than planners see.
    """
    if abs(world.step_s - STEP_S) > 1e-4:
        raise ValueError(f"The loop runs in steps of {STEP_S} s; the world has {world.step_s:g} s.")
    if world.now + 1 < HISTORY_STEPS:
        raise ValueError(
            f"Planners see {HISTORY_STEPS} steps; before the world's present there are "
            f"{world.now}, so build it with more history."
        )
    past = slice(world.now + 1 - HISTORY_STEPS, world.now + 1)
    history = torch.cat((world.ego_poses[:, past], world.ego_speed_mps[:, past, None]), -1)
    ego = present_motion(history, world.ego_mask[:, past], world.ego_size_m[:, 0])
    return LoopState(world, world.now, ego, traffic_of(world) if reactive else None)


def step(
    state: LoopState, plan: Float[Tensor, "batch time 3"], *, steps: int = STEPS_PER_PLAN_STEP
) -> LoopState:
    """The loop some steps of 0.1 s later.

    Args:
        state: Where the loop is.
        plan: In the frame of the ego as it then is.
        steps: How many steps to follow it.
    """
    start = state.ego.poses[:, -1]
    length_m = state.world.ego_size_m[:, 0]
    reference = plan_to_reference(from_frame(plan, start), length_m, start)
    driven = track(state.ego, reference, length_m, steps=steps)
    world, traffic = state.world, state.traffic
    if traffic is not None:
        traffic, world = advance(traffic, world, state.step, steps)
    span = slice(state.step + 1, state.step + 1 + steps)
    poses, speeds = world.ego_poses.clone(), world.ego_speed_mps.clone()
    seen = world.ego_mask.clone()
    poses[:, span], speeds[:, span] = driven.poses[:, 1:], driven.speed_mps[:, 1:]
    seen[:, span] = True
    world = replace(world, ego_poses=poses, ego_speed_mps=speeds, ego_mask=seen)
    return LoopState(world, state.step + steps, _joined(state.ego, driven), traffic)


def _joined(before: Motion, after: Motion) -> Motion:
    """Motions of which the second begins where the first ends."""
    return Motion(
        torch.cat((before.poses, after.poses[:, 1:]), 1),
        torch.cat((before.speed_mps, after.speed_mps[:, 1:]), 1),
        torch.cat((before.acceleration_mps2, after.acceleration_mps2[:, 1:]), 1),
        torch.cat((before.steering_rad, after.steering_rad[:, 1:]), 1),
        torch.cat((before.steering_rate_radps, after.steering_rate_radps[:, 1:]), 1),
    )


def roll_out(
    world: World,
    planner: Planner,
    condition: StyleCondition,
    *,
    duration_s: float = 4.0,
    reactive: bool = False,
    seed: int = 0,
    gate: Gate | None = None,
) -> Rollout:
    """A planner that drives every sample of a world, planning anew every 0.5 s.

    Args:
        world: With a logged future at least as long as the rollout.
        planner: Sees nothing but the present and the past.
        condition: The style that is asked for.
        duration_s: How long to drive; a multiple of 0.5 s.
        reactive: Whether other vehicles react; otherwise everybody is replayed from the log.
        seed: Of the first planning; each further one adds 1.
        gate: Forbids candidates: the best one that it lets pass is driven, and the best of all
            where it lets none pass.

    Raises:
        ValueError: If the rollout is longer than the world or no multiple of 0.5 s.
    """
    steps = round(duration_s / STEP_S)
    future = world.ego_poses.shape[1] - 1 - world.now
    if steps <= 0 or steps % STEPS_PER_PLAN_STEP or abs(steps * STEP_S - duration_s) > 1e-6:
        raise ValueError(f"duration_s must be a multiple of 0.5, got {duration_s:g}.")
    if steps > future:
        raise ValueError(
            f"duration_s is {duration_s:g} but the world has only {future * STEP_S:g} s of future."
        )
    state = first_state(world, reactive=reactive)
    plans = []
    for number in range(steps // STEPS_PER_PLAN_STEP):
        scene = planner_input(state.world, state.step)
        found = planner.plan(scene, condition, seed=seed + number)
        best = found.best if gate is None else gated(state, found, gate)
        plans.append(from_frame(best, state.ego.poses[:, -1]))
        state = step(state, best)
    span = slice(world.now, world.now + steps + 1)
    return Rollout(
        state.ego,
        state.world.agent_poses[:, :, span],
        state.world.agent_velocities_mps[:, :, span],
        state.world.agent_mask[:, :, span],
        torch.stack(plans, 1),
        STEPS_PER_PLAN_STEP * STEP_S,
    )


def gated(state: LoopState, plans: Plans, gate: Gate) -> Float[Tensor, "batch time 3"]:
    """The best plan that a gate lets pass, or the best of all where it lets none pass."""
    start = state.ego.poses[:, -1]
    length_m = state.world.ego_size_m[:, :1]
    count = plans.poses.shape[1]
    frames = start[:, None].expand(-1, count, -1)
    reference = plan_to_reference(from_frame(plans.poses, frames), length_m, frames)
    ego = Motion(*(getattr(state.ego, name)[:, None] for name in Motion.__dataclass_fields__))
    passes = gate(predicted(state.world, state.step), track(ego, reference, length_m))
    passes = passes | ~passes.any(-1, keepdim=True)
    return Plans(plans.poses, plans.scores.masked_fill(~passes, -torch.inf)).best


def predicted(world: World, present: int) -> World:
    """The world as someone would expect it at a step, for 4 s.

    Everybody keeps their direction and speed; who has slowed over the last half second, by at most
    6 m/s2, goes on slowing until they stand.
    """
    steps = PLAN_SPAN
    time_s = (torch.arange(steps, device=world.ego_poses.device) + 1) * STEP_S
    velocity = world.agent_velocities_mps[:, :, present]
    speed = velocity.norm(dim=-1, keepdim=True)
    braking = _braking(world, present)[..., None]
    moved_m, after_mps, _ = slowing_on(speed, braking, time_s)
    direction = (velocity / speed.clamp_min(1e-6))[:, :, None]
    velocities = direction * after_mps[..., None]
    poses = world.agent_poses[:, :, present : present + 1].repeat(1, 1, steps, 1)
    poses[..., :2] += direction * moved_m[..., None]
    seen = world.agent_mask[:, :, present : present + 1].expand(-1, -1, steps)
    ego = world.ego_poses[:, present : present + 1].repeat(1, steps, 1)
    way = world.ego_speed_mps[:, present : present + 1, None] * time_s[:, None]
    ego[..., :2] += way * torch.stack((ego[..., 2].cos(), ego[..., 2].sin()), -1)
    past = slice(0, present + 1)

    def held(values: Tensor) -> Tensor:
        now = values[..., present : present + 1]
        return torch.cat((values[..., past], now.expand(*now.shape[:-1], steps)), -1)

    return replace(
        world,
        now=present,
        ego_poses=torch.cat((world.ego_poses[:, past], ego), 1),
        ego_speed_mps=held(world.ego_speed_mps),
        ego_mask=held(world.ego_mask),
        agent_poses=torch.cat((world.agent_poses[:, :, past], poses), 2),
        agent_velocities_mps=torch.cat((world.agent_velocities_mps[:, :, past], velocities), 2),
        agent_mask=torch.cat((world.agent_mask[:, :, past], seen), 2),
        line_lights=held(world.line_lights),
        route_lights=held(world.route_lights),
    )


def _braking(world: World, present: int) -> Float[Tensor, "batch agent"]:
    """Loss of speed over the last half second, where both moments were seen."""
    before = max(present - STEPS_PER_PLAN_STEP, 0)
    then, now = (world.agent_velocities_mps[:, :, at].norm(dim=-1) for at in (before, present))
    seen = world.agent_mask[:, :, before] & world.agent_mask[:, :, present]
    seconds = max(present - before, 1) * STEP_S
    return lost_speed_mps2(then, now, seen, seconds)
