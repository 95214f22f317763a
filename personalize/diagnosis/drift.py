"""What moves along a run: where answers go, and whether proxy and true reward part."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from data_prep.errors import InputError
from personalize.diagnosis.held_out import Answered, HeldOut
from personalize.evaluation.reward_hacking import hacking_report
from personalize.evaluation.value_drift import drift_report, value_gap

THIRDS = ("low", "middle", "high")
GATES = ("fails a gate", "passes all")


def drifts(
    found: HeldOut, answers: Sequence[Answered], steps: Sequence[int]
) -> list[dict[str, Any]]:
    """Drift of answers between categories, and between thirds of every reward.

    Args:
        found: Held-out comparisons, whose value gap stands beside each drift.
        answers: Of the policy before tuning, of those on the way, of the last.
        steps: Steps of tuning behind each.
    """
    options, said = found.options, []
    for name, categories, numbers, compared in _axes(found, answers):
        mass = np.stack(
            [
                [(numbers_of == place).mean(1) for place in range(len(categories))]
                for numbers_of in numbers
            ]
        ).transpose(0, 2, 1)
        report = drift_report(
            mass, np.asarray(steps), categories, resamples=options.resamples, seed=options.seed
        )
        winner, loser = (compared[rows] for rows in found.rows())
        gaps = value_gap(winner, loser, categories, contexts=found.origins, seed=options.seed)
        told = asdict(report)
        told["categories"] = [
            {**one, "value_gap": asdict(gaps[one["name"]])} for one in told["categories"]
        ]
        course = mass.mean(1)
        said.append({
            "axis": name, "probes": mass.shape[1], "steps": list(steps), **told,
            "course": {each: course[:, place].tolist() for place, each in enumerate(categories)},
        })  # fmt: skip
    return said


def hacking(
    found: HeldOut, answers: Sequence[Answered], steps: Sequence[int]
) -> dict[str, Any] | None:
    """The reward-KL curve of the named rewards; None where none are named.

    Raises:
        InputError: If the half has no reward of such a name.
    """
    options, names = found.options, found.half.reward_names
    if not options.proxy:
        return None
    for name in (options.proxy, options.meant):
        if name not in names:
            raise InputError(f"no reward is named {name}; there are {', '.join(names)}.")
    means = np.stack([one.reward.mean(1) for one in answers])
    proxy, true = (means[..., names.index(name)] for name in (options.proxy, options.meant))
    try:
        report = hacking_report(
            proxy, true, np.array([one.kl.mean() for one in answers]),
            resamples=options.resamples, seed=options.seed,
        )  # fmt: skip
    except ValueError as error:
        raise InputError(f"No reward-hacking curve: {error}") from error
    return {"proxy": options.proxy, "true": options.meant, "steps": list(steps), **asdict(report)}


Axis = tuple[str, tuple[str, ...], list[Int[np.ndarray, "probe answer"]], Int[np.ndarray, " row"]]


def _axes(found: HeldOut, answers: Sequence[Answered]) -> list[Axis]:
    """Name, categories, those of all answers, and those of all candidates.

    What the half sorts by itself comes first, then safety gates where any answer fails one.
    """
    half, candidates = found.half, found.candidates
    axes: list[Axis] = []
    if half.category_names:
        every = candidates.responses[candidates.response][:, None]
        numbers = [half.category(found.probes, one.responses).cpu().numpy() for one in answers]
        own = half.category(candidates.context, every)[:, 0].cpu().numpy()
        axes.append(("category", half.category_names, numbers, own))
    passed = [one.gate.astype(np.int64) for one in answers]
    if not all(one.all() for one in passed):
        axes.append(("safety gates", GATES, passed, candidates.gate.long().numpy()))
    for place, name in enumerate(half.reward_names):
        before = answers[0].reward[..., place]
        bounds = np.quantile(before, [1 / 3, 2 / 3])
        if bounds[0] < bounds[1]:
            numbers = [third(one.reward[..., place], bounds) for one in answers]
            own = third(candidates.reward[:, place].double().numpy(), bounds)
            axes.append((name, THIRDS, numbers, own))
    return axes


def third(
    values: Float[np.ndarray, "*row"], bounds: Float[np.ndarray, " bound"]
) -> Int[np.ndarray, "*row"]:
    """Which third of the answers before tuning each value lies in.

    Example:
        >>> third(np.array([0.0, 1.0, 1.5, 9.0]), np.array([1.0, 2.0])).tolist()
        [0, 0, 1, 2]
    """
    return np.searchsorted(bounds, values, side="left").astype(np.int64)


def torch_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
