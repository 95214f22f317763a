"""Where a window of driving takes place: the facts that decide its type, from world and map."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data_prep.scenes.raw_scene import AREAS, ROAD_CLASSES
from driving.line_facts import LineFacts
from driving.simulation.frames import wrapped
from driving.style.features import WINDOW_STEPS
from driving.style.lane_frame import lane_frame, nearest_segment
from driving.style.scenario import Surroundings
from driving.world import AGENT_VEHICLE, LINE_CROSSWALK, World

LOOK_AHEAD_M = 15.0
MERGE_REACH_M = 40.0
OFF_ROUTE_M = 2.0
ON_ROUTE_M = 1.0
WAY_STRIDE = 5
_INTERSECTION, _ROUNDABOUT = AREAS.index("intersection"), AREAS.index("roundabout")
_MOTORWAY = ROAD_CLASSES.index("motorway")


def surroundings(
    world: World,
    facts: LineFacts,
    changes_lane: Bool[Tensor, " batch"],
    *,
    steps: int = WINDOW_STEPS,
) -> list[Surroundings]:
    """The facts of every sample, for the window that begins at the present.

    The lanes that count are those under the ego at the beginning, in the middle and at the end of
    the window, and 15 m straight ahead of where it ends.

    Args:
        world: The surroundings.
        facts: What the map says of them (`SceneStore.facts` of the same samples).
        changes_lane: Which egos change lane in the window.
        steps: Steps from the present to the window's end.
    """
    poses = world.ego_poses[:, world.now : world.now + steps + 1]
    last = poses[:, -1]
    ahead = last.clone()
    ahead[:, 0] += LOOK_AHEAD_M * last[:, 2].cos()
    ahead[:, 1] += LOOK_AHEAD_M * last[:, 2].sin()
    lane = lane_frame(world, torch.stack([poses[:, 0], poses[:, steps // 2], last, ahead], 1))
    line, there = lane.line.numpy(), lane.mask.numpy()
    row = np.arange(len(line))[:, None]
    areas = np.where(there, facts.line_areas[row, line], 0)
    classes = np.where(there, facts.line_road_classes[row, line], ROAD_CLASSES.index("unknown"))
    signals: np.ndarray = np.logical_and(there, facts.line_has_signal[row, line]).max(1)
    way = torch.cat([poses[:, ::WAY_STRIDE, :2], last[:, None, :2], ahead[:, None, :2]], 1)
    crosses = crosses_crosswalk(world, way).numpy()
    driven = poses[..., :2].diff(dim=1).norm(dim=-1).sum(-1).numpy()
    merges, joined = merging(world, facts, driven)
    limits, limit_known = lane.limit_mps.numpy(), lane.limit_mask.numpy()
    changed = changes_lane.numpy()
    return [
        Surroundings(
            road_class=ROAD_CLASSES[classes[number, 0]],
            areas=(
                AREAS[areas[number, 0]],
                AREAS[areas[number, 2]],
                AREAS[areas[number, 3]],
            ),
            has_signal=bool(signals[number]),
            crosses_crosswalk=bool(crosses[number]),
            speed_limit_mps=float(limits[number, 0]) if limit_known[number, 0] else None,
            merges_into_main=bool(merges[number]),
            others_merge=bool(joined[number]),
            changes_lane=bool(changed[number]),
        )
        for number in range(len(line))
    ]


def crosses_crosswalk(world: World, way: Float[Tensor, "batch vertex 2"]) -> Bool[Tensor, " batch"]:
    """Whether a way crosses the edge of a crosswalk."""
    start, end = world.line_points[:, :, :-1], world.line_points[:, :, 1:]
    there = world.line_mask[:, :, :-1] & world.line_mask[:, :, 1:]
    there = (there & (world.line_kinds == LINE_CROSSWALK)[..., None]).flatten(1)[:, None]
    edge = (end - start).flatten(1, 2)[:, None]
    move = way.diff(dim=1)[:, :, None]
    between = start.flatten(1, 2)[:, None] - way[:, :-1, None]
    turned = _cross(move, edge)
    safe = torch.where(turned.abs() > 1e-9, turned, 1.0)
    on_way, on_edge = _cross(between, edge) / safe, _cross(between, move) / safe
    meets = (on_way >= 0) & (on_way <= 1) & (on_edge >= 0) & (on_edge <= 1)
    return (meets & there & (turned.abs() > 1e-9)).flatten(1).any(-1)


def merging(
    world: World, facts: LineFacts, driven_m: Float[np.ndarray, " batch"]
) -> tuple[Bool[np.ndarray, " batch"], Bool[np.ndarray, " batch"]]:
    """Whether the ego's lane ends in a greater one, and whether somebody comes in from beside.

    Along the route, within 40 m or the way driven, a lane is reached into which another one leads
    as well. The ego merges where its own lane turns more than the other one. Somebody merges
    where the ego's does not and a vehicle is more than 2 m beside the route at the beginning of
    the window and within 1 m of it at its end. Intersections and roundabouts are no places to
    merge, but the junctions of a motorway are.
    """
    there = world.route_mask.numpy()
    points = world.route_points.numpy()
    here = np.hypot(*points.transpose(2, 0, 1))
    start = np.where(there, here, np.inf).argmin(1)
    lengths = np.hypot(*np.diff(points, axis=1).transpose(2, 0, 1))
    along = np.concatenate([np.zeros((len(points), 1)), lengths.cumsum(1)], 1)
    ahead_m = along - along[np.arange(len(points)), start][:, None]
    near = there & (ahead_m >= 0) & (ahead_m <= np.maximum(driven_m, MERGE_REACH_M)[:, None])
    areas, classes = facts.route_areas, facts.route_road_classes
    crossing = np.isin(areas, (_INTERSECTION, _ROUNDABOUT)) & (classes != _MOTORWAY)
    own = facts.route_line_ids[np.arange(len(points)), start][:, None]
    enters = near & facts.route_merges & (facts.route_line_ids != own) & ~crossing
    before = np.roll(facts.route_is_side & ~crossing, 1, axis=1)
    before[:, 0] = False
    changes = facts.route_line_ids != np.roll(facts.route_line_ids, 1, axis=1)
    side = (enters & changes & before).any(1)
    joined = enters.any(1) & ~side & _comes_in(world)
    return side, joined


def _comes_in(world: World) -> Bool[np.ndarray, " batch"]:
    """Whether a vehicle beside the route at the present is on it at the window's end."""
    end = world.now + WINDOW_STEPS
    if end >= world.ego_poses.shape[1] or not world.agent_mask.shape[1]:
        return np.zeros(len(world.ego_poses), dtype=bool)
    route, known = world.route_points, world.route_mask
    usable = (known[:, :-1] & known[:, 1:])[:, None]
    vehicles = (world.agent_kinds == AGENT_VEHICLE) & world.agent_mask[:, :, world.now]
    away = []
    for step in (world.now, end):
        places = world.agent_poses[:, :, step, :2]
        away.append(nearest_segment(places, route[:, :-1], route[:, 1:], usable)[0])
    turned = wrapped(world.agent_poses[:, :, end, 2] - world.ego_poses[:, None, end, 2]).abs()
    comes = (away[0] > OFF_ROUTE_M) & (away[1] <= ON_ROUTE_M) & (turned < torch.pi / 4)
    return (comes & vehicles & world.agent_mask[:, :, end]).any(-1).numpy()


def _cross(a: Float[Tensor, "*left 2"], b: Float[Tensor, "*right 2"]) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
