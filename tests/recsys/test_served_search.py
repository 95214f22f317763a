"""The laws of every search: distinct and allowed candidates, rows and scores on their own."""

import numpy as np
import pytest
import torch

from personalize.api.retriever import IdFilter
from recsys.served_items import Allowed
from recsys.served_search import scored
from tests.recsys.served_world import ServedWorld, new_item, small_batch_of

MODES = ("dense", "generative", "hybrid")


@pytest.fixture(params=["causal", "mender_emb", "tiger"])
def half(own_world: ServedWorld, request: pytest.FixtureRequest):
    """A half to which two items were added."""
    opened = own_world.opened(request.param)
    opened.add([new_item("new-1", "Tone"), new_item("new-2", "Case")])
    return opened


@pytest.mark.parametrize("mode", MODES)
def test_candidates_are_distinct_allowed_and_of_their_row(half, mode: str):
    search, batch = half._answering[mode].search, small_batch_of(half._trained.catalogue, rows=5)
    mask = np.arange(26) % 3 != 1  # one of the added items may be found
    allowed = Allowed(mask, IdFilter(only=np.flatnonzero(mask)))
    with torch.inference_mode():
        for count in (4, 40):
            found = search.candidates(batch, count=count, allowed=allowed, without_seen=True)
            for row, item_ids in enumerate(found):
                real = item_ids[item_ids >= 0].tolist()
                assert len(set(real)) == len(real)
                assert mask[real].all()
                alone = search.candidates(
                    batch.rows(slice(row, row + 1)), count=count, allowed=allowed, without_seen=True
                )
                assert set(alone[0].tolist()) == set(item_ids.tolist())
                if search.leaves_out_seen:
                    met = batch.history_item_ids[row][batch.history_mask[row]].tolist()
                    assert not set(real) & set(met)


@pytest.mark.parametrize("mode", MODES)
def test_a_score_depends_on_its_row_and_item_alone(half, mode: str, monkeypatch):
    search, batch = half._answering[mode].search, small_batch_of(half._trained.catalogue, rows=5)
    item_ids = np.tile(np.arange(26), (5, 1))
    with torch.inference_mode():
        whole = scored(search, batch, item_ids)
        few = scored(search, batch, np.array([[25, -1, 3]] * 5))
        monkeypatch.setattr("recsys.served_search._GATHERING_COSTS", 0)
        monkeypatch.setattr("recsys.served_search._MOST_CELLS", 30)  # one row at a time
        again = scored(search, batch, item_ids)
    assert np.allclose(few[:, [0, 2]], whole[:, [25, 3]], atol=1e-4)
    assert np.isneginf(few[:, 1]).all()
    assert np.allclose(again, whole, atol=1e-4)


def test_vectors_of_items_that_nobody_knows_here_are_left_out(half):
    search, batch = half._answering["dense"].search, small_batch_of(half._trained.catalogue, rows=2)
    with torch.inference_mode():
        before = search.candidates(batch, count=26, allowed=Allowed(), without_seen=True)
        best = search.space.dense_queries(batch).float().numpy()[:1] * 100
        search.retriever.put(np.array([400]), best.astype(np.float32))
        after = search.candidates(batch, count=27, allowed=Allowed(), without_seen=True)
    for row in range(2):
        assert set(after[row].tolist()) - {-1} == set(before[row].tolist()) - {-1}
