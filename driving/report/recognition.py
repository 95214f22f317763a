"""The style of a ride as a passenger would name it: what is noticed, and who learns from it."""

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from data_prep.scenes.raw_scene import LIGHTS
from data_prep.scenes.style_dimensions import STYLE_LABELS
from driving.evaluation.tables import START
from driving.style.measures import MEASURE_NAMES

LOOK_EVERY_S = 2
FOLLOWING_M = 60.0
MOVING_MPS, STANDING_MPS = 2.0, 0.5


def ride_features(rides: pl.DataFrame) -> Float[np.ndarray, "row feature"]:
    """What a passenger would notice of a ride: its measures, its course, the scene it began in.

    The scene says what to expect (the same ride is slow on a free road and fast in a queue); it is
    the same under every style, so on its own it gives none away.
    """
    names = [*MEASURE_NAMES, "start_speed_mps", *(name for name, _ in START)]
    columns = [column_of(rides, name) for name in names]
    limit, began = column_of(rides, "start_limit_mps"), column_of(rides, "start_speed_mps")
    mean, peak = column_of(rides, "mean_speed_mps"), column_of(rides, "peak_speed_mps")
    light = np.array([LIGHTS.index(shown) for shown in rides["start_light"]], np.float64)
    columns += [light, mean / limit, peak / limit, mean - began]
    return np.column_stack([*columns, _course(rides)])


def _course(rides: pl.DataFrame) -> Float[np.ndarray, "row feature"]:
    """Speed, gap, time gap and leader every two seconds; how closely one follows, and queues."""
    driven, gap, leader = (
        np.array(rides[name].to_list(), np.float64) for name in ("driven_m", "gap_m", "leader_mps")
    )
    speed = np.diff(driven, axis=1, prepend=0.0)  # over the second before each look
    gap, leader = gap[:, 1:], leader[:, 1:]
    time_gap = gap / np.maximum(speed, MOVING_MPS)
    follows = (gap < FOLLOWING_M) & (speed > MOVING_MPS)
    closest = np.where(follows, time_gap, np.inf).min(1)
    count = follows.sum(1)
    usual = np.where(follows, time_gap, 0.0).sum(1) / np.where(count, count, np.nan)
    queues = np.where(speed[:, -1] < STANDING_MPS, gap[:, -1], np.nan)
    looks = slice(LOOK_EVERY_S - 1, None, LOOK_EVERY_S)
    seen = np.concatenate([values[:, looks] for values in (speed, gap, time_gap, leader)], 1)
    closest = np.where(np.isfinite(closest), closest, np.nan)
    return np.column_stack([seen, usual, closest, queues])


def classified(
    rides: pl.DataFrame, asked: Int[np.ndarray, " row"], *, parts: int = 10
) -> Int[np.ndarray, " row"]:
    """The style a classifier names for each ride, trained on rides in other recordings.

    With one recording alone it has learnt on the rides it judges; a report says how many there are.
    Where no feature varies it names the middle style.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import GroupKFold

    features = ride_features(rides)
    recordings = rides["recording"].to_numpy()
    folds = min(parts, len(np.unique(recordings)))
    every = np.arange(len(asked))
    split = GroupKFold(folds).split(features, asked, recordings) if folds > 1 else [(every, every)]
    found = np.full(len(asked), STYLE_LABELS.index("normal"))
    for learnt, judged in split:
        told = [len(np.unique(c[np.isfinite(c)])) > 1 for c in features[learnt].T]  # varies at all
        if not any(told):
            continue
        model = HistGradientBoostingClassifier(
            max_iter=120,
            learning_rate=0.08,
            min_samples_leaf=8,
            l2_regularization=1.0,
            max_features=0.5,
            random_state=0,
        )
        model.fit(features[learnt][:, told], asked[learnt])
        found[judged] = model.predict(features[judged][:, told])
    return found


def column_of(rows: pl.DataFrame, name: str) -> Float[np.ndarray, " row"]:
    """A column, nan where nothing is known."""
    return rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
