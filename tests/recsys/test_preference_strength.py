"""Preferences as vectors with a strength: 0 is none, 1 is as trained, and the order is nothing."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.batch import HistoryBatch
from recsys.dense import TextSpace
from recsys.recommender import Recommender
from recsys.retriever.causal import CausalRetriever
from recsys.retriever.causal_encoder import CausalSize
from recsys.retriever.generative import Conditioning
from recsys.retriever.guidance import stacked, without_preferences
from recsys.retriever.mender_emb import MenderEmb
from recsys.retriever.preference_shift import mean_wishes
from tests.recsys.retriever_fixtures import TINY, small_batch, small_catalogue

CATALOGUE = small_catalogue()
COUNT = 4


def weighed(batch: HistoryBatch, strength: torch.Tensor | None = None) -> HistoryBatch:
    """The same batch whose texts travel as vectors; with a strength of 1 where none is given."""
    shape = batch.preference_mask.shape
    return dataclasses.replace(
        batch,
        preference_vectors=CATALOGUE.text_vectors[batch.preference_text_ids],
        preference_strength=torch.ones(shape) if strength is None else strength,
    )


def _causal() -> CausalRetriever:
    torch.manual_seed(0)
    size = CausalSize(width=16, layers=1, heads=2, dropout=0.0, input_dropout=0.0, match=True)
    model = CausalRetriever(CATALOGUE, size=size)
    for weight in (model.preferences.like.weight, model.preferences.avoid.weight):
        torch.nn.init.normal_(weight)
    return model.eval()


def _mender() -> MenderEmb:
    torch.manual_seed(0)
    return MenderEmb(CATALOGUE, size=TINY).eval()


MODELS = {"causal": _causal(), "mender": _mender()}


@torch.no_grad()
def scores(model: Recommender, batch: HistoryBatch) -> torch.Tensor:
    """A fingerprint of what the model makes of every row."""
    if isinstance(model, CausalRetriever):
        return torch.cat([model.dense_queries(batch), model.prepare(batch).hidden], dim=1)
    assert isinstance(model, MenderEmb)
    return model.step(model.prepare(batch), 0, *[torch.zeros(len(batch), 1).long()] * 2)[:, 0]


@pytest.mark.parametrize("name", MODELS)
def test_strength_1_is_as_trained(name: str):
    batch = small_batch(CATALOGUE, rows=7)
    assert torch.allclose(
        scores(MODELS[name], weighed(batch)), scores(MODELS[name], batch), atol=1e-5
    )


@pytest.mark.parametrize("name", MODELS)
@given(off=st.lists(st.booleans(), min_size=7 * COUNT, max_size=7 * COUNT), seed=st.integers(0, 99))
def test_strength_0_is_a_mask_to_the_last_bit(name: str, off: list[bool], seed: int):
    batch = small_batch(CATALOGUE, rows=7, preferences=COUNT, seed=seed)
    silent = torch.tensor(off).view(7, 1, COUNT)
    generator = torch.Generator().manual_seed(seed)
    strength = torch.rand(7, 1, COUNT, generator=generator)
    zeroed = weighed(batch, strength.masked_fill(silent, 0.0))
    masked = dataclasses.replace(
        weighed(batch, strength), preference_mask=batch.preference_mask & ~silent
    )
    assert torch.equal(scores(MODELS[name], zeroed), scores(MODELS[name], masked))


@pytest.mark.parametrize("name", MODELS)
def test_strength_0_throughout_is_no_preference(name: str):
    batch = small_batch(CATALOGUE, rows=7)
    zeroed = weighed(batch, torch.zeros(batch.preference_mask.shape))
    assert torch.equal(
        scores(MODELS[name], zeroed), scores(MODELS[name], without_preferences(batch))
    )


@pytest.mark.parametrize("name", MODELS)
@given(order=st.permutations(range(COUNT)))
def test_the_order_is_irrelevant(name: str, order: list[int]):
    batch = small_batch(CATALOGUE, rows=7, preferences=COUNT)
    given_order = weighed(batch, torch.linspace(0.2, 1.0, COUNT).expand(7, 1, COUNT))
    turned = dataclasses.replace(
        given_order,
        **{
            field.name: getattr(given_order, field.name)[:, :, order]
            for field in dataclasses.fields(batch)
            if field.name.startswith("preference")
        },
    )
    assert torch.allclose(
        scores(MODELS[name], turned), scores(MODELS[name], given_order), atol=1e-5
    )


def test_two_strengths_weigh_by_hand():
    vectors = torch.tensor([[[4.0, 0.0], [0.0, 4.0], [2.0, 2.0]]])
    mask = torch.tensor([[True, True, True]])
    avoid = torch.tensor([[False, False, True]])
    wishes = mean_wishes(vectors, mask, avoid, torch.tensor([[0.75, 0.25, 0.5]]))
    assert wishes.liked.tolist() == [[2.25, 0.75]]  # (3 of 4 and 1 of 4 of the mean) times 0.75
    assert wishes.avoided.tolist() == [[1.0, 1.0]]  # alone: the vector times its strength
    assert mean_wishes(vectors, mask, avoid).liked.tolist() == [[2.0, 2.0]]


@given(strength=st.floats(1e-6, 1.0), other=st.floats(0.0, 1.0))
def test_a_little_more_strength_moves_a_causal_state_a_little(strength: float, other: float):
    model, batch = MODELS["causal"], small_batch(CATALOGUE, rows=1, preferences=2, seed=4)
    batch = dataclasses.replace(batch, preference_mask=torch.ones_like(batch.preference_mask))
    here = scores(model, weighed(batch, torch.tensor([[[strength, other]]])))
    there = scores(model, weighed(batch, torch.tensor([[[strength + 1e-6, other]]])))
    if max(strength, other) > 1e-2:
        assert (here - there).abs().max() < 1e-2
    else:  # near nothing a weighted mean turns fast, but it is small
        nothing = scores(model, without_preferences(batch))
        assert (here - nothing).abs().max() < 50 * max(strength, other)


@pytest.mark.parametrize("name", MODELS)
def test_free_words_are_read_as_their_vector(name: str):
    batch = weighed(small_batch(CATALOGUE, rows=7))
    other = dataclasses.replace(batch, preference_text_ids=batch.preference_text_ids * 0)
    assert torch.equal(scores(MODELS[name], other), scores(MODELS[name], batch))
    assert batch.preference_vectors is not None
    moved = dataclasses.replace(batch, preference_vectors=batch.preference_vectors.flip(-1))
    real = batch.preference_mask.any(-1).squeeze(1)
    changed = (scores(MODELS[name], moved) - scores(MODELS[name], batch)).abs().amax(1) > 1e-4
    assert torch.equal(changed, real)


def test_guidance_carries_vectors_and_strengths():
    torch.manual_seed(0)
    model = MenderEmb(CATALOGUE, size=TINY, conditioning=Conditioning(guidance=2.0)).eval()
    batch = small_batch(CATALOGUE, rows=4)
    with torch.no_grad():
        plain = model.recommend(batch, count=5)
        found = model.recommend(weighed(batch), count=5)
        silent = model.recommend(weighed(batch, torch.zeros(4, 1, 4)), count=5)
        none = model.recommend(without_preferences(batch), count=5)
    assert torch.allclose(found.scores, plain.scores, atol=1e-4)
    assert torch.equal(silent.item_ids, none.item_ids)
    assert not torch.allclose(plain.scores, none.scores, atol=1e-3)


def test_a_batch_carries_them_along():
    batch = weighed(small_batch(CATALOGUE, rows=3), torch.rand(3, 1, 4))
    assert batch.preference_strength is not None
    both = stacked(batch, batch.rows(torch.tensor([2, 0, 1])))
    assert both.preference_strength is not None
    assert torch.equal(both.preference_strength[3], batch.preference_strength[2])
    assert torch.equal(both.rows(slice(0, 3)).history_item_ids, batch.history_item_ids)
    copied = batch.to("cpu")
    assert copied.preference_vectors is not None
    assert copied.history_states is None
    plain = small_batch(CATALOGUE, rows=3)
    with pytest.raises(ValueError, match="both batches must have preference_vectors, or neither"):
        stacked(batch, plain)


def test_histories_read_before_are_not_read_again():
    model, batch = MODELS["causal"], weighed(small_batch(CATALOGUE, rows=5))
    assert isinstance(model, CausalRetriever)
    with torch.no_grad():
        read = dataclasses.replace(batch, history_states=model.read_histories(batch))
        blind = dataclasses.replace(read, history_item_ids=read.history_item_ids * 0)
    assert torch.equal(scores(model, read), scores(model, batch))
    assert torch.equal(scores(model, blind), scores(model, batch))


def test_the_space_of_texts_by_hand():
    vectors = torch.tensor([[3.0, 0.0], [0.0, 2.0], [5.0, 0.0], [0.6, 0.8], [0.0, 9.0]])
    catalogue = dataclasses.replace(
        CATALOGUE,
        item_codes=torch.zeros(3, 0, dtype=torch.long),
        level_sizes=(),
        item_text_ids=torch.tensor([0, 1, 0]),
        item_text_mask=torch.tensor([True, True, False]),
        text_vectors=vectors,
    )
    space = TextSpace(catalogue)
    assert space.dense_keys().tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    batch = dataclasses.replace(
        small_batch(CATALOGUE, rows=1, steps=4, preferences=3),
        history_item_ids=torch.tensor([[0, 2, 1, 1]]),
        history_mask=torch.tensor([[True, True, True, False]]),
        preference_text_ids=torch.tensor([[[3, 4, 2]]]),
        preference_mask=torch.tensor([[[True, True, False]]]),
        preference_avoid=torch.tensor([[[False, True, True]]]),
        preference_strength=torch.tensor([[[0.5, 1.0, 1.0]]]),
    )
    half = 0.5**0.5  # unit mean of the two known items
    expected = torch.tensor([[half + 0.5 * 0.6, half + 0.5 * 0.8 - 1.0]])
    assert torch.allclose(space.dense_queries(batch), expected)
    with pytest.raises(ValueError, match="no text vectors"):
        TextSpace(dataclasses.replace(catalogue, text_vectors=torch.zeros(0, 2)))
