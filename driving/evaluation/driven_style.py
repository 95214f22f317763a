"""The style a ride shows, read with the statistics and rules that labelled the logs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from data_prep.artifact import Artifact
from data_prep.scenes.style_dimensions import StyleLabel
from driving.style.features import WINDOW_STEPS, measure
from driving.style.judge import given_scale
from driving.style.label import Cut, aggressiveness, labels
from driving.style.lane_frame import FARTHEST_M
from driving.style.measure_table import MEASURE_TABLE
from driving.style.measures import Measures
from driving.style.scale import Context, StyleScale
from driving.style.tables import STYLES
from driving.style.thresholds import Thresholds
from driving.style.vector import style_vector
from driving.world import LINE_LANE, World

StyleRows = tuple[Float[np.ndarray, "sample style"], Bool[np.ndarray, "sample style"]]
"""Style vectors and masks."""


@dataclass(frozen=True)
class DrivenStyle:
    """The style of a batch of rides.

    Attributes:
        values: As in `styles`; 0 where the mask is false.
        mask: What could be measured.
        labels: What the rules call each ride.
    """

    values: Float[np.ndarray, "sample style"]
    mask: Bool[np.ndarray, "sample style"]
    labels: list[StyleLabel]


@dataclass(frozen=True)
class StyleReader:
    """Reads the style of rides as `driving annotate` read that of the logs.

    A ride is compared with what is usual in the context of the log it replaces: the same type of
    scene and road, and a leader if the log had one. Statistics are those of windows of four
    seconds, so a longer ride is read window by window (`window_firsts`): its style is the mean of
    what its windows show, dimension by dimension over those in which it could be measured. Its
    label is read from that mean, with the cuts of single windows: a driver who is aggressive in
    one window and normal in the next one is about as aggressive as somebody half as far in both.
    The absolute bounds are asked of the ride as a whole, since one moment can pass them.

    Attributes:
        scale: Statistics of the measures.
        cuts: Where labels are cut.
        thresholds: Bounds and weights.
        contexts: Context of every sample.
    """

    scale: StyleScale
    cuts: Mapping[str, Cut]
    thresholds: Thresholds
    contexts: Mapping[int, Context]

    @classmethod
    def of(cls, styles: Artifact) -> "StyleReader":
        """The reader that belongs to an artifact `styles`.

        Raises:
            ArtifactMismatch: If the artifact holds no statistics.
        """
        found = given_scale(styles.folder)
        scale, cuts = found if found is not None else (StyleScale({}), {})
        rows = (
            styles.table(MEASURE_TABLE)
            .select("sample_id", "leader", "road_class")
            .join(styles.table(STYLES).select("sample_id", "scenario_type"), on="sample_id")
        )
        contexts = {
            row["sample_id"]: Context(row["scenario_type"], row["leader"], row["road_class"])
            for row in rows.iter_rows(named=True)
        }
        return cls(scale, cuts, Thresholds(**styles.json("thresholds")), contexts)

    def read(
        self,
        sample_ids: Int[np.ndarray, " sample"],
        windows: Sequence[Measures],
        whole: Measures,
    ) -> DrivenStyle:
        """The style of rides of these samples.

        Args:
            sample_ids: Rows of the samples table.
            windows: What was measured in the windows of the rides, at least one.
            whole: What was measured of the rides from beginning to end.
        """
        contexts = [self.contexts[int(number)] for number in sample_ids]
        style, there = mean_style([self._style(window, contexts) for window in windows])
        types = [context.scenario_type for context in contexts]
        scores, enough = aggressiveness(style, there, types, self.thresholds)
        found = labels(
            scores,
            enough,
            style,
            types,
            (whole.values.numpy(), whole.mask.numpy()),
            cuts=self.cuts,
            thresholds=self.thresholds,
        )
        return DrivenStyle(style, there, [one.label for one in found])

    def _style(self, measures: Measures, contexts: Sequence[Context]) -> StyleRows:
        values, mask = measures.values.numpy(), measures.mask.numpy()
        deviations, known = self.scale.apply(values, mask, contexts)
        return style_vector(values, mask, deviations, known)


def window_firsts(steps: int) -> list[int]:
    """Where windows of four seconds begin that cover a ride from its first to its last step.

    As few as cover it, evenly spread; those of a ride that is no multiple of four seconds overlap.

    Args:
        steps: Steps of the ride, at least those of a window.

    Example:
        >>> window_firsts(40), window_firsts(80), window_firsts(90)
        ([0], [0, 40], [0, 25, 50])
    """
    count = math.ceil(steps / WINDOW_STEPS)
    return np.linspace(0, steps - WINDOW_STEPS, count).round().astype(int).tolist()


def measured(world: World, steps: int) -> tuple[Measures, list[Measures]]:
    """What is measured of a ride that begins at the present of a world: all of it, and by windows.

    Args:
        world: In which the ego is where the ride took it.
        steps: Steps of the ride.
    """
    world = _with_near_lanes(world, steps)
    whole = measure(world, steps=steps)
    if steps == WINDOW_STEPS:
        return whole, [whole]
    return whole, [measure(world, first=world.now + first) for first in window_firsts(steps)]


def _with_near_lanes(world: World, steps: int) -> World:
    """The world with the lanes alone whose box touches that of the ride: no others are measured by.

    Lanes farther than `FARTHEST_M` count for nothing there, and most pieces of a map are.
    """
    ride = world.ego_poses[:, world.now : world.now + steps + 1, :2]
    low, high = ride.amin(1) - FARTHEST_M, ride.amax(1) + FARTHEST_M
    there = world.line_mask[..., None]
    lows = torch.where(there, world.line_points, torch.inf).amin(2)
    highs = torch.where(there, world.line_points, -torch.inf).amax(2)
    near = ((lows <= high[:, None]) & (highs >= low[:, None])).all(-1)
    near = near & (world.line_kinds == LINE_LANE)
    count = max(int(near.sum(-1).amax()), 1)
    order = near.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[:, :count]
    row = torch.arange(len(order), device=order.device)[:, None]
    return replace(
        world,
        line_points=world.line_points[row, order],
        line_mask=world.line_mask[row, order],
        line_kinds=world.line_kinds[row, order],
        line_limits_mps=world.line_limits_mps[row, order],
        line_limit_mask=world.line_limit_mask[row, order],
        line_lights=world.line_lights[row, order],
    )


def mean_style(windows: Sequence[StyleRows]) -> StyleRows:
    """The mean style over windows, dimension by dimension over those in which it is known."""
    values, mask = (np.stack(parts) for parts in zip(*windows, strict=True))
    count = mask.sum(0)
    mean = (values * mask).sum(0) / np.maximum(count, 1)
    return mean.astype(np.float32), count > 0
