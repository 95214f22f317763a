"""The best items under filters, against sorting a row by hand."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.collate import Ragged, prefix_batch
from recsys.recommender import Filters
from recsys.top_items import last_real_items, top_items

ITEMS = 7
histories = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=5), min_size=1, max_size=4)


@given(histories, st.booleans(), st.sets(st.integers(0, ITEMS - 1)), st.integers(1, 9), st.data())
def test_the_best_allowed_items_come_first(rows, exclude, allowed, count, data):
    batch = prefix_batch(
        np.arange(len(rows)), Ragged.from_lists(rows).last(9), np.zeros(len(rows), np.int64)
    )
    scores = [data.draw(st.permutations(range(ITEMS))) for _ in rows]
    mask = torch.tensor([item in allowed for item in range(ITEMS)])
    found = top_items(
        torch.tensor(scores, dtype=torch.float32),
        batch,
        count=count,
        filters=Filters(exclude_history=exclude, allowed_items=mask if allowed else None),
    )
    for row, history, values, item_ids, best in zip(
        range(len(rows)), rows, scores, found.item_ids.tolist(), found.scores.tolist(), strict=True
    ):
        left = [
            item
            for item in sorted(range(ITEMS), key=lambda item: -values[item])
            if (item in allowed or not allowed) and not (exclude and item in history)
        ][:count]
        missing = count - len(left)
        assert item_ids == left + [-1] * missing, row
        assert best == [values[item] for item in left] + [-np.inf] * missing


def test_the_last_real_item():
    batch = prefix_batch(
        np.arange(3), Ragged.from_lists([[4, 5], [6], []]).last(9), np.zeros(3, np.int64)
    )
    assert last_real_items(batch).tolist() == [5, 6, 0]
