"""The look-ahead beside the exact tilted ranking, over all items."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalize.steering.lookahead import TreeLookahead
from recsys.recommender import Filters
from recsys.retriever.decode import BeamSearch, Scoring
from recsys.retriever.lookahead import (
    TrieLookahead,
    TriePrior,
    item_log_probabilities,
    population_prior,
)
from recsys.semantic_id.trie import SemanticIdTrie
from tests.oracles.exhaustive_decoding import item_scores
from tests.recsys.retriever_fixtures import small_batch, small_catalogue
from tests.recsys.table_decoder import TableDecoder, rows_without_history
from tests.recsys.test_decode import tiger

pytestmark = pytest.mark.usefixtures("_no_gradients")
SCORINGS: list[Scoring] = ["raw", "renormalized"]


@pytest.fixture
def _no_gradients():
    with torch.no_grad():
        yield


def test_a_tilt_is_the_log_mean_of_what_lies_below():
    codes = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]])
    trie = SemanticIdTrie(codes, (2, 3))
    rewards = torch.tensor([[0.0, 1.0, 2.0, 0.0, -1.0]], dtype=torch.float64)
    prior = torch.tensor([[0.1, 0.4, 0.2, 0.2, 0.1]], dtype=torch.float64).log()
    tree = TreeLookahead([trie.first_child(0), trie.first_child(1)], prior)
    found = tree.tilts(rewards, strength=1.5)
    worth = (1.5 * rewards).exp() * prior.exp()
    left, right = worth[:, :2].sum() / 0.5, worth[:, 2:].sum() / 0.5
    torch.testing.assert_close(found[0], worth.sum().log().reshape(1, 1))
    torch.testing.assert_close(found[1], torch.stack([left, right]).log().reshape(1, 2))
    torch.testing.assert_close(found[2], 1.5 * rewards)
    best = tree.tilts(rewards, strength=1.5, best=True)
    share = torch.tensor([0.2, 0.8, 0.4, 0.4, 0.2], dtype=torch.float64).log()
    highest = share + 1.5 * rewards[0]
    torch.testing.assert_close(best[1], torch.stack([highest[:2].max(), highest[2:].max()])[None])
    torch.testing.assert_close(best[0], (prior + 1.5 * rewards).max().reshape(1, 1))
    torch.testing.assert_close(best[2], 1.5 * rewards)


@given(st.integers(0, 10_000), st.floats(0.1, 20.0), st.booleans())
def test_biases_add_up_to_the_reward_along_every_path(seed, strength, best):
    generator = torch.Generator().manual_seed(seed)
    catalogue = small_catalogue(items=25, seed=seed)
    trie = SemanticIdTrie(catalogue.item_codes, catalogue.level_sizes)
    rewards = torch.randn(2, 25, generator=generator, dtype=torch.float64)
    prior = TriePrior(trie, torch.randn(1, 25, generator=generator, dtype=torch.float64))
    lookahead = TrieLookahead(prior, rewards, strength=strength, best=best)
    for item in range(25):
        path = [int(nodes) for nodes in trie.ancestors(torch.tensor(item))]
        total, node = lookahead.start[:, 0], 0
        for level, child in enumerate(path):
            bias = lookahead.bias(level, torch.full((2, 1), node), torch.full((2, 1, 1), child))
            total, node = total + bias[:, 0, 0], child
        torch.testing.assert_close(total, strength * rewards[:, item])


@pytest.mark.parametrize("scoring", SCORINGS)
def test_a_wide_beam_finds_the_exact_tilted_ranking(scoring):
    catalogue = small_catalogue(items=40)
    model, batch = tiger(catalogue), small_batch(catalogue)
    rewards = torch.randn(len(batch), 40, generator=torch.Generator().manual_seed(3))
    lookahead = TrieLookahead(TriePrior(model.trie), rewards, strength=2.0)
    found = BeamSearch(40, scoring)(model, batch, model.trie, count=40, lookahead=lookahead)
    scores = item_scores(model, batch, catalogue.item_codes, scoring=scoring) + 2.0 * rewards
    expected, order = scores.topk(40)
    assert torch.equal(found.item_ids, order)
    torch.testing.assert_close(found.scores, expected, rtol=1e-4, atol=1e-4)


def test_no_strength_is_no_lookahead():
    catalogue = small_catalogue(items=40)
    model, batch = tiger(catalogue), small_batch(catalogue)
    prior = TriePrior(model.trie, torch.randn(1, 40))
    lookahead = TrieLookahead(prior, torch.randn(len(batch), 40), strength=0.0, best=False)
    plain = BeamSearch(5)(model, batch, model.trie, count=5)
    found = BeamSearch(5)(model, batch, model.trie, count=5, lookahead=lookahead)
    assert torch.equal(found.item_ids, plain.item_ids)
    torch.testing.assert_close(found.scores, plain.scores, rtol=0.0, atol=1e-5)


def test_forbidden_stays_forbidden_and_makes_no_prefix_look_good():
    catalogue = small_catalogue(items=40)
    model, batch = tiger(catalogue), small_batch(catalogue)
    allowed = torch.arange(40) % 2 == 0
    rewards = torch.where(allowed, 0.0, 100.0).expand(len(batch), -1)
    filters = Filters(allowed_items=allowed, exclude_history=True)
    search = BeamSearch(4, "renormalized")
    seen = search(
        model, batch, model.trie, count=4, filters=filters,
        lookahead=TrieLookahead(TriePrior(model.trie), rewards, strength=1.0),
    )  # fmt: skip
    assert allowed[seen.item_ids.clamp_min(0)][seen.item_ids >= 0].all()
    prior = TriePrior(model.trie, allowed_items=allowed)
    lookahead = TrieLookahead(prior, rewards, strength=1.0, best=False)
    found = search(model, batch, model.trie, count=4, filters=filters, lookahead=lookahead)
    plain = search(model, batch, model.trie, count=4, filters=filters)
    assert torch.equal(found.item_ids, plain.item_ids)  # what is allowed is equally good


def tilted_world(seed: int):
    """184 items, 60 rows with random rewards, and their exact tilted ranking."""
    generator = torch.Generator().manual_seed(seed)
    every = torch.cartesian_prod(*[torch.arange(8)] * 3)
    codes = every[torch.randperm(512, generator=generator)[:184]]
    trie, decoder = SemanticIdTrie(codes, (8, 8, 8)), TableDecoder((8, 8, 8), seed=seed)
    rewards = torch.randn(60, 184, generator=generator)
    log_p = decoder.log_probabilities(trie, codes)
    return trie, decoder, rewards, log_p, (log_p + 1.5 * rewards).topk(5).indices


def recall(found, best) -> float:
    return float((best.unsqueeze(2) == found.unsqueeze(1)).any(2).float().mean())


def test_probabilities_of_all_items_are_those_of_the_table():
    trie, decoder, _, log_p, _ = tilted_world(1)
    found = item_log_probabilities(decoder, rows_without_history(11), trie)
    torch.testing.assert_close(found, log_p.expand(11, -1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.logsumexp(1), torch.zeros(11), rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_beam_of_five_finds_the_five_best_where_the_prior_is_the_decoders_own(seed):
    trie, decoder, rewards, _, best = tilted_world(seed)
    prior = TriePrior(trie, population_prior(decoder, rows_without_history(2), trie))
    lookahead = TrieLookahead(prior, rewards, strength=1.5)
    search = BeamSearch(5, "renormalized")
    found = search(decoder, rows_without_history(60), trie, count=5, lookahead=lookahead)
    assert torch.equal(found.item_ids, best)


def test_the_populations_prior_is_the_mean_log_probability():
    catalogue = small_catalogue(23)
    decoder, batch = tiger(catalogue), small_batch(catalogue)
    each = item_log_probabilities(decoder, batch, decoder.trie)
    found = population_prior(decoder, batch, decoder.trie)
    expected = torch.zeros_like(each[0])
    for row in each:
        expected += row / len(each)
    torch.testing.assert_close(found, expected[None])
    assert not torch.allclose(found, each.amax(0, keepdim=True))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_even_a_uniform_prior_finds_more_than_ranking_the_beam_again(seed):
    trie, decoder, rewards, _, best = tilted_world(seed)
    batch = rows_without_history(60)
    for width, least in ((5, 0.6), (10, 0.9), (20, 0.99)):
        search = BeamSearch(width, "renormalized")
        lookahead = TrieLookahead(TriePrior(trie), rewards, strength=1.5, best=False)
        found = search(decoder, batch, trie, count=5, lookahead=lookahead).item_ids
        plain = search(decoder, batch, trie, count=width)
        again = plain.scores + 1.5 * rewards.gather(1, plain.item_ids)
        ranked = plain.item_ids.gather(1, again.topk(5).indices)
        assert recall(found, best) >= least
        assert recall(found, best) > recall(ranked, best) + 0.2
