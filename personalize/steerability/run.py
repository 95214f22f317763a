"""The probe is asked: unsteered outputs, probes of both splits, and what every chain makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from data_prep.errors import InputError
from data_prep.progress import track
from personalize.evaluation.probe import Dimensions, Probe, drawn_probe, independent_dimensions
from personalize.evaluation.steerability import oracle_error
from personalize.evaluation.steerable import REPORTED, TUNING, Outcome, Steerable
from personalize.evaluation.strength_tuning import with_setting
from personalize.steerability.configuration import Steerability
from personalize.steering.chain import Chain
from personalize.steering.goals import Goals


@dataclass(frozen=True)
class Answers:
    """What was made of some rows: the mean over samples of each.

    Attributes:
        values: Goal values from 0 to 1.
        known: Which of them could be measured, in at least one sample.
        quality: Task quality by name; NaN where there is none.
        spread: Standard deviation between the samples of a row, mean over all; 0 with one sample.
        calls: Predictions of the generator for one sample of a row.
        milliseconds: Time for one sample of a row.
    """

    values: Float[np.ndarray, "row goal"]
    known: Bool[np.ndarray, "row goal"]
    quality: Mapping[str, Float[np.ndarray, " row"]]
    spread: float
    calls: float
    milliseconds: float

    def rows(self, places: Int[np.ndarray, " chosen"]) -> "Answers":
        """Some of the rows, also several times."""
        return Answers(
            self.values[places],
            self.known[places],
            {name: values[places] for name, values in self.quality.items()},
            self.spread,
            self.calls,
            self.milliseconds,
        )


@dataclass(frozen=True)
class Asked:
    """A probe and what is generated for its rows without steering.

    Attributes:
        probe: What is asked.
        before: Unsteered outputs, row by row.
        seeds: Unsteered outputs of all contexts that might have been drawn, in goal space.
        seeds_known: Which of them could be measured.
    """

    probe: Probe
    before: Answers
    seeds: Float[np.ndarray, "context goal"]
    seeds_known: Bool[np.ndarray, "context goal"]


@dataclass(frozen=True)
class Questions:
    """All that is asked.

    Attributes:
        dimensions: Which dimensions are asked about; found on tuning contexts.
        tuning: What strengths are tuned on.
        reported: What is reported.
    """

    dimensions: Dimensions
    tuning: Asked
    reported: Asked


class Asking:
    """Asks a half for outputs in pieces, with progress on standard error.

    Args:
        half: What is asked.
        options: How much, and with which seeds.
    """

    def __init__(self, half: Steerable, options: Steerability) -> None:
        self.half, self.options = half, options

    def answers(
        self,
        contexts: Int[np.ndarray, " row"],
        goals: Goals | None,
        chain: Chain | None,
        description: str,
    ) -> Answers:
        """What is made of every row; samples have the seeds from the configured one on."""
        step, options = self.options.rows_at_once, self.options
        starts = range(0, len(contexts), step)
        pieces: list[list[Outcome]] = [[] for _ in range(options.samples)]
        for start in track(starts, description):
            rows = slice(start, start + step)
            for sample, found in enumerate(pieces):
                wanted = goals.rows(rows) if goals is not None else None
                outcome = self.half.generate(
                    contexts[rows], wanted, chain, seed=options.seed + sample
                )
                found.append(self._checked(outcome, len(contexts[rows])))
        return self._mean([self._joined(found) for found in pieces])

    def _checked(self, outcome: Outcome, rows: int) -> Outcome:
        """The outcome; one that is not what a half promises would end in a wrong table.

        Raises:
            ValueError: If shapes or names are not those of the half.
        """
        wanted = (rows, len(self.half.space))
        if outcome.raw.shape != wanted or outcome.mask.shape != wanted:
            raise ValueError(
                f"generate must answer {wanted[0]} rows of {wanted[1]} goals, got "
                f"{outcome.raw.shape} with a mask of {outcome.mask.shape}."
            )
        if set(outcome.quality) != set(self.half.quality_names):
            raise ValueError(
                f"generate must answer the qualities {', '.join(self.half.quality_names)}, got "
                f"{', '.join(outcome.quality)}."
            )
        return outcome

    def _joined(self, pieces: list[Outcome]) -> Outcome:
        sizes = np.array([len(piece.raw) for piece in pieces], np.float64)
        calls, seconds = (
            [getattr(piece, name) for piece in pieces] for name in ("generator_calls", "seconds")
        )
        return Outcome(
            raw=np.concatenate([piece.raw for piece in pieces]),
            mask=np.concatenate([piece.mask for piece in pieces]),
            quality={
                name: np.concatenate([piece.quality[name] for piece in pieces])
                for name in self.half.quality_names
            },
            generator_calls=float(np.average(calls, weights=sizes)),
            seconds=float(np.average(seconds, weights=sizes)),
        )

    def _mean(self, samples: list[Outcome]) -> Answers:
        values, known = zip(*(self.placed(s.raw, s.mask) for s in samples), strict=True)
        stacked, counts = np.stack(values), np.stack(known)
        times = counts.sum(0)
        mean = np.where(counts, stacked, 0.0).sum(0) / np.maximum(times, 1)
        gaps = np.where(counts, stacked - mean, 0.0)
        deviation = np.sqrt((gaps**2).sum(0) / np.maximum(times - 1, 1))
        return Answers(
            values=mean,
            known=times > 0,
            quality={name: _known_mean([s.quality[name] for s in samples])
                     for name in self.half.quality_names},
            spread=float(deviation[times > 1].mean()) if (times > 1).any() else 0.0,
            calls=float(np.mean([sample.generator_calls for sample in samples])),
            milliseconds=1000 * float(np.mean([sample.seconds for sample in samples])),
        )  # fmt: skip

    def placed(
        self, raw: Float[np.ndarray, "*row goal"], mask: Bool[np.ndarray, "*row goal"]
    ) -> tuple[Float[np.ndarray, "*row goal"], Bool[np.ndarray, "*row goal"]]:
        """Raw values in goal space and which are known there; others are 0."""
        placed = self.half.space.normalized(torch.from_numpy(raw.astype(np.float64))).numpy()
        known = mask & np.isfinite(placed)
        return np.where(known, placed, 0.0), known


def _known_mean(samples: list[np.ndarray]) -> np.ndarray:
    """Mean over samples of the values that are not NaN; NaN where there are none."""
    stacked = np.stack(samples).astype(np.float64)
    known = ~np.isnan(stacked)
    total, times = np.where(known, stacked, 0.0).sum(0), known.sum(0)
    return np.where(times > 0, total / np.maximum(times, 1), np.nan)


def questions(asking: Asking) -> Questions:
    """Probes of both splits; dimensions are chosen, and later strengths, on tuning contexts alone.

    Raises:
        InputError: If a split has too few contexts, or nothing can be asked of them.
    """
    options = asking.options
    seeds = {split: _seed_contexts(asking, split) for split in (TUNING, REPORTED)}
    if set(seeds[TUNING].tolist()) & set(seeds[REPORTED].tolist()):
        raise InputError("Tuning and reported contexts share some; no strength may be tuned there.")
    plain = {
        split: asking.answers(contexts, None, None, f"unsteered, {split}")
        for split, contexts in seeds.items()
    }
    try:
        dimensions = _dimensions(asking, plain[TUNING])
        sizes = {
            TUNING: (options.tuning_contexts, options.tuning_goals),
            REPORTED: (options.contexts, options.goals),
        }
        asked = {
            split: _asked(asking, seeds[split], plain[split], dimensions, sizes[split])
            for split in seeds
        }
    except ValueError as error:
        raise InputError(f"No probe can be made: {error}") from error
    return Questions(dimensions, asked[TUNING], asked[REPORTED])


def _dimensions(asking: Asking, plain: Answers) -> Dimensions:
    """Dimensions to ask for; those whose limits leave no room say so."""
    space = asking.half.space
    found = independent_dimensions(plain.values, plain.known, space.names)
    closed = {
        number: "its limits are equal, or not known"
        for number, dimension in enumerate(space.dimensions)
        if not dimension.low < dimension.high
    }
    return replace(found, dropped=found.dropped | closed)


def _seed_contexts(asking: Asking, split: str) -> np.ndarray:
    found = np.unique(asking.half.contexts(split))
    if len(found) < 2:
        raise InputError(f"The split {split} has {len(found)} contexts; at least 2 are needed.")
    generator = np.random.default_rng(asking.options.seed)
    count = min(len(found), asking.options.seed_contexts)
    return np.sort(generator.choice(found, count, replace=False))


def _asked(
    asking: Asking,
    contexts: np.ndarray,
    plain: Answers,
    dimensions: Dimensions,
    size: tuple[int, int],
) -> Asked:
    probe = drawn_probe(
        contexts,
        plain.values,
        plain.known,
        dimensions.kept,
        count=size[0],
        goals=size[1],
        most_active=asking.options.most_active,
        seed=asking.options.seed,
    )
    places = np.searchsorted(contexts, probe.contexts)
    return Asked(probe, plain.rows(places), plain.values, plain.known)


def steered(asking: Asking, asked: Asked, chain: Chain, name: str) -> Answers:
    """What a chain makes of a probe; a neutral chain leaves what was there.

    Raises:
        InputError: If the half cannot be steered so.
    """
    if chain == Chain():
        return asked.before
    try:
        return asking.answers(asked.probe.contexts, asked.probe.goals(), chain, name)
    except ValueError as error:
        raise InputError(f"Chain {name}: {error}") from error


@dataclass(frozen=True)
class Pools:
    """Outputs that are possible in every context of a probe, for the oracle.

    What has been made is possible, so what chains made for any goal of a context belongs here too;
    then no regret is negative.

    Attributes:
        places: Goal values of every candidate and which are known, by context.
    """

    places: Mapping[int, tuple[np.ndarray, np.ndarray]]

    def with_made(self, probe: Probe, made: Sequence[Answers]) -> "Pools":
        """With what was made of a probe's rows beside them."""
        places = {}
        for context, (values, visible) in self.places.items():
            rows = probe.contexts == context
            places[context] = (
                np.concatenate([values, *(answers.values[rows] for answers in made)]),
                np.concatenate([visible, *(answers.known[rows] for answers in made)]),
            )
        return Pools(places)

    def nearest(
        self, probe: Probe, known: Bool[np.ndarray, "row goal"]
    ) -> Float[np.ndarray, " row"]:
        """Distance of each goal from the nearest possible output; NaN where none is known."""
        found = np.full(len(known), np.nan)
        for context, (values, visible) in self.places.items():
            rows = probe.contexts == context
            found[rows] = oracle_error(probe.target()[rows], known[rows], values, visible)
        return found


def pools(asking: Asking, probe: Probe) -> Pools:
    """The pools of a probe's contexts, in goal space."""
    found = {}
    for context in track(np.unique(probe.contexts).tolist(), "possible outputs"):
        raw, mask = asking.half.pool(np.array([context]))
        values, known = asking.placed(raw, mask)
        found[context] = (values[0], known[0])
    return Pools(found)


def spent(asking: Asking, asked: Asked, chain: Chain, count: str, name: str) -> Chain:
    """The chain with a count raised until a row takes as many calls as all are compared at.

    It is raised to multiples of what it is, since some generators take particles in sets. Calls are
    taken to grow in a straight line with it; three multiples are looked at.

    Args:
        asking: Asks the half; its `generator_calls` is what is to be reached.
        asked: Tuning rows, of which one is asked.
        chain: The chain.
        count: Dotted name of the count.
        name: Name of the chain, for messages.
    """
    wanted, goals = asking.options.generator_calls, asked.probe.goals().rows(slice(0, 1))
    seen: dict[int, float] = {}
    unit, trial = int(attrgetter(count)(chain)), 1
    for _ in range(3):
        if trial in seen:
            break
        candidate = with_setting(chain, count, float(unit * trial))
        contexts = asked.probe.contexts[:1]
        seen[trial] = asking.answers(contexts, goals, candidate, f"{name}, calls").calls
        trial = max(1, round(_reaching(seen, wanted)))
    best = min(seen, key=lambda tried: abs(seen[tried] - wanted))
    return with_setting(chain, count, float(unit * best))


def _reaching(seen: Mapping[int, float], wanted: float) -> float:
    """The multiple at which a line through what was seen reaches what is wanted."""
    (first, first_calls), *others = list(seen.items())[-2:]
    if not others:
        return first * wanted / max(first_calls, 1e-9)
    ((second, second_calls),) = others
    if second_calls == first_calls:
        return second
    return first + (wanted - first_calls) * (second - first) / (second_calls - first_calls)
