"""Steered recommenders: neutral is their own, goals are met, forbidden stays forbidden."""

import pytest
import torch

from personalize.evaluation.goal_space import GoalDimension, GoalSpace
from personalize.steering.chain import (
    Chain,
    Guidance,
    Lookahead,
    Neighbourhood,
    Selection,
    Telling,
)
from personalize.steering.goals import Goals, no_goals
from personalize.steering.particles import ParticleSteering
from recsys.baselines.popularity import Popularity
from recsys.goals import DIVERSITY, POPULARITY, PRICE, ItemGoals
from recsys.opened_chain import OpenedChain
from recsys.proposals import Candidates, CatalogueProposer, TrieProposer, proposer
from recsys.recommender import Filters
from recsys.retriever.causal import CausalRetriever, Ranking
from recsys.retriever.causal_encoder import CausalSize
from recsys.retriever.decode import BeamSearch
from recsys.steered import PLAIN, ItemRequest, SteeredItems
from tests.oracles.exhaustive_decoding import item_scores
from tests.recsys.retriever_fixtures import small_batch, small_catalogue
from tests.recsys.test_decode import tiger

ITEMS_COUNT = 60
pytestmark = pytest.mark.usefixtures("_no_gradients")
SPACE = GoalSpace(
    (
        GoalDimension(PRICE, "", "dearer", 0.2, 0.8),
        GoalDimension(POPULARITY, "", "met more often", 0.0, 1.0),
        GoalDimension(DIVERSITY, "", "less alike", 0.5, 1.5),
    )
)


@pytest.fixture
def _no_gradients():
    with torch.no_grad():
        yield


def item_goals() -> ItemGoals:
    generator = torch.Generator().manual_seed(2)
    values = torch.rand(ITEMS_COUNT, 3, generator=generator) * torch.tensor([1.0, 1.0, 0.0])
    return ItemGoals(
        names=SPACE.names,
        values=values,
        mask=torch.ones(ITEMS_COUNT, 3, dtype=torch.bool),
        sentiment=torch.zeros(ITEMS_COUNT, 1),
        text_vectors=torch.nn.functional.normalize(
            torch.randn(ITEMS_COUNT, 8, generator=generator), dim=1
        ),
    )


def trie_proposer(width: int = 20):
    catalogue = small_catalogue(ITEMS_COUNT)
    return proposer(tiger(catalogue, search=BeamSearch(20, "renormalized")), width=width)


def catalogue_proposer():
    torch.manual_seed(3)
    model = CausalRetriever(small_catalogue(ITEMS_COUNT), size=CausalSize(width=16, layers=1))
    return proposer(model.eval(), width=ITEMS_COUNT)


PROPOSERS = {"trie": trie_proposer, "catalogue": catalogue_proposer}


def request(goals: Goals, *, count: int = 5, filters: Filters | None = None) -> ItemRequest:
    batch = small_batch(small_catalogue(ITEMS_COUNT), rows=len(goals.values))
    return ItemRequest(
        batch, torch.full((len(goals.values),), -1), goals, count, filters or Filters()
    )


def steered(kind: str, chain: Chain, asked: ItemRequest):
    return SteeredItems(PROPOSERS[kind](), item_goals(), SPACE, chain).recommend(asked)


def reached(items: torch.Tensor) -> torch.Tensor:
    return SPACE.normalized(item_goals().of_lists(items, torch.full((len(items),), -1))[0])


HIGH_PRICE = Goals(
    torch.tensor([[0.9, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.7, 0.0]]),
    torch.tensor([[True, False, False], [True, False, False], [False, True, False]]),
)


@pytest.mark.parametrize("kind", PROPOSERS)
def test_a_neutral_chain_or_no_goal_is_the_recommender_itself(kind):
    chain = Chain(
        telling=Telling(1.0), lookahead=Lookahead(3.0), selection=Selection(9.0, calibrate=True)
    )
    plain = steered(kind, Chain(), request(HIGH_PRICE))
    nothing = steered(kind, chain, request(no_goals(3, 3)))
    other = steered(kind, Chain(selection=Selection(0.0)), request(HIGH_PRICE))
    for found in (nothing, other):
        assert torch.equal(found.found.item_ids, plain.found.item_ids)
        assert torch.equal(found.found.scores, plain.found.scores)


def test_the_trie_is_asked_as_the_recommender_asks_it():
    model = tiger(small_catalogue(ITEMS_COUNT), search=BeamSearch(20, "renormalized"))
    asked = request(HIGH_PRICE)
    own = model.recommend(asked.batch, count=5)
    found = SteeredItems(proposer(model), item_goals(), SPACE, Chain()).recommend(asked)
    assert torch.equal(found.found.item_ids, own.item_ids)


@pytest.mark.parametrize("kind", PROPOSERS)
def test_more_strength_moves_lists_further_towards_the_goal(kind):
    signed = [
        reached(steered(kind, Chain(lookahead=Lookahead(s)), request(HIGH_PRICE)).found.item_ids)
        for s in (0.0, 3.0, 20.0)
    ]
    towards = (HIGH_PRICE.values - signed[0]).sign() * HIGH_PRICE.mask
    moved = [((values - signed[0]) * towards).sum(1) for values in signed]
    assert (moved[1] >= 0).all()
    assert (moved[2] >= moved[1]).all()
    assert (moved[2] > 0.05).all()


@pytest.mark.parametrize("scoring", ["raw", "renormalized"])
def test_a_look_ahead_finds_the_tilted_best_of_all_items(scoring):
    catalogue = small_catalogue(ITEMS_COUNT)
    model = tiger(catalogue, search=BeamSearch(20, scoring))
    asked = request(HIGH_PRICE, count=3)
    goals = item_goals()
    found = SteeredItems(
        proposer(model, width=ITEMS_COUNT), goals, SPACE, Chain(lookahead=Lookahead(5.0))
    ).recommend(asked)
    codes = catalogue.item_codes
    own = item_scores(model, asked.batch, codes, scoring=scoring).topk(3).indices
    scores = item_scores(model, asked.batch, codes, scoring="renormalized")
    change = (HIGH_PRICE.values - reached(own)) * HIGH_PRICE.mask
    features = (goals.values - torch.tensor([0.2, 0.0, 0.0])) / torch.tensor([0.6, 1.0, 1.0])
    exact = scores + 5.0 * change @ features.T
    assert torch.equal(found.found.item_ids, exact.topk(3).indices)


@pytest.mark.parametrize("kind", PROPOSERS)
def test_calibration_meets_the_goal_and_holding_keeps_the_rest(kind):
    loose = steered(
        kind, Chain(selection=Selection(60.0, calibrate=True)), request(HIGH_PRICE, count=8)
    )
    held = steered(
        kind,
        Chain(selection=Selection(60.0, calibrate=True, hold=True)),
        request(HIGH_PRICE, count=8),
    )
    plain = steered(kind, Chain(), request(HIGH_PRICE, count=8))
    before, free, kept = (reached(one.found.item_ids) for one in (plain, loose, held))
    asked = HIGH_PRICE.mask
    gap = ((free - HIGH_PRICE.values) * asked).norm(dim=1)
    assert (gap <= ((before - HIGH_PRICE.values) * asked).norm(dim=1) + 1e-6).all()
    assert gap.mean() < 0.15
    side = [((values - before) * ~asked).norm(dim=1).mean() for values in (free, kept)]
    assert side[1] < side[0]
    held_gap = ((kept - HIGH_PRICE.values) * asked).norm(dim=1)
    assert held_gap.mean() < 0.6 * ((before - HIGH_PRICE.values) * asked).norm(dim=1).mean()


@pytest.mark.parametrize("kind", PROPOSERS)
def test_calibration_never_ends_further_away_however_hard_the_search_is_tilted(kind):
    chain = Chain(lookahead=Lookahead(500.0), selection=Selection(60.0, calibrate=True))
    narrow = proposer(PROPOSERS[kind]().model, width=6)
    before = reached(
        narrow.propose(request(HIGH_PRICE).batch, None, PLAIN, filters=Filters()).items[:, :5]
    )
    goals = Goals((before + 0.05).clamp(0, 1) * HIGH_PRICE.mask, HIGH_PRICE.mask)
    found = SteeredItems(narrow, item_goals(), SPACE, chain).recommend(request(goals)).found
    gaps = [
        ((values - goals.values) * goals.mask).norm(dim=1)
        for values in (before, reached(found.item_ids))
    ]
    assert (gaps[1] <= gaps[0] + 1e-6).all()


def test_diversity_is_reached_by_what_is_taken_together():
    goals = Goals(torch.tensor([[0.0, 0.0, 0.75]]), torch.tensor([[False, False, True]]))
    chain = Chain(selection=Selection(60.0, calibrate=True))
    for kind in PROPOSERS:
        plain = reached(steered(kind, Chain(), request(goals)).found.item_ids)[0, 2]
        found = reached(steered(kind, chain, request(goals)).found.item_ids)[0, 2]
        assert (found - 0.75).abs() <= (plain - 0.75).abs()
        assert (found - 0.75).abs() < 0.1


@pytest.mark.parametrize("kind", PROPOSERS)
@pytest.mark.parametrize(
    "chain",
    [
        Chain(lookahead=Lookahead(5.0)),
        Chain(lookahead=Lookahead(2.0), selection=Selection(30.0, calibrate=True, hold=True)),
        Chain(lookahead=Lookahead(5.0), neighbourhood=Neighbourhood(3, 0.6)),
        Chain(particles=ParticleSteering(40, 4.0)),
        Chain(lookahead=Lookahead(2.0), guidance=Guidance(2.0)),
    ],
)
def test_forbidden_stays_forbidden_and_rows_are_alone(kind, chain):
    allowed = torch.arange(ITEMS_COUNT) % 3 != 0
    filters = Filters(exclude_history=True, allowed_items=allowed)
    asked = request(HIGH_PRICE, filters=filters)
    found = steered(kind, chain, asked).found
    real = found.item_ids >= 0
    assert real.any()
    assert allowed[found.item_ids.clamp_min(0)][real].all()
    for row in range(3):
        met = asked.batch.history_item_ids[row][asked.batch.history_mask[row]]
        assert not torch.isin(found.item_ids[row], met).any()
        part = slice(row, row + 1)
        one = ItemRequest(
            asked.batch.rows(part), asked.aspects[part], asked.goals.rows(part), 5, filters
        )
        alone = steered(kind, chain, one).found.item_ids
        assert torch.equal(alone[0], found.item_ids[row])
        kept = found.item_ids[row][real[row]].tolist()
        assert len(set(kept)) == len(kept)


def test_goals_around_are_as_far_from_where_one_is_as_the_stated_one(monkeypatch):
    asked_for: list[torch.Tensor] = []
    original = SteeredItems._proposed

    def noted(self, request, wanted, change):
        asked_for.append(change)
        return original(self, request, wanted, change)

    monkeypatch.setattr(SteeredItems, "_proposed", noted)
    goals = Goals(torch.tensor([[0.9, 0.5, 0.5]] * 3), torch.ones(3, 3, dtype=torch.bool))
    chain = Chain(lookahead=Lookahead(5.0), neighbourhood=Neighbourhood(4, 0.6))
    steered("trie", chain, request(goals))
    stated, *around = asked_for
    assert len(around) == 3
    for change in around:
        torch.testing.assert_close(change.norm(dim=1), stated.norm(dim=1))
        angle = torch.cosine_similarity(change, stated)
        assert ((angle < 0.9999) & (angle > 0.8)).all()


def test_particles_are_drawn_of_what_a_look_ahead_tilts():
    asked = request(HIGH_PRICE)
    rewards = torch.rand(3, ITEMS_COUNT, generator=torch.Generator().manual_seed(5))
    means = []
    for ahead in (0.0, 6.0):
        chain = Chain(lookahead=Lookahead(ahead), particles=ParticleSteering(200, 0.0))
        found = trie_proposer().propose(asked.batch, rewards, OpenedChain(chain), filters=Filters())
        drawn = found.items >= 0
        worth = (rewards.gather(1, found.items.clamp_min(0)) * drawn).sum(1) / drawn.sum(1)
        means.append(worth)
    assert (means[1] > means[0] + 0.05).all()


@pytest.mark.parametrize("kind", PROPOSERS)
def test_a_list_that_runs_out_of_items_ends(kind, monkeypatch):
    chain = Chain(selection=Selection(30.0, calibrate=True, hold=True))
    allowed = torch.zeros(ITEMS_COUNT, dtype=torch.bool)
    allowed[[7, 41]] = True
    found = steered(kind, chain, request(HIGH_PRICE, filters=Filters(allowed_items=allowed))).found
    for row in found.item_ids.tolist():
        assert sorted(row[:2]) == [7, 41]
        assert row[2:] == [-1] * 3
    monkeypatch.setattr("recsys.steered.LIST_FROM", 3)
    longer = steered(kind, chain, request(HIGH_PRICE, count=8)).found.item_ids
    assert all(len(set(row)) == 8 and -1 not in row for row in longer.tolist())


def test_united_candidates_are_distinct_with_the_higher_score():
    one = Candidates(torch.tensor([[4, 7, -1]]), torch.tensor([[-1.0, -2.0, -torch.inf]]), 3)
    two = Candidates(torch.tensor([[7, 9]]), torch.tensor([[-1.5, -4.0]]), 5)
    found = one.united(two)
    assert found.items.tolist() == [[4, 7, 9, -1, -1]] or found.items[0, :4].tolist() == [
        4, 7, -1, 9
    ]  # fmt: skip
    kept = {
        int(item): float(score)
        for item, score in zip(found.items[0], found.scores[0], strict=True)
        if item >= 0
    }
    assert kept == {4: -1.0, 7: -1.5, 9: -4.0}
    assert found.calls == 8


def test_candidates_come_from_the_trie_where_there_is_a_search():
    torch.manual_seed(0)
    catalogue = small_catalogue(ITEMS_COUNT)
    model = CausalRetriever(
        catalogue, size=CausalSize(width=16, layers=1), ranking=Ranking(search=BeamSearch(7))
    )
    found = proposer(model.eval())
    assert isinstance(found, TrieProposer)
    assert found.propose(small_batch(catalogue), None, PLAIN, filters=Filters()).items.shape == (
        3,
        7,
    )
    model.ranking = Ranking()
    assert isinstance(proposer(model), CatalogueProposer)


def test_a_recommender_without_either_is_refused():
    with pytest.raises(TypeError, match="cannot be steered; take a retriever that generates"):
        proposer(Popularity(small_catalogue(ITEMS_COUNT)))
