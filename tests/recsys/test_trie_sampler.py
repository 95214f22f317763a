"""Sampling on the trie beside the exact distribution of a catalogue that can be written down."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from personalize.steering.particles import (
    Difference,
    EndOnly,
    Maximum,
    ParticleSteering,
    Potential,
    Steered,
    steer,
)
from recsys.recommender import Filters
from recsys.retriever.lookahead import TrieLookahead, TriePrior
from recsys.retriever.sampler import Prefixes, PrefixValue, TrieSampler
from recsys.semantic_id.trie import SemanticIdTrie
from tests.recsys.table_decoder import TableDecoder, rows_without_history

SIZES = (8, 8, 8)
STRENGTH = 2.0
RUNS = 150


@cache
def world() -> tuple[SemanticIdTrie, TableDecoder, torch.Tensor, torch.Tensor, torch.Tensor]:
    """All 512 items, a decoder, random rewards, their log-probabilities and the tilted ones."""
    codes = torch.cartesian_prod(*[torch.arange(8)] * 3)
    trie, decoder = SemanticIdTrie(codes, SIZES), TableDecoder(SIZES, seed=3)
    rewards = torch.randn(512, generator=torch.Generator().manual_seed(4))
    log_p = decoder.log_probabilities(trie, codes)
    return trie, decoder, rewards, log_p, log_p + STRENGTH * rewards


def sampled(potential: Potential, *, count=64, rows=1, seed=0, below=0.5) -> Steered[Prefixes]:
    trie, decoder, rewards, _, _ = world()
    lookahead = TrieLookahead(
        TriePrior(trie), rewards.expand(rows, -1), strength=STRENGTH, best=False
    )
    batch = rows_without_history(rows)
    settings = ParticleSteering(count, STRENGTH, potential, resample_below=below)
    value = PrefixValue(lookahead, strength=STRENGTH)
    return steer(TrieSampler(decoder, trie), batch, batch, value, settings, seed=seed)


def runs_of(potential: Potential, below: float) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean reward of 64 particles, and the estimate of the normaliser, run by run."""
    found = [sampled(potential, seed=104_729 * seed, below=below) for seed in range(RUNS)]
    items = [world()[0].item_of_leaf[one.x.nodes[0]].long() for one in found]
    means = [
        float((world()[2][i] * one.log_weight[0].exp()).sum())
        for i, one in zip(items, found, strict=True)
    ]
    return np.array(means), np.array([float(one.log_normalizer.exp()) for one in found])


def exact_mean() -> float:
    """Mean reward under the tilted distribution."""
    return float((world()[2] * world()[4].softmax(0)).sum())


@pytest.mark.parametrize("potential", [Difference(), Maximum(), EndOnly()])
@pytest.mark.parametrize("below", [0.5, 1.0])
def test_every_potential_aims_at_the_tilted_distribution(potential, below):
    """Normaliser and mean weighted by it are unbiased, however often particles are drawn anew."""
    means, normalizers = runs_of(potential, below)
    true = float(world()[4].logsumexp(0).exp())
    assert abs(normalizers.mean() - true) < 3.5 * normalizers.std() / RUNS**0.5
    off = normalizers * (means - exact_mean())
    assert abs(off.mean()) < 3.5 * off.std() / RUNS**0.5


def test_looking_on_the_way_is_nearer_and_spreads_less_than_looking_at_the_end():
    """The decisive experiment of Feynman-Kac steering on a catalogue that can be written down."""
    means, _ = runs_of(Difference(), 0.5)
    at_the_end, _ = runs_of(EndOnly(), 0.5)
    assert abs(means.mean() - exact_mean()) < 0.5 * abs(at_the_end.mean() - exact_mean())
    assert means.std() < 0.8 * at_the_end.std()


def test_weights_are_carried_where_nothing_is_drawn_anew():
    """Released code drops them; carried, they add up to what is weighed at the end."""
    for below in (0.0, 0.02):
        on_the_way = sampled(Difference(), below=below)
        at_the_end = sampled(EndOnly(), below=below)
        torch.testing.assert_close(on_the_way.log_weight, at_the_end.log_weight)
        torch.testing.assert_close(on_the_way.log_normalizer, at_the_end.log_normalizer)
    means, _ = runs_of(Difference(), 0.3)  # drawn anew at some looks and not at others
    untilted = float((world()[2] * world()[3].softmax(0)).sum())
    assert abs(means.mean() - exact_mean()) < 0.1 * abs(untilted - exact_mean())


def test_a_lookahead_of_the_decoders_own_distribution_draws_exactly():
    trie, decoder, rewards, log_p, tilted = world()
    batch = rows_without_history(1)
    prior = TriePrior(trie, log_p[None])
    lookahead = TrieLookahead(prior, rewards[None], strength=STRENGTH, best=False)
    sampler = TrieSampler(decoder, trie, lookahead=lookahead)
    state = sampler.init(batch, batch, 4000, seed=1)
    for number in range(sampler.steps):
        state = sampler.step(state, number, sampler.predict)
        torch.testing.assert_close(state.log_weight, torch.zeros(1, 4000), rtol=0.0, atol=1e-4)
    items = trie.item_of_leaf[state.nodes[0]].long()
    share = items.bincount(minlength=512) / 4000
    exact = tilted.softmax(0)
    by_chance = torch.stack(
        [
            (
                torch.multinomial(
                    exact, 4000, replacement=True, generator=torch.Generator().manual_seed(s)
                ).bincount(minlength=512)
                / 4000
                - exact
            )
            .abs()
            .sum()
            for s in range(20)
        ]
    )
    assert (share - exact).abs().sum() < by_chance.mean() + 4 * by_chance.std()


def test_no_strength_is_the_sampler_itself():
    trie, decoder, rewards, _, _ = world()
    batch = rows_without_history(3)
    sampler = TrieSampler(decoder, trie)
    lookahead = TrieLookahead(TriePrior(trie), rewards.expand(3, -1), strength=1.0)
    value = PrefixValue(lookahead, strength=1.0)
    found = steer(sampler, batch, batch, value, ParticleSteering(9, 0.0), seed=5)
    state = sampler.init(batch, batch, 9, seed=5)
    for number in range(sampler.steps):
        state = sampler.step(state, number, sampler.predict)
    assert torch.equal(found.x.nodes, state.nodes)
    torch.testing.assert_close(found.log_normalizer, torch.zeros(3), atol=1e-5, rtol=0.0)


def test_a_batch_is_its_rows_one_by_one():
    both, one = sampled(Difference(), rows=3, seed=2), sampled(Difference(), rows=1, seed=2)
    assert torch.equal(both.x.nodes, one.x.nodes.expand(3, -1))
    torch.testing.assert_close(both.log_weight, one.log_weight.expand(3, -1))


def test_taking_all_particles_in_order_changes_nothing():
    trie, decoder, _, _, _ = world()
    batch = rows_without_history(2)
    sampler = TrieSampler(decoder, trie)
    plain, taken = (sampler.init(batch, batch, 5, seed=3) for _ in range(2))
    for number in range(sampler.steps):
        plain = sampler.step(plain, number, sampler.predict)
        taken = sampler.step(taken, number, sampler.predict)
        taken = sampler.take(taken, torch.arange(5).expand(2, -1))
    assert torch.equal(plain.nodes, taken.nodes)


def test_particles_that_were_drawn_anew_go_on_from_their_own_prefix():
    trie, decoder, _, _, _ = world()
    batch = rows_without_history(1)
    sampler = TrieSampler(decoder, trie)
    state = sampler.step(sampler.init(batch, batch, 4, seed=3), 0, sampler.predict)
    state = sampler.take(state, torch.tensor([[2, 2, 0, 0]]))
    state = sampler.step(state, 1, sampler.predict)
    state = sampler.take(state, torch.tensor([[3, 3, 1, 0]]))
    above = trie.ancestors(trie.item_of_leaf[trie.first_child(2)[state.nodes]].long())[0]
    codes = list(state.memory.codes)
    done = sampler.step(state, 2, sampler.predict)
    item_codes = torch.cartesian_prod(*[torch.arange(8)] * 3)
    items = trie.item_of_leaf[done.nodes].long()
    assert torch.equal(item_codes[items][..., 0], above.long())
    assert len(codes) == 1
    for level, chosen in enumerate(done.memory.codes):
        assert torch.equal(chosen, item_codes[items][..., level])


@pytest.mark.parametrize("scoring", ["raw", "renormalized"])
def test_what_a_filter_closes_is_never_drawn(scoring):
    trie, decoder, _, _, _ = world()
    batch = replace(rows_without_history(2), history_item_ids=torch.tensor([[17], [200]]))
    allowed = torch.arange(512) % 7 == 3
    allowed[[17, 200]] = True
    filters = Filters(exclude_history=True, allowed_items=allowed)
    sampler = TrieSampler(decoder, trie, filters=filters, scoring=scoring)
    state = sampler.init(batch, batch, 500, seed=0)
    for number in range(sampler.steps):
        state = sampler.step(state, number, sampler.predict)
    items = trie.item_of_leaf[state.nodes].long()
    assert allowed[items].all()
    assert not (items == batch.history_item_ids).any()
    if scoring == "raw":  # the weight is the share of the decoder's probability that is open
        there = allowed & (torch.arange(512) != 17)
        exact = world()[3].masked_fill(~there, -torch.inf).logsumexp(0)
        torch.testing.assert_close(
            state.log_weight[0].exp().mean(), exact.exp(), rtol=0.2, atol=0.0
        )


def test_a_particle_knows_its_own_probability_whatever_tilts_it():
    trie, decoder, rewards, log_p, _ = world()
    batch = rows_without_history(1)
    lookahead = TrieLookahead(TriePrior(trie), rewards[None], strength=STRENGTH, best=False)
    for ahead in (None, lookahead):
        sampler = TrieSampler(decoder, trie, lookahead=ahead)
        state = sampler.init(batch, batch, 50, seed=1)
        for number in range(sampler.steps):
            state = sampler.step(state, number, sampler.predict)
            state = sampler.take(state, torch.arange(49, -1, -1)[None])
        made = sampler.preview(state, sampler.steps - 1)
        items = trie.item_of_leaf[made.nodes].long()
        torch.testing.assert_close(made.log_probability, log_p[items], rtol=1e-4, atol=1e-4)
