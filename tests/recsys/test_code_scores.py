"""Log-probabilities of given codes are what a beam adds up, and keys give dense logits."""

import pytest
import torch

from recsys.recommender import Recommender
from recsys.retriever.causal import CausalRetriever, Ranking
from recsys.retriever.causal_encoder import CausalSize
from recsys.retriever.code_scores import code_scores
from recsys.retriever.decode import BeamSearch
from recsys.retriever.generative import Conditioning
from recsys.retriever.mender_emb import MenderEmb
from recsys.retriever.tiger import Tiger
from tests.recsys.retriever_fixtures import TINY, small_batch, small_catalogue
from tests.recsys.served_world import generator_of

CATALOGUE = small_catalogue()
SIZE = CausalSize(width=16, layers=1, heads=2, dropout=0.0, input_dropout=0.0, match=True)


def models() -> dict[str, Recommender]:
    """One of each kind of decoder."""
    torch.manual_seed(0)
    causal = CausalRetriever(CATALOGUE, size=SIZE, ranking=Ranking(guidance=1.7))
    torch.nn.init.normal_(causal.preferences.like.weight)
    torch.nn.init.normal_(causal.preferences.avoid.weight)
    torch.nn.init.normal_(causal.item_bias)
    guided = MenderEmb(CATALOGUE, size=TINY, conditioning=Conditioning(guidance=2.0))
    found = {"causal": causal, "guided": guided, "tiger": Tiger(CATALOGUE, size=TINY)}
    return {name: model.eval() for name, model in found.items()}


@pytest.mark.parametrize("name", ["causal", "guided", "tiger"])
@torch.no_grad()
def test_given_codes_score_as_in_a_beam(name: str):
    model, batch = generator_of(models()[name]), small_batch(CATALOGUE, rows=4)
    decoder, trie = model.code_decoder(), model.trie
    assert trie is not None
    found = BeamSearch(width=200)(decoder, batch, trie, count=CATALOGUE.item_count)
    given = code_scores(decoder, batch, CATALOGUE.item_codes[found.item_ids])
    assert torch.allclose(given, found.scores, atol=1e-4)
    few = code_scores(decoder, batch, CATALOGUE.item_codes[found.item_ids[:, [5, 0, 5]]])
    assert torch.allclose(few, found.scores[:, [5, 0, 5]], atol=1e-4)


@torch.no_grad()
def test_queries_times_keys_are_dense_logits_under_guidance():
    model, batch = models()["causal"], small_batch(CATALOGUE, rows=5)
    assert isinstance(model, CausalRetriever)
    logits = model._dense_logits(*model._last_state(batch))
    assert torch.allclose(model.dense_queries(batch) @ model.dense_keys().T, logits, atol=1e-4)
    plain = models()["causal"]
    assert isinstance(plain, CausalRetriever)
    plain.ranking = Ranking(guidance=1.0)
    assert not torch.allclose(plain.dense_queries(batch), model.dense_queries(batch), atol=1e-2)
