"""A catalogue that grows: what was learned stays, and what came later is known by its words."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data_prep.errors import InputError
from recsys.cooccurrence import CooccurrencePrior
from recsys.growth import ItemWords, grown_catalogue, grown_recommender, without_texts
from recsys.load import load_recommender
from recsys.retriever.causal import CausalRetriever
from tests.recsys.retriever_fixtures import small_catalogue
from tests.recsys.served_world import ServedWorld, generator_of, sequences_of, small_batch_of

CODES = torch.tensor([[3, 3, 5], [0, 3, 5]])


def words_of(*item_ids: int, width: int = 16) -> dict[int, ItemWords]:
    """Texts with vectors of ones, the first number telling whose they are."""
    return {n: ItemWords(f"words of {n}", np.full(width, n, np.float32)) for n in item_ids}


def test_a_grown_catalogue_keeps_its_items_and_numbers():
    base = small_catalogue(items=5, text_width=3)
    codes = torch.tensor([[6, 4, 3, 2], [6, 4, 3, 1]])
    grown = grown_catalogue(base, words=words_of(1, 5, 6, width=3), new_codes=codes)
    assert grown.item_count == 7
    assert torch.equal(grown.item_codes[:5], base.item_codes)
    assert torch.equal(grown.item_codes[5:], codes)
    vectors = grown.text_vectors[grown.item_text_ids]
    assert torch.equal(vectors[[0, 2, 3, 4]], base.text_vectors[[0, 2, 3, 4]])
    assert vectors[[1, 5, 6]].tolist() == [[1.0] * 3, [5.0] * 3, [6.0] * 3]
    assert [grown.texts[n] for n in grown.item_text_ids[5:].tolist()] == [
        "words of 5",
        "words of 6",
    ]
    assert torch.equal(grown.text_vectors[: len(base.texts)], base.text_vectors)
    for wrong in (words_of(5, width=3), words_of(5, 6, 7, width=3)):
        with pytest.raises(ValueError, match="items below 7, and of every new one"):
            grown_catalogue(base, words=wrong, new_codes=codes)


@pytest.mark.parametrize("model", ["causal", "mender_emb", "tiger"])
@torch.no_grad()
def test_what_was_learned_stays(world: ServedWorld, model: str):
    loaded = load_recommender(world.root / model)
    base = load_recommender(world.root / "causal").catalogue
    catalogue = grown_catalogue(base, words=words_of(24, 25), new_codes=CODES)
    grown = generator_of(grown_recommender(loaded, catalogue))
    trained, batch, start = (
        generator_of(loaded.recommender),
        small_batch_of(base),
        torch.zeros(12, 1),
    )
    first = [
        model.code_decoder().step(
            model.code_decoder().prepare(batch), 0, start.long(), start.long()
        )
        for model in (grown, trained)
    ]
    assert torch.equal(*first)
    assert torch.equal(grown.item_codes[24:], CODES)
    assert grown.trie is not None
    assert grown.trie.item_count == 26
    again = grown_recommender(loaded, base)
    assert torch.equal(
        again.recommend(batch, count=9).item_ids,
        loaded.recommender.recommend(batch, count=9).item_ids,
    )


@torch.no_grad()
def test_a_new_item_is_its_words_and_codes(world: ServedWorld):
    loaded = load_recommender(world.root / "causal")
    trained = loaded.recommender
    words = words_of(24, 25) | {2: ItemWords("other words", np.arange(16, dtype=np.float32))}
    grown = grown_recommender(
        loaded, grown_catalogue(loaded.catalogue, words=words, new_codes=CODES)
    )
    assert isinstance(trained, CausalRetriever)
    assert isinstance(grown, CausalRetriever)
    before, after = trained.dense_keys(), grown.dense_keys()
    kept = [n for n in range(24) if n != 2]
    assert torch.equal(after[kept], before[kept])
    assert not torch.allclose(after[2], before[2], atol=1e-3)
    sizes = loaded.catalogue.level_sizes
    flat = CODES[1] + torch.tensor([0, sizes[0], sizes[0] + sizes[1]])
    made = trained.items.text_out(torch.full((16,), 25.0)) + trained.items.codes_out(flat).sum(0)
    centre = loaded.catalogue.text_vectors[loaded.catalogue.item_text_ids].mean(0)
    expected = torch.cat([F.normalize(made, dim=0), 25.0 - centre, torch.zeros(1)])
    assert torch.allclose(after[25], expected, atol=1e-5)


def test_a_new_item_was_never_met():
    trained = CooccurrencePrior(3)
    batch = sequences_of(small_catalogue(items=3))
    trained.survey([batch])
    grown = CooccurrencePrior(5)
    grown.take_over(trained)
    met = trained._counts.tolist()
    total = sum(met) + 2.5
    expected = [(n + 0.5) / total for n in met] + [0.5 / total] * 2
    assert grown.popularity.tolist() == pytest.approx(expected)
    assert torch.equal(grown.columns, trained.columns)
    assert torch.equal(grown.values, trained.values)
    both = grown(batch).exp()
    assert torch.allclose(both.sum(1), torch.ones(len(batch)))
    assert torch.equal(both[:, :3].argsort(1), trained(batch).argsort(1))


@pytest.mark.parametrize("model", ["sasrec", "popularity"])
def test_who_knows_numbers_alone_does_not_grow(world: ServedWorld, model: str):
    loaded = load_recommender(world.root / model)
    with pytest.raises(InputError, match="knows items by their number alone"):
        grown_recommender(loaded, loaded.catalogue)


def test_a_causal_retriever_takes_over_none_but_its_kind(world: ServedWorld):
    loaded = load_recommender(world.root / "causal")
    assert isinstance(loaded.recommender, CausalRetriever)
    other = load_recommender(world.root / "tiger").recommender
    with pytest.raises(TypeError, match="cannot take over a Tiger"):
        loaded.recommender.take_over(other)


def test_texts_can_be_left_away():
    bare = without_texts(small_catalogue())
    assert not bare.item_text_mask.any()
    assert bare.text_vectors.shape == (0, 0)
    assert bare.item_count == 60
