"""Recommenders as policies: the laws of the slot, exact densities and the training loss."""

import itertools

import pytest
import torch
from torch import nn

from personalize.preference_optimization.auxiliary import PreferenceDegree
from personalize.preference_optimization.policy import frozen_copy
from recsys.baselines.popularity import Popularity
from recsys.baselines.sasrec import SASRec
from recsys.dense_policy import DensePolicy
from recsys.policy import RetrieverPolicy
from recsys.retriever.causal import CausalRetriever, CausalTraining, Ranking
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


SHOWING = [("tiger", False), ("mender_emb", False), ("mender_tok", False), ("causal", False),
           ("causal", True)]  # fmt: skip


@pytest.mark.parametrize(("name", "dense"), SHOWING)
def test_what_a_policy_shows_of_responses_obeys_the_laws(recommenders, name, dense):
    policy = (DensePolicy if dense else RetrieverPolicy)(recommenders[name]).eval()
    items = torch.tensor([[3, 9, 30, 3], [1, 2, 3, 4], [7, 7, 0, 39], [5, 6, 8, 9]])
    found = policy.represented(BATCH, items)
    assert found.shape == (4, 4, policy.represented_width())
    torch.testing.assert_close(found[0, 0], found[0, 3])
    assert not torch.allclose(found[0, 0], found[0, 1])
    assert not torch.allclose(found[0, 2], policy.represented(BATCH, items.roll(1, 0))[1, 2])
    alone = [
        policy.represented(BATCH.rows(slice(row, row + 1)), items[row : row + 1])
        for row in range(4)
    ]
    torch.testing.assert_close(torch.cat(alone), found, rtol=1e-4, atol=1e-5)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        policy.represented(BATCH, items[:, order]), found[:, order], rtol=1e-4, atol=1e-5
    )
    reached = gradients(recommenders[name], found.square().sum())
    assert sum(float(gradient.abs().sum()) for gradient in reached.values()) > 0
    assert len(reached) > 5
    term = PreferenceDegree(2)
    term.fit_to(policy)
    assert term.read is not None
    assert term.read.in_features == found.shape[2]


@pytest.mark.parametrize("name", RETRIEVERS)
def test_what_is_shown_of_an_item_depends_on_its_last_code(recommenders, name):
    codes = torch.tensor([[[1, 2, 3, 0], [1, 2, 3, 2], [0, 2, 3, 0]]] * 4)
    states = recommenders[name].path_states(BATCH, codes)
    torch.testing.assert_close(states[:, 0, :3], states[:, 1, :3])
    assert ((states[:, 0, 3] - states[:, 1, 3]).abs().amax(-1) > 1e-3).all()
    assert ((states[:, 0] - states[:, 2]).abs().amax(-1) > 1e-4).all()


@pytest.mark.parametrize("name", ["tiger", "mender_emb", "mender_tok"])
def test_the_state_after_a_code_is_that_of_the_decoder_step_by_step(recommenders, name):
    model, item = recommenders[name], 30
    codes, one = CATALOGUE.item_codes[item], torch.zeros(1, 1).long()
    row = BATCH.rows(slice(2, 3))
    decoder = model.decoder
    with torch.no_grad():
        memory, read = model.prepare(row), decoder.started_tokens(codes[None])
        states = [
            decoder.decoder.step(decoder.embedding(read[:, place : place + 1]), memory, one)[0, 0]
            for place in range(5)
        ]
        found = RetrieverPolicy(model).represented(row, torch.tensor([[item]]))[0, 0]
    torch.testing.assert_close(found, torch.stack(states[1:]).mean(0), rtol=1e-4, atol=1e-5)


def test_what_code_heads_show_adds_up_to_the_logits_of_the_codes(recommenders):
    model, codes = recommenders["causal"], CATALOGUE.item_codes[torch.tensor([[3, 9]] * 4)]
    assert model.heads is not None
    states, logits = model.path_states(BATCH, codes), model.path_logits(BATCH, codes)
    for level in range(4):
        bias = model.heads.to_logits[level].bias[codes[..., level]]
        expected = logits[level].expand(-1, 2, -1).gather(-1, codes[..., level : level + 1])
        torch.testing.assert_close(states[:, :, level].sum(-1) + bias, expected[..., 0])


def test_what_a_dense_policy_shows_adds_up_to_the_scores_up_to_a_constant_of_the_row():
    torch.manual_seed(3)
    model = CausalRetriever(CATALOGUE, size=CAUSAL, ranking=Ranking(prior=0.0)).eval()
    every = torch.arange(40).expand(4, -1)
    shown = DensePolicy(model).represented(BATCH, every).sum(-1).log_softmax(-1)
    torch.testing.assert_close(shown, DensePolicy(model).log_prob(BATCH, every)[..., 0])


def test_a_recommender_without_vectors_of_rows_shows_nothing(recommenders):
    policy = DensePolicy(recommenders["sasrec"])
    with pytest.raises(ValueError, match="SASRec has no vectors of rows and items to show"):
        PreferenceDegree(2).fit_to(policy)
    with pytest.raises(ValueError, match="SASRec has no vectors of rows and items to show"):
        policy.represented(BATCH, torch.tensor([[3]] * 4))
