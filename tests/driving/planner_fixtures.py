"""Made-up scenes for planners: numbers at random, or futures whose speed follows the style."""

from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional

from driving.planner.batch import (
    SUB_SCORES,
    PlanningBatch,
    ScoredProposals,
    TeacherFutures,
)
from driving.planner.planner import PLAN_STEPS, PlannerInput, StyleCondition

STYLE = 8
SMALL: dict[str, Any] = {
    "width": 16, "heads": 2, "feedforward": 24, "anchors": 4, "encoder_layers": 1
}  # fmt: skip


def random_scene(
    rows: int = 5, *, agents: int = 4, lines: int = 6, places: int = 23, seed: int = 0
) -> PlannerInput:
    """A scene of random numbers with random holes; 0 where a mask is false."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=generator)

    def chosen(*shape: int, share: float = 0.8) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) < share

    def kinds(count: int, *shape: int) -> torch.Tensor:
        return torch.randint(count, shape, generator=generator)

    history, points = 11, 10
    ego_mask = chosen(rows, history)
    ego_mask[:, -1] = True
    ego = numbers(rows, history, 4, scale=3.0) * ego_mask[..., None]
    ego[:, -1, :3] = 0
    agent_mask = chosen(rows, agents, history) & chosen(rows, agents, 1)
    line_mask = chosen(rows, lines, points, share=0.9) & chosen(rows, lines, 1)
    limit_mask = chosen(rows, lines) & line_mask.any(-1)
    lengths = torch.randint(0, places + 1, (rows, 1), generator=generator)
    route_mask = torch.arange(places) < lengths
    route_limit_mask = chosen(rows, places) & route_mask
    return PlannerInput(
        ego_history=ego,
        ego_history_mask=ego_mask,
        ego_size_m=4.0 + numbers(rows, 2, scale=0.2),
        agents=numbers(rows, agents, history, 5, scale=8.0) * agent_mask[..., None],
        agent_mask=agent_mask,
        agent_sizes_m=(3.0 + numbers(rows, agents, 2)) * agent_mask.any(-1)[..., None],
        agent_kinds=kinds(5, rows, agents) * agent_mask.any(-1),
        lines=numbers(rows, lines, points, 2, scale=20.0) * line_mask[..., None],
        line_mask=line_mask,
        line_kinds=kinds(5, rows, lines) * line_mask.any(-1),
        line_limits_mps=13.9 * limit_mask,
        line_limit_mask=limit_mask,
        line_lights=kinds(4, rows, lines) * line_mask.any(-1),
        route=_routes(numbers(rows, 3), places) * route_mask[..., None],
        route_mask=route_mask,
        route_limits_mps=13.9 * route_limit_mask,
        route_limit_mask=route_limit_mask,
        route_lights=kinds(4, rows, places) * route_mask,
    )


def _routes(drawn: torch.Tensor, places: int) -> torch.Tensor:
    """Gentle bends from 10 m behind the ego, half a metre or so beside it."""
    along = 5.0 * torch.arange(places) - 10
    heading = 0.1 * drawn[:, :1] + 0.01 * drawn[:, 1:2] * along
    steps = 5 * torch.stack((heading.cos(), heading.sin()), -1)
    points = steps.cumsum(1) - steps[:, :1]
    return (
        points - torch.stack((torch.full_like(drawn[:, 0], 10.0), 0.5 * drawn[:, 2]), -1)[:, None]
    )


def padded_scene(scene: PlannerInput) -> PlannerInput:
    """The same with an absent agent and line in front and behind, and a longer route."""

    def wide(value: torch.Tensor) -> torch.Tensor:
        empty = torch.zeros_like(value[:, :1])
        return torch.cat([empty, value, empty, empty], 1)

    def long(value: torch.Tensor) -> torch.Tensor:
        pad = [0, 0] * (value.ndim - 2) + [0, 13]
        return functional.pad(value, pad)

    groups = ("agents", "agent_mask", "agent_sizes_m", "agent_kinds", "lines", "line_mask",
              "line_kinds", "line_limits_mps", "line_limit_mask", "line_lights")  # fmt: skip
    routes = ("route", "route_mask", "route_limits_mps", "route_limit_mask", "route_lights")
    return replace(
        scene,
        **{name: wide(getattr(scene, name)) for name in groups},
        **{name: long(getattr(scene, name)) for name in routes},
    )


def random_style(rows: int, *, seed: int = 0) -> StyleCondition:
    """Random values, three quarters of them asked for."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, STYLE, generator=generator) < 0.75
    return StyleCondition((2 * torch.rand(rows, STYLE, generator=generator) - 1) * mask, mask)


def no_style(rows: int) -> StyleCondition:
    """Nothing is asked for."""
    return StyleCondition(torch.zeros(rows, STYLE), torch.zeros(rows, STYLE, dtype=torch.bool))


def speed_style(values: torch.Tensor) -> StyleCondition:
    """Styles that ask for a speed and nothing else."""
    style = no_style(len(values))
    style.values[:, 0] = values
    style.mask[:, 0] = True
    return style


def constant_speed_futures(speeds_mps: torch.Tensor) -> torch.Tensor:
    """Straight ahead."""
    future = torch.zeros(len(speeds_mps), PLAN_STEPS, 3)
    future[..., 0] = speeds_mps[:, None] * 0.5 * torch.arange(1, PLAN_STEPS + 1)
    return future


def random_futures(rows: int, *, seed: int = 0) -> torch.Tensor:
    """Arcs at a steady speed."""
    generator = torch.Generator().manual_seed(seed)
    speeds = 12 * torch.rand(rows, 1, generator=generator)
    turns = 0.05 * torch.randn(rows, 1, generator=generator)
    distance = speeds * 0.5 * torch.arange(1, PLAN_STEPS + 1)
    heading = turns * distance
    half = torch.sinc(heading / 2 / torch.pi) * distance
    return torch.stack([half * (heading / 2).cos(), half * (heading / 2).sin(), heading], -1)


def random_batch(
    rows: int = 5, *, seed: int = 0, teacher: bool = False, proposals: bool = False
) -> PlanningBatch:
    """A batch of random scenes and arcs; row 0 was logged for 2 s only."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(rows, PLAN_STEPS, dtype=torch.bool)
    mask[0, 4:] = False
    styles = [random_style(rows, seed=seed + number) for number in range(3)]
    taught = TeacherFutures(
        torch.stack([random_futures(rows, seed=seed + 7 + number) for number in range(3)], 1),
        torch.rand(rows, 3, generator=generator) < 0.7,
        torch.stack([style.values for style in styles], 1),
        torch.stack([style.mask for style in styles], 1),
        (torch.rand(rows, 3, 3, generator=generator) - 0.5)
        * torch.tensor([0.0, 1.0, 1.0])[:, None],
    )
    known = torch.rand(rows, 4, len(SUB_SCORES), generator=generator) < 0.8
    scored = ScoredProposals(
        torch.stack([random_futures(rows, seed=seed + 20 + number) for number in range(4)], 1),
        torch.rand(rows, 4, len(SUB_SCORES), generator=generator) * known,
        known,
    )
    return PlanningBatch(
        random_scene(rows, seed=seed),
        random_style(rows, seed=seed),
        random_futures(rows, seed=seed) * mask[..., None],
        mask,
        proposals=scored if proposals else None,
        teacher=taught if teacher else None,
    )
