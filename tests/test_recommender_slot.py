"""Every recommender obeys the laws of the slot; recommenders are found by walking the folders."""

import dataclasses

import pytest
import torch

import recsys.baselines
import recsys.retriever
from recsys.batch import HistoryBatch
from recsys.recommender import Filters, Recommender
from recsys.retriever.causal_encoder import CausalSize
from tests.recsys.retriever_fixtures import TINY, rows_of, small_batch, small_catalogue
from tests.recsys.tiny_t5 import write_tiny_t5
from tests.test_slots import variants

CATALOGUE = small_catalogue()
RECOMMENDERS = [
    *variants(recsys.baselines, Recommender),
    *variants(recsys.retriever, Recommender),
]
COUNT = 12


def sequences(rows: int, seed: int) -> HistoryBatch:
    """Histories with a target after every step, to learn from."""
    single = small_batch(CATALOGUE, rows=rows, seed=seed)
    mask = single.history_mask
    nothing = torch.zeros(*mask.shape, 1, dtype=torch.bool)
    return dataclasses.replace(
        single,
        target_item_ids=torch.randint(0, CATALOGUE.item_count, mask.shape) * mask,
        target_mask=mask,
        preference_text_ids=nothing.long(),
        preference_mask=nothing,
        preference_avoid=nothing,
    )


@pytest.fixture(scope="module", params=RECOMMENDERS, ids=lambda variant: variant.__name__)
def recommender(request, tmp_path_factory) -> Recommender:
    """A small recommender that has seen a few histories."""
    torch.manual_seed(0)
    options = {
        "Tiger": {"size": TINY},
        "MenderEmb": {"size": TINY},
        "CausalRetriever": {"size": CausalSize(width=16, match=True)},
        "SASRec": {"width": 16},
    }.get(request.param.__name__, {})
    if request.param.__name__ == "MenderTok":
        encoder = write_tiny_t5(tmp_path_factory.mktemp("t5"))
        options = {"encoder": encoder, "size": TINY}
    model = request.param(CATALOGUE, **options)
    if model.surveys:
        model.survey([sequences(9, seed=3)])
    if not any(True for _ in model.parameters()):
        model.loss(sequences(9, seed=3))
    return model.eval()


def answers(model: Recommender, batch: HistoryBatch, filters: Filters | None = None):
    with torch.no_grad():
        return model.recommend(batch, count=COUNT, filters=filters)


def test_the_folders_hold_the_recommenders_the_readme_names():
    named = {"Popularity", "Markov", "Cooccurrence", "SASRec", "Tiger", "MenderEmb", "MenderTok"}
    assert named | {"CausalRetriever"} <= {variant.__name__ for variant in RECOMMENDERS}


def test_every_returned_item_is_distinct_and_real(recommender):
    found = answers(recommender, small_batch(CATALOGUE, rows=7))
    for row in found.item_ids.tolist():
        assert len(set(row)) == COUNT
        assert set(row) <= set(range(CATALOGUE.item_count))
    assert (found.scores.diff(dim=1) <= 0).all()


def test_rows_do_not_influence_each_other(recommender):
    batch = small_batch(CATALOGUE, rows=7)
    together = answers(recommender, batch)
    order = torch.tensor([3, 0, 6, 5, 1, 2, 4])
    turned = batch.rows(order)
    assert torch.allclose(answers(recommender, turned).scores, together.scores[order], atol=1e-4)
    for row in range(7):
        alone = answers(recommender, rows_of(batch, slice(row, row + 1)))
        assert torch.equal(alone.item_ids[0], together.item_ids[row])
        assert torch.allclose(alone.scores[0], together.scores[row], atol=1e-4)


def test_padding_changes_nothing(recommender):
    batch = small_batch(CATALOGUE, rows=4)
    wider = dataclasses.replace(
        batch,
        history_item_ids=torch.nn.functional.pad(batch.history_item_ids, (0, 3), value=5),
        history_mask=torch.nn.functional.pad(batch.history_mask, (0, 3)),
    )
    plain, padded = answers(recommender, batch), answers(recommender, wider)
    assert torch.equal(plain.item_ids, padded.item_ids)
    assert torch.allclose(plain.scores, padded.scores, atol=1e-4)


def test_a_filtered_item_is_never_returned(recommender):
    batch = small_batch(CATALOGUE, rows=7)
    allowed = torch.arange(CATALOGUE.item_count) % 3 == 0
    found = answers(recommender, batch, Filters(exclude_history=True, allowed_items=allowed))
    for row in range(7):
        met = set(batch.history_item_ids[row][batch.history_mask[row]].tolist())
        expected = min(COUNT, len(set(range(0, CATALOGUE.item_count, 3)) - met))
        items = [item for item in found.item_ids[row].tolist() if item >= 0]
        assert len(items) == len(set(items)) == expected
        assert not met & set(items)
        assert all(item % 3 == 0 for item in items)


def test_a_recommender_that_ignores_preferences_says_so(recommender):
    batch = small_batch(CATALOGUE, rows=7)
    without = dataclasses.replace(batch, preference_mask=torch.zeros_like(batch.preference_mask))
    same = torch.allclose(
        answers(recommender, batch).scores, answers(recommender, without).scores, atol=1e-6
    )
    assert same != recommender.uses_preferences
