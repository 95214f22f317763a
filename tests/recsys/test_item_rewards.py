"""Rewards of items: the slot's laws, and each by hand or the slow way."""

import dataclasses
import math

import pytest
import torch

from data_prep.errors import InputError
from personalize.preference_optimization.follow_up import FollowUpModel
from recsys.batch import HistoryBatch
from recsys.cooccurrence import CooccurrencePrior
from recsys.follow_up_rewards import (
    FollowedByKind,
    FollowedByLowRating,
    FollowedByNothing,
    FollowedByOtherKind,
    FollowUp,
)
from recsys.follow_ups import EVENTS, FollowUps, ItemKinds
from recsys.item_rewards import (
    USUAL,
    Collaborative,
    Hit,
    ItemReward,
    ItemWorld,
    KeptCodes,
    Novelty,
    PreferenceMatch,
    RankedHits,
    TargetLikeness,
    chosen_judges,
    rank_penalty,
)
from tests.recsys.retriever_fixtures import small_batch, small_catalogue

CATALOGUE = small_catalogue(items=12)
BATCH = small_batch(CATALOGUE, rows=5)


def counted() -> CooccurrencePrior:
    """Item 3 was met most, then 5; the others unevenly."""
    prior = CooccurrencePrior(12)
    items = torch.tensor([[3, 5, 3, 1, 7, 3], [5, 3, 2, 3, 9, 5]])
    real = torch.ones_like(items, dtype=torch.bool)
    none = torch.zeros(2, 6, 1, dtype=torch.long)
    prior.survey(
        [
            HistoryBatch(
                torch.arange(2),
                items,
                real,
                items.roll(-1, 1),
                real,
                none,
                none.bool(),
                none.bool(),
            )
        ]
    )
    return prior


def learnt(world: ItemWorld) -> FollowUps:
    """Models of all events, with weights that were drawn and not learnt."""
    kinds = ItemKinds.of(world.item_vectors, world.popularity)
    width = 3 + 2 * kinds.kinds.shape[1]
    models = {event: FollowUpModel(width, (event,)) for event in EVENTS}
    generator = torch.Generator().manual_seed(1)
    for model in models.values():
        drawn = torch.randn(1, width, generator=generator, dtype=torch.float64)
        model.linear.weight.data.copy_(drawn)
    return FollowUps(kinds, torch.full((width,), 0.1), torch.full((width,), 0.7), models)


PLAIN = ItemWorld.of(CATALOGUE, counted())
WORLD = dataclasses.replace(PLAIN, follow_ups=learnt(PLAIN))
FOLLOWED = (FollowedByKind(), FollowedByOtherKind(), FollowedByNothing(), FollowedByLowRating())
EVERY: tuple[ItemReward, ...] = (*USUAL, KeptCodes(), *FOLLOWED)
ITEMS = torch.randint(0, 12, (5, 4), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("judge", EVERY, ids=lambda judge: judge.name)
def test_a_reward_obeys_the_laws_of_the_slot(judge):
    found = judge(WORLD, BATCH, ITEMS)
    assert found.shape == ITEMS.shape
    if isinstance(judge, FollowUp):
        assert ((found < 0) & found.isfinite()).all()
    elif isinstance(judge, KeptCodes):
        assert set(found.unique().tolist()) <= set(range(5))
    else:
        assert ((found >= 0) & (found <= 1)).all()
    order, rows = torch.tensor([2, 0, 3, 1]), torch.tensor([4, 1, 0, 3, 2])
    torch.testing.assert_close(judge(WORLD, BATCH, ITEMS[:, order]), found[:, order])
    torch.testing.assert_close(judge(WORLD, BATCH.rows(rows), ITEMS[rows]), found[rows])
    alone = torch.cat([judge(WORLD, BATCH, ITEMS[:, place : place + 1]) for place in range(4)], 1)
    torch.testing.assert_close(alone, found)


def test_every_variant_is_held_to_the_laws():
    kinds = {*ItemReward.__subclasses__(), *FollowUp.__subclasses__()} - {FollowUp}
    assert {type(judge) for judge in EVERY} == kinds
    assert len({judge.name for judge in EVERY}) == len(EVERY)


def test_a_hit_is_the_item_that_was_met_next():
    items = BATCH.target_item_ids.repeat(1, 2)
    items[:, 1] = (items[:, 1] + 1) % 12
    assert Hit()(WORLD, BATCH, items).tolist() == [[1.0, 0.0]] * 5


def test_likeness_is_one_for_the_target_and_a_cosine_for_others():
    found = TargetLikeness()(WORLD, BATCH, torch.cat([BATCH.target_item_ids, ITEMS], 1))
    torch.testing.assert_close(found[:, 0], torch.ones(5))
    texts = CATALOGUE.text_vectors[CATALOGUE.item_text_ids]
    for row in range(5):
        one, other = texts[ITEMS[row, 2]], texts[BATCH.target_item_ids[row, 0]]
        cosine = torch.nn.functional.cosine_similarity(one, other, dim=0)
        assert float(found[row, 3]) == pytest.approx((1 + float(cosine)) / 2, abs=1e-6)


def test_collaborative_is_the_share_of_items_that_co_occur_less():
    scores = WORLD.prior(BATCH)
    found = Collaborative()(WORLD, BATCH, torch.arange(12).expand(5, -1))
    for row in range(5):
        for item in range(12):
            below = int((scores[row] < scores[row, item]).sum())
            same = int((scores[row] == scores[row, item]).sum())
            assert float(found[row, item]) == pytest.approx((below + same / 2) / 12)
        assert int(found[row].argmax()) == int(scores[row].argmax())


def test_novelty_falls_with_the_number_of_times_an_item_was_met():
    found = Novelty()(WORLD, BATCH, torch.tensor([[3, 5, 1, 0]] * 5))[0]
    assert float(found[0]) == 0.0
    assert found[0] < found[1] < found[2] < found[3]


def test_what_is_avoided_counts_as_minus_what_is_liked():
    text = 12 + 4
    said = dataclasses.replace(
        BATCH,
        preference_text_ids=torch.full((5, 1, 2), text),
        preference_mask=torch.tensor([[[True, False]]] * 5),
        preference_avoid=torch.zeros(5, 1, 2, dtype=torch.bool),
    )
    liked = PreferenceMatch()(WORLD, said, ITEMS)
    avoided = PreferenceMatch()(
        WORLD, dataclasses.replace(said, preference_avoid=said.preference_mask.clone()), ITEMS
    )
    torch.testing.assert_close(liked + avoided, torch.ones(5, 4))
    unit = torch.nn.functional.normalize(CATALOGUE.text_vectors, dim=1)
    centred = torch.nn.functional.normalize(unit[:12] - unit[:12].mean(0), dim=1)
    expected = (1 + float(centred[ITEMS[1, 2]] @ unit[text])) / 2
    assert float(liked[1, 2]) == pytest.approx(expected, abs=1e-6)
    nothing = dataclasses.replace(said, preference_mask=torch.zeros(5, 1, 2, dtype=torch.bool))
    assert PreferenceMatch()(WORLD, nothing, ITEMS).eq(0.5).all()


def test_wishes_are_means_over_what_is_real():
    both = dataclasses.replace(
        BATCH,
        preference_text_ids=torch.tensor([[[13, 14, 15]]] * 5),
        preference_mask=torch.tensor([[[True, True, False]]] * 5),
        preference_avoid=torch.tensor([[[False, True, False]]] * 5),
    )
    unit = torch.nn.functional.normalize(CATALOGUE.text_vectors, dim=1)
    torch.testing.assert_close(WORLD.wishes(both)[3], (unit[13] - unit[14]) / 2)


def test_a_world_without_texts_has_none_and_moves():
    plain = dataclasses.replace(
        CATALOGUE, text_vectors=torch.zeros(0, 0), item_text_mask=torch.zeros(12).bool()
    )
    world = ItemWorld.of(plain, counted())
    assert not world.has_texts
    assert world.history_vectors(BATCH).shape == (5, 0)
    assert world.matches(world.wishes(BATCH), ITEMS).eq(0).all()
    moved = WORLD.to("cpu")
    assert moved.prior is not WORLD.prior
    assert torch.equal(Collaborative()(moved, BATCH, ITEMS), Collaborative()(WORLD, BATCH, ITEMS))


def test_a_higher_placed_miss_is_worth_less_and_nothing_is_without_a_hit():
    weights = [1 / math.log2(place + 2) for place in range(4)]
    found = rank_penalty(torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0] * 4]))
    expected = [-weight / sum(weights) for weight in weights]
    expected[2] = 0.0
    assert found[0].tolist() == pytest.approx(expected)
    assert found[1].tolist() == [0.0] * 4


def test_ranked_hits_change_the_hits_alone_and_keep_weights():
    reward = torch.stack([torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.3, 0.2, 0.1]])], -1)
    found = RankedHits()(reward)
    torch.testing.assert_close(found.value[..., 0], reward[..., 0] + rank_penalty(reward[..., 0]))
    assert torch.equal(found.value[..., 1], reward[..., 1])
    assert found.weight.tolist() == [[1.0, 1.0]]
    weighed = RankedHits(hit=1)(reward.flip(-1), torch.tensor([[0.2, 3.0]]))
    torch.testing.assert_close(weighed.value, found.value.flip(-1))
    torch.testing.assert_close(weighed.weight, torch.tensor([[0.2, 3.0]]))
    assert reward[0, 0, 0] == 0.0


def test_kept_codes_are_the_leading_ones_that_are_the_targets():
    codes = torch.tensor([[1, 2, 3], [1, 2, 0], [1, 0, 3], [0, 2, 3]] + [[9, 9, 9]] * 8)
    world = dataclasses.replace(WORLD, item_codes=codes)
    asked = dataclasses.replace(BATCH, target_item_ids=torch.tensor([[0], [0], [2], [3], [1]]))
    found = KeptCodes()(world, asked, torch.tensor([[0, 1, 2, 3]] * 5))
    expected = [[3, 2, 1, 0], [3, 2, 1, 0], [1, 1, 3, 0], [0, 0, 0, 3], [2, 3, 1, 0]]
    torch.testing.assert_close(found, torch.tensor(expected).float())


def test_rewards_that_are_asked_for_need_what_they_read():
    uncoded = dataclasses.replace(WORLD, item_codes=torch.zeros(12, 0).long())
    with pytest.raises(InputError, match="kept_codes needs semantic IDs, and this recommender has"):
        chosen_judges([KeptCodes()], uncoded)
    assert chosen_judges([KeptCodes()], WORLD) == (KeptCodes(),)
    assert chosen_judges(None, WORLD) == USUAL
    plain = dataclasses.replace(
        CATALOGUE, text_vectors=torch.zeros(0, 0), item_text_mask=torch.zeros(12).bool()
    )
    with pytest.raises(InputError, match="followed_by_kind needs texts of items; pass vectors"):
        chosen_judges([FollowedByKind()], ItemWorld.of(plain, counted()))
    with pytest.raises(ValueError, match="followed_by_kind needs a world with what was learnt"):
        FollowedByKind()(PLAIN, BATCH, ITEMS)


@pytest.mark.parametrize("judge", FOLLOWED, ids=lambda judge: judge.name)
def test_a_follow_up_is_the_model_of_its_own_event(judge):
    follow_ups = WORLD.follow_ups
    assert follow_ups is not None
    history, real = BATCH.history_item_ids, BATCH.history_mask
    found = judge(WORLD, BATCH, ITEMS)
    torch.testing.assert_close(found, follow_ups.log_likelihood(judge.event, history, real, ITEMS))
    moved = WORLD.to("cpu")
    assert moved.follow_ups is not follow_ups
    assert torch.equal(judge(moved, BATCH, ITEMS), found)
    assert len({float(other(WORLD, BATCH, ITEMS)[0, 0]) for other in FOLLOWED}) == len(FOLLOWED)
