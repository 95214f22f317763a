"""Steered recommendations behind the API: neutral is as before, and what is said was reached."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.artifact import create_artifact, read_manifest
from data_prep.errors import ArtifactMismatch, InputError
from personalize.api.messages import ItemQuery, ItemsFound, Steered, Steering
from personalize.api.ports import RequestRefused
from personalize.steering.chain import (
    Chain,
    Edits,
    Guidance,
    Lookahead,
    Neighbourhood,
    Selection,
    Telling,
)
from personalize.steering.edits import ActivationMap
from personalize.steering.particles import ParticleSteering
from personalize.steering.stored_maps import write_maps
from recsys.batch import HistoryBatch
from recsys.opened_chain import OpenedChain
from recsys.opened_steering import _KnownItems
from recsys.recommender import Filters
from recsys.served_proposals import HybridProposer, dense_proposer
from recsys.served_recommender import ServedRecommender
from recsys.steerability import Items
from tests.recsys.retriever_fixtures import small_batch, small_catalogue
from tests.recsys.served_world import ServedWorld, added, found, keys, new_item, wish
from tests.recsys.small_world import sentence

MODES = ("dense", "generative", "hybrid")
CHAINS = {
    "neutral": Chain(),
    "ahead": Chain(lookahead=Lookahead(30.0)),
    "told": Chain(telling=Telling(1.0), guidance=Guidance(2.0)),
    "calibrated": Chain(lookahead=Lookahead(5.0), selection=Selection(30.0, calibrate=True)),
    "drawn": Chain(particles=ParticleSteering(count=32, strength=10.0)),
    "around": Chain(
        lookahead=Lookahead(5.0), neighbourhood=Neighbourhood(count=3, largest_angle_rad=0.5)
    ),
}
ASKED: dict[str, Any] = {
    "history": ["i003", "i010"],
    "preferences": [wish(text=sentence("like:tone"))],
    "k": 5,
}


@pytest.fixture
def half(world: ServedWorld) -> ServedRecommender:
    return world.opened(steering=CHAINS)


def steered(half: ServedRecommender, chain: str, goals: dict[str, float], **query: Any):
    asked = Steering(chain=chain, goals=goals)
    return found(half, **ASKED | query, steering=asked)


def said(answer: ItemsFound) -> Steered:
    assert answer.steered is not None
    return answer.steered


def test_what_can_be_asked_is_in_the_facts_and_is_that_of_the_evaluation(half, world):
    facts = half.facts()["steering"]
    assert facts["chains"] == list(CHAINS)
    evaluated = Items(
        checkpoint=world.root / "causal", preferences=world.root / "preferences", told=False
    ).open()
    assert facts["goals"] == [vars(goal) for goal in evaluated.space.dimensions]
    assert {"name", "unit", "meaning", "low", "high"} == set(facts["goals"][0])
    assert world.opened().facts()["steering"] is None
    half.self_query()


@pytest.mark.parametrize("mode", MODES)
def test_without_steering_nothing_changes_to_the_last_bit(half, world, mode):
    plain = found(world.opened(), **ASKED, mode=mode)
    assert found(half, **ASKED, mode=mode) == plain
    nothing = steered(half, "ahead", {}, mode=mode)
    assert said(nothing).goals == []
    assert nothing.model_copy(update={"steered": None}) == plain


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", ["causal", "mender_emb", "tiger"])
def test_a_neutral_chain_finds_the_same_items(world, model, mode):
    half = world.opened(model, steering={"neutral": Chain()})
    plain = found(half, **ASKED, mode=mode)
    answer = steered(half, "neutral", {"popularity": 1.0}, mode=mode)
    assert keys(answer) == keys(plain)
    for one, other in zip(answer.items, plain.items, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.score_change == pytest.approx(other.score_change, abs=1e-4)
    (goal,) = said(answer).goals
    assert goal.without == goal.reached


@pytest.mark.parametrize("chain", ["ahead", "calibrated", "drawn", "around"])
@pytest.mark.parametrize("mode", MODES)
def test_lists_move_towards_the_goal(half, mode, chain):
    if mode == "dense" and chain == "drawn":
        pytest.skip("nothing is drawn from vectors")
    ends = []
    for wanted in (0.0, 1.0):
        (goal,) = said(steered(half, chain, {"popularity": wanted}, mode=mode)).goals
        assert (goal.name, goal.wanted) == ("popularity", wanted)
        assert goal.without is not None
        assert goal.reached is not None
        ends.append(goal.reached.raw)
    assert ends[1] > ends[0] + 0.1


def test_what_was_reached_is_worked_out_from_the_lists(half, world):
    goals = {"popularity": 1.0, "diversity": 0.0}
    goals = {name: value for name, value in goals.items() if name in half._steering.space.names}
    answer, plain = (
        steered(half, "ahead", goals, mode="generative"),
        found(half, **ASKED, mode="generative"),
    )
    met = np.bincount(_train_items(world), minlength=24)
    ranks = [(np.sum(met < m) + np.sum(met <= m) - 1) / 2 / 23 for m in met]
    weights = 1 / np.log2(np.arange(2, 7))
    for items, side in ((plain, "without"), (answer, "reached")):
        (goal,) = (one for one in said(answer).goals if one.name == "popularity")
        value = getattr(goal, side)
        by_hand = np.average([ranks[int(key[1:])] for key in keys(items)], weights=weights)
        assert value.raw == pytest.approx(by_hand, abs=1e-3)
        (limit,) = (one for one in half._steering.space.dimensions if one.name == "popularity")
        share = (by_hand - limit.low) / (limit.high - limit.low)
        assert value.normalized == pytest.approx(np.clip(share, 0, 1), abs=1e-3)
    assert [one.name for one in said(answer).goals] == list(goals)


def _train_items(world: ServedWorld) -> np.ndarray:
    from data_prep.artifact import read_artifact
    from data_prep.schema import INTERACTIONS

    table = read_artifact(world.root / "tables", kind="reviews").table(INTERACTIONS)
    return table.filter(table["split"] == "train")["item_id"].to_numpy()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("chain", ["ahead", "told", "calibrated"])
def test_questions_do_not_influence_each_other(half, mode, chain):
    steering = Steering(chain=chain, goals={"popularity": 1.0})
    queries = [
        ItemQuery.model_validate(ASKED | {"mode": mode, "user": f"u{n}"} | extra)
        for n, extra in enumerate([{"steering": steering}, {}, {"steering": steering, "k": 3}])
    ]
    together = half.retrieve(queries)
    for query, answer in zip(queries, together, strict=True):
        (alone,) = half.retrieve([query])
        assert keys(alone) == keys(answer)
        assert (alone.steered is None) == (query.steering is None)
        assert alone.steered == answer.steered


def test_telling_reaches_the_model(half):
    plain = keys(
        found(
            half,
            **ASKED,
            mode="generative",
        )
    )
    one, other = (
        keys(steered(half, "told", {"popularity": wanted}, mode="generative"))
        for wanted in (0.0, 1.0)
    )
    assert one != other or one != plain


@pytest.mark.parametrize("mode", MODES)
def test_filters_and_the_history_are_kept_to(half, mode):
    allowed = {"allow": ["i001", "i002", "i003", "i004"], "deny": ["i002"]}
    answer = steered(half, "ahead", {"popularity": 1.0}, mode=mode, filters=allowed)
    assert sorted(keys(answer)) == ["i001", "i004"]  # i003 was met
    long = [f"i{n:03d}" for n in range(15)]  # the model reads the newest six
    answer = steered(half, "ahead", {"popularity": 1.0}, mode=mode, history=long, k=24)
    assert sorted(keys(answer)) == [f"i{n:03d}" for n in range(15, 24)]
    everything = {"history": long, "filters": {"seen": "include"}, "k": 24}
    assert len(steered(half, "ahead", {"popularity": 1.0}, mode=mode, **everything).items) == 24


@pytest.mark.parametrize("mode", MODES)
def test_reasons_are_the_models_own_and_the_goals_worth_stays(half, mode):
    answer = steered(half, "ahead", {"popularity": 1.0}, mode=mode)
    plain = found(half, **ASKED | {"k": 24}, mode=mode)
    own = {entry.item.id: entry.score_change for entry in plain.items}
    for entry in answer.items:
        assert entry.score_change == pytest.approx(own[entry.item.id], abs=1e-4)
        (reason,) = entry.reasons
        assert reason.score_change == entry.score_change
    places = [entry.rank_without_preferences for entry in answer.items]
    assert sorted(place for place in places if place) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("mode", MODES)
def test_items_added_while_serving_may_be_found(own_world, mode):
    half = own_world.opened(steering=CHAINS)
    added(half, [new_item("new", "A thing of its own")])
    answer = steered(half, "ahead", {"popularity": 0.5}, mode=mode, filters={"allow": ["new"]})
    assert keys(answer) == ["new"]
    (goal,) = said(answer).goals
    assert goal.reached is None, "nobody has met it in training"


@pytest.mark.parametrize(
    ("steering", "words"),
    [
        ({"chain": "gone", "goals": {}}, "There is no chain 'gone'; served are neutral, ahead,"),
        ({"chain": "ahead", "goals": {"colour": 1.0}}, "There is no goal 'colour'; known are pop"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(half, steering, words):
    queries = [ItemQuery.model_validate(ASKED | extra) for extra in ({"steering": steering}, {})]
    refused, answered = half.retrieve(queries)
    assert isinstance(refused, RequestRefused)
    assert (refused.param, refused.status) == ("steering", 400)
    assert words in str(refused)
    assert isinstance(answered, ItemsFound)


def test_where_nothing_steers_that_is_said(world):
    query = ItemQuery.model_validate(ASKED | {"steering": {"chain": "ahead"}})
    (refused,) = world.opened().retrieve([query])
    assert "Nothing steers here: no chains are served." in str(refused)


@pytest.mark.parametrize(
    ("model", "chain", "words"),
    [
        ("sasrec", Chain(), "SASRec cannot be steered"),
        ("tiger", Chain(telling=Telling(0.5)), "Tiger does not read; leave out telling"),
        ("causal", Chain(edits=Edits(Path("../maps"), 1.0)), "lies outside"),
        ("causal", Chain(guidance=Guidance(2.0, Path("../bad"))), "lies outside"),
        ("causal", Chain(selection=Selection(critic=Path("gone"))), "is not there"),
    ],
)
def test_a_chain_that_would_be_left_out_is_refused(world, model, chain, words):
    with pytest.raises(InputError, match=words):
        world.opened(model, steering={"mine": chain})


def write_evaluation(folder: Path, dimensions: list[dict[str, Any]], **options: Any) -> None:
    configuration = {"source": {"class_path": "x", "init_args": options}}
    with create_artifact(
        folder, kind="steerability", command="test", configuration=configuration, inputs={}
    ) as writer:
        writer.write_json("metrics", {"goal_space": {"dimensions": dimensions}})


def test_limits_are_those_of_an_evaluation(own_world):
    limits = {"name": "popularity", "unit": "", "meaning": "more", "low": 0.2, "high": 0.7}
    unknown = limits | {"name": "price", "low": None}
    write_evaluation(own_world.root / "evaluated", [unknown, limits], category=None)
    half = own_world.opened(steering=CHAINS, goal_space=Path("evaluated"))
    assert half.facts()["steering"]["goals"] == [limits]
    (goal,) = said(steered(half, "ahead", {"popularity": 1.0})).goals
    assert goal.reached is not None
    assert goal.reached.normalized == pytest.approx(
        np.clip((goal.reached.raw - 0.2) / 0.5, 0, 1), abs=1e-3
    )
    write_evaluation(own_world.root / "other", [limits | {"name": "mean_speed"}])
    with pytest.raises(ArtifactMismatch, match="is about the goal mean_speed"):
        own_world.opened(steering=CHAINS, goal_space=Path("other"))
    write_evaluation(own_world.root / "empty", [unknown])
    with pytest.raises(ArtifactMismatch, match="has no goal with limits"):
        own_world.opened(steering=CHAINS, goal_space=Path("empty"))
    write_evaluation(own_world.root / "gone", [limits], category="No such")
    with pytest.raises(InputError, match="no item is of the category No such"):
        own_world.opened(steering=CHAINS, goal_space=Path("gone"))


def test_whom_a_list_is_for_decides_what_sentiment_is_about(half):
    from recsys.served_steering import cares_about

    def aspect(**query: Any) -> str | None:
        return cares_about(half._asking.resolved(ItemQuery(**query)), half._asking.people)

    read = half.user("u3").preferences
    assert aspect(user="u3") == (read[0].aspect if read else None)
    assert aspect() is None
    assert aspect(user="u3", preferences=[]) is None
    wishes = [wish(attribute="price", strength=0.2), wish(attribute="sound", strength=0.9)]
    assert aspect(preferences=[*wishes, wish(text="Words.")]) == "sound"
    assert torch.is_tensor(half._steered.goals.sentiment)


class TwoQueries:
    """Asks along the first axis, and along the second where nothing is preferred."""

    def dense_queries(self, batch: HistoryBatch) -> torch.Tensor:
        wanted = batch.preference_mask.any(2)
        return torch.cat([wanted, ~wanted], 1).float()

    def dense_keys(self) -> torch.Tensor:
        raise AssertionError("the keys are given")


def test_dense_candidates_by_hand():
    keys = torch.tensor([[5.0, 0.0], [4.0, 0.0], [3.0, 4.0], [2.0, 0.0], [0.0, 1.0]])
    batch = small_batch(small_catalogue(), rows=1)
    batch = replace(batch, preference_mask=torch.ones_like(batch.preference_mask))
    dense = dense_proposer(torch.nn.Identity(), TwoQueries(), keys, 2)
    nothing, rewards = Filters(), torch.tensor([[0.0, 0.0, 0.0, 1.0, 2.0]])

    def proposed(chain: Chain, worth: torch.Tensor | None = None, filters: Filters = nothing):
        found = dense.propose(batch, worth, OpenedChain(chain), filters=filters)
        return list(zip(found.items[0].tolist(), found.scores[0].tolist(), strict=True))

    assert proposed(Chain()) == [(0, 5.0), (1, 4.0)]
    # With 4 nats for a reward of 1 they are 5, 4, 3, 6 and 8; scores are those before the tilt.
    assert proposed(Chain(lookahead=Lookahead(4.0)), rewards) == [(4, 0.0), (3, 2.0)]
    # Away from the second axis, twice as far: 2 * 3 - 4 for the third item.
    assert proposed(Chain(guidance=Guidance(2.0))) == [(0, 10.0), (1, 8.0)]
    only = Filters(allowed_items=torch.tensor([False, False, True, False, False]))
    assert proposed(Chain(guidance=Guidance(2.0)), None, only) == [(2, 2.0), (-1, -math.inf)]
    added = torch.tensor([False, False, False, True, True])
    hybrid = HybridProposer(dense, dense, added, torch.nn.Identity())
    found = hybrid.propose(batch, None, OpenedChain(Chain()), filters=nothing)
    assert found.items.tolist() == [[0, 1, 3, 4]]
    assert found.scores.tolist() == [[5.0, 4.0, 2.0, 0.0]]


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("mode", MODES)
def test_edits_of_activations_reach_what_is_found(own_world, mode, guidance):
    root = own_world.root
    checkpoint = read_manifest(root / "causal").content_hash
    maps = {"encoder.norm_out": ActivationMap(torch.ones(16), torch.linspace(-6.0, 6.0, 16))}
    with create_artifact(
        root / "maps",
        kind="activation_maps",
        command="test",
        configuration={},
        inputs={"checkpoint": checkpoint},
    ) as writer:
        write_maps(writer, {"popularity": maps})
    chain = Chain(edits=Edits(Path("maps"), 1.0), guidance=Guidance(guidance))
    half = own_world.opened(steering={"edited": chain, "guided": replace(chain, edits=Edits())})
    edited, plain = (
        steered(half, name, {"popularity": 1.0}, mode=mode) for name in ("edited", "guided")
    )
    assert [entry.score for entry in edited.items] != [entry.score for entry in plain.items]
    again = steered(half, "guided", {"popularity": 1.0}, mode=mode)
    assert again == plain, "an edit is gone when its answer is"


def test_a_critic_knows_nothing_of_items_that_came_later():
    def critique(batch: Any, items: torch.Tensor) -> torch.Tensor:
        assert int(items.max()) < 3
        return items.float()

    judged = _KnownItems(critique, 3)
    batch = small_batch(small_catalogue(), rows=2)
    found = judged(batch, torch.tensor([[0, 2, 7, -1], [5, 6, -1, -1]]))
    assert found[0, :3].tolist() == [0.0, 2.0, 1.0]
    assert found[1, :2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
def test_a_goal_is_from_nought_to_one(value):
    with pytest.raises(ValueError, match="goals"):
        Steering(chain="ahead", goals={"popularity": value})
