"""What follows an item: events by hand, features the slow way, and nothing from after training."""

import numpy as np
import polars as pl
import pytest
import torch

from data_prep.artifact import create_artifact
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS, ITEM_TEXTS, ITEMS, REJECTED, USERS
from personalize.preference_optimization.follow_up import FollowUpPairs, follow_up_reward
from recsys.follow_up_rewards import (
    FollowedByKind,
    FollowedByLowRating,
    FollowedByNothing,
    FollowedByOtherKind,
    with_follow_ups,
)
from recsys.follow_ups import (
    EVENTS,
    LOW_RATING,
    NOTHING,
    OF_ANOTHER_KIND,
    OF_THE_KIND,
    FollowUps,
    ItemKinds,
    happened_after,
    learnt_follow_ups,
)
from recsys.histories import Histories
from recsys.item_candidates import ItemCandidates
from recsys.tuning import TunedItems
from tests.recsys.small_artifacts import frame


def interactions(
    people: list[list[int]],
    stars: list[list[float | None]] | None = None,
    held_out: tuple[str, ...] = ("test", "validation"),
) -> pl.DataFrame:
    """Histories of which the last ones are held out."""
    rows = [
        {
            "user_id": user,
            "position": place,
            "item_id": item,
            "rating": None if stars is None else stars[user][place],
            "review_id": 0,
            "split": dict(enumerate(held_out, 1)).get(len(items) - place, "train"),
        }
        for user, items in enumerate(people)
        for place, item in enumerate(items)
    ]
    return frame(INTERACTIONS, rows)


def written(folder, people, stars=None):
    """The same as an artifact."""
    with create_artifact(
        folder, kind="reviews", command="test", configuration={}, inputs={}
    ) as writer:
        for schema in (USERS, ITEMS, ITEM_TEXTS, REJECTED):
            writer.write_table(schema, schema.empty())
        writer.write_table(INTERACTIONS, interactions(people, stars))
    return folder


def circle(degrees: list[float]) -> torch.Tensor:
    """Unit vectors at angles."""
    angle = torch.tensor(degrees).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], 1)


VECTORS = circle([0.0, 8.0, 20.0, 90.0, 100.0, 180.0])
PEOPLE = [[0, 3, 4, 1, 5, 0, 2], [5, 0, 1, 3]]
STARS: list[list[float | None]] = [[5, 2, None, 1, 2.5, 1, 1], [1, 2, 1, 1]]


def test_events_are_read_off_the_next_training_interactions():
    """Of fifteen pairs three are nearer than 19 degrees; the median is 82 degrees apart."""
    log = interactions(PEOPLE, STARS)
    histories = Histories.from_interactions(log)
    stars = log["rating"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    places = np.array([1, 2, 3, 4, 8])  # items 3, 4, 1, 5 of the first, 0 of the second person
    found = happened_after(histories, stars, places, VECTORS)
    told = {event: told.tolist() for event, (told, _) in found.items()}
    happened = {event: (told & done).tolist() for event, (told, done) in found.items()}
    # cosines after 3: .98, .14, .00; after 4: -.03, .17; after 1: -.99; after 5 and 0: nothing
    assert told[OF_THE_KIND] == told[OF_ANOTHER_KIND] == [True, True, True, False, False]
    assert happened[OF_THE_KIND] == [True, False, False, False, False]
    assert happened[OF_ANOTHER_KIND] == [False, True, True, False, False]
    assert told[NOTHING] == [True] * 5
    assert happened[NOTHING] == [False, False, False, True, True]
    assert told[LOW_RATING] == [True, False, True, True, True]
    assert happened[LOW_RATING] == [True, False, True, False, True]


def test_what_another_person_does_is_no_follow_up():
    log = interactions([[0, 3], [4, 1]], held_out=())
    found = happened_after(
        Histories.from_interactions(log), np.full(4, np.nan), np.array([1, 3]), VECTORS
    )
    assert found[NOTHING][1].tolist() == [True, True]
    assert not found[OF_THE_KIND][0].any()
    assert not found[LOW_RATING][0].any()


def test_features_are_likeness_popularity_kind_and_kind_by_kind():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(30, 4, generator=generator), dim=1)
    items = ItemKinds.of(vectors, torch.rand(30, generator=generator))
    history = torch.tensor([[3, 7, 9], [4, 0, 0]])
    real = torch.tensor([[True, True, True], [True, False, False]])
    asked = torch.tensor([[5, 3], [11, 4]])
    found = items.features(history, real, asked)
    assert found.shape == (2, 2, 3 + 2 * 4)
    for row, met in enumerate(([3, 7, 9], [4])):
        for place, item in enumerate(asked[row].tolist()):
            cosines = [float(vectors[item] @ vectors[one]) for one in met]
            usual = torch.stack([items.kinds[one] for one in met]).mean(0)
            kind = items.kinds[item]
            mean = sum(cosines) / len(cosines)
            plain = torch.tensor([mean, max(cosines), float(items.popularity[item])])
            expected = torch.cat([plain, kind, kind * usual])
            torch.testing.assert_close(found[row, place], expected)
    torch.testing.assert_close(items.kinds.std(0, correction=0), torch.ones(4))
    rotated = ItemKinds.of(vectors @ torch.linalg.qr(torch.randn(4, 4, generator=generator))[0],
                           items.popularity)  # fmt: skip
    torch.testing.assert_close(rotated.kinds.abs(), items.kinds.abs(), rtol=1e-3, atol=1e-3)


def learnt(tables, events=EVENTS, vectors=VECTORS) -> FollowUps:
    popularity = torch.linspace(0, 1, len(vectors))
    items = ItemKinds.of(vectors, popularity)
    return learnt_follow_ups(tables, items, events, maximum_history=5)


def drawn_people(seed: int) -> tuple[list[list[int]], list[list[float | None]]]:
    """Who meets 0, 1 or 2 stays near them; after 5, which nobody likes, comes the opposite."""
    generator = np.random.default_rng(seed)
    people, stars = [], []
    for _ in range(60):
        near, far = [0, 1, 2], [4, 5, 0, 1, 0, 3]
        path = generator.choice(near, 6).tolist() if generator.random() < 0.5 else far
        people.append([*path, *generator.integers(0, 6, 2).tolist()])
        stars.append([1.0 if item == 5 else 5.0 for item in people[-1]])
    return people, stars


def test_what_is_planted_is_learnt_and_decides_pairs(tmp_path):
    found = learnt(written(tmp_path / "a", *drawn_people(0)))
    history, real = torch.tensor([[2, 0], [4, 4]]), torch.ones(2, 2).bool()
    asked = torch.tensor([[0, 5], [0, 5]])
    said = {event: found.log_likelihood(event, history, real, asked).exp() for event in EVENTS}
    for event, likely, unlikely in (
        (OF_THE_KIND, (0, 0), (1, 1)),
        (OF_ANOTHER_KIND, (1, 1), (0, 0)),
        (LOW_RATING, (1, 1), (0, 0)),
    ):
        assert said[event][likely] > 0.65, event
        assert said[event][unlikely] < 0.3, event


def test_nothing_after_training_is_learnt_from(tmp_path):
    people, stars = drawn_people(1)
    changed = [[*items[:-2], 5 - items[-2], (items[-1] + 1) % 6] for items in people]
    rated = [[*given[:-2], 1.0, 1.0] for given in stars]
    one = learnt(written(tmp_path / "a", people, stars))
    other = learnt(written(tmp_path / "b", changed, rated))
    assert torch.equal(one.centre, other.centre)
    assert torch.equal(one.deviation, other.deviation)
    for event in EVENTS:
        first, second = one.models[event].linear, other.models[event].linear
        assert torch.equal(first.weight, second.weight)
        assert torch.equal(first.bias, second.bias)


def test_stars_are_needed_by_what_reads_them_alone(tmp_path):
    tables = written(tmp_path / "a", drawn_people(2)[0])
    found = learnt(tables, (OF_THE_KIND, NOTHING))
    assert set(found.models) == {OF_THE_KIND, NOTHING}
    with pytest.raises(InputError, match="has no ratings to learn the follow-up low_rating from"):
        learnt(tables, (LOW_RATING,))
    short = written(tmp_path / "b", [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(
        InputError, match="no training interactions with a past to learn the follow"
    ):
        learnt(short, (NOTHING,))
    history = torch.zeros(1, 1).long()
    with pytest.raises(ValueError, match="low_rating was not learnt; there are of_the_kind, noth"):
        found.log_likelihood(LOW_RATING, history, history == 0, history)


def test_a_half_learns_what_its_judges_ask_for_and_pairs_follow_the_reward(one_world):
    judges = [FollowedByKind(), FollowedByOtherKind(), FollowedByNothing()]
    source = TunedItems(
        checkpoint=one_world.root / "mender_emb", judges=judges, candidates=ItemCandidates(beam=6)
    )
    half = source.open()
    follow_ups = half.world.follow_ups
    assert follow_ups is not None
    assert set(follow_ups.models) == {OF_THE_KIND, OF_ANOTHER_KIND, NOTHING}
    contexts = torch.from_numpy(half.contexts("train"))[:8]
    found = half.candidates(contexts, half.policy, seed=0)
    good, *bad = (found.named(judge.name)[:, None] for judge in judges)
    worth = follow_up_reward(good, torch.cat(bad, 1))
    names = tuple(judge.name for judge in judges)
    pairs = FollowUpPairs(positive=names[:1], negative=names[1:])(found)
    assert len(pairs.rows) == len(contexts)
    for best, worst in pairs.rows.tolist():
        mine = worth[found.context == found.context[best]]
        assert float(worth[best]) == pytest.approx(float(mine.max()))
        assert float(worth[worst]) == pytest.approx(float(mine.min()))
    plain = TunedItems(checkpoint=one_world.root / "mender_emb").open()
    assert plain.world.follow_ups is None
    tables = one_world.root / "nowhere"
    assert with_follow_ups(plain.world, [], tables, maximum_history=5) is plain.world


def test_low_ratings_are_a_judge_where_there_are_stars(one_world):
    source = TunedItems(checkpoint=one_world.root / "mender_emb", judges=[FollowedByLowRating()])
    half = source.open()
    contexts = torch.from_numpy(half.contexts("train"))[:4]
    said = half.judge(contexts, half.targets(contexts)).reward
    assert (said.exp() < 0.05).all()  # everybody gave five stars
