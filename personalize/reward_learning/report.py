"""What a reward model is worth on comparisons that it did not learn from."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.evaluation.group_report import group_report
from personalize.evaluation.intervals import bootstrap_interval
from personalize.reward_learning.data import RewardData
from personalize.reward_learning.judged_split import JudgedSplit
from personalize.rewards.preference_calibration import (
    expected_calibration_error,
    fitted_temperature,
    preference_accuracy,
    preference_log_loss,
)
from personalize.rewards.preference_model import PreferenceModel

RESAMPLES = 2000
LEAST_CONTEXTS = 5
"""Contexts below which a group is not called the worst."""


@torch.no_grad()
def calibrated(model: PreferenceModel, data: RewardData) -> dict[str, Any]:
    """Set a model's temperature and scale in place, and say what it is worth before and after.

    The temperature is set on validation comparisons and reported on those of the test; the scale is
    that of all training candidates.
    """
    before = preference_report(split_logits(model, data.test), data.test)
    win_share = (1 + data.validation.comparisons.strength) / 2
    model.temperature.copy_(fitted_temperature(split_logits(model, data.validation), win_share))
    model.standardize(data.training.table.context, data.training.table.response)
    after = preference_report(split_logits(model, data.test), data.test)
    return {"temperature": float(model.temperature), "before": before, "after": after}


@torch.no_grad()
def split_logits(
    model: PreferenceModel, split: JudgedSplit, *, at_once: int = 4096
) -> Float[Tensor, " comparison"]:
    """The model's logit of every comparison of two."""
    numbers = torch.arange(len(split.comparisons)).split(at_once)
    parts = [model.logit(split.table.compared(split.comparisons, some)) for some in numbers]
    return torch.cat(parts)


def preference_report(
    logit: Float[Tensor, " comparison"], split: JudgedSplit, *, seed: int = 0
) -> dict[str, Any]:
    """Log-loss, accuracy, calibration error and the worst group, as plain values.

    Whole contexts are drawn for the intervals. Comparisons of equals count in the log-loss alone.
    """
    comparisons, origin = split.comparisons, split.comparison_origin
    win_share = (1 + comparisons.strength) / 2
    surprise = preference_log_loss(logit, win_share).double().numpy()
    right = preference_accuracy(logit).double().numpy()
    decided = (comparisons.strength > 0).numpy()
    found: dict[str, Any] = {
        "comparisons": len(comparisons),
        "log_loss": _interval(surprise, origin, seed),
        "calibration_error": expected_calibration_error(logit, win_share),
    }
    if decided.any():
        found["accuracy"] = _interval(right[decided], origin[decided], seed)
        annotator = comparisons.annotator.numpy()[decided]
        found["worst_group"] = _worst(right[decided], annotator, origin[decided], seed)
    return found


def _interval(values: np.ndarray, groups: np.ndarray, seed: int) -> Mapping[str, float]:
    return asdict(bootstrap_interval(values, groups=groups, resamples=RESAMPLES, seed=seed))


def _worst(
    right: Float[np.ndarray, " comparison"],
    annotator: Int[np.ndarray, " comparison"],
    origin: Int[np.ndarray, " comparison"],
    seed: int,
) -> dict[str, Any] | None:
    """The annotators' group with the least accuracy, context by context; None of fewer than two."""
    both, number = np.unique(np.stack([annotator, origin], 1), axis=0, return_inverse=True)
    number = number.ravel()
    mean = np.bincount(number, weights=right) / np.bincount(number)
    names, sizes = np.unique(both[:, 0], return_counts=True)
    large = np.isin(both[:, 0], names[sizes >= LEAST_CONTEXTS])
    if len(np.unique(both[large, 0])) < 2:
        return None
    groups = [f"{name}" for name in both[large, 0]]
    report = group_report(mean[large], groups, resamples=RESAMPLES, seed=seed)
    return {
        "annotator": int(report.worst),
        "accuracy": asdict(report.worst_utility),
        "gap": asdict(report.gap),
        "chance_gap": report.chance_gap,
    }
