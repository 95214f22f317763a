"""Popularity and Markov: hand-worked orders, plain counting, and the known rows on real data."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.baselines.markov import Markov
from recsys.baselines.popularity import Popularity
from recsys.batch import HistoryBatch
from recsys.data import InteractionDataModule
from recsys.module import last_targets
from recsys.ranking import ndcg_at_k, recall_at_k, target_ranks
from recsys.recommender import Filters
from tests.recsys.small_artifacts import write_tables

ITEMS = 9
histories_of_people = st.lists(
    st.lists(st.integers(0, ITEMS - 1), min_size=4, max_size=9), min_size=1, max_size=5
)


def _fit(model, data):
    for batch in data.train_dataloader():
        model.loss(batch)
    return model


@settings(max_examples=15)
@given(histories_of_people, st.sampled_from(["prefixes", "sequences"]))
def test_counts_equal_plain_counting(tmp_path_factory, people, rows):
    folder = write_tables(tmp_path_factory.mktemp("run") / "tables", people, item_count=ITEMS)
    data = InteractionDataModule(folder, rows=rows, batch_size=3)
    markov, popularity = (_fit(kind(data.catalogue), data) for kind in (Markov, Popularity))
    training = [person[:-2] for person in people]
    met = Counter(item for person in training if len(person) > 1 for item in person)
    pairs = Counter(pair for person in training for pair in pairwise(person))
    assert popularity.counts.tolist() == [met[item] for item in range(ITEMS)]
    keys, counts = markov.get_extra_state().tolist()
    assert {divmod(key, ITEMS): n for key, n in zip(keys, counts, strict=True)} == dict(pairs)
    batch = next(iter(data.test_dataloader()))
    found = markov.recommend(batch, count=ITEMS)
    for row, person in zip(found.item_ids.tolist(), people, strict=True):
        order = sorted(
            range(ITEMS), key=lambda item: (-pairs[(person[-2], item)], -met[item], item)
        )
        assert row == order


def test_state_survives_a_round_trip_and_filters_hold(tmp_path):
    folder = write_tables(tmp_path / "tables", [[0, 1, 0, 1, 2, 3]], item_count=5)
    data = InteractionDataModule(folder)
    model = _fit(Markov(data.catalogue), data)
    again = Markov(data.catalogue)
    again.load_state_dict(model.state_dict())
    batch = next(iter(data.test_dataloader()))
    allowed = torch.tensor([True, False, True, True, False])
    filters = Filters(exclude_history=True, allowed_items=allowed)
    for kind in (model, again):
        assert kind.recommend(batch, count=3, filters=filters).item_ids.tolist() == [[3, -1, -1]]
    assert again.recommend(batch, count=7).item_ids.tolist()[0][5:] == [-1, -1]


def test_an_empty_history_gets_the_popular_items(tmp_path):
    folder = write_tables(tmp_path / "tables", [[3, 1, 3, 1, 1, 2, 2]], item_count=4)
    data = InteractionDataModule(folder)
    batch = next(iter(data.test_dataloader()))
    empty = HistoryBatch(**vars(batch) | {"history_mask": torch.zeros_like(batch.history_mask)})
    model = _fit(Markov(data.catalogue), data)
    assert model.recommend(empty, count=2).item_ids.tolist() == [[1, 3]]


@pytest.fixture(scope="module")
def beauty_tables(beauty_folder: Path, tmp_path_factory) -> Path:
    lines = (beauty_folder / "sequences.txt").read_text().splitlines()
    people = [[int(item) - 1 for item in line.split()[1:]] for line in lines]
    return write_tables(tmp_path_factory.mktemp("beauty") / "tables", people, item_count=12_101)


@pytest.mark.parametrize(
    ("train_on_validation", "exclude_history", "expected"),
    [(False, False, (0.0659, 0.0427)), (True, True, (0.0756, 0.0502))],
)
def test_markov_reproduces_the_honest_floor_on_beauty(
    beauty_tables, train_on_validation, exclude_history, expected
):
    data = InteractionDataModule(
        beauty_tables,
        rows="sequences",
        maximum_history=500,
        train_on_validation=train_on_validation,
        evaluation_batch_size=1024,
    )
    model = _fit(Markov(data.catalogue), data)
    recalls, gains = [], []
    for batch in data.test_dataloader():
        found = model.recommend(batch, count=10, filters=Filters(exclude_history=exclude_history))
        ranks, hits = target_ranks(found.item_ids, last_targets(batch))
        recalls.append(recall_at_k(ranks, hits, k=10))
        gains.append(ndcg_at_k(ranks, hits, k=10))
    measured = torch.cat(recalls).mean().item(), torch.cat(gains).mean().item()
    assert measured == pytest.approx(expected, abs=0.00015)
