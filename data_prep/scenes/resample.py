"""A track of any clock on the steps of a fixed one."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from data_prep.scenes.raw_scene import RawTrack

STEP_S = 0.1
LONGEST_GAP_S = 0.55
_SNAP = 0.1  # of a step: clocks jitter


@dataclass(frozen=True)
class SteppedTrack:
    """One road user at the steps at which it was seen.

    Attributes:
        step: Rising step numbers; a step at which it was not seen is left out.
        position_m: Centre of the box, in the frame of the source.
        heading_rad: In (-pi, pi].
        velocity_mps: Along x and y of that frame.
    """

    step: Int[np.ndarray, " step"]
    position_m: Float[np.ndarray, "step 2"]
    heading_rad: Float[np.ndarray, " step"]
    velocity_mps: Float[np.ndarray, "step 2"]


def resampled(
    track: RawTrack, *, step_s: float = STEP_S, longest_gap_s: float = LONGEST_GAP_S
) -> SteppedTrack:
    """The track at every step between two of its states, linear in between.

    Headings turn along the shorter arc. Between states further apart than the longest gap there
    are no rows. A velocity the source does not state is the central difference of its positions
    (one-sided at the ends of a gap); a lone state without a velocity has none and is dropped,
    except of a static object, which stands.

    Args:
        track: A checked track.
        step_s: Seconds of a step.
        longest_gap_s: Seconds between two states that are still joined; the default lets a
            source of 2 Hz be filled in.

    Returns:
        The track; without steps where none of its states lies near enough to one.

    Raises:
        ValueError: If a duration is not positive.
    """
    if step_s <= 0 or longest_gap_s <= 0:
        raise ValueError(f"durations must be positive, got {step_s} s and {longest_gap_s} s.")
    time = track.time_s.astype(float)
    position = np.stack([track.x_m, track.y_m], axis=1).astype(float)
    run = np.concatenate([[0], np.cumsum(np.diff(time) > longest_gap_s * (1 + 1e-9))])
    velocity = _velocity(track, time, position, run)
    known = ~np.isnan(velocity[:, 0])

    snap_s = _SNAP * step_s
    first = max(0, math.ceil((time[0] - snap_s) / step_s))
    step = np.arange(first, math.floor((time[-1] + snap_s) / step_s) + 1)
    wanted = step * step_s
    nearest = _nearest(time, wanted)
    at_state = np.abs(time[nearest] - wanted) <= snap_s
    before = np.clip(np.searchsorted(time, wanted, side="right") - 1, 0, max(len(time) - 2, 0))
    after = np.minimum(before + 1, len(time) - 1)
    joined = (run[before] == run[after]) & (after > before)
    # At the edge of a gap the state itself is taken; elsewhere the point between two states.
    low = np.where(joined, before, nearest)
    high = np.where(joined, after, nearest)
    kept = (joined | at_state) & known[low] & known[high]
    chosen = np.flatnonzero(kept)
    step, wanted, low, high = step[chosen], wanted[chosen], low[chosen], high[chosen]

    span = np.where(high > low, time[high] - time[low], 1.0)
    share = np.clip((wanted - time[low]) / span, 0.0, 1.0)
    turn = _wrapped(track.heading_rad[high] - track.heading_rad[low])
    return SteppedTrack(
        step,
        position[low] + share[:, None] * (position[high] - position[low]),
        _wrapped(track.heading_rad[low] + share * turn),
        velocity[low] + share[:, None] * (velocity[high] - velocity[low]),
    )


def _nearest(
    time: Float[np.ndarray, " state"], wanted: Float[np.ndarray, " step"]
) -> Int[np.ndarray, " step"]:
    after = np.clip(np.searchsorted(time, wanted), 0, len(time) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(np.abs(time[before] - wanted) <= np.abs(time[after] - wanted), before, after)


def _wrapped(angle_rad: Float[np.ndarray, " any"]) -> Float[np.ndarray, " any"]:
    """The same angle in (-pi, pi]."""
    return np.pi - (np.pi - angle_rad) % (2 * np.pi)


def _velocity(
    track: RawTrack,
    time: Float[np.ndarray, " state"],
    position: Float[np.ndarray, "state 2"],
    run: Int[np.ndarray, " state"],
) -> Float[np.ndarray, "state 2"]:
    """Stated velocity, else central differences within each run; NaN for a lone state."""
    if track.velocity_mps is not None:
        return track.velocity_mps.astype(float)
    velocity = np.full(position.shape, 0.0 if track.kind == "static" else np.nan)
    starts = np.flatnonzero(np.diff(run, prepend=-1))
    for low, high in zip(starts, [*starts[1:], len(time)], strict=True):
        if high - low > 1:
            velocity[low:high] = np.gradient(position[low:high], time[low:high], axis=0)
    return velocity
