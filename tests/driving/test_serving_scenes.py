"""The driving half of the server: the laws of halves, and that it answers what the library does."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from data_prep.artifact import create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import PREFERENCES
from driving.__main__ import main
from driving.evaluation.conditions import asked_styles
from driving.evaluation.drive import ride_size
from driving.evaluation.gate import SafetyGate
from driving.evaluation.judge import one_candidate, scored, tracked, yardstick
from driving.goal_measures import GOAL_NAMES
from driving.goals import driven_goals
from driving.load import load_planner
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.idm import Idm
from driving.planner.pdm import Pdm
from driving.planner.planner import Planner, PlannerInput, Plans, StyleCondition
from driving.planner.steered import SteeredPlanner
from driving.planner_input import planner_input
from driving.planning_rows import read_planning_rows
from driving.scene_store import SceneStore
from driving.scene_texts import neighbours, scene_texts
from driving.served_scenes import ServedScenes
from driving.serving import OpenScenes, Scenes
from driving.simulation.rollout import roll_out
from driving.steerability import Plans as EvaluatedPlans
from driving.style.encode import before_vectors
from driving.style.tables import SAMPLES
from personalize.api.files import NotServedError, ServedFiles
from personalize.api.messages import GoalValue, PlanAnswer, PlanRequest, ReadRequest, SceneQuery
from personalize.api.ports import RequestRefused
from personalize.conditioning.text import SentenceEncoder
from personalize.steering.chain import Chain, Guidance, Lookahead, Selection, Telling
from personalize.steering.goals import Goals
from tests.driving.exact_retriever import ExactSource
from tests.driving.planning_artifacts import write_planning_artifacts
from tests.driving.test_driving_fit import PLANNER

CARS = [("a", {"preset": "aggressive"}), ("open", {}), ("mine", {"style": {"speed": -0.5}})]
STYLES = [{"name": name, **asked} for name, asked in CARS]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Artifacts, a planner of one epoch, and vectors of all but the training samples."""
    folder = tmp_path_factory.mktemp("served")
    artifacts = write_planning_artifacts(folder)
    sizes = {"width": 16, "heads": 2, "feedforward": 16, "anchors": 3, "encoder_layers": 1,
             "decoder_layers": 1}  # fmt: skip
    configuration = {
        "model": {"planner": {"class_path": PLANNER, "init_args": sizes}, "warm_up_steps": 2},
        "data": {name: str(path) for name, path in artifacts.items()}
        | {"batch_size": 8, "maximum_samples": 24},
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(configuration))
    run = str(folder / "run")
    assert main(["fit", "--config", str(folder / "small.yaml"), "--run-folder", run]) == 0
    embed = ["embed", "--checkpoint", run, "--device", "cpu", "--splits", "validation", "test"]
    assert main([*embed, "--out", str(folder / "vectors")]) == 0
    assert main([*embed, "--no-texts", "--out", str(folder / "silent")]) == 0
    return folder


def options(**changes: Any) -> Scenes:
    vectors = changes.pop("vectors", "vectors")
    found = {"scenes": Path("scenes"), "styles": Path("styles"), "checkpoint": Path("run"),
             "scene_vectors": Path(vectors), "retriever": ExactSource(Path(vectors)),
             "splits": ("validation", "test")}  # fmt: skip
    return Scenes(**found | changes)


@pytest.fixture(scope="module")
def half(root) -> OpenScenes:
    return options(reactive=False).open(ServedFiles(root))


@pytest.fixture(scope="module", params=["trained", "rules"])
def driver(request, root, half) -> tuple[OpenScenes, Planner]:
    """A half, and the planner it should ask; rules tell styles apart that an epoch does not."""
    if request.param == "trained":
        return half, load_planner(root / "run").planner
    plain = options(checkpoint=None, reactive=False, scene_vectors=None, retriever=None)
    return plain.open(ServedFiles(root)), Idm()


@pytest.fixture(scope="module")
def samples(root) -> pl.DataFrame:
    return read_artifact(root / "styles", kind="styles").table(SAMPLES)


def query(**asked: Any) -> SceneQuery:
    return SceneQuery.model_validate({"collection": "scenes", **asked})


def request(scene: str = "s3:1:12", **asked: Any) -> PlanRequest:
    return PlanRequest.model_validate({"scene": scene, "styles": STYLES} | asked)


def found(half: OpenScenes, **asked: Any) -> list[Any]:
    (answer,) = half.retrieve([query(**asked)])
    assert not isinstance(answer, RequestRefused), str(answer)
    return answer.scenes


def planned(half: OpenScenes, asked: PlanRequest) -> PlanAnswer:
    (answer,) = half.plan([asked])
    assert not isinstance(answer, RequestRefused), str(answer)
    return answer


def refusal(answers: list[Any]) -> RequestRefused:
    (answer,) = answers
    assert isinstance(answer, RequestRefused)
    return answer


def test_it_says_what_is_served_and_can_ask_itself(half):
    half.self_query()
    facts = half.facts()
    assert (facts["planner"], facts["scenes"], facts["recordings"]) == ("run", 96, 2)
    assert facts["splits"] == ["test", "validation"]
    assert facts["search"]["by"] == ["text", "style", "like"]
    assert facts["search"]["layout"] == {"text": 384, "scene": 32}
    assert facts["planner_class"] == PLANNER
    assert set(facts["content_hashes"]) == {"scenes", "styles", "vectors", "checkpoint"}


def test_a_search_is_the_mean_of_similarities_worked_out_one_by_one(root, half, samples):
    served = samples.filter(samples["split"] != "train")
    numbers = served["sample_id"].to_numpy()
    styles = read_artifact(root / "styles", kind="styles")
    scenes = read_artifact(root / "scenes", kind="scenes")
    own = styles.arrays("styles")
    model = SentenceEncoder(device="cpu")
    words = model.encode([text.words for text in scene_texts(scenes, styles, served)])
    said = words @ model.encode(["driving fast in an empty street"])[0]
    speed = np.where(
        own["mask"][numbers, 0], 1 - (0.8 - own["values"][numbers, 0].astype(float)) ** 2 / 4, 0
    )
    shown = (speed + 0.0) / 2  # nobody's braking was measured
    with torch.no_grad():
        encoded = load_planner(root / "run").planner.scene_vectors(  # pyright: ignore
            read_planning_rows(root / "scenes", served).scenes
        )
    encoded = torch.nn.functional.normalize(encoded, dim=-1).numpy()
    alike = encoded @ encoded[17]
    expected = (said + shown + alike) / 3
    expected[17] = -np.inf
    asked = {
        "text": "driving fast in an empty street",
        "style": {"speed": 0.8, "braking": 0.1},
        "like": half._scenes.ids[17],
    }
    got = found(half, **asked, k=95)
    assert found(half, **asked, k=7) == got[:7], "the search itself ranks by the mean"
    assert len(got) == 95
    assert half._scenes.ids[17] not in [one.scene.id for one in got]
    rows = [half._scenes.row(one.scene.id) for one in got]
    np.testing.assert_allclose([one.score for one in got], expected[rows], atol=1e-5)
    np.testing.assert_allclose([one.score for one in got], -np.sort(-expected)[:95], atol=1e-5)
    first = got[0].similarities
    np.testing.assert_allclose(
        [first["text"], first["style"], first["like"]],
        [said[rows[0]], shown[rows[0]], alike[rows[0]]],
        atol=1e-5,
    )


def test_filters_leave_only_what_passes(half):
    ids = half._scenes.ids
    style = {"speed": 1.0}
    every = found(half, style=style, k=1000)
    assert len(every) == 96
    assert {one.scene.split for one in found(half, style=style, filters={"splits": ["test"]})} == {
        "test"
    }
    kept = found(half, style=style, filters={"allow": [ids[3], ids[5], ids[90]], "deny": [ids[5]]})
    assert {one.scene.id for one in kept} == {ids[3], ids[90]}
    assert len(found(half, style=style, filters={"scenario_types": ["lane_following"]})) == 10
    assert found(half, style=style, filters={"splits": ["train"]}) == []
    assert found(half, style=style, filters={"allow": []}) == []
    best = [one.scene.style["speed"] for one in every]
    assert best == sorted(best, reverse=True)


def test_unknown_names_are_refused_alone(half):
    answers = half.retrieve(
        [
            query(style={"spede": 1.0}),
            query(like="nowhere"),
            query(style={"speed": 1.0}, filters={"deny": ["nowhere"]}),
            query(style={"speed": 1.0}, filters={"scenario_types": ["moon"]}),
            query(style={"speed": 1.0}),
        ]
    )
    assert [getattr(one, "param", None) for one in answers] == [
        "style", "like", "filters.deny", "filters.scenario_types", None
    ]  # fmt: skip
    assert [getattr(one, "status", None) for one in answers] == [400, 404, 404, 400, None]
    assert "There is no style dimension 'spede'; known are speed," in str(answers[0])


def test_questions_of_one_call_do_not_move_each_other(half):
    ids = half._scenes.ids
    queries = [
        query(text="a slow car", k=7),
        query(text="a fast car", style={"speed": 0.3}, k=7),
        query(style={"speed": 0.3}, k=7),
        query(like=ids[4], k=7),
        query(text="a slow car", k=3, filters={"splits": ["test"]}),
    ]
    together = half.retrieve(queries)
    assert together == [half.retrieve([one])[0] for one in queries]
    assert together == half.retrieve(queries[::-1])[::-1]
    plans = [request(), request("s2:0:30", seed=3), request("s3:2:40", styles=STYLES[:1])]
    answers = half.plan(plans)
    assert answers == half.plan(plans[::-1])[::-1]
    assert answers == [half.plan([one])[0] for one in plans]


@pytest.mark.parametrize("seed", [5])
def test_a_plan_is_the_planners(root, driver, samples, seed):
    half, planner = driver
    answer = planned(half, request(seed=seed))
    store = SceneStore.read(root / "scenes", size=ride_size(4.0))
    part = samples.filter(
        (samples["scene_id"] == 3) & (samples["track_id"] == 1) & (samples["step"] == 12)
    )
    world = store.world(part, history_s=1.0, future_s=5.2)
    label = torch.tensor([1])
    by = yardstick(world, planner_input(world, world.now), store.drivable_area(), label, Pdm())
    conditions = ["aggressive", "none", "speed-0.5"]
    for got, condition in zip(answer.styles, conditions, strict=True):
        scene = planner_input(world, world.now)
        best = planner.plan(scene, asked_styles(condition, None, [0]), seed=seed).best
        plan = got.plan
        np.testing.assert_allclose(np.c_[plan.x_m, plan.y_m, plan.heading_rad], best[0], atol=1e-3)
        steps_m = np.hypot(*np.diff(np.r_[[[0, 0]], best[0, :, :2].numpy()], axis=0).T)
        np.testing.assert_allclose(plan.speed_mps, steps_m / 0.5, atol=2e-3)
        assert (plan.step_s, plan.start_s) == (0.5, 0.5)
        expected = scored(world, tracked(scene, best), by)
        for name, value in got.sub_scores.items():
            assert value == pytest.approx(float(expected[name][0]), abs=2e-3), name
    assert answer.styles[0].style == {
        "speed": 1.0, "time_gap": -1.0, "acceleration": 1.0, "braking": 1.0, "jerk": 1.0,
        "lateral_acceleration": 1.0, "lane_change_assertiveness": 1.0, "yielding_margin": -1.0,
    }  # fmt: skip
    assert answer.styles[1].style == {}
    assert answer.styles[2].style == {"speed": -0.5}
    assert (answer.scene, answer.planner) == ("s3:1:12", half.facts()["planner"])
    assert answer.styles[0].ride is None


def test_a_ride_is_the_loops(root, driver, samples):
    half, planner = driver
    ride_s, driven_s = 4.3, 4.5
    answer = planned(half, request(closed_loop=True, ride_s=ride_s, seed=2))
    store = SceneStore.read(root / "scenes", size=ride_size(driven_s))
    part = samples.filter(
        (samples["scene_id"] == 3) & (samples["track_id"] == 1) & (samples["step"] == 12)
    )
    world = store.world(part, history_s=1.0, future_s=driven_s + 1.2)
    gate = SafetyGate(store.drivable_area())
    for got, condition in zip(answer.styles[::2], ["aggressive", "speed-0.5"], strict=True):
        with torch.inference_mode():
            happened = roll_out(
                world, planner, asked_styles(condition, None, [0]), duration_s=driven_s, seed=2,
                gate=gate,
            )  # fmt: skip
        ride, steps = got.ride, round(ride_s / 0.1) + 1
        assert ride is not None
        assert len(ride.ego.x_m) == steps
        assert (ride.ego.step_s, ride.ego.start_s) == (0.1, 0.0)
        np.testing.assert_allclose(ride.ego.x_m, happened.ego.poses[0, :steps, 0], atol=2e-3)
        np.testing.assert_allclose(ride.ego.speed_mps, happened.ego.speed_mps[0, :steps], atol=2e-3)
        assert len(ride.agents) == 2
        np.testing.assert_allclose(
            np.array(ride.agents[0].x_m, float), happened.agent_poses[0, 0, :steps, 0], atol=2e-3
        )
        assert set(ride.sub_scores) - set(got.sub_scores) == {
            "no_collision_ride", "drivable_area_ride"
        }  # fmt: skip
    short = planned(half, request(closed_loop=True, ride_s=2.3, seed=2, styles=STYLES[:1]))
    whole = planned(half, request(closed_loop=True, ride_s=4.0, seed=2, styles=STYLES[:1]))
    first, second = short.styles[0].ride, whole.styles[0].ride
    assert first is not None
    assert second is not None
    assert first.ego.x_m == second.ego.x_m[:24]
    assert first.sub_scores == second.sub_scores, "scores are of four seconds"
    alone = planned(half, request(seed=2))
    assert [one.plan for one in alone.styles] == [one.plan for one in answer.styles]


def test_the_seed_reaches_every_planning(root, half, monkeypatch):
    inner, seeds = half._driver.planner, []

    class Spy(Planner):
        def plan(self, scene: PlannerInput, style: StyleCondition, *, seed: int = 0) -> Plans:
            seeds.append(seed)
            return inner.plan(scene, style, seed=seed)

    monkeypatch.setattr(half._driver, "planner", Spy())
    half.plan([request(seed=40, closed_loop=True, styles=STYLES[:1])])
    assert seeds == [40, *range(40, 48)]


def test_the_gate_sees_every_planning_of_a_ride_if_there_is_one(root, half, monkeypatch):
    assert isinstance(half._driver._gate, SafetyGate)
    assert options(gate=False).open(ServedFiles(root))._driver._gate is None
    seen = []

    def gate(world, motion):
        seen.append(world.now)
        return torch.ones(motion.poses.shape[:2], dtype=torch.bool)

    monkeypatch.setattr(half._driver, "_gate", gate)
    planned(half, request(closed_loop=True, styles=STYLES[:1]))
    assert seen == [10 + 5 * planning for planning in range(8)]


def test_reacting_traffic_is_another_drive_than_the_log(root, half):
    asked = request("s3:0:12", closed_loop=True, styles=STYLES[1:2])
    (log,) = planned(half, asked).styles
    (reacting,) = planned(options(reactive=True).open(ServedFiles(root)), asked).styles
    assert log.plan == reacting.plan
    assert log.ride is not None
    assert reacting.ride is not None
    assert log.ride.agents != reacting.ride.agents


def test_what_cannot_be_planned_is_refused_alone(half):
    answers = half.plan(
        [
            request("nowhere"),
            request(styles=[{"name": "x", "style": {"sped": 0.1}}]),
            request(closed_loop=True, ride_s=8.0),
            request(),
        ]
    )
    assert [getattr(one, "status", None) for one in answers] == [404, 400, 400, None]
    assert "There is no style dimension 'sped'" in str(answers[1])
    assert "goes on for 6.8 s only" in str(answers[2])


def test_without_a_checkpoint_rules_plan_and_say_so(root):
    plain = Scenes(scenes=Path("scenes"), styles=Path("styles")).open(ServedFiles(root))
    plain.self_query()
    answer = planned(plain, request())
    assert answer.planner == "idm"
    assert answer.styles[0].plan.x_m[-1] > answer.styles[2].plan.x_m[-1], "styles are told apart"
    assert plain.facts()["search"] is None
    assert "without vectors" in str(refusal(plain.retrieve([query(style={"speed": 1.0})])))


def test_a_scene_from_above_by_hand(root, half, samples):
    view = half.scene("s3:0:20")
    speeds = np.random.default_rng(0).uniform(2.0, 12.0, (4, 3))[3]
    assert [box.kind for box in view.agents] == ["vehicle", "vehicle"]
    ahead = 25.0 + (speeds[1] - speeds[0]) * 2.0
    assert view.agents[0].x_m == pytest.approx(ahead, abs=0.01)
    assert view.agents[0].y_m == pytest.approx(-3.5, abs=0.01), "the lane to the right of north"
    assert (view.ego.length_m, view.ego.width_m, view.ego.x_m) == (4.5, 1.8, 0.0)
    assert view.ego_past.x_m[-1] == 0.0
    assert view.ego_past.start_s == -1.0
    assert view.ego_past.x_m[0] == pytest.approx(-speeds[0], abs=0.01)
    assert view.ego_future.start_s == 0.0
    assert view.ego_future.x_m[40] == pytest.approx(4 * speeds[0], abs=0.01)
    assert {line.kind for line in view.lines} == {
        "lane_centre", "lane_boundary", "crosswalk", "stop_line"
    }  # fmt: skip
    (boundary,) = [line for line in view.lines if line.kind == "lane_boundary"]
    assert set(np.round(boundary.y_m, 2)) == {-1.75}
    assert max(boundary.x_m) < 80 + 25
    assert np.all(np.diff(boundary.x_m) > 0)
    with pytest.raises(RequestRefused, match="There is no scene 'nowhere'"):
        half.scene("nowhere")


def test_preferences_are_those_before_or_else_those_shown(root, half, samples):
    styles = read_artifact(root / "styles", kind="styles")
    later = half.read(ReadRequest.model_validate({"scene": "s3:1:40"}))
    values, mask = before_vectors(samples, styles.table(PREFERENCES))
    row = samples.filter(
        (samples["scene_id"] == 3) & (samples["track_id"] == 1) & (samples["step"] == 40)
    )["sample_id"][0]
    np.testing.assert_allclose(later.conditioning.values, values[row], atol=1e-5)
    assert later.conditioning.mask == mask[row].tolist()
    assert later.preferences[0].evidence[0].quote.startswith("The driver goes ")
    earlier = {quote.source for quote in later.preferences[0].evidence}
    assert len(earlier) == 4
    assert max(earlier) < row
    first = half.read(ReadRequest.model_validate({"scene": "s3:1:10"}))
    (shown,) = first.preferences
    scene = half.scene("s3:1:10").scene
    assert shown.text.startswith("Here the driver drives ")
    assert shown.aspect == "speed"
    assert first.conditioning.values[0] == pytest.approx(scene.style["speed"], abs=1e-4)
    assert sum(first.conditioning.mask) == 1
    (quote,) = shown.evidence
    assert scene.description[quote.start : quote.end] == quote.quote
    assert quote.quote.startswith("The driver goes ")
    with pytest.raises(RequestRefused, match="Reviews are read by the recommender"):
        half.read(ReadRequest.model_validate({"reviews": [{"text": "Light."}]}))


def test_neighbours_are_counted_within_fifty_metres(root, samples):
    """Cars stand 25 m apart, in two lanes, and drive apart with their speeds."""
    chosen = samples.filter((samples["scene_id"] == 1) & (samples["step"] == 40))
    counted = neighbours(read_artifact(root / "scenes", kind="scenes"), chosen)
    speeds = np.random.default_rng(0).uniform(2.0, 12.0, (4, 3))[1]
    places = np.c_[[0.0, 3.5, 0.0], 25.0 * np.arange(3) + 4.0 * speeds]
    away = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    expected = ((away <= 50) & (away > 0)).sum(1).tolist()
    assert counted.sort("sample_id")["near_vehicle"].to_list() == expected
    assert len(set(expected)) > 1
    assert counted["near_pedestrian"].to_list() == counted["near_cyclist"].to_list() == [0, 0, 0]


def test_pages_of_scenes(half):
    every = half.scenes("", start=0, count=5)
    assert (every.total, len(every.scenes)) == (96, 5)
    assert [one.id for one in half.scenes("", start=94, count=5).scenes] == half._scenes.ids[94:]
    fast = half.scenes("AGGRESSIVE driving", start=0, count=100)
    assert 0 < fast.total < 96
    assert {one.label for one in fast.scenes} == {"aggressive"}
    assert half.scenes("lane_following nowhere s3:2:40", start=0, count=9).total == 1
    assert half.scenes("no such words", start=0, count=9).total == 0


def test_ids_are_tokens_where_they_are_unique_and_both_ways_lead_to_a_scene(root):
    styles = read_artifact(root / "styles", kind="styles")
    scenes = read_artifact(root / "scenes", kind="scenes")
    plain = ServedScenes.of(scenes, styles, ("test",))
    tokens = pl.Series(["a token", "twice", "twice", *[None] * (len(plain) - 3)], dtype=pl.String)
    served = ServedScenes(plain.samples.with_columns(token=tokens), plain.texts)
    assert served.ids[:4] == ["a token", "s3:0:12", "s3:0:14", "s3:0:16"]
    assert served.row("a token") == served.row("s3:0:10") == 0
    again = plain.samples.with_columns(scene_key=pl.lit("same"))
    again = again.with_columns(scene_id=pl.int_range(len(plain), dtype=pl.Int32))
    clashing = ServedScenes(again, plain.texts)
    assert len(set(clashing.ids)) == len(clashing)
    assert clashing.ids[1] == "test 1 same:0:12"


def test_a_scene_is_found_by_its_id_though_it_holds_underscores(root):
    styles = read_artifact(root / "styles", kind="styles")
    plain = ServedScenes.of(read_artifact(root / "scenes", kind="scenes"), styles, ("test",))
    named = plain.samples.with_columns(scene_key=pl.lit("USA_Lanker-2_21_T-") + pl.col("scene_key"))
    served = ServedScenes(named, plain.texts)
    assert served.having("USA_Lanker-2_21_T-s3:1:12") == [plain.row("s3:1:12")]
    assert served.having("usa lanker-2 lane following s3:1:12") == [plain.row("s3:1:12")]
    assert len(served.having("lane_following")) == len(plain)


def test_scenes_without_texts_are_found_by_the_rest(root):
    silent = options(vectors="silent").open(ServedFiles(root))
    silent.self_query()
    assert silent.facts()["search"]["by"] == ["style", "like"]
    assert "embedded without their texts" in str(refusal(silent.retrieve([query(text="a car")])))
    assert len(found(silent, like="s3:1:12", k=4)) == 4


def test_vectors_of_other_splits_are_not_found(root):
    half = options(splits=("train", "test")).open(ServedFiles(root))
    got = found(half, style={"speed": 1.0}, k=1000)
    assert {one.scene.split for one in got} == {"test"}
    assert len(got) == 48
    train = half._scenes.ids[0]
    assert "was not embedded" in str(refusal(half.retrieve([query(like=train)])))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"scenes": Path("../elsewhere")}, InputError, "lies outside"),
        ({"styles": Path("missing")}, NotServedError, "is not there"),
        ({"checkpoint": Path("missing")}, NotServedError, "is not there"),
        ({"styles": Path("scenes")}, ArtifactMismatch, "styles is needed here"),
        ({"splits": ("tets",)}, InputError, "There is no split tets"),
        ({"retriever": None}, InputError, "go together"),
        ({"checkpoint": None, "guidance": 2.0}, InputError, "rules have no options"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(root, changes, kind, message):
    with pytest.raises(kind, match=message):
        options(**changes).open(ServedFiles(root))


def test_the_safety_gate_reaches_the_planner(root, half):
    strict = options(safety_gate=0.9).open(ServedFiles(root))
    for served, gate in ((strict, 0.9), (half, 0.5)):
        planner = served._driver.planner
        assert isinstance(planner, DiffusionPlanner)
        assert planner.selection.safety_gate == gate


def test_guidance_reaches_the_planner(root, half):
    strong = options(guidance=3.0).open(ServedFiles(root))
    assert strong.facts()["guidance"] == 3.0
    guided, plain = planned(strong, request()).styles, planned(half, request()).styles
    assert guided[0].plan != plain[0].plan
    assert guided[1].plan == plain[1].plan, "no style, nothing to exaggerate"


# --- Steering

CHAINS = {
    "neutral": Chain(),
    "selection": Chain(selection=Selection(strength=40.0)),
    "told": Chain(telling=Telling(1.0), guidance=Guidance(2.0)),
}


@pytest.fixture(scope="module")
def steerable(root) -> OpenScenes:
    return options(reactive=False, steering=CHAINS).open(ServedFiles(root))


def steered_style(chain: str, goals: dict[str, float], **style: Any) -> dict[str, Any]:
    return {"name": chain, "steering": {"chain": chain, "goals": goals}} | style


def reached(half: OpenScenes, asked: dict[str, Any]) -> tuple[GoalValue, GoalValue]:
    """The only goal of the only style, without steering and with it."""
    (style,) = planned(half, request(styles=[asked])).styles
    assert style.steered is not None
    (goal,) = style.steered.goals
    assert goal.without is not None
    assert goal.reached is not None
    return goal.without, goal.reached


def test_chains_and_goals_are_in_the_facts_and_are_those_of_the_evaluation(root, half, steerable):
    facts = steerable.facts()["steering"]
    assert facts["chains"] == list(CHAINS)
    evaluated = EvaluatedPlans(
        checkpoint=root / "run", scenes=root / "scenes", styles=root / "styles"
    ).open()
    assert facts["goals"] == [vars(goal) for goal in evaluated.space.dimensions]
    assert half.facts()["steering"] is None
    steerable.self_query()


def test_without_steering_or_goals_plans_stay_to_the_last_bit(half, steerable):
    plain = planned(half, request())
    assert planned(steerable, request()) == plain
    asked = [one | {"steering": {"chain": "selection"}} for one in STYLES]
    answer = planned(steerable, request(styles=asked))
    for one, other in zip(answer.styles, plain.styles, strict=True):
        assert one.steered is not None
        assert (one.steered.chain, one.steered.goals) == ("selection", [])
        assert one.model_copy(update={"steered": None}) == other


def test_a_neutral_chain_is_the_planner(steerable):
    goals = {"mean_speed": 1.0}
    (steered,) = planned(steerable, request(styles=[steered_style("neutral", goals)])).styles
    (plain,) = planned(steerable, request(styles=[{"name": "neutral"}])).styles
    assert steered.plan == plain.plan
    assert steered.steered is not None
    (goal,) = steered.steered.goals
    assert goal.without == goal.reached


def test_steered_plans_are_the_steered_planners_and_reach_what_they_say(root, steerable, samples):
    goals = {"mean_speed": 1.0, "clearance": 0.25}
    asked = [STYLES[0], steered_style("selection", goals, preset="conservative"), STYLES[2]]
    answer = planned(steerable, request(styles=asked, seed=3))
    planner = load_planner(root / "run").planner
    assert isinstance(planner, DiffusionPlanner)
    space = steerable._driver.steering.space
    store = SceneStore.read(root / "scenes", size=ride_size(4.0))
    part = samples.filter(
        (samples["scene_id"] == 3) & (samples["track_id"] == 1) & (samples["step"] == 12)
    )
    world = store.world(part, history_s=1.0, future_s=4.0 + 1.2)
    scene, style = planner_input(world, world.now), asked_styles("conservative", None, [0])
    wanted = Goals(
        torch.tensor([[goals.get(name, 0.0) for name in space.names]]),
        torch.tensor([[name in goals for name in space.names]]),
    )
    with torch.inference_mode():
        own = planner.plan(scene, style, seed=3).best
        best = SteeredPlanner(planner, CHAINS["selection"], space).plan_to(
            scene, style, wanted, seed=3
        )
    got = answer.styles[1]
    np.testing.assert_allclose(np.c_[got.plan.x_m, got.plan.y_m], best.best[0, :, :2], atol=1e-3)
    assert got.steered is not None
    assert [goal.name for goal in got.steered.goals] == list(goals)
    for plans, side in ((own, "without"), (best.best, "reached")):
        found = driven_goals(world, one_candidate(tracked(scene, plans)))
        for goal in got.steered.goals:
            place = GOAL_NAMES.index(goal.name)
            assert bool(found.mask[0, 0, place])
            assert getattr(goal, side).raw == pytest.approx(float(found.raw[0, 0, place]), abs=2e-3)
    assert [one.steered for one in answer.styles[::2]] == [None, None]
    plain = planned(steerable, request(styles=[STYLES[0], STYLES[2]], seed=3)).styles
    for one, other in zip(answer.styles[::2], plain, strict=True):
        np.testing.assert_allclose(one.plan.x_m, other.plan.x_m, atol=1e-3)


def test_every_style_of_a_request_is_planned_as_if_alone(steerable):
    asked = [
        {"name": "fast", "style": {"speed": 1.0}},
        steered_style("selection", {"mean_speed": 1.0}),
        steered_style("selection", {"mean_speed": 0.0}),
        {"name": "slow", "preset": "conservative"},
    ]
    together = planned(steerable, request(styles=asked)).styles
    alone = [planned(steerable, request(styles=[one])).styles[0] for one in asked]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.plan.x_m, other.plan.x_m, atol=2e-3)
        assert (one.name, one.style) == (other.name, other.style)
    ends = [one.plan.x_m[-1] for one in alone]
    assert ends[2] < min(ends[0], ends[1], ends[3]) - 1.0, "the one that is told apart"


def test_selection_takes_what_is_nearer_to_the_goal(steerable):
    ends = []
    for wanted in (0.0, 1.0):
        without, found = reached(steerable, steered_style("selection", {"mean_speed": wanted}))
        ends.append(found.raw)
        assert abs(found.normalized - wanted) <= abs(without.normalized - wanted) + 1e-3
    assert ends[1] > ends[0]


def test_rides_are_steered_and_each_style_has_its_own(steerable, monkeypatch):
    asked = [steered_style("told", {"mean_speed": 1.0}), STYLES[1]]
    driven_by = []

    def recorded(world, planner, style, **options):
        driven_by.append((type(planner).__name__, len(style.values)))
        return roll_out(world, planner, style, **options)

    monkeypatch.setattr("driving.served_plans.roll_out", recorded)
    answer = planned(steerable, request(styles=asked, closed_loop=True, ride_s=1.0))
    assert sorted(driven_by) == [("AimedPlanner", 1), ("DiffusionPlanner", 1)]
    alone = planned(steerable, request(styles=asked[1:], closed_loop=True, ride_s=1.0))
    one, other = answer.styles[1].ride, alone.styles[0].ride
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one.ego.x_m, other.ego.x_m, atol=2e-3)


def test_chains_and_goals_that_do_not_exist_are_refused_alone(half, steerable):
    answers = steerable.plan(
        [
            request(styles=[steered_style("gone", {"mean_speed": 1.0})]),
            request(styles=[steered_style("told", {"colour": 1.0})]),
            request(),
        ]
    )
    assert [getattr(one, "param", None) for one in answers] == ["styles", "styles", None]
    assert "There is no chain 'gone'; served are neutral, selection, told." in str(answers[0])
    assert "There is no goal 'colour'; known are " in str(answers[1])
    refused = refusal(half.plan([request(styles=[steered_style("told", {})])]))
    assert "Nothing steers here: no chains are served." in str(refused)


def test_limits_of_plans_are_those_of_an_evaluation(root):
    limits = {"name": "mean_speed", "unit": "m/s", "meaning": "faster", "low": 2.0, "high": 9.0}
    for name, dimension in (("evaluated", limits), ("other", limits | {"name": "price"})):
        with create_artifact(
            root / name, kind="steerability", command="test", configuration={}, inputs={}
        ) as writer:
            writer.write_json("metrics", {"goal_space": {"dimensions": [dimension]}})
    half = options(steering=CHAINS, goal_space=Path("evaluated")).open(ServedFiles(root))
    assert half.facts()["steering"]["goals"] == [limits]
    asked = steered_style("selection", {"mean_speed": 1.0})
    _, found = reached(half, asked)
    share = (found.raw - 2.0) / 7.0
    assert found.normalized == pytest.approx(np.clip(share, 0, 1), abs=1e-3)
    with pytest.raises(ArtifactMismatch, match="is about the goal price"):
        options(steering=CHAINS, goal_space=Path("other")).open(ServedFiles(root))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"checkpoint": None}, InputError, "idm cannot be steered; serve chains of a diffusion"),
        ({"steering": {"x": Chain(lookahead=Lookahead(1.0))}}, InputError, "semantic IDs only"),
        (
            {"steering": {"x": Chain(guidance=Guidance(2.0, Path("../elsewhere")))}},
            InputError,
            "lies outside",
        ),
    ],
)
def test_chains_that_cannot_steer_plans_are_refused(root, changes, kind, message):
    given = {"steering": CHAINS, "scene_vectors": None, "retriever": None} | changes
    with pytest.raises(kind, match=message):
        options(**given).open(ServedFiles(root))
