"""Every planner obeys the laws of the slot; planners are found by walking the folder."""

from dataclasses import fields, replace
from functools import partial

import pytest
import torch
from torch import Tensor

import driving.planner
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.planner import PLAN_STEPS, Planner, PlannerInput, Plans, StyleCondition
from tests.driving import planner_fixtures
from tests.driving.small_worlds import (
    STYLES,
    behind_leader,
    bend,
    crossing_pedestrian,
    no_condition,
    present_input,
    red_light,
    slow_leader_and_free_lane,
    stack,
    straight_road,
    without_route,
)
from tests.test_slots import variants

PLANNERS = variants(driving.planner, Planner)
SMALL = {"DiffusionPlanner": partial(DiffusionPlanner, **planner_fixtures.SMALL)}
"""How planners that need more than defaults are built small: name to a function of nothing."""

AGENT_FIELDS = ("agents", "agent_mask", "agent_sizes_m", "agent_kinds")
LINE_FIELDS = ("lines", "line_mask", "line_kinds", "line_limits_mps", "line_limit_mask")
LINE_FIELDS += ("line_lights",)
ROUTE_FIELDS = ("route", "route_mask", "route_limits_mps", "route_limit_mask", "route_lights")


def small_planner(variant: type[Planner]) -> Planner:
    """One of a class, with fixed weights if it has any."""
    torch.manual_seed(0)
    built = SMALL.get(variant.__name__, variant)()
    if isinstance(built, torch.nn.Module):
        built.eval()
    return built


@pytest.fixture(scope="module", params=PLANNERS, ids=lambda variant: variant.__name__)
def planner(request) -> Planner:
    return small_planner(request.param)


@pytest.fixture(scope="module")
def scene() -> PlannerInput:
    """Seven different scenes."""
    worlds = [
        straight_road(),
        bend(radius_m=-30.0),
        behind_leader(limit_mps=None),
        crossing_pedestrian(),
        red_light(),
        slow_leader_and_free_lane(rear_gap_m=20.0),
        without_route(behind_leader(speed_mps=0.0, leader_mps=0.0)),
    ]
    return present_input(stack(worlds))


@pytest.fixture(scope="module")
def style() -> StyleCondition:
    torch.manual_seed(1)
    mask = torch.rand(7, STYLES) < 0.7
    return StyleCondition(torch.where(mask, torch.rand(7, STYLES) * 2 - 1, 0.0), mask)


def plan(planner: Planner, scene: PlannerInput, style: StyleCondition, seed: int = 3) -> Plans:
    with torch.no_grad():
        return planner.plan(scene, style, seed=seed)


def assert_same(found: Plans, expected: Plans) -> None:
    torch.testing.assert_close(found.poses, expected.poses, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.scores, expected.scores, atol=2e-3, rtol=1e-4)


def test_the_folder_holds_the_rule_based_planners():
    assert {"ConstantVelocity", "Idm", "Pdm"} <= {variant.__name__ for variant in PLANNERS}


def test_shapes_and_finite_numbers(planner, scene, style):
    found = plan(planner, scene, style)
    assert found.poses.shape[0] == 7
    assert found.poses.shape[2:] == (PLAN_STEPS, 3)
    assert found.scores.shape == found.poses.shape[:2]
    assert found.poses.isfinite().all()
    assert not found.scores.isnan().any()
    assert (found.scores < torch.inf).all()
    assert found.scores.isfinite().any(-1).all()


def test_headings_are_continuous(planner, scene, style):
    turns = plan(planner, scene, style).best[..., 2].diff(dim=-1)
    assert turns.abs().max() < 2.0


def test_the_same_input_and_seed_give_the_same_plans(planner, scene, style):
    first, second = plan(planner, scene, style), plan(planner, scene, style)
    assert torch.equal(first.poses, second.poses)
    assert torch.equal(first.scores, second.scores)


def test_a_batch_gives_what_its_rows_give(planner, scene, style):
    together = plan(planner, scene, style)
    for row in range(7):
        alone = plan(planner, scene.rows(slice(row, row + 1)), style.rows(slice(row, row + 1)))
        assert_same(alone, together.rows(slice(row, row + 1)))


def padded(scene: PlannerInput, names: tuple[str, ...], count: int) -> PlannerInput:
    """More rows that are masked, at the end of the second axis."""

    def longer(value: Tensor) -> Tensor:
        return torch.cat((value, value.new_zeros(len(value), count, *value.shape[2:])), 1)

    return replace(scene, **{name: longer(getattr(scene, name)) for name in names})


@pytest.mark.parametrize("names", [AGENT_FIELDS, LINE_FIELDS, ROUTE_FIELDS])
def test_padding_changes_nothing(planner, scene, style, names):
    longer = padded(scene, names, 5)
    assert_same(plan(planner, longer, style), plan(planner, scene, style))


@pytest.mark.parametrize("names", [AGENT_FIELDS, LINE_FIELDS])
def test_where_padding_stands_changes_nothing(planner, scene, style, names):
    """Masked rows before the others; their order among themselves stays."""
    longer = padded(scene, names, 3)
    turned = {name: getattr(longer, name).roll(3, dims=1) for name in names}
    assert_same(plan(planner, replace(longer, **turned), style), plan(planner, scene, style))


def test_a_planner_without_style_ignores_it_and_one_with_style_takes_none(planner, scene):
    found = plan(planner, scene, no_condition(7))
    assert found.poses.isfinite().all()


def test_values_of_masked_dimensions_do_not_count(planner, scene):
    nothing = no_condition(7)
    dirty = replace(nothing, values=torch.full_like(nothing.values, 0.7))
    assert_same(plan(planner, scene, dirty), plan(planner, scene, nothing))


def test_nothing_waits_for_the_device(planner, scene, style):
    """On the meta device there are no values to look at: `.item()` or a boolean gather raises."""
    if any(True for _ in getattr(planner, "parameters", list)()):
        pytest.skip("networks are checked with their own weights on the meta device elsewhere")
    with torch.device("meta"):
        found = planner.plan(scene.to("meta"), style.to("meta"), seed=0)
    assert found.poses.device.type == "meta"


def test_input_is_not_written_to(planner, scene, style):
    before = {field.name: getattr(scene, field.name).clone() for field in fields(scene)}
    plan(planner, scene, style)
    for name, value in before.items():
        assert torch.equal(getattr(scene, name), value)
