"""Every pair builder obeys the slot's laws; builders are found by walking the package."""

import inspect
import pkgutil
from dataclasses import fields, replace
from importlib import import_module

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

import personalize.preference_optimization as package
from personalize.preference_optimization.candidates import Candidates, PairBuilder
from personalize.preference_optimization.checkpoint_opponents import CheckpointOpponents
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.context_reversals import ContextReversals
from personalize.preference_optimization.context_swaps import ContextSwaps
from personalize.preference_optimization.extremes import (
    BestAgainstWorst,
    PairsByReward,
    WholeRankings,
)
from personalize.preference_optimization.follow_up import FollowUpPairs
from personalize.preference_optimization.hindsight import HindsightPairs
from personalize.preference_optimization.near_misses import NearMisses
from personalize.preference_optimization.ranked_pairs import RankedPairs
from personalize.preference_optimization.target_pairs import (
    Drawn,
    Nearest,
    TargetAgainstOthers,
)

WISH, OTHER, BOTH = {"wish": 1.0}, {"other": 1.0}, {"wish": 0.5, "other": 2.0}


def value(candidates: Candidates, weights) -> torch.Tensor:
    return sum((w * candidates.named(name) for name, w in weights.items()), torch.zeros(()))


def better_by(weights, gap=0.0):
    """The rule of a builder that compares by a weighted reward."""

    def rule(candidates: Candidates, better: int, worse: int) -> bool:
        found = value(candidates, weights)
        return bool(found[better] - found[worse] > gap)

    return rule


def is_target(candidates: Candidates, better: int, worse: int) -> bool:
    return bool(candidates.target[better] and not candidates.target[worse])


def near_miss(candidates: Candidates, better: int, worse: int) -> bool:
    found = value(candidates, WISH)
    failed = not candidates.gate[worse] or found[worse] < -0.5
    return bool(candidates.gate[better]) and bool(failed)


def ranked(candidates: Candidates, better: int, worse: int) -> bool:
    if candidates.gate[better] != candidates.gate[worse]:
        return bool(candidates.gate[better])
    for name, margin in (("wish", 0.4), ("other", 0.1)):
        gap = float(candidates.named(name)[better] - candidates.named(name)[worse])
        if abs(gap) > margin:
            return gap > 0
    return False


def seen_after(candidates: Candidates, better: int, worse: int) -> bool:
    """Partial hindsight: the outcome of what is expected to be better, the promise of the other."""
    promise, outcome = candidates.named("other"), candidates.named("wish")
    judged = {row: float(promise[row]) for row in (better, worse)}
    taken = max(better, worse, key=lambda row: float(promise[row]))
    judged[taken] = float(outcome[taken])
    return judged[better] > judged[worse]


EXAMPLES = {
    "best": (BestAgainstWorst(BOTH, 0.1), better_by(BOTH, 0.1)),
    "random": (PairsByReward(BOTH, 0.1, 3), better_by(BOTH, 0.1)),
    "lists": (WholeRankings(BOTH, 3, 0.1), better_by(BOTH, 0.1)),
    "likeliest": (TargetAgainstOthers(2), is_target),
    "nearest": (TargetAgainstOthers(2, Nearest()), is_target),
    "drawn": (TargetAgainstOthers(3, Drawn()), is_target),
    "opponents": (CheckpointOpponents(), is_target),
    "near": (NearMisses(WISH, -0.5), near_miss),
    "near, drawn": (NearMisses(WISH, -0.5, Drawn()), near_miss),
    "any": (NearMisses(WISH, float("inf"), Drawn()), lambda c, b, w: bool(c.gate[b])),
    "ranked": (RankedPairs({"wish": 0.4, "other": 0.1}), ranked),
    "swaps": (ContextSwaps(WISH, 0.1), better_by(WISH, 0.1)),
    "one end": (ContextSwaps(WISH, 0.1, both_ends=False), better_by(WISH, 0.1)),
    "reversals": (ContextReversals(WISH, 0.1), better_by(WISH, 0.1)),
    "hindsight": (HindsightPairs(OTHER, WISH, least_gap=0.1), better_by(WISH, 0.1)),
    "partial": (HindsightPairs(OTHER, WISH, see_both=False), seen_after),
    "follow-up": (FollowUpPairs(("wish",), ("other",)), better_by({"wish": 1.0, "other": -1.0})),
}
BY_SAFETY = {"near", "near, drawn", "any", "ranked"}
BY_TARGET = {"likeliest", "nearest", "drawn", "opponents"}
builders = pytest.mark.parametrize("name", EXAMPLES)
seeds = given(st.integers(0, 10_000))
quick = settings(deadline=None, derandomize=True, max_examples=6)


def candidates(seed: int, *, origins: int = 5, each: int = 6) -> Candidates:
    """Candidates of a few origins, each with a swapped context, some failing, one often logged."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    rows = origins * each * 2
    origin = torch.arange(origins).repeat_interleave(2 * each)
    swapped = torch.arange(2).repeat_interleave(each).repeat(origins)
    response = torch.cat(
        [torch.randperm(9, generator=generator)[:each].repeat(2) for _ in range(origins)]
    )
    kept = drawn(rows) < 0.9
    logged = (torch.randint(9, (origins,), generator=generator)[origin] == response) & (
        swapped == 0
    )
    found = Candidates(
        context=origin + 100 * swapped,
        origin=origin,
        response=response,
        responses=torch.arange(9),
        target=logged,
        gate=drawn(rows) < 0.7,
        reward=(2 * drawn(rows, 2) - 1).mul(4).round() / 4,  # with ties
        names=("wish", "other"),
        log_prob=-3 * drawn(rows),
        distance=drawn(rows).masked_fill(logged, 0.0),
        group=origin % 2,
    )
    return taken(found, kept.nonzero()[:, 0])


def taken(found: Candidates, rows: torch.Tensor) -> Candidates:
    """Some of the rows, in the order given."""
    whole = {"responses", "names"}
    named = [field.name for field in fields(found) if field.name not in whole]
    return replace(found, **{name: getattr(found, name)[rows] for name in named})


def places(found: ComparedRows) -> list[tuple[int, ...]]:
    """The rows of every comparison."""
    return [tuple(r[p].tolist()) for r, p in zip(found.rows, found.present, strict=True)]


def variants() -> set[type]:
    found = set()
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for _, kind in inspect.getmembers(import_module(module.name), inspect.isclass):
            if issubclass(kind, PairBuilder) and not inspect.isabstract(kind):
                found.add(kind)
    return found


def test_every_builder_of_the_package_is_held_to_the_laws() -> None:
    assert variants() == {type(builder) for builder, _ in EXAMPLES.values()}


@builders
@quick
@seeds
def test_the_better_is_better_by_its_own_rule(name: str, seed: int) -> None:
    builder, rule = EXAMPLES[name]
    rows = candidates(seed)
    for first, *others in places(builder(rows, seed=seed)):
        assert all(rule(rows, first, other) for other in others)


@builders
@quick
@seeds
def test_only_rows_of_one_origin_are_compared(name: str, seed: int) -> None:
    rows = candidates(seed)
    for compared in places(EXAMPLES[name][0](rows, seed=seed)):
        assert len(set(rows.origin[list(compared)].tolist())) == 1
        what = {"swaps": rows.response, "one end": rows.response}.get(name, rows.context)
        assert len(set(what[list(compared)].tolist())) == 1


@builders
@quick
@seeds
def test_no_winner_fails_a_gate_that_a_loser_passes(name: str, seed: int) -> None:
    rows = candidates(seed)
    for first, *others in places(EXAMPLES[name][0](rows, seed=seed)):
        assert rows.gate[first]
        if name not in BY_SAFETY | BY_TARGET:
            assert rows.gate[others].all()


@builders
@quick
@seeds
def test_the_same_seed_builds_the_same(name: str, seed: int) -> None:
    builder = EXAMPLES[name][0]
    first, again = (builder(candidates(seed), seed=3) for _ in range(2))
    assert torch.equal(first.rows, again.rows)
    assert torch.equal(first.grade, again.grade)


@builders
@quick
@seeds
def test_the_order_of_rows_is_irrelevant(name: str, seed: int) -> None:
    builder, rows = EXAMPLES[name][0], candidates(seed)
    order = torch.randperm(len(rows.context), generator=torch.Generator().manual_seed(seed))
    found, turned = builder(rows, seed=1), builder(taken(rows, order), seed=1)
    assert places(found) == [tuple(order[list(row)].tolist()) for row in places(turned)]
    assert torch.equal(found.provenance, turned.provenance)


@builders
@quick
@seeds
def test_a_row_that_comes_twice_changes_nothing(name: str, seed: int) -> None:
    builder, rows = EXAMPLES[name][0], candidates(seed)
    count = len(rows.context)
    twice = torch.cat([torch.arange(count), torch.arange(0, count, 3)])
    found, again = builder(rows, seed=1), builder(taken(rows, twice), seed=1)
    assert places(found) == [tuple(twice[list(row)].tolist()) for row in places(again)]


@builders
def test_something_is_built_and_annotators_are_told(name: str) -> None:
    rows = candidates(2, origins=40)
    found = EXAMPLES[name][0](rows)
    assert len(found) >= 5
    assert torch.equal(found.annotator, rows.group[found.rows[:, 0]])


@builders
def test_nothing_is_built_of_nothing(name: str) -> None:
    rows = candidates(0)
    assert len(EXAMPLES[name][0](taken(rows, torch.zeros(0, dtype=torch.long)))) == 0
    alone = taken(rows, torch.zeros(1, dtype=torch.long))
    assert len(EXAMPLES[name][0](alone)) == 0
    equals = replace(rows, reward=torch.zeros_like(rows.reward), gate=torch.ones_like(rows.gate))
    if name not in BY_TARGET | BY_SAFETY:
        assert len(EXAMPLES[name][0](equals)) == 0


def test_a_reward_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="no reward is named taste; there are wish, other"):
        BestAgainstWorst({"taste": 1.0})(candidates(0))
    with pytest.raises(ValueError, match="weights must name at least one reward"):
        BestAgainstWorst({})(candidates(0))


@builders
def test_a_configuration_can_name_every_builder(name: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--builder", type=PairBuilder | None)
    builder = EXAMPLES[name][0]
    options = {
        field.name: getattr(builder, field.name)
        for field in fields(builder)
        if field.name != "choice"
    }
    choice = getattr(builder, "choice", None)
    if choice is not None:
        options["choice"] = {"class_path": f"{type(choice).__module__}.{type(choice).__name__}"}
    path = f"{type(builder).__module__}.{type(builder).__name__}"
    parsed = parser.parse_object({"builder": {"class_path": path, "init_args": options}})
    assert parser.instantiate(parsed).builder == builder
