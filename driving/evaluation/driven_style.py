"""The style a ride shows, read with the statistics and rules that labelled the logs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from data_prep.artifact import Artifact
from data_prep.scenes.style_dimensions import StyleLabel
from driving.style.features import WINDOW_STEPS, measure
from driving.style.judge import given_scale
from driving.style.label import Cut, aggressiveness, labels
from driving.style.measure_table import MEASURE_TABLE
from driving.style.measures import Measures
from driving.style.scale import Context, StyleScale
from driving.style.tables import STYLES
from driving.style.thresholds import Thresholds
from driving.style.vector import style_vector
from driving.world import World

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


def measured_windows(world: World, steps: int) -> list[Measures]:
    """What is measured in each window of a ride that begins at the present of a world."""
    return [measure(world, first=world.now + first) for first in window_firsts(steps)]


def mean_style(windows: Sequence[StyleRows]) -> StyleRows:
    """The mean style over windows, dimension by dimension over those in which it is known."""
    values, mask = (np.stack(parts) for parts in zip(*windows, strict=True))
    count = mask.sum(0)
    mean = (values * mask).sum(0) / np.maximum(count, 1)
    return mean.astype(np.float32), count > 0
