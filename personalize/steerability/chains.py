"""Every chain: brought to equal calls, tuned on tuning contexts, measured on reported ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from personalize.evaluation.strength_tuning import (
    Trial,
    best_trial,
    described,
    variants,
    with_settings,
)
from personalize.steerability.configuration import NamedChain
from personalize.steerability.numbers import (
    Frame,
    Looked,
    all_numbers,
    looked_at,
    main_loss,
    main_numbers,
)
from personalize.steerability.run import (
    Answers,
    Asked,
    Asking,
    Pools,
    Questions,
    pools,
    spent,
    steered,
)
from personalize.steering.chain import Chain


@dataclass(frozen=True)
class Evaluated:
    """A chain with its numbers.

    Attributes:
        name: Its name.
        looked: What it made of the reported probe.
        oracle: Distance of the nearest possible output of every row; NaN where unknown.
        numbers: All numbers, with `settings` and the `trials` of tuning.
    """

    name: str
    looked: Looked
    oracle: Float[np.ndarray, " row"]
    numbers: dict[str, Any]


@dataclass(frozen=True)
class _Settled:
    """A chain as it is reported, and what it made."""

    name: str
    chain: Chain
    trials: list[dict[str, Any]]
    chosen: int | None
    answers: Answers


def evaluated_chains(asking: Asking, questions: Questions) -> list[Evaluated]:
    """Every configured chain, in order."""
    tuning, reported = (
        _frame(asking, questions, asked) for asked in (questions.tuning, questions.reported)
    )
    settled = [
        _settled(asking, name, named, tuning, reported)
        for name, named in asking.options.chains.items()
    ]
    made = [questions.reported.before, *(one.answers for one in settled)]
    probe = questions.reported.probe
    possible = pools(asking, probe).with_made(probe, made)
    return [_evaluated(one, reported, possible) for one in settled]


def _frame(asking: Asking, questions: Questions, asked: Asked) -> Frame:
    half, options = asking.half, asking.options
    return Frame(
        asked=asked,
        names=half.space.names,
        kept=questions.dimensions.kept.tolist(),
        correlation=questions.dimensions.correlation,
        quality_names=half.quality_names,
        groups=half.groups(asked.probe.contexts),
        resamples=options.resamples,
        seed=options.seed,
    )


def _settled(
    asking: Asking, name: str, named: NamedChain, tuning: Frame, reported: Frame
) -> _Settled:
    """The chain at equal calls and at its best strength, asked what is reported."""
    chain = named.chain
    if named.spend and asking.options.generator_calls:
        chain = spent(asking, tuning.asked, chain, named.spend, name)
    trials = _trials(asking, name, chain, named, tuning)
    chosen = None
    if trials:
        chosen = _chosen(trials, asking.options.largest_quality_loss)
        chain = with_settings(chain, trials[chosen]["settings"])
    return _Settled(name, chain, trials, chosen, steered(asking, reported.asked, chain, name))


def _evaluated(settled: _Settled, frame: Frame, possible: Pools) -> Evaluated:
    looked = looked_at(frame, settled.answers)
    oracle = possible.nearest(frame.asked.probe, looked.measures.known)
    numbers = all_numbers(looked, oracle) | {
        "chain": settled.name,
        "settings": described(settled.chain),
        "neutral": settled.chain == Chain(),
        "trials": settled.trials,
        "chosen": settled.chosen,
    }
    return Evaluated(settled.name, looked, oracle, numbers)


def _trials(
    asking: Asking, name: str, chain: Chain, named: NamedChain, frame: Frame
) -> list[dict[str, Any]]:
    """Main numbers of every setting to try, on tuning contexts."""
    if not named.tune:
        return []
    found = []
    for settings in variants(chain, named.tune):
        words = ", ".join(f"{key} {value:g}" for key, value in settings.items())
        answers = steered(asking, frame.asked, with_settings(chain, settings), f"{name}: {words}")
        found.append({"settings": settings} | main_numbers(looked_at(frame, answers)))
    return found


def _chosen(trials: Sequence[dict[str, Any]], largest_quality_loss: float) -> int:
    tried = [
        Trial(
            steering_error=trial["steering_error"]["value"]
            if trial["steering_error"]
            else float("inf"),
            quality_loss=main_loss(trial),
        )
        for trial in trials
    ]
    return best_trial(tried, largest_quality_loss)
