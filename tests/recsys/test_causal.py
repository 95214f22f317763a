"""The causal retriever: nothing leaks backwards, both heads agree with slow versions."""

import dataclasses

import pytest
import torch

from recsys.batch import HistoryBatch
from recsys.recommender import Filters
from recsys.retriever.causal import (
    CausalRetriever,
    CausalTraining,
    PreferenceShift,
    Ranking,
    future_targets,
)
from recsys.retriever.causal_encoder import CausalSize
from recsys.retriever.code_heads import CodeHeads
from recsys.retriever.decode import BeamSearch
from tests.recsys.retriever_fixtures import rows_of, small_batch, small_catalogue

SIZE = CausalSize(
    width=16, layers=2, heads=2, maximum_history=4, dropout=0.0, input_dropout=0.0, match=True
)
CATALOGUE = small_catalogue()


def sequence_batch(rows=4, steps=6, seed=1):
    """Histories of different lengths with a target after every step."""
    single = small_batch(CATALOGUE, rows=rows, steps=steps, seed=seed)
    mask = single.history_mask
    targets = torch.randint(0, CATALOGUE.item_count, mask.shape) * mask
    spread = (rows, steps, single.preference_text_ids.shape[-1])
    return dataclasses.replace(
        single,
        target_item_ids=targets,
        target_mask=mask,
        preference_text_ids=single.preference_text_ids.expand(spread),
        preference_mask=single.preference_mask & mask.unsqueeze(-1),
        preference_avoid=single.preference_avoid.expand(spread),
    )


def retriever(**choices):
    torch.manual_seed(0)
    model = CausalRetriever(CATALOGUE, size=SIZE, **choices)
    for weight in (model.preferences.like.weight, model.preferences.avoid.weight):
        torch.nn.init.normal_(weight)  # at their zero start preferences would do nothing
    model.survey([sequence_batch(rows=8, seed=5)])
    return model.eval()


def test_the_loss_equals_a_loop_over_targets():
    model = retriever(training=CausalTraining(codes=0.5, future_steps=3, future_decay=0.4))
    batch = sequence_batch()
    chosen = (batch.preference_text_ids, batch.preference_mask, batch.preference_avoid)
    wishes = model.preferences.wishes(*chosen)
    states = model._states(batch) + model.preferences.shift(wishes)
    logits = model._dense_logits(states, wishes).log_softmax(-1)
    dense, codes = [], []
    for row, length in enumerate(batch.target_mask.sum(1).tolist()):
        for step in range(length):
            weights = [0.4**k for k in range(3) if step + k < length]
            targets = batch.target_item_ids[row, step : step + len(weights)]
            chosen = logits[row, step, targets]
            dense.append(-(chosen * torch.tensor(weights)).sum() / sum(weights))
            wanted = list(CATALOGUE.item_codes[targets[0]])
            assert model.heads is not None
            for level, code in enumerate(wanted):
                above = model.heads.logits(level, states[row, step], wanted[:level])
                codes.append(-above.log_softmax(-1)[code])
    expected = torch.stack(dense).mean() + 0.5 * torch.stack(codes).mean()
    assert model.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_one_target_per_row_is_learnt_like_the_last_of_a_sequence():
    model, prefixes = retriever(), small_batch(CATALOGUE, rows=4)
    last = prefixes.history_mask.sum(1, keepdim=True) - 1
    mask = torch.arange(prefixes.history_mask.shape[1]) == last
    spread = (*mask.shape, prefixes.preference_mask.shape[-1])
    sequences = dataclasses.replace(
        prefixes,
        target_item_ids=prefixes.target_item_ids * mask,
        target_mask=mask,
        preference_text_ids=prefixes.preference_text_ids.expand(spread),
        preference_mask=prefixes.preference_mask.expand(spread),
        preference_avoid=prefixes.preference_avoid.expand(spread),
    )
    assert model.loss(prefixes).item() == pytest.approx(model.loss(sequences).item(), rel=1e-5)


def test_a_later_item_changes_no_earlier_state():
    model, batch = retriever(), sequence_batch(rows=2, steps=6, seed=3)
    items = batch.history_item_ids.clone()
    items[:, 4] = (items[:, 4] + 1) % CATALOGUE.item_count
    changed = dataclasses.replace(batch, history_item_ids=items)
    before, after = model._states(batch), model._states(changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4], after[:, 4])


@pytest.mark.parametrize("search", [None, BeamSearch(width=8)])
def test_a_batch_equals_its_rows_and_padding_changes_nothing(search):
    model, batch = retriever(ranking=Ranking(search=search)), small_batch(CATALOGUE, rows=4)
    together = model.recommend(batch, count=5)
    for row in range(4):
        alone = rows_of(batch, slice(row, row + 1))
        length = int(alone.history_mask.sum())
        alone = dataclasses.replace(
            alone,
            history_item_ids=alone.history_item_ids[:, :length],
            history_mask=alone.history_mask[:, :length],
        )
        found = model.recommend(alone, count=5)
        assert torch.equal(found.item_ids[0], together.item_ids[row])
        assert torch.allclose(found.scores[0], together.scores[row], atol=1e-4)


def test_a_wide_beam_ranks_as_scoring_every_item_does():
    model = retriever(ranking=Ranking(prior=0.3, codes=0.7, search=BeamSearch(width=500)))
    batch = small_batch(CATALOGUE, rows=3)
    assert model.heads is not None
    state, wishes = model._last_state(batch)
    scores = model._dense_logits(state, wishes).log_softmax(-1) + 0.3 * model.prior(batch)
    for item, codes in enumerate(CATALOGUE.item_codes):
        for level, code in enumerate(codes):
            above = [chosen.expand(3) for chosen in codes[:level]]
            logits = model.heads.logits(level, state, above).log_softmax(-1)
            scores[:, item] += 0.7 * logits[:, code]
    found = model.recommend(batch, count=10)
    best, items = scores.topk(10)
    assert torch.equal(found.item_ids, items)
    assert torch.allclose(found.scores, best, atol=1e-4)


def test_without_dense_head_and_prior_a_search_is_generative_retrieval_alone():
    search = BeamSearch(width=500)
    model = retriever(ranking=Ranking(dense=0.0, prior=0.0, codes=0.7, search=search))
    batch = small_batch(CATALOGUE, rows=3)
    assert model.trie is not None
    alone = search(model, batch, model.trie, count=10)
    found = model.recommend(batch, count=10)
    assert torch.equal(found.item_ids, alone.item_ids)
    assert torch.allclose(found.scores, 0.7 * alone.scores, atol=1e-5)


@pytest.mark.parametrize("search", [None, BeamSearch(width=8)])
def test_filters_hold_and_too_few_items_are_marked(search):
    model = retriever(ranking=Ranking(search=search))
    batch = small_batch(CATALOGUE, rows=4)
    allowed = torch.zeros(CATALOGUE.item_count, dtype=torch.bool)
    met = batch.history_item_ids[3][batch.history_mask[3]]
    allowed[met] = True
    allowed[[7, 8]] = True
    found = model.recommend(batch, count=4, filters=Filters(True, allowed)).item_ids
    assert set(found[3].tolist()) == ({7, 8} - set(met.tolist())) | {-1}


def test_preferences_start_without_effect_and_guidance_zero_ignores_them():
    untrained = PreferenceShift(CATALOGUE, 16, match=(0.0, 0.0))
    batch = small_batch(CATALOGUE, rows=4)
    chosen = (batch.preference_text_ids, batch.preference_mask, batch.preference_avoid)
    wishes = untrained.wishes(*chosen)
    assert not untrained.shift(wishes).any()
    assert not untrained.match(wishes).any()
    without = dataclasses.replace(batch, preference_mask=torch.zeros_like(batch.preference_mask))
    model, ignoring = retriever(), retriever(ranking=Ranking(guidance=0.0))
    plain = model.recommend(without, count=5).scores
    assert not torch.allclose(model.recommend(batch, count=5).scores, plain)
    assert torch.allclose(ignoring.recommend(batch, count=5).scores, plain, atol=1e-5)


def test_order_of_preferences_is_irrelevant_and_avoiding_is_not_liking():
    model, batch = retriever(), small_batch(CATALOGUE, rows=4)
    turned = dataclasses.replace(
        batch,
        **{
            name: getattr(batch, name).flip(-1)
            for name in ("preference_text_ids", "preference_mask", "preference_avoid")
        },
    )
    flipped = dataclasses.replace(batch, preference_avoid=~batch.preference_avoid)
    first, _ = model._last_state(batch)
    assert torch.allclose(first, model._last_state(turned)[0], atol=1e-5)
    assert not torch.allclose(first, model._last_state(flipped)[0], atol=1e-3)


def test_the_match_adds_the_product_of_the_words():
    model, batch = retriever(training=CausalTraining(match=(0.7, -0.4))), small_batch(CATALOGUE)
    state, wishes = model._last_state(batch)
    nothing = model.preferences.wishes(
        batch.preference_text_ids[:, 0],
        torch.zeros_like(batch.preference_mask[:, 0]),
        batch.preference_avoid[:, 0],
    )
    added = model._dense_logits(state, wishes) - model._dense_logits(state, nothing)
    centred = CATALOGUE.text_vectors[: CATALOGUE.item_count]
    centred = centred - centred.mean(0)
    for row in range(3):
        expected = torch.zeros(CATALOGUE.item_count)
        for avoided, weight in ((False, 0.7), (True, -0.4)):
            chosen = batch.preference_mask[row, 0] & (batch.preference_avoid[row, 0] == avoided)
            if chosen.any():
                texts = CATALOGUE.text_vectors[batch.preference_text_ids[row, 0][chosen]]
                expected += 16.0 * weight * (centred @ texts.mean(0))
        assert torch.allclose(added[row], expected, atol=1e-3)


def test_future_targets_by_hand():
    targets = torch.tensor([[5, 6, 7, 0]])
    mask = torch.tensor([[True, True, True, False]])
    items, weights = future_targets(targets, mask, steps=2, decay=0.5)
    assert items[0, :3].tolist() == [[5, 6], [6, 7], [7, 0]]
    assert weights[0, :2].flatten().tolist() == pytest.approx([2 / 3, 1 / 3] * 2)
    assert weights[0, 2].tolist() == [1.0, 0.0]
    assert weights[0, 3].tolist() == [0.0, 0.0]


def test_training_finds_what_always_follows():
    torch.manual_seed(0)
    model = CausalRetriever(CATALOGUE, size=SIZE)
    items = torch.arange(30)
    mask = torch.ones(30, 1, dtype=torch.bool)
    nothing = torch.zeros(30, 1, 1, dtype=torch.bool)
    batch = HistoryBatch(
        row_ids=items,
        history_item_ids=items[:, None],
        history_mask=mask,
        target_item_ids=(items[:, None] + 11) % CATALOGUE.item_count,
        target_mask=mask,
        preference_text_ids=nothing.long(),
        preference_mask=nothing,
        preference_avoid=nothing,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    model.eval()
    for search in (None, BeamSearch(width=5)):
        model.ranking = Ranking(prior=0.0, search=search)
        found = model.recommend(batch, count=1).item_ids
        assert (found == batch.target_item_ids).float().mean() > 0.95


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="heads must divide width, got 3 heads for width 16"):
        CausalSize(width=16, heads=3)
    with pytest.raises(ValueError, match="counted on batches of sequences"):
        retriever().survey([small_batch(CATALOGUE, rows=2)])
    without_codes = dataclasses.replace(
        CATALOGUE, item_codes=CATALOGUE.item_codes[:, :0], level_sizes=()
    )
    model = CausalRetriever(without_codes, size=SIZE)
    assert model.recommend(small_batch(CATALOGUE), count=3).item_ids.shape == (3, 3)
    with pytest.raises(ValueError, match="the catalogue has no semantic IDs"):
        model.step(model.prepare(small_batch(CATALOGUE)), 0, *[torch.zeros(3, 1).long()] * 2)


def test_code_heads_follow_their_parents():
    torch.manual_seed(0)
    heads = CodeHeads((4, 3, 2), 8).eval()
    hidden = torch.randn(2, 8)
    state_codes = torch.tensor([[2, 3], [0, 1]])
    parents = torch.tensor([[1, 0], [0, 0]])
    from recsys.retriever.code_heads import CodeState

    state = CodeState(hidden, [])
    heads.step(state, 0, torch.zeros(2, 1).long(), torch.zeros(2, 1).long())
    heads.step(state, 1, state_codes, torch.zeros(2, 2).long())
    found = heads.step(state, 2, torch.tensor([[1, 2], [0, 2]]), parents)
    for row in range(2):
        for beam in range(2):
            first = state_codes[row, parents[row, beam]]
            second = torch.tensor([[1, 2], [0, 2]])[row, beam]
            expected = heads.logits(2, hidden[row], [first, second])
            assert torch.allclose(found[row, beam], expected, atol=1e-6)
