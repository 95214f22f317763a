"""The recommender obeys the laws of what can be tuned, from artifacts on."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.artifact import read_manifest
from data_prep.errors import InputError
from personalize.conditioning.selection import Latest, Oracle
from personalize.preference_optimization.tabular_policy import TabularPolicy
from personalize.preference_optimization.tunable import TEST, TRAINING, VALIDATION
from recsys.catalogue import Catalogue
from recsys.dense_policy import DensePolicy
from recsys.item_categories import THIRDS
from recsys.item_rewards import Hit, PreferenceMatch
from recsys.load import load_recommender
from recsys.policy import RetrieverPolicy
from recsys.ranking import ndcg_at_k, target_ranks
from recsys.stored_catalogue import load_catalogue
from recsys.tuning import ItemCandidates, TunableItems, TunedItems
from recsys.tuning_contexts import (
    AS_STATED,
    OF_ANOTHER,
    REVERSED,
    UNSAID,
    ItemContexts,
    Preferences,
    RowLimits,
    item_contexts,
    preference_source,
)
from tests.personalize.preference_optimization import tunable_laws as laws
from tests.recsys.served_world import ServedWorld
from tests.recsys.small_artifacts import write_tables
from tests.recsys.small_world import make_world, write_world

CODES = {"ranking.search": "{width: 10}"}


def opened(world: ServedWorld, model: str = "mender_emb", **options) -> TunableItems:
    given: dict[str, Any] = {"candidates": ItemCandidates(beam=6, drawn=3, swapped=True)} | options
    return TunedItems(
        checkpoint=world.root / model, preferences=world.root / "preferences", **given
    ).open()


@pytest.fixture(scope="module", params=["mender_emb", "tiger", "causal", "sasrec"])
def half(request, one_world) -> TunableItems:
    return opened(one_world, request.param, vectors=one_world.root / "vectors")


@pytest.fixture(scope="module")
def mender(one_world) -> TunableItems:
    return opened(one_world)


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
def test_the_recommender_obeys(half, law):
    law(half)


def test_contexts_are_the_interactions_of_the_splits(mender, one_world):
    items = one_world.world.items
    tested = mender.contexts(TEST)
    assert len(tested) == len(mender.contexts(VALIDATION)) == len(items)
    assert len(mender.contexts(TRAINING)) == sum(len(person) - 3 for person in items)
    batch = mender.batch(torch.from_numpy(tested))
    targets = mender.targets(torch.from_numpy(tested))
    for person, row in enumerate(range(len(tested))):
        met = batch.history_item_ids[row][batch.history_mask[row]].tolist()
        assert met == items[person][:-1][-6:]
        assert targets[row].tolist() == [items[person][-1]]
    assert not batch.target_item_ids.any()


def _known(folder: Path, seed: int, change=None) -> tuple[ItemContexts, Catalogue]:
    world = make_world(seed, people=8, item_count=20)
    if change is not None:
        change(world)
    paths = write_world(folder, world)
    catalogue = load_catalogue(paths["tables"], paths["vectors"], None)
    return item_contexts_of(folder, RowLimits()), catalogue


def test_nothing_of_the_present_or_after_it_enters_a_batch(tmp_path):
    """Everybody's last item and what they said of it changes: only test targets do."""

    def change(world) -> None:
        for items, reviews in zip(world.items, world.reviews, strict=True):
            items[-1] = (items[-1] + 7) % 20
            reviews[-1] = ["avoid:tone", "like:neck"]

    before, catalogue = _known(tmp_path / "a", 3)
    after, others = _known(tmp_path / "b", 3, change)
    assert catalogue.texts == others.texts
    laws.equal(before.partners, after.partners)
    targets_of = [contexts.rows.target_item_ids for contexts in (before, after)]
    changed = (targets_of[0] != targets_of[1])[:, 0].numpy()
    assert (changed == (before.split_numbers == 2)).all()
    every = torch.arange(3 * len(before))
    blank = torch.zeros(len(every), 1, dtype=torch.long)
    laws.equal(
        dataclasses.replace(before.batch(every), target_item_ids=blank),
        dataclasses.replace(after.batch(every), target_item_ids=blank),
    )


def test_swapped_contexts_are_the_same_history_under_other_preferences(tmp_path):
    contexts, _ = _known(tmp_path, 0)
    rows = torch.arange(len(contexts))
    plain = contexts.batch(rows)
    partners = contexts.partners
    assert (contexts.user_ids[partners.numpy()] != contexts.user_ids).all()
    assert (contexts.split_numbers[partners.numpy()] == contexts.split_numbers).all()
    another = contexts.batch(contexts.under(rows, OF_ANOTHER))
    assert torch.equal(another.history_item_ids, plain.history_item_ids)
    assert torch.equal(another.target_item_ids, plain.target_item_ids)
    assert torch.equal(another.preference_text_ids, plain.preference_text_ids[partners])
    assert torch.equal(another.preference_avoid, plain.preference_avoid[partners])
    assert another.preference_mask.any(-1).all()
    assert torch.equal(another.preference_mask, plain.preference_mask[partners])
    assert not torch.equal(another.preference_mask, plain.preference_mask)
    reversed_ = contexts.batch(contexts.under(rows, REVERSED))
    assert torch.equal(reversed_.preference_text_ids, plain.preference_text_ids)
    assert torch.equal(reversed_.preference_mask, plain.preference_mask)
    flipped = plain.preference_avoid != reversed_.preference_avoid
    assert torch.equal(flipped, plain.preference_mask)
    assert flipped.any()


def test_a_context_can_be_told_without_what_is_preferred(mender):
    rows = torch.as_tensor(mender.contexts("test")[:3])
    silent = mender.under_condition(rows, "none")
    assert silent is not None
    told, untold = mender.batch(rows), mender.batch(silent)
    assert told.preference_mask.any()
    assert not untold.preference_mask.any()
    assert torch.equal(told.history_item_ids, untold.history_item_ids)
    again = mender.contexts_of.under(silent, AS_STATED)
    assert torch.equal(again, rows)
    assert mender.under_condition(rows, "true") is None


def test_a_context_can_be_told_what_others_like_it_prefer(mender):
    """The other person's statements are replaced by what that person's history suggests."""
    contexts = mender.contexts_of
    rows = torch.from_numpy(mender.contexts(TEST))
    alike = contexts.alike
    assert alike is not None
    users = torch.from_numpy(contexts.user_ids)
    own = alike.told(contexts.rows.rows(rows), users[rows])
    partners = contexts.partners[rows]
    theirs = alike.told(contexts.rows.rows(partners), users[partners])
    for kind, expected, flip in (
        (AS_STATED, own, False),
        (UNSAID, own, False),
        (OF_ANOTHER, theirs, False),
        (REVERSED, own, True),
    ):
        asked = contexts.under(rows, kind)
        inferred = mender.under_condition(asked, "inferred")
        assert inferred is not None
        found, stated = mender.batch(inferred), mender.batch(asked)
        laws.equal(found.history_item_ids, stated.history_item_ids)
        assert torch.equal(found.preference_mask, expected.preference_mask)
        assert torch.equal(found.preference_text_ids, expected.preference_text_ids)
        exchanged = expected.preference_avoid ^ (expected.preference_mask & flip)
        assert torch.equal(found.preference_avoid, exchanged)
        again = mender.under_condition(inferred, "inferred")
        assert torch.equal(again, inferred)
        laws.equal(mender.batch(inferred.flip(0)), found.rows(torch.arange(len(rows)).flip(0)))
    mixed = torch.stack([rows, mender.under_condition(rows, "inferred")], 1).flatten()
    laws.equal(mender.batch(mixed).rows(slice(0, None, 2)).preference_text_ids,
               mender.batch(rows).preference_text_ids)  # fmt: skip
    plain = opened_without_preferences(mender)
    assert plain.under_condition(rows, "inferred") is None


def opened_without_preferences(half: TunableItems) -> TunableItems:
    return TunedItems(checkpoint=half._loaded.folder.parent / "tiger").open()


def test_planted_people_are_told_what_their_like_prefer(tmp_path):
    """Two crowds of one item kind and one wish each, and one traitor, who is told the crowd's."""

    def plant(world) -> None:
        for person in range(len(world.items)):
            kind = person % 2
            count = len(world.items[person])
            world.items[person][:] = [(4 * step + kind) % 20 for step in range(count)]
            wish = "like:tone" if kind else "avoid:price"
            world.reviews[person][:] = [[wish]] * count
        world.reviews[0][:] = [["like:neck"]] * len(world.reviews[0])

    contexts, catalogue = _known(tmp_path, 1, plant)
    rows = torch.from_numpy(contexts.of_split(TEST))
    told = contexts.inferred(rows)
    assert told is not None
    batch, stated = contexts.batch(told), contexts.batch(rows)
    words = [
        {catalogue.texts[text] for text in texts[0][mask[0]].tolist()}
        for texts, mask in zip(batch.preference_text_ids, batch.preference_mask, strict=True)
    ]
    expected = ["Avoids a bad price.", "Looks for a good tone."]
    assert words[0] == {expected[0]}  # nobody's own words
    for person in range(1, 8):
        assert words[person] in ({expected[person % 2]}, {"Looks for a good neck."})
        assert person % 2 == 0 or words[person] == {expected[1]}
    own = stated.preference_text_ids[0, 0][stated.preference_mask[0, 0]]
    assert {catalogue.texts[text] for text in own.tolist()} == {"Looks for a good neck."}


def test_what_is_inferred_is_of_the_training_split(tmp_path):
    """What everybody met and said at validation and test changes: nothing of it is inferred."""

    def change(world) -> None:
        for items, reviews in zip(world.items, world.reviews, strict=True):
            items[-1] = (items[-1] + 7) % 20
            reviews[-2:] = [["avoid:tone", "like:neck"]] * 2

    known = [_known(tmp_path / name, 3, one) for name, one in (("a", None), ("b", change))]
    before = known[0][0]
    rows = torch.arange(len(before))
    for kind in (AS_STATED, OF_ANOTHER, REVERSED):
        told = []
        for contexts, catalogue in known:
            inferred = contexts.inferred(contexts.under(rows, kind))
            assert inferred is not None
            batch = contexts.batch(inferred)
            texts = batch.preference_text_ids[batch.preference_mask].tolist()
            told.append((batch, [catalogue.texts[text] for text in texts]))
        assert told[0][1] == told[1][1] != []
        for name in ("preference_mask", "preference_avoid"):
            assert torch.equal(getattr(told[0][0], name), getattr(told[1][0], name)), name
    assert before.alike is not None
    limited = item_contexts_of(tmp_path / "a", RowLimits(train=2))
    assert len(limited.alike.rows) == len(before.alike.rows)


def item_contexts_of(folder: Path, limits: RowLimits) -> Any:
    catalogue = load_catalogue(folder / "tables", folder / "vectors", None)
    source = preference_source(folder / "preferences", folder / "vectors", catalogue, count=4)
    known = Preferences(source, Latest(), Latest())
    vectors = catalogue.text_vectors[catalogue.item_text_ids]
    return item_contexts(
        folder / "tables", known, maximum_history=5, limits=limits, seed=0, item_vectors=vectors
    )


def test_items_have_kinds(mender):
    """The small world has no categories: thirds of popularity."""
    contexts = torch.from_numpy(mender.contexts(TEST))
    items = torch.arange(24).expand(len(contexts), -1)
    found = mender.category(contexts, items)
    assert found.shape == items.shape
    assert mender.category_names == THIRDS
    popularity = mender.world.popularity
    assert (popularity[found[0] == 0].max() < popularity[found[0] == 2].min()).item()
    assert mender.annotator_names == ("short history", "middle history", "long history")
    assert mender.facts["simulated"] is False


def test_limits_draw_some_rows_of_a_split_by_seed(one_world):
    first, same, other = (
        opened(one_world, limits=RowLimits(train=5, test=3), seed=seed) for seed in (0, 0, 1)
    )
    assert len(first.contexts(TRAINING)) == 5
    assert len(first.contexts(TEST)) == 3
    assert len(first.contexts(VALIDATION)) == 12
    every = torch.arange(20)
    laws.equal(first.contexts_of.batch(every), same.contexts_of.batch(every))
    taken = [half.contexts_of.rows.target_item_ids.tolist() for half in (first, other)]
    assert taken[0] != taken[1]


def test_an_oracle_may_choose_for_training_rows_alone(one_world):
    plain = opened(one_world, preference_count=1)
    told = opened(one_world, preference_count=1, training_policy=Oracle())
    said = [half.contexts_of.rows.preference_text_ids[:, 0, 0].numpy() for half in (plain, told)]
    training = plain.contexts_of.split_numbers == 0
    assert (said[0][training] != said[1][training]).any()
    assert (said[0][~training] == said[1][~training]).all()


def test_candidates_are_the_target_the_beam_and_what_is_drawn(mender):
    contexts = torch.from_numpy(mender.contexts(TRAINING)[:4])
    found = mender.candidates(contexts, mender.policy, seed=3)
    batch = mender.batch(contexts)
    beam = mender.policy.sample(batch, 6, seed=3, beam=True).responses
    drawn = mender.policy.sample(batch, 3, seed=3).responses
    for row, context in enumerate(contexts.tolist()):
        mine = (found.context == context) & (found.origin == context)
        expected = {
            *beam[row].tolist(),
            *drawn[row].tolist(),
            *mender.targets(contexts)[row].tolist(),
        }
        assert set(found.responses[found.response[mine]].tolist()) == expected
        for swap in (OF_ANOTHER, REVERSED):
            other = int(mender.contexts_of.under(contexts[row : row + 1], swap))
            there = (found.context == other) & (found.origin == context)
            assert set(found.responses[found.response[there]].tolist()) == expected
    items = found.responses[found.response]
    scores = torch.cat(
        [
            mender.policy.log_prob(mender.batch(context[None]), item[None, None]).sum(-1)[0]
            for context, item in zip(found.context, items, strict=True)
        ]
    )
    torch.testing.assert_close(scores.detach(), found.log_prob, rtol=1e-4, atol=1e-4)
    vectors = mender.world.item_vectors
    target = mender.targets(found.origin)[:, 0]
    likeness = (vectors[items] * vectors[target]).sum(-1)
    expected = torch.where(found.target, 0.0, 1 - likeness)
    same = items == target  # the target itself under swapped preferences
    torch.testing.assert_close(found.distance[~same], expected[~same])
    assert not found.distance[same].any()


def test_the_evaluation_is_what_the_slow_way_gives(mender):
    rows = torch.from_numpy(mender.contexts(TEST))
    found = mender.evaluate(mender.policy, TEST)
    model, policy = mender.policy.recommender, mender.policy
    for place, number in enumerate(rows):
        one = number[None]
        batch, target = mender.batch(one), mender.targets(one)
        with torch.no_grad():
            listed = model.recommend(batch, count=10).item_ids
            ranks = target_ranks(listed, target[:, 0])
            expected = float(ndcg_at_k(ranks.ranks, ranks.found, k=10))
            assert found.values["ndcg@10"][place] == pytest.approx(expected)
            negatives = policy.sample(batch, 20, seed=0, beam=True).responses
            scores = policy.log_prob(batch, negatives).sum(-1)[0]
            mine = policy.log_prob(batch, target).sum()
            assert found.values["log_likelihood"][place] == pytest.approx(float(mine), abs=1e-4)
            real = negatives[0] != target[0]
            share = float((scores[real] < mine).float().mean())
            assert found.values["ranking_accuracy"][place] == pytest.approx(share, abs=1e-6)
            swapped = mender.batch(mender.contexts_of.under(one, OF_ANOTHER))
            theirs = policy.sample(swapped, 20, seed=0, beam=True).responses
            pool = torch.cat([negatives, theirs], 1)
            world = mender.world
            lead = world.matches(world.wishes(batch), pool) - world.matches(
                world.wishes(swapped), pool
            )
            pair = torch.stack([pool[0, lead.argmax()], pool[0, lead.argmin()]])[None]
            (here,), (there,) = (
                policy.log_prob(asked, pair).sum(-1).diff(dim=1)[:, 0] for asked in (batch, swapped)
            )
        said = batch.preference_mask.any() and swapped.preference_mask.any()
        if not said or float(lead.max() - lead.min()) < 1e-6:
            assert np.isnan(found.values["reversal_rate"][place])
            continue
        assert found.values["follows_preferences"][place] == float(there > here)
        assert found.values["reversal_rate"][place] == float((here < 0) & (there > 0))


def test_rivals_are_those_of_the_generator_before_tuning(one_world):
    half = opened(one_world)
    tuned = opened(one_world).policy
    with torch.no_grad():
        for weight in tuned.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    late = half.evaluate(tuned, TEST)
    in_place = opened(one_world)  # trained before it was ever asked
    in_place.policy.load_state_dict(tuned.state_dict())
    again = in_place.evaluate(in_place.policy, TEST)
    for name, values in late.values.items():
        np.testing.assert_array_equal(values, again.values[name])


def test_who_prefers_nothing_is_not_asked_whether_preferences_are_followed(one_world):
    half = opened(one_world)
    silent, *others = half.contexts(TEST).tolist()
    half.contexts_of.rows.preference_mask[silent] = False
    found = half.evaluate(half.policy, TEST).values["follows_preferences"]
    assert np.isnan(found[0])
    asked_for_silence = half.contexts_of.partners[torch.tensor(others)] == silent
    assert np.isnan(found[1:][asked_for_silence.numpy()]).all()
    assert not np.isnan(found).all()


def test_groups_are_thirds_of_history_lengths_or_tastes(one_world, mender):
    lengths = mender.batch(torch.from_numpy(mender.contexts(VALIDATION))).history_mask.sum(1)
    groups = mender.evaluate(mender.policy, VALIDATION).groups
    by_group = {name: lengths[[g == name for g in groups]] for name in set(groups)}
    if {"short history", "long history"} <= by_group.keys():
        assert by_group["short history"].max() < by_group["long history"].min()
    tastes = opened(one_world, tastes=3)
    named = tastes.evaluate(tastes.policy, VALIDATION).groups
    assert set(named) <= {"taste 1", "taste 2", "taste 3"}
    assert len(set(named)) > 1


def test_a_tuned_checkpoint_is_read_like_the_one_it_came_from(half, one_world, tmp_path):
    kept = {name: value.clone() for name, value in half.policy.state_dict().items()}
    with laws.weights_changed(half):
        changed = {name: value.clone() for name, value in half.policy.state_dict().items()}
        half.write(half.policy, tmp_path / "tuned", command="personalize tune", options={"a": 1})
    loaded = load_recommender(tmp_path / "tuned")
    state = loaded.recommender.state_dict()
    assert {f"recommender.{name}" for name in state} == changed.keys()
    for name, value in state.items():
        assert torch.equal(value, changed[f"recommender.{name}"]), name
    manifest = read_manifest(tmp_path / "tuned")
    assert manifest.configuration["tuning"] == {"a": 1}
    assert manifest.command == "personalize tune"
    assert manifest.notes["tuning_of"] == str(half._loaded.folder)
    with pytest.raises(InputError, match="exists"):
        half.write(half.policy, tmp_path / "tuned", command="personalize tune", options={})
    for name, value in half.policy.state_dict().items():
        assert torch.equal(value, kept[name])


def test_the_causal_retriever_is_tuned_by_what_it_ranks_with(one_world):
    dense = opened(one_world, "causal")
    assert isinstance(dense.policy, DensePolicy)
    assert dense.facts["tunes"] == "item scores"
    found = TunedItems(checkpoint=one_world.root / "causal", changes=CODES).open()
    assert isinstance(found.policy, RetrieverPolicy)
    assert found.facts["tunes"] == "codes"


def test_what_cannot_be_tuned_is_refused(one_world):
    with pytest.raises(InputError, match="Popularity has no probabilities that could be tuned"):
        TunedItems(checkpoint=one_world.root / "popularity").open()
    with pytest.raises(InputError, match="at least one reward, and none of them twice"):
        TunedItems(checkpoint=one_world.root / "tiger", judges=[Hit(), Hit()]).open()
    with pytest.raises(InputError, match="preference_match needs texts of items; pass vectors"):
        TunedItems(checkpoint=one_world.root / "tiger", judges=[PreferenceMatch()]).open()
    with pytest.raises(ValueError, match="beam, drawn and spoilt must not be negative: -1, 0, 0"):
        ItemCandidates(beam=-1)
    with pytest.raises(ValueError, match="test must be at least 1, got 0"):
        RowLimits(test=0)
    with pytest.raises(InputError, match="preferences need vectors, which hold the vectors"):
        opened(one_world, "tiger")
    half = TunedItems(checkpoint=one_world.root / "tiger").open()
    assert half.reward_names == ("hit", "collaborative", "novelty")
    assert (
        not {"follows_preferences", "reversal_rate"}
        & half.evaluate(half.policy, TEST).values.keys()
    )
    other: Any = TabularPolicy(torch.zeros(2, 2))
    with pytest.raises(TypeError, match="a recommender's policy is needed, got TabularPolicy"):
        half.write(other, Path("nowhere"), command="x", options={})
    with pytest.raises(TypeError, match="a recommender's policy is needed, got TabularPolicy"):
        half.evaluate(other, TEST)


def test_a_split_without_anything_to_ask_is_refused(tmp_path):
    tables = write_tables(tmp_path / "tables", [[0, 1, 2], [2, 1, 0]], item_count=3, held_out=0)
    with pytest.raises(InputError, match="no interaction of the split validation with another"):
        item_contexts(tables, None, maximum_history=5, limits=RowLimits(), seed=0)
