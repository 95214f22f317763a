"""Is a tuning loop well? A checklist over what it logged, step by step."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Statistic = Callable[[Float[np.ndarray, " logged"]], float]


@dataclass(frozen=True)
class HealthCheck:
    """One question to a log.

    Attributes:
        name: What is asked about.
        columns: Regular expression of the names it may be logged under, matched as a whole.
        statistic: The number that is looked at.
        statistic_name: The same in words.
        low: Least value that is well; None asks for none.
        high: Largest value that is well; None likewise.
        concern: What a value outside means.
    """

    name: str
    columns: str
    statistic: Statistic
    statistic_name: str
    low: float | None
    high: float | None
    concern: str


@dataclass(frozen=True)
class HealthFinding:
    """An answer.

    Attributes:
        name: Of the check.
        column: Where it was read; empty where it is not logged.
        statistic: The number in words.
        value: The number; None where it is not logged.
        count: How many values it comes from.
        well: Whether it lies within its bounds; None where it is not logged.
        sentence: The same in words.
    """

    name: str
    column: str
    statistic: str
    value: float | None
    count: int
    well: bool | None
    sentence: str


def late_mean(values: Float[np.ndarray, " logged"]) -> float:
    """Mean of the last tenth, at least of the last value.

    Example:
        >>> late_mean(np.arange(20.0))
        18.5
    """
    return float(values[-_tenth(values) :].mean())


def early_mean(values: Float[np.ndarray, " logged"]) -> float:
    """Mean of the first tenth, at least of the first value."""
    return float(values[: _tenth(values)].mean())


def kept_share(values: Float[np.ndarray, " logged"]) -> float:
    """Late mean over early mean; 1 where it began at 0."""
    start = early_mean(values)
    return late_mean(values) / start if start else 1.0


def gain(values: Float[np.ndarray, " logged"]) -> float:
    """Mean of the last less of the first quarter, in standard errors; 0 for a constant.

    Values next to each other are taken as independent, which makes the number too large rather
    than too small.
    """
    size = max(1, len(values) // 4)
    first, last = values[:size], values[-size:]
    change = last.mean() - first.mean()
    spread = np.sqrt((first.var(ddof=1) + last.var(ddof=1)) / size) if size > 1 else values.std()
    return float(change / spread) if spread > 0 else float(np.sign(change) * 10.0)


def spike(values: Float[np.ndarray, " logged"]) -> float:
    """Largest over median value; 1 where all are 0, infinite where one is not finite."""
    if not np.isfinite(values).all():
        return float("inf")
    middle = float(np.median(values))
    largest = float(values.max())
    if middle:
        return largest / middle
    return 1.0 if not largest else float("inf")


def broken_share(values: Float[np.ndarray, " logged"]) -> float:
    """Share of values that are not finite."""
    return float((~np.isfinite(values)).mean())


CHECKS = (
    HealthCheck(
        "finite loss", r"(training_)?loss", broken_share, "share of losses that are not finite",
        None, 0.0, "the run has left the numbers",
    ),
    HealthCheck(
        "groups without signal", r"(training_)?zero_variance_share", late_mean,
        "late mean share of groups whose rewards are all equal", None, 0.5,
        "most contexts teach nothing: draw more per context, or harder ones",
    ),
    HealthCheck(
        "clipping", r"(training_)?clip_share", late_mean,
        "late mean share of clipped steps", None, 0.3,
        "updates are mostly cut off: lower the learning rate or draw anew more often",
    ),
    HealthCheck(
        "divergence", r"(training_)?(beam_)?kl", late_mean,
        "late mean KL to the reference, in nats", None, 10.0,
        "the policy has left its reference: raise the KL weight or stop earlier",
    ),
    HealthCheck(
        "entropy", r"(training_)?(beam_)?entropy", kept_share, "late over early mean entropy",
        0.3, None, "answers collapse onto a few: weigh entropy, or tune less",
    ),
    HealthCheck(
        "effective samples", r"(training_)?effective_sample_share", kept_share,
        "late over early mean effective sample size", 0.5, None,
        "a few samples carry the update: draw anew more often",
    ),
    HealthCheck(
        "reward", r"(training_)?reward_.*", gain,
        "last less first quarter, in standard errors", -3.0, None,
        "an objective is given up for the others",
    ),
    HealthCheck(
        "likelihood of what is preferred",
        r"(training_)?log_prob_best", gain,
        "last less first quarter, in standard errors", -3.0, None,
        "what is preferred grows less likely: add a term that imitates it",
    ),
    HealthCheck(
        "gradient norm", r"(training_)?gradient_norm", spike, "largest over median", None, 20.0,
        "single steps are far larger than the rest: clip gradients",
    ),
)  # fmt: skip
"""Bounds are rules of thumb of ours, not a paper's; a finding says where to look."""


def loop_health(
    log: Mapping[str, Float[np.ndarray, " logged"]], checks: Sequence[HealthCheck] = CHECKS
) -> list[HealthFinding]:
    """What a log says to every check, one finding for each column that answers it.

    Args:
        log: Logged values by name, in order of steps, without the steps at which none was logged.
        checks: What is asked.

    Returns:
        Findings in the order of the checks; a check that nothing answers has one that says so.
    """
    found = []
    for check in checks:
        columns = [
            name for name in sorted(log) if re.fullmatch(check.columns, name) and len(log[name])
        ]
        found += [_finding(check, name, log[name]) for name in columns]
        if not columns:
            said = f"{_capital(check.name)} was not logged."
            found.append(HealthFinding(check.name, "", check.statistic_name, None, 0, None, said))
    return found


def _finding(check: HealthCheck, column: str, values: np.ndarray) -> HealthFinding:
    value = check.statistic(values)
    well = (check.low is None or value >= check.low) and (check.high is None or value <= check.high)
    bound = f"at least {check.low:g}" if check.high is None else f"at most {check.high:g}"
    said = f"{_capital(check.name)} ({column}): {check.statistic_name} is {value:.3g}"
    said += f", {bound}, which is well." if well else f", not {bound}: {check.concern}."
    return HealthFinding(
        check.name, column, check.statistic_name, value, len(values), bool(well), said
    )


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _tenth(values: np.ndarray) -> int:
    return max(1, len(values) // 10)
