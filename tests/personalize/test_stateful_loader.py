"""The loader: every row once, an order that depends on (seed, epoch) alone, exact resume."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalize.stateful_loader import StatefulLoader, bucketed_batches

lengths_of_rows = st.lists(st.integers(1, 30), min_size=1, max_size=60).map(np.array)


def _loader(lengths, **options):
    return StatefulLoader(lengths, lambda rows, epoch: (epoch, rows.tolist()), **options)


@given(lengths_of_rows, st.integers(1, 9), st.integers(0, 5), st.integers(0, 4), st.integers(0, 3))
def test_every_row_comes_once_and_the_order_repeats(lengths, size, seed, epoch, pool):
    options = {"batch_size": size, "seed": seed, "epoch": epoch, "pool_batches": pool}
    batches = bucketed_batches(lengths, **options)
    again = bucketed_batches(lengths, **options)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in again]
    assert len(batches) == -(-len(lengths) // size)


def test_batches_hold_rows_of_similar_length():
    lengths = np.random.default_rng(0).integers(1, 100, size=2048)
    spread = [
        np.mean([np.ptp(lengths[rows]) for rows in bucketed_batches(
            lengths, batch_size=32, seed=0, epoch=0, pool_batches=pool)])
        for pool in (1, 64)
    ]  # fmt: skip
    assert spread[1] < spread[0] / 10


def test_epochs_differ_and_the_order_of_a_plain_loader_is_the_rows():
    lengths = np.arange(1, 40)
    first, second = (list(_loader(lengths, batch_size=4, seed=1)) for _ in range(2))
    assert first == second
    loader = _loader(lengths, batch_size=4, seed=1)
    assert list(loader) != list(loader)
    plain = _loader(lengths, batch_size=20, pool_batches=0)
    assert [rows for _, rows in plain] == [list(range(20)), list(range(20, 39))]


@given(lengths_of_rows, st.integers(1, 5), st.integers(0, 40))
def test_a_restored_loader_goes_on_with_the_next_batch(lengths, size, taken):
    loader = _loader(lengths, batch_size=size, seed=7)
    endless = (batch for _ in range(99) for batch in loader)
    for _ in range(taken):
        next(endless)
    state = loader.state_dict()
    restored = _loader(lengths, batch_size=size, seed=7)
    restored.load_state_dict(state)
    endless_restored = (batch for _ in range(99) for batch in restored)
    assert [next(endless) for _ in range(9)] == [next(endless_restored) for _ in range(9)]


def test_lightning_sets_the_epoch_through_the_sampler():
    loader = _loader(np.arange(1, 9), batch_size=2, seed=0)
    next(iter(loader))
    loader.sampler.set_epoch(0)
    assert loader.state_dict() == {"epoch": 0, "batches_handed_out": 1}
    loader.sampler.set_epoch(3)
    assert [epoch for epoch, _ in loader] == [3, 3, 3, 3]


@given(lengths_of_rows, st.integers(1, 3))
def test_processes_share_the_batches(lengths, processes):
    shares = [
        list(_loader(lengths, batch_size=2, seed=0, share=(rank, processes)))
        for rank in range(processes)
    ]
    assert len({len(share) for share in shares}) == 1
    rows = [row for share in shares for _, batch in share for row in batch]
    assert len(rows) == len(set(rows))


def test_sizes_out_of_range_are_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        _loader(np.ones(3, np.int64), batch_size=0)
    with pytest.raises(ValueError, match="pool_batches must not be negative, got -1"):
        _loader(np.ones(3, np.int64), batch_size=1, pool_batches=-1)
