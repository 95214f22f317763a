"""The style a ride shows, read with the statistics and rules that labelled the logs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from data_prep.artifact import Artifact
from data_prep.scenes.style_dimensions import StyleLabel
from driving.style.judge import given_scale
from driving.style.label import Cut, aggressiveness, labels
from driving.style.measure_table import MEASURE_TABLE
from driving.style.measures import Measures
from driving.style.scale import Context, StyleScale
from driving.style.tables import STYLES
from driving.style.thresholds import Thresholds
from driving.style.vector import style_vector


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
    scene and road, and a leader if the log had one.

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

    def read(self, sample_ids: Int[np.ndarray, " sample"], measures: Measures) -> DrivenStyle:
        """The style of rides of these samples."""
        contexts = [self.contexts[int(number)] for number in sample_ids]
        values, mask = measures.values.numpy(), measures.mask.numpy()
        deviations, known = self.scale.apply(values, mask, contexts)
        style, there = style_vector(values, mask, deviations, known)
        types = [context.scenario_type for context in contexts]
        scores, enough = aggressiveness(style, there, types, self.thresholds)
        found = labels(
            scores,
            enough,
            style,
            types,
            (values, mask),
            cuts=self.cuts,
            thresholds=self.thresholds,
        )
        return DrivenStyle(style, there, [one.label for one in found])
