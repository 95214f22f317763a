"""The fields of StyleDrive's label files, worked out from five seconds of an ego and the others.

Definitions follow the example record of their documentation where it settles them: standard
deviations divide by the number of frames, `yaw_diff` is in radians *per second* towards the next
frame with the last value repeated, `front_frame` and `safe_frame` look at every second frame, and
the ratios count only frames with a leader. Where it does not, the definition is ours and says so.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from driving.world import AGENT_CYCLIST, AGENT_PEDESTRIAN, AGENT_VEHICLE, World

FRAME_COUNT, FRAME_S = 10, 0.5
NO_LEADER, UNSAFE, SAFE, OVERSAFE = -1, 0, 1, 2

_LOOK_AHEAD_M, _LOOK_BACK_M, _FAR_M, _BESIDE_M = 60.0, 30.0, 20.0, (1.0, 5.0)
_UNSAFE_S, _OVERSAFE_S, _STANDSTILL_MPS = 1.0, 4.0, 0.5
_TURN_RAD, _STEADY_MPS2 = 0.35, 0.25
_FOOTWAY_M, _MERGE_GAP_M = 4.0, 10.0


@dataclass(frozen=True)
class TenFrames:
    """The ten frames, half a second apart, that a label looks at.

    Attributes:
        poses: Centre and heading of the ego's box in any fixed frame.
        velocities_mps: Of the ego, forward and to the left.
        accelerations_mps2: Of the ego, forward and to the left.
        size_m: Length and width of the ego.
        others: Centre and heading of the others' boxes in the same frame.
        other_mask: Where they were seen.
        other_sizes_m: Length and width.
        other_kinds: One of `driving.world.AGENT_...`.
        lane_change_frame: When the ego changes lane; None if it does not.
        merging: Two lanes become one here.
    """

    poses: Float[np.ndarray, "frame 3"]
    velocities_mps: Float[np.ndarray, "frame 2"]
    accelerations_mps2: Float[np.ndarray, "frame 2"]
    size_m: Float[np.ndarray, "2"]
    others: Float[np.ndarray, "other frame 3"]
    other_mask: Bool[np.ndarray, "other frame"]
    other_sizes_m: Float[np.ndarray, "other 2"]
    other_kinds: Int[np.ndarray, " other"]
    lane_change_frame: int | None = None
    merging: bool = False

    def __post_init__(self) -> None:
        if len(self.poses) != FRAME_COUNT:
            raise ValueError(f"A label looks at {FRAME_COUNT} frames, got {len(self.poses)}.")


def ten_frames(
    world: World, row: int, *, lane_change_frame: int | None = None, merging: bool = False
) -> TenFrames:
    """The five seconds after the present of one sample, as the log has them.

    A world knows speed along the heading only, so the ego's velocity to the left is 0 and its
    acceleration to the left is speed times turning; both accelerations are differences over half
    a second or, in between, a second.

    Args:
        world: With five seconds of future.
        row: Which sample.
        lane_change_frame: When the ego changes lane; None if it does not.
        merging: Two lanes become one here.

    Raises:
        ValueError: If the world's future is too short or the ego was not seen all the time.
    """
    stride = round(FRAME_S / world.step_s)
    steps = world.now + stride * np.arange(FRAME_COUNT + 1)
    if steps[-1] >= world.ego_poses.shape[1]:
        raise ValueError(f"A label looks at {FRAME_COUNT * FRAME_S:g} s of future; give the world.")
    if not bool(world.ego_mask[row, steps].all()):
        raise ValueError(f"the ego of sample {row} was not seen for the whole of its future.")
    poses = world.ego_poses[row, steps].double().numpy()
    speed = world.ego_speed_mps[row, steps].double().numpy()
    turning = np.gradient(np.unwrap(poses[:, 2]), FRAME_S)
    accelerations = np.stack([np.gradient(speed, FRAME_S), speed * turning], -1)
    seen = world.agent_mask[row][:, steps[1:]].numpy()
    return TenFrames(
        poses=poses[1:],
        velocities_mps=np.stack([speed, np.zeros_like(speed)], -1)[1:],
        accelerations_mps2=accelerations[1:],
        size_m=world.ego_size_m[row].double().numpy(),
        others=world.agent_poses[row][:, steps[1:]].double().numpy(),
        other_mask=seen,
        other_sizes_m=world.agent_sizes_m[row].double().numpy(),
        other_kinds=world.agent_kinds[row].numpy(),
        lane_change_frame=lane_change_frame,
        merging=merging,
    )


def styledrive_fields(future: TenFrames) -> dict[str, Any]:
    """Every field but the token, the label and the type, rounded to two decimals as theirs are.

    A leader is a vehicle or cyclist in the strip as wide as both boxes straight ahead of the ego;
    its distance is the free gap between the bumpers, at most 60 m (ours). A frame is unsafe below
    one second of time gap and oversafe above four (ours; in their example 3.7 s are safe); at
    standstill it is safe.

    Args:
        future: What happens.

    Returns:
        Plain JSON values.

    Source:
        Names and example: `docs/dataset_stat.md` of github.com/AIR-THU/StyleDrive.
    """
    fields = {**_motion(future), **_following(future), **_behind(future), **_context(future)}
    return {name: _rounded(value) for name, value in fields.items()}


def _motion(future: TenFrames) -> dict[str, Any]:
    forward, leftward = future.velocities_mps.T
    along, across = future.accelerations_mps2.T
    speed, acceleration = np.hypot(forward, leftward), np.hypot(along, across)
    yaw = future.poses[:, 2]
    turning = np.diff(np.unwrap(yaw)) / FRAME_S
    turned = float(turning.sum() * FRAME_S)
    return {
        "vx_ego": forward,
        "vy_ego": leftward,
        "v_ego": speed,
        "ax_ego": along,
        "ay_ego": across,
        "a_ego": acceleration,
        "yaw": np.angle(np.exp(1j * yaw)),
        "yaw_diff": np.append(turning, turning[-1]),
        "v_avg": speed.mean(),
        "v_std": speed.std(),
        "vy_max": np.abs(leftward).max(),
        "a_max": acceleration.max(),
        "ax_avg": along.mean(),
        "a_std": acceleration.std(),
        "ini_direction_judge": _side(turned, _TURN_RAD, ("right", "straight", "left")),
        "speed_mode": _side(
            float(along.mean()), _STEADY_MPS2, ("decelerating", "steady", "accelerating")
        ),
    }


def _following(future: TenFrames) -> dict[str, Any]:
    gaps = _leader_gaps(future)
    speed = np.hypot(*future.velocities_mps.T)
    moving = speed >= _STANDSTILL_MPS
    time_gap_s = np.where(moving, gaps / np.maximum(speed, _STANDSTILL_MPS), _UNSAFE_S)
    states = np.select(
        [np.isinf(gaps), time_gap_s < _UNSAFE_S, time_gap_s > _OVERSAFE_S],
        [NO_LEADER, UNSAFE, OVERSAFE],
        SAFE,
    )
    looked_at = slice(1, None, 2)
    shown = states[looked_at]
    led = max(int((shown != NO_LEADER).sum()), 1)
    nearest = int(gaps.argmin())
    nearest_m = float(gaps[nearest])
    led_at_all = bool(np.isfinite(nearest_m))
    return {
        "min_front_frame": (nearest, round(nearest_m, 2)) if led_at_all else (-1, -1),
        "front_frame": np.where(np.isinf(gaps), -1.0, gaps)[looked_at],
        "safe_frame": shown,
        "safe_ratio": float((shown == SAFE).sum()) / led,
        "unsafe_ratio": float((shown == UNSAFE).sum()) / led,
        "oversafe_ratio": float((shown == OVERSAFE).sum()) / led,
        "with_lead": "No" if not led_at_all else "Far" if nearest_m > _FAR_M else "Near",
    }


def _behind(future: TenFrames) -> dict[str, Any]:
    """The nearest vehicle in the strip beside the ego, behind it; free gap lengthwise (ours)."""
    ahead, left = _relative(future)
    free = -ahead - _lengths(future)
    here = future.other_mask & (future.other_kinds == AGENT_VEHICLE)[:, None]
    here &= (ahead < 0) & (free < _LOOK_BACK_M)
    nearest = {}
    for name, sideways in (("left_rear", left), ("right_rear", -left)):
        beside = here & (sideways > _BESIDE_M[0]) & (sideways <= _BESIDE_M[1])
        nearest[name] = float(np.maximum(free[beside], 0.0).min()) if beside.any() else None
    fields: dict[str, Any] = {f"has_{name}": gap is not None for name, gap in nearest.items()}
    fields |= {f"{name}_min": gap for name, gap in nearest.items()}
    if future.merging:
        gaps = [gap for gap in nearest.values() if gap is not None]
        fields["merge_risk"] = "Yes" if gaps and min(gaps) < _MERGE_GAP_M else "No"
    return fields


def _context(future: TenFrames) -> dict[str, Any]:
    ahead, left = _relative(future)
    walking = future.other_mask & (future.other_kinds == AGENT_PEDESTRIAN)[:, None]
    walking &= (ahead > 0) & (ahead < _LOOK_BACK_M) & (np.abs(left) < _FOOTWAY_M)
    changed = future.lane_change_frame
    return {
        "pedestrians": "Yes" if walking.any() else "No",
        "lane_change_frame": -1 if changed is None else changed,
    }


def _leader_gaps(future: TenFrames) -> Float[np.ndarray, " frame"]:
    """Free gap at each frame; infinite without a leader."""
    ahead, left = _relative(future)
    drives = np.isin(future.other_kinds, (AGENT_VEHICLE, AGENT_CYCLIST))[:, None]
    in_strip = np.abs(left) < (future.size_m[1] + future.other_sizes_m[:, 1:]) / 2
    gaps = np.maximum(ahead - _lengths(future), 0.0)
    leads = future.other_mask & drives & in_strip & (ahead > 0) & (gaps <= _LOOK_AHEAD_M)
    return np.where(leads, gaps, np.inf).min(0, initial=np.inf)


def _lengths(future: TenFrames) -> Float[np.ndarray, "other 1"]:
    """Half the lengths of both boxes."""
    return (future.size_m[0] + future.other_sizes_m[:, :1]) / 2


def _relative(
    future: TenFrames,
) -> tuple[Float[np.ndarray, "other frame"], Float[np.ndarray, "other frame"]]:
    """How far ahead and how far to the left of the ego's centre the others' centres are."""
    offset = future.others[..., :2] - future.poses[:, :2]
    cosine, sine = np.cos(future.poses[:, 2]), np.sin(future.poses[:, 2])
    x, y = offset[..., 0], offset[..., 1]
    return x * cosine + y * sine, y * cosine - x * sine


def _side(value: float, limit: float, names: tuple[str, str, str]) -> str:
    return names[1 + int(value > limit) - int(value < -limit)]


def _rounded(value: Any) -> Any:  # noqa: ANN401  (JSON)
    if isinstance(value, np.ndarray):
        return [_rounded(part) for part in value.tolist()]
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float):
        return round(float(value), 2)
    return value
