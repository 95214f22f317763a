"""Recommenders as policies: the laws of the slot, exact densities and the training loss."""

import itertools

import pytest
import torch
from torch import nn

from personalize.preference_optimization.policy import frozen_copy
from recsys.baselines.popularity import Popularity
from recsys.baselines.sasrec import SASRec
from recsys.dense_policy import DensePolicy
from recsys.policy import RetrieverPolicy
from recsys.retriever.causal import CausalRetriever, CausalTraining
from recsys.retriever.causal_encoder import CausalSize
from recsys.retriever.mender_emb import MenderEmb
from recsys.retriever.mender_tok import MenderTok
from recsys.retriever.tiger import Tiger
from tests.personalize.preference_optimization.policy_laws import check_choices, check_policy
from tests.recsys.retriever_fixtures import TINY, small_batch, small_catalogue
from tests.recsys.tiny_t5 import write_tiny_t5

CATALOGUE = small_catalogue(items=40)
BATCH = small_batch(CATALOGUE, rows=4)
CAUSAL = CausalSize(width=16, heads=2, layers=1, dropout=0.0, input_dropout=0.0)
RETRIEVERS = ["tiger", "mender_emb", "mender_tok", "causal"]


@pytest.fixture(scope="module")
def recommenders(tmp_path_factory) -> dict[str, nn.Module]:
    """One of each kind, with weights that differ from item to item."""
    torch.manual_seed(2)
    made = {
        "tiger": Tiger(CATALOGUE, size=TINY),
        "mender_emb": MenderEmb(CATALOGUE, size=TINY),
        "mender_tok": MenderTok(
            CATALOGUE, encoder=write_tiny_t5(tmp_path_factory.mktemp("t5")), size=TINY
        ),
        "causal": CausalRetriever(CATALOGUE, size=CAUSAL),
        "sasrec": SASRec(CATALOGUE, width=16),
    }
    for model in made.values():
        model.eval()
    return made


@pytest.mark.parametrize("scoring", ["renormalized", "raw"])
@pytest.mark.parametrize("name", RETRIEVERS)
def test_a_retriever_obeys_the_laws_of_a_policy(recommenders, name, scoring):
    policy = RetrieverPolicy(recommenders[name], scoring=scoring).eval()
    check_policy(policy, BATCH)
    check_choices(policy, BATCH)


@pytest.mark.parametrize("name", ["causal", "sasrec"])
def test_a_dense_recommender_obeys_the_laws_of_a_policy(recommenders, name):
    policy = DensePolicy(recommenders[name]).eval()
    check_policy(policy, BATCH)
    check_choices(policy, BATCH)


@pytest.mark.parametrize("name", RETRIEVERS)
def test_renormalized_probabilities_of_all_items_add_up_to_one(recommenders, name):
    every = torch.arange(40).expand(4, -1)
    policy = RetrieverPolicy(recommenders[name])
    sums = policy.log_prob(BATCH, every).sum(-1).exp().sum(1)
    torch.testing.assert_close(sums, torch.ones(4))
    raw = RetrieverPolicy(recommenders[name], scoring="raw").log_prob(BATCH, every).sum(-1)
    assert (raw.exp().sum(1) < 0.9).all()


@pytest.mark.parametrize("name", RETRIEVERS)
def test_a_level_is_renormalized_over_the_codes_that_lead_to_an_item(recommenders, name):
    """The slow way: codes one by one, prefixes by comparing whole semantic IDs."""
    model = recommenders[name]
    policy, items = RetrieverPolicy(model), torch.tensor([[7, 30, 7]] * 4)
    found = policy.log_prob(BATCH, items).detach()
    with torch.no_grad():
        for row, place in itertools.product(range(4), range(3)):
            state, one = model.prepare(BATCH.rows(slice(row, row + 1))), torch.zeros(1, 1).long()
            code = CATALOGUE.item_codes[items[row, place]]
            prefix_of = torch.ones(40, dtype=torch.bool)
            last = one
            for level in range(4):
                logits = model.step(state, level, last, one)[0, 0]
                allowed = CATALOGUE.item_codes[prefix_of, level].unique()
                expected = logits[code[level]] - logits[allowed].logsumexp(0)
                torch.testing.assert_close(found[row, place, level], expected)
                prefix_of &= CATALOGUE.item_codes[:, level] == code[level]
                last = code[level].reshape(1, 1)


@pytest.mark.parametrize("name", ["tiger", "mender_emb", "mender_tok"])
def test_raw_log_probabilities_are_the_training_loss_and_reach_the_same_weights(recommenders, name):
    model = recommenders[name]
    policy = RetrieverPolicy(model, scoring="raw")
    by_loss = gradients(model, model.loss(BATCH))
    mine = -policy.log_prob(BATCH, BATCH.target_item_ids).mean()
    torch.testing.assert_close(mine.detach(), model.loss(BATCH).detach())
    by_policy = gradients(model, mine)
    assert by_policy.keys() == by_loss.keys()
    for weight, gradient in by_loss.items():
        torch.testing.assert_close(by_policy[weight], gradient, rtol=1e-3, atol=1e-6)


def test_the_code_heads_of_the_causal_retriever_have_the_gradient_of_their_loss():
    torch.manual_seed(0)
    model = CausalRetriever(
        CATALOGUE, size=CAUSAL, training=CausalTraining(codes=1.0, preference_dropout=0.0)
    ).eval()
    mine = -RetrieverPolicy(model, scoring="raw").log_prob(BATCH, BATCH.target_item_ids).mean()
    by_policy, by_loss = gradients(model, mine), gradients(model, model.loss(BATCH))
    heads = {name for name in by_loss if name.startswith("heads.")}
    assert heads
    assert heads <= by_policy.keys() <= by_loss.keys()
    for name in heads:
        torch.testing.assert_close(by_policy[name], by_loss[name], rtol=1e-3, atol=1e-6)


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", RETRIEVERS)
def test_a_beam_as_wide_as_the_catalogue_is_the_exact_order(recommenders, name):
    policy = RetrieverPolicy(recommenders[name], beam_width=40).eval()
    found = policy.sample(BATCH, 6, seed=0, beam=True)
    assert not found.sampled
    every = policy.log_prob(BATCH, torch.arange(40).expand(4, -1)).sum(-1)
    best = every.detach().topk(6)
    assert torch.equal(found.responses, best.indices)
    torch.testing.assert_close(found.log_prob.sum(-1), best.values)


def test_a_dense_beam_is_the_recommenders_own_list(recommenders):
    for name in ("causal", "sasrec"):
        model = recommenders[name]
        found = DensePolicy(model).sample(BATCH, 5, seed=0, beam=True)
        with torch.no_grad():
            own = model.recommend(BATCH, count=5).item_ids
        assert not found.sampled
        assert torch.equal(found.responses, own)


@pytest.mark.parametrize("kind", ["codes", "dense"])
def test_items_are_drawn_as_often_as_their_probability_says(recommenders, kind):
    model = recommenders["causal"]
    policy = RetrieverPolicy(model) if kind == "codes" else DensePolicy(model)
    one = BATCH.rows(slice(0, 1))
    drawn = policy.sample(one, 20_000, seed=5).responses[0]
    shares = torch.bincount(drawn, minlength=40) / 20_000
    exact = policy.log_prob(one, torch.arange(40)[None]).sum(-1).exp()[0]
    assert (shares - exact).abs().max() < 0.012


def test_other_seeds_draw_others_and_preferences_matter(recommenders):
    policy = RetrieverPolicy(recommenders["mender_emb"]).eval()
    first = policy.sample(BATCH, 8, seed=1).responses
    assert not torch.equal(first, policy.sample(BATCH, 8, seed=2).responses)
    flipped = BATCH.each(lambda tensor: tensor)
    object.__setattr__(flipped, "preference_avoid", ~BATCH.preference_avoid & BATCH.preference_mask)
    plain, other = (policy.log_prob(batch, first) for batch in (BATCH, flipped))
    assert ((plain - other).abs().amax((1, 2)) > 1e-4).all()


def test_closed_choices_are_minus_infinity_and_open_ones_are_not(recommenders):
    policy = RetrieverPolicy(recommenders["tiger"])
    items = torch.tensor([[3, 9]] * 4)
    open_ = policy.logits(BATCH, items).isfinite()
    for place, item in enumerate((3, 9)):
        same = torch.ones(40, dtype=torch.bool)
        for level in range(4):
            expected = CATALOGUE.item_codes[same, level].unique().tolist()
            assert open_[0, place, level].nonzero()[:, 0].tolist() == expected
            same &= CATALOGUE.item_codes[:, level] == CATALOGUE.item_codes[item, level]


def test_a_reference_is_a_copy_that_stays(recommenders):
    policy = RetrieverPolicy(MenderEmb(CATALOGUE, size=TINY)).eval()
    reference = frozen_copy(policy)
    before = reference.log_prob(BATCH, BATCH.target_item_ids)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(1.5)
    assert torch.equal(reference.log_prob(BATCH, BATCH.target_item_ids), before)
    assert not before.requires_grad
    assert {name.split(".")[0] for name in policy.state_dict()} == {"recommender"}


def test_what_cannot_be_a_policy_is_refused(recommenders):
    coded = CausalRetriever(small_catalogue(items=40), size=CAUSAL)
    coded.trie = None
    with pytest.raises(ValueError, match="the recommender has no semantic IDs, so its codes"):
        RetrieverPolicy(coded)
    with pytest.raises(ValueError, match="a beam of 41 is more than 40 items"):
        RetrieverPolicy(recommenders["tiger"]).sample(BATCH, 41, seed=0, beam=True)
    with pytest.raises(ValueError, match="a beam of 41 is more than 40 items"):
        DensePolicy(recommenders["sasrec"]).sample(BATCH, 41, seed=0, beam=True)
    with pytest.raises(TypeError, match="Popularity has no score for every item"):
        DensePolicy(Popularity(CATALOGUE))
