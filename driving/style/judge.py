"""What the rules make of windows: style vectors and labels, by statistics of training windows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from data_prep.artifact import read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from driving.style.label import Cut, Labelled, aggressiveness, fit_cuts, labels
from driving.style.scale import StyleScale
from driving.style.thresholds import Thresholds
from driving.style.vector import style_vector
from driving.style.windows import Windows


@dataclass(frozen=True)
class Judgement:
    """What the rules make of all windows.

    Attributes:
        scale: Statistics of the measures, from training windows.
        cuts: Where the labels are cut, from training windows.
        style: Values and mask of the style vectors.
        labelled: Label and rule of every window.
    """

    scale: StyleScale
    cuts: Mapping[str, Cut]
    style: tuple[Float[np.ndarray, "sample style"], Bool[np.ndarray, "sample style"]]
    labelled: list[Labelled]


def judge_windows(
    windows: Windows,
    samples: pl.DataFrame,
    thresholds: Thresholds,
    given: tuple[StyleScale, Mapping[str, Cut]] | None = None,
) -> Judgement:
    """Style vector, label and rule of every window.

    Args:
        windows: What was measured.
        samples: Rows of `SAMPLES`; those whose split is `train` fit the statistics.
        thresholds: When a window is aggressive, normal or conservative.
        given: Statistics and cuts of other samples, instead of fitting.

    Raises:
        InputError: If nothing is given and there is no training sample.
    """
    training = (samples["split"] == "train").to_numpy()
    contexts = windows.contexts
    if given is None:
        if not training.any():
            raise InputError(
                "no sample belongs to the training split, so nothing says what is usual; "
                "give --scale, a styles artifact of other scenes."
            )
        scale = StyleScale.fit(
            windows.values[training],
            windows.mask[training],
            [context for context, kept in zip(contexts, training, strict=True) if kept],
            fewest_samples=thresholds.fewest_samples_of_scale,
        )
    else:
        scale = given[0]
    deviations, known = scale.apply(windows.values, windows.mask, contexts)
    style = style_vector(windows.values, windows.mask, deviations, known)
    scores, enough = aggressiveness(*style, windows.scenario_types, thresholds)
    if given is None:
        types = [name for name, kept in zip(windows.scenario_types, training, strict=True) if kept]
        cuts = fit_cuts(scores[training], enough[training], types, thresholds)
    else:
        cuts = dict(given[1])
    found = labels(
        scores,
        enough,
        style[0],
        windows.scenario_types,
        (windows.values, windows.mask),
        cuts=cuts,
        thresholds=thresholds,
    )
    return Judgement(scale, cuts, style, found)


def given_scale(folder: Path | None) -> tuple[StyleScale, Mapping[str, Cut]] | None:
    """Statistics and cuts of another artifact `styles`, or nothing.

    Raises:
        ArtifactMismatch: If it is of another kind or damaged.
    """
    if folder is None:
        return None
    artifact = read_artifact(folder, kind="styles")
    try:
        cuts = {name: Cut(**cut) for name, cut in artifact.json("cuts").items()}
    except (TypeError, AttributeError) as error:
        raise ArtifactMismatch(f"{folder} holds no cuts of labels: {error}.") from error
    return StyleScale.from_json(artifact.json("scale")), cuts
