"""The planner as the steerability evaluation asks it: the laws of the slot, and what it opens."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import driving.steerability
from data_prep.artifact import Artifact, read_artifact
from data_prep.errors import InputError
from data_prep.scenes.tables import SCENES
from driving.goal_measures import GOAL_NAMES
from driving.load import LoadedPlanner
from driving.moments import Moments, read_moments
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.ego_mlp import EgoMlp
from driving.planning_rows import read_planning_rows
from driving.steerability import QUALITY, Plans, SteerablePlans
from driving.style.tables import SAMPLES
from personalize.evaluation.goal_space import GoalSpace
from personalize.evaluation.steerable import REPORTED, TUNING, Steerable
from personalize.steering.chain import Chain, Guidance, Neighbourhood, Selection, Telling
from personalize.steering.goals import Goals, closeness
from tests.driving.planner_fixtures import SMALL
from tests.driving.planning_artifacts import write_planning_artifacts

SELECTED = Chain(selection=Selection(1e5))
FACTS = {"planner": "DiffusionPlanner"}


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict[str, Path]:
    return write_planning_artifacts(tmp_path_factory.mktemp("steerability"))


@pytest.fixture(scope="module")
def planner(paths) -> DiffusionPlanner:
    """Anchors of the logs, weights at random."""
    torch.manual_seed(0)
    planner = DiffusionPlanner(**SMALL)
    rows = read_planning_rows(
        paths["scenes"], read_artifact(paths["styles"], kind="styles").table(SAMPLES)
    )
    planner.survey(rows.scenes, rows.future[:, None], rows.future_mask[:, None])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in planner.parameters():
            weights.add_(0.1 * torch.randn(weights.shape, generator=generator))
    return planner.eval()


@pytest.fixture(scope="module")
def moments(paths) -> Moments:
    scenes, styles = (read_artifact(paths[name], kind=name) for name in ("scenes", "styles"))
    return read_moments(scenes, styles, (TUNING, REPORTED), 5)


@pytest.fixture(scope="module")
def half(planner, moments) -> Steerable:
    return SteerablePlans(planner, moments, FACTS, batch_size=3)


def asked(half: Steerable, contexts: np.ndarray, *, seed: int = 0) -> Goals:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(len(contexts), len(half.space), generator=generator) < 0.5
    mask[:, 0] = True
    return Goals(torch.rand(len(contexts), len(half.space), generator=generator) * mask, mask)


def test_contexts_are_moments_of_logs_and_splits_share_no_recording(half, paths):
    samples = read_artifact(paths["styles"], kind="styles").table(SAMPLES)
    split = dict(samples.select("sample_id", "split").iter_rows())
    found = {name: half.contexts(name) for name in (TUNING, REPORTED)}
    for name, contexts in found.items():
        assert len(contexts) == 5
        assert {split[number] for number in contexts.tolist()} == {name}
        assert (np.diff(contexts) > 0).all()
        spread = contexts.max() - contexts.min()
        assert spread == samples.filter(pl.col("split") == name).height - 1
    assert half.groups(found[TUNING]) == ["lane_following"] * 5
    assert half.facts["contexts"] == {TUNING: 5, REPORTED: 5}


def test_without_goal_or_chain_the_answer_is_the_planners(half):
    contexts = half.contexts(REPORTED)
    plain = half.generate(contexts, None, None)
    nothing = Goals(
        torch.zeros(len(contexts), len(half.space)),
        torch.zeros(len(contexts), len(half.space), dtype=torch.bool),
    )
    for goals, chain in (
        (None, SELECTED),
        (nothing, SELECTED),
        (asked(half, contexts), None),
        (asked(half, contexts), Chain()),
    ):
        found = half.generate(contexts, goals, chain)
        np.testing.assert_array_equal(found.raw, plain.raw)
        np.testing.assert_array_equal(found.mask, plain.mask)
        for name in QUALITY:
            np.testing.assert_array_equal(found.quality[name], plain.quality[name])
        assert found.generator_calls == plain.generator_calls == 2


def test_the_same_question_has_the_same_answer_and_contexts_are_alone(half):
    contexts = np.repeat(half.contexts(REPORTED), 2)
    goals = asked(half, contexts)
    chain = Chain(
        Telling(1.0),
        guidance=Guidance(2.0),
        neighbourhood=Neighbourhood(2, 0.3),
        selection=Selection(30.0, calibrate=True),
    )
    found, again = (half.generate(contexts, goals, chain, seed=3) for _ in range(2))
    np.testing.assert_array_equal(found.raw, again.raw)
    order = np.arange(len(contexts))[::-1].copy()
    turned = half.generate(contexts[order], goals.rows(torch.from_numpy(order)), chain, seed=3)
    np.testing.assert_allclose(turned.raw, found.raw[order], atol=1e-3, rtol=1e-3)
    for name in QUALITY:
        np.testing.assert_allclose(turned.quality[name], found.quality[name][order], atol=1e-3)
    one = slice(4, 5)
    alone = half.generate(contexts[one], goals.rows(one), chain, seed=3)
    np.testing.assert_allclose(alone.raw, found.raw[one], atol=1e-3, rtol=1e-3)
    assert found.generator_calls == 8
    assert found.seconds > 0


def test_calls_count_rows_that_ask_for_nothing_as_the_planner(half):
    contexts = half.contexts(REPORTED)[:4]
    goals = asked(half, contexts)
    some = torch.tensor([True, False, False, False])
    goals = Goals(goals.values * some[:, None], goals.mask & some[:, None])
    chain = Chain(Telling(1.0), guidance=Guidance(2.0))
    assert half.generate(contexts, goals, chain).generator_calls == (4 + 2 + 2 + 2) / 4


def test_selection_comes_nearer_to_goals(half):
    contexts = np.concatenate([half.contexts(REPORTED), half.contexts(TUNING)])
    goals = asked(half, contexts, seed=1)
    gaps = []
    for chain in (None, SELECTED):
        found = half.generate(contexts, goals, chain)
        placed = half.space.normalized(torch.from_numpy(found.raw)).float()
        gaps.append(-closeness(placed[:, None], goals).mean().item())
    assert gaps[1] < gaps[0]


def test_the_pool_holds_what_no_style_gives_and_nothing_that_the_gate_keeps_out(half, planner):
    contexts = half.contexts(TUNING)[[3, 0, 3]]
    raw, mask = half.pool(contexts)
    assert raw.shape == mask.shape == (3, 7 * len(planner.anchors), len(half.space))
    assert np.isfinite(raw).all()
    np.testing.assert_array_equal(raw[0], raw[2])
    own = half.generate(contexts, None, None)
    for row in range(2):
        away = np.abs(raw[row, : len(planner.anchors)] - own.raw[row]).max(-1)
        assert away.min() < 1e-2  # the plan that is taken is one of them


def test_what_the_gate_keeps_out_is_not_in_the_pool(planner, moments, monkeypatch):
    half = SteerablePlans(planner, moments, FACTS)
    original = DiffusionPlanner.picked

    def shut(self, *arguments, **options):
        plans = original(self, *arguments, **options)
        plans.scores[:, :-1] = -torch.inf
        return plans

    monkeypatch.setattr(DiffusionPlanner, "picked", shut)
    raw, _ = half.pool(half.contexts(TUNING)[:1])
    sets = raw[0].reshape(7, len(planner.anchors), -1)
    np.testing.assert_array_equal(sets, np.repeat(sets[:, -1:], len(planner.anchors), 1))


def alike(one: GoalSpace, other: GoalSpace) -> None:
    """Batches of other sizes round otherwise."""
    assert one.names == other.names
    for mine, its in zip(one.dimensions, other.dimensions, strict=True):
        assert (mine.low, mine.high) == pytest.approx((its.low, its.high), abs=1e-3)


def test_limits_come_from_tuning_moments_alone(half, planner, moments):
    split = np.array(moments.splits)
    rows = torch.from_numpy(np.flatnonzero(split == TUNING))
    other = Moments(
        moments.world.rows(rows),
        moments.scene.rows(rows),
        [TUNING] * len(rows),
        ["x"] * len(rows),
        moments.gated_progress_m[rows],
        moments.area,
    )
    alike(SteerablePlans(planner, other, FACTS).space, half.space)
    for dimension in half.space.dimensions:
        assert dimension.low < dimension.high
    left = [name for name in GOAL_NAMES if name not in half.space.names]
    assert half.facts["goals_without_limits"] == left
    assert half.facts["noise_moves_candidates_m"] >= 0


def test_quality_is_named_and_between_0_and_1(half):
    found = half.generate(half.contexts(TUNING), None, None)
    assert tuple(found.quality) == half.quality_names == QUALITY
    for name, values in found.quality.items():
        assert ((values >= 0) & (values <= 1)).all(), name


def test_a_closed_loop_is_driven_towards_its_goals(planner, moments):
    closed = SteerablePlans(planner, moments, FACTS, closed_loop=True)
    contexts = closed.contexts(TUNING)[:2]
    goals = asked(closed, contexts)
    found = closed.generate(contexts, goals, SELECTED)
    plain = closed.generate(contexts, None, None)
    assert np.isfinite(found.raw).all()
    assert not np.allclose(found.raw, plain.raw)


def loaded(paths, planner) -> LoadedPlanner:
    names = {name: paths[name] for name in ("scenes", "styles")}
    return LoadedPlanner(planner, Path("run"), "hash", {}, names)


def test_a_source_opens_what_the_planner_was_trained_on(paths, planner, half, monkeypatch):
    given: list[dict[str, Any]] = []

    def opened_with(_: Path, *, changes: dict[str, Any]) -> LoadedPlanner:
        given.append(changes)
        return loaded(paths, planner)

    monkeypatch.setattr(driving.steerability, "load_planner", opened_with)
    source = Plans(checkpoint=Path("run"), contexts=5, safety_gate=0.75)
    opened = source.open()
    assert given == [{"selection.safety_gate": 0.75}]
    alike(opened.space, half.space)
    hashes = {
        name: read_artifact(paths[name], kind=name).content_hash
        for name in paths
        if name in ("scenes", "styles")
    }
    assert opened.facts["inputs"] == {"checkpoint": "hash", **hashes}
    assert opened.facts["simulated"] is True


def test_what_cannot_be_opened_is_refused(paths, planner, half, monkeypatch):
    wrong: dict[str, Any] = {"contexts": 0, "batch_size": -1}
    for option, number in wrong.items():
        with pytest.raises(ValueError, match=f"{option} must be at least 1, got {number}"):
            Plans(checkpoint=Path("run"), **{option: number})
    monkeypatch.setattr(
        driving.steerability, "load_planner", lambda *_, **__: loaded(paths, EgoMlp())
    )
    with pytest.raises(ValueError, match=r"safety_gate must be from 0 to 1, got 1.5"):
        Plans(checkpoint=Path("run"), safety_gate=1.5)
    with pytest.raises(InputError, match="run holds a EgoMlp, which cannot be steered"):
        Plans(checkpoint=Path("run")).open()
    with pytest.raises(ValueError, match="there is no context 99999"):
        half.generate(np.array([99999]), None, None)
    scenes, styles = (read_artifact(paths[name], kind=name) for name in ("scenes", "styles"))
    with pytest.raises(InputError, match="has no sample of the split nowhere whose log goes on"):
        read_moments(scenes, styles, (TUNING, "nowhere"), 5)
    with pytest.raises(InputError, match="has no sample of the split nowhere"):
        read_moments(scenes, styles, ("nowhere",), 5)


def test_a_recording_in_two_splits_is_refused(paths, monkeypatch):
    scenes, styles = (read_artifact(paths[name], kind=name) for name in ("scenes", "styles"))
    original = Artifact.table

    def shared(self, schema):
        found = original(self, schema)
        return found.with_columns(recording_key=pl.lit("one")) if schema is SCENES else found

    monkeypatch.setattr(Artifact, "table", shared)
    with pytest.raises(InputError, match="The recording one is in several of the splits"):
        read_moments(scenes, styles, (TUNING, REPORTED), 5)
