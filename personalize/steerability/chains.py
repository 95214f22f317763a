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
from personalize.steerability.run import Asked, Asking, Pools, Questions, pools, spent, steered
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


def evaluated_chains(asking: Asking, questions: Questions) -> list[Evaluated]:
    """Every configured chain, in order."""
    tuning, reported = (
        _frame(asking, questions, asked) for asked in (questions.tuning, questions.reported)
    )
    possible = pools(asking, questions.reported.probe)
    return [
        _evaluated(asking, name, named, (tuning, reported), possible)
        for name, named in asking.options.chains.items()
    ]


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


def _evaluated(
    asking: Asking,
    name: str,
    named: NamedChain,
    frames: tuple[Frame, Frame],
    possible: Pools,
) -> Evaluated:
    tuning, reported = frames
    chain = named.chain
    if named.spend and asking.options.generator_calls:
        chain = spent(asking, tuning.asked, chain, named.spend, name)
    trials = _trials(asking, name, chain, named, tuning)
    chosen = _chosen(trials, asking.options.largest_quality_loss)
    chain = with_settings(chain, trials[chosen]["settings"]) if trials else chain
    looked = looked_at(reported, steered(asking, reported.asked, chain, name))
    oracle = possible.nearest(reported.asked.probe, looked.measures.known)
    numbers = all_numbers(looked, oracle) | {
        "chain": name,
        "settings": described(chain),
        "neutral": chain == Chain(),
        "trials": trials,
        "chosen": chosen if trials else None,
    }
    return Evaluated(name, looked, oracle, numbers)


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
    if not trials:
        return 0
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
