"""The recommender obeys the laws of what can be steered, from artifacts on."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from data_prep.artifact import read_manifest
from personalize.conditioning import text
from personalize.evaluation.goal_space import fitted_limits
from personalize.evaluation.steerable import REPORTED, TUNING
from personalize.steerability.command import read_configuration
from personalize.steering.chain import Chain, Lookahead, Selection, Telling
from recsys.recommender import Filters
from recsys.steerability import Items, SteerableItems
from recsys.steered import PLAIN
from tests.personalize.evaluation import steerable_laws as laws
from tests.recsys.served_world import DrawnSentences

CHAIN = Chain(
    telling=Telling(0.5),
    lookahead=Lookahead(2.0),
    selection=Selection(20.0, calibrate=True, hold=True),
)


@pytest.fixture(params=["causal", "mender_emb"])
def half(request, one_world, monkeypatch) -> SteerableItems:
    monkeypatch.setattr(text, "SentenceEncoder", DrawnSentences)
    root: Path = one_world.root
    return Items(
        checkpoint=root / request.param, preferences=root / "preferences", count=4, width=12
    ).open()


@pytest.mark.parametrize(
    "law",
    [
        laws.shapes_fit,
        laws.the_same_question_has_the_same_answer,
        laws.contexts_do_not_influence_each_other,
        laws.neutral_is_no_chain,
    ],
)
def test_the_recommender_obeys(half, law):
    law(half, CHAIN)


def test_tuning_and_reporting_share_no_person(half, one_world):
    laws.splits_share_nothing(half)
    tuning, reported = half.contexts(TUNING), half.contexts(REPORTED)
    assert len(tuning) == len(reported) == 6  # every second of twelve people
    batch = half.questions.batch
    world = one_world.world
    for split, contexts, place in ((0, tuning, -2), (1, reported, -1)):
        for person, context in zip(range(split, 12, 2), contexts, strict=True):
            assert int(batch.target_item_ids[context, 0]) == world.items[person][place]
            met = batch.history_item_ids[context][batch.history_mask[context]].tolist()
            assert met == world.items[person][:place][-6:]


def test_limits_know_what_everybody_met_last(half):
    """Short histories too, whose batch is padded at the end."""
    tuning = torch.from_numpy(half.contexts(TUNING))
    batch, aspects = half.questions.batch.rows(tuning), half.questions.aspects[tuning]
    lists = half._proposer.propose(batch, None, PLAIN, filters=Filters()).items[:, :4]
    met = torch.full((len(tuning), 4), -1)
    for row, (items, real) in enumerate(
        zip(batch.history_item_ids, batch.history_mask, strict=True)
    ):
        newest = items[real].flip(0)[:4]
        met[row, 4 - len(newest) :] = newest
    seeds = [half.goals.of_lists(items, aspects) for items in (lists, met)]
    low, high = fitted_limits(*(torch.cat([seed[part] for seed in seeds]) for part in (0, 1)))
    for dimension, least, most in zip(half.space.dimensions, low, high, strict=True):
        assert dimension.low == pytest.approx(float(least))
        assert dimension.high == pytest.approx(float(most))


def test_groups_are_thirds_by_what_is_known_of_a_person(half):
    half._length = np.array([1, 2, 3, 4, 5, 6])
    names = half.groups(np.array([5, 0, 1, 2, 3, 4]))
    assert names == [
        f"{name} history" for name in ("long", "short", "short", "middle", "middle", "long")
    ]


def test_steering_brings_lists_nearer_to_goals(half):
    contexts = half.contexts(REPORTED)
    goals = laws.some_goals(half, len(contexts))
    errors = []
    for chain in (None, CHAIN):
        found = half.generate(contexts, goals, chain)
        reached = half.space.normalized(_tensor(found.raw)).numpy()
        gap = (reached - goals.values.numpy()) * goals.mask.numpy() * found.mask
        errors.append(np.linalg.norm(gap, axis=1).mean())
    assert errors[1] < 0.7 * errors[0]


def test_the_facts_say_whether_people_are_simulated(half, one_world):
    tables = read_manifest(one_world.root / "tables")
    assert half.facts["simulated"] is bool(tables.notes.get("simulated", False)) is False


def test_no_goal_is_further_from_the_pool_than_from_what_is_recommended(half):
    contexts = half.contexts(REPORTED)
    raw, mask = half.pool(contexts)
    assert raw.shape[1] >= 256
    assert mask.any()
    spread = raw.std(1).mean(0)
    assert (spread > 0).all()


def _tensor(values):
    return torch.from_numpy(np.asarray(values, np.float32))


def test_a_file_names_the_potential_by_which_particles_are_weighed(half, tmp_path):
    """Looks on the way draw other items than the last look alone."""
    particles = {"count": 8, "strength": 8.0, "resample_below": 1.0}
    given = {
        "source": {
            "class_path": "recsys.steerability.Items",
            "init_args": {"checkpoint": "none", "preferences": "none"},
        },
        "chains": {
            "plain": {"chain": {"particles": particles}},
            "null": {"chain": {"particles": {**particles, "potential": None}}},
            "ends": {"chain": {"particles": {**particles, "potential": "EndOnly"}}},
        },
    }
    (tmp_path / "given.yaml").write_text(yaml.safe_dump(given))
    options, _ = read_configuration(tmp_path / "given.yaml")
    if half.facts["proposes from"] != "the trie":
        pytest.skip("without codes there are no steps to look at")
    contexts = half.contexts(REPORTED)
    goals = laws.some_goals(half, len(contexts))
    plain, null, ends = (
        half.generate(contexts, goals, options.chains[name].chain).raw
        for name in ("plain", "null", "ends")
    )
    np.testing.assert_array_equal(plain, null)
    assert not np.array_equal(plain, ends)
