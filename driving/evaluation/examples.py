"""A few scenes as plain JSON, so that a report can draw who drove where under which style."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from driving.simulation.state import Motion
from driving.world import World

STRIDE = 2
NEAR_M = 60.0
MOST_AGENTS = 16


def chosen_examples(
    sample_ids: Int[np.ndarray, " sample"], count: int, *, seed: int = 0
) -> Int[np.ndarray, " chosen"]:
    """Samples to show: the same whichever planner is shown, drawn by the seed and their number."""
    keys = [np.random.Generator(np.random.PCG64([seed, number])).random() for number in sample_ids]
    return np.sort(sample_ids[np.argsort(keys, kind="stable")[:count]])


def scene_example(world: World, row: int) -> dict[str, Any]:
    """The road around one sample of a world, without any drive."""
    lines = [
        {
            "kind": int(world.line_kinds[row, line]),
            "points": _numbers(points[mask]),
        }
        for line, (points, mask) in enumerate(
            zip(world.line_points[row], world.line_mask[row], strict=True)
        )
        if mask.any()
    ]
    return {
        "sample_id": int(world.sample_ids[row]),
        "step_s": round(world.step_s * STRIDE, 6),
        "ego_size": _numbers(world.ego_size_m[row]),
        "lines": lines,
        "drives": {},
    }


def drive_example(world: World, ride: Motion, row: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """One drive through one sample: the ego, and who was near it.

    Args:
        world: Where everybody was while the ego drove.
        ride: How the ego drove, [batch, step].
        row: Which sample of the batch.
        facts: Numbers to print beside the picture.
    """
    steps = ride.speed_mps.shape[1]
    window = slice(world.now, world.now + steps)
    ego = ride.poses[row]
    poses, mask = world.agent_poses[row, :, window], world.agent_mask[row, :, window]
    distance = (poses[..., :2] - ego[: poses.shape[1], :2]).norm(dim=-1)
    nearest = distance.masked_fill(~mask, float("inf")).amin(-1)
    chosen = nearest.argsort()[:MOST_AGENTS]
    agents = []
    for agent in chosen[nearest[chosen] < NEAR_M].tolist():
        seen = mask[agent, ::STRIDE].tolist()
        places = _numbers(poses[agent, ::STRIDE])
        agents.append(
            {
                "kind": int(world.agent_kinds[row, agent]),
                "size": _numbers(world.agent_sizes_m[row, agent]),
                "poses": [
                    place if there else None for place, there in zip(places, seen, strict=True)
                ],
            }
        )
    return {
        "ego": _numbers(ego[::STRIDE]),
        "speed_mps": _numbers(ride.speed_mps[row, ::STRIDE]),
        "agents": agents,
        "facts": dict(facts),
    }


def _numbers(values: Any) -> Any:  # noqa: ANN401  (nested lists of floats)
    return np.round(np.asarray(values, np.float64), 3).tolist()
