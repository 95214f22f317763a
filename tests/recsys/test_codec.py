"""The codec: round trips, distinct IDs, special tokens apart from codes, overflow named."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from recsys.semantic_id.codec import (
    SPECIAL_TOKENS,
    SemanticIdCodec,
    with_collision_digit,
    with_moved_digit,
)

SIZES = (3, 2, 4)
codes_with_repeats = st.lists(
    st.tuples(*[st.integers(0, size - 1) for size in SIZES]), min_size=1, max_size=20
)


def tensor_of(rows):
    return torch.tensor(rows, dtype=torch.long)


@given(codes_with_repeats)
def test_items_codes_and_tokens_go_round(rows):
    codec = with_collision_digit(tensor_of(rows), SIZES)
    items = torch.arange(len(rows))
    found, real = codec.items(codec.codes(items))
    assert bool(real.all())
    assert found.tolist() == items.tolist()
    tokens = codec.tokens(items)
    assert codec.codes_of_tokens(tokens).tolist() == codec.item_codes.tolist()
    assert codec.codes(items)[:, :3].tolist() == [list(row) for row in rows]


@given(codes_with_repeats)
def test_tokens_are_in_the_vocabulary_and_levels_and_specials_are_disjoint(rows):
    codec = with_collision_digit(tensor_of(rows), SIZES)
    ranges = [
        set(range(first, first + size))
        for first, size in zip(codec.offsets, codec.level_sizes, strict=True)
    ]
    specials = set(range(SPECIAL_TOKENS))
    assert not specials & set().union(*ranges)
    assert len(set().union(*ranges)) == sum(len(r) for r in ranges)
    assert set().union(specials, *ranges) == set(range(codec.vocabulary_size))
    for level, allowed in enumerate(ranges):
        assert set(codec.item_tokens[:, level].tolist()) <= allowed


def test_a_codec_by_hand():
    codec = SemanticIdCodec(tensor_of([[2, 0], [0, 0], [2, 1]]), (3, 2))
    assert codec.offsets == (3, 6)
    assert codec.vocabulary_size == 8
    assert codec.item_tokens.tolist() == [[5, 6], [3, 6], [5, 7]]
    asked = tensor_of([[[2, 1], [0, 1]], [[-1, 1], [0, 2]]])
    found, real = codec.items(asked)
    assert real.tolist() == [[True, False], [False, False]]
    assert found.tolist() == [[2, 0], [0, 0]]


@given(codes_with_repeats)
def test_no_other_code_is_an_item(rows):
    codec = with_collision_digit(tensor_of(rows), SIZES)
    every = torch.cartesian_prod(*[torch.arange(size) for size in codec.level_sizes])
    found, real = codec.items(every)
    assert int(real.sum()) == len(rows)
    assert codec.item_codes[found[real]].tolist() == every[real].tolist()


@given(codes_with_repeats)
def test_the_collision_digit_counts_items_in_the_order_of_their_ids(rows):
    codec = with_collision_digit(tensor_of(rows), SIZES)
    assert codec.item_codes[:, -1].tolist() == [rows[:i].count(row) for i, row in enumerate(rows)]
    assert codec.level_sizes == (*SIZES, max(rows.count(row) for row in rows))


def test_the_digit_overflows_by_name():
    codes = tensor_of([[1, 2]] * 3 + [[0, 0]])
    with pytest.raises(InputError, match=r"3 items share the codes \[1, 2\], more than the 2"):
        with_collision_digit(codes, (2, 3), collision_size=2)
    with pytest.raises(InputError, match="larger --collision-size"):
        with_collision_digit(codes, (2, 3), most_per_bucket=2)
    assert with_collision_digit(codes, (2, 3), collision_size=3).level_sizes == (2, 3, 3)
    assert with_collision_digit(codes, (2, 3), collision_size=7).level_sizes == (2, 3, 7)


@given(codes_with_repeats)
def test_a_moved_digit_keeps_every_id_it_can(rows):
    try:
        codec = with_moved_digit(tensor_of(rows), SIZES)
    except InputError:
        prefixes = [row[:2] for row in rows]
        assert max(prefixes.count(prefix) for prefix in prefixes) > SIZES[-1]
        return
    found = [tuple(row) for row in codec.item_codes.tolist()]
    assert len(set(found)) == len(rows)
    for item, row in enumerate(rows):
        assert found[item][:2] == row[:2]
        if rows.index(row) == item:
            assert found[item] == row


def test_a_digit_moves_to_the_nearest_free_number_and_says_when_there_is_none():
    moved = with_moved_digit(tensor_of([[0, 2], [0, 2], [0, 1], [0, 2]]), (1, 5))
    assert moved.item_codes.tolist() == [[0, 2], [0, 3], [0, 1], [0, 0]]
    with pytest.raises(InputError, match=r"More than 2 items share the codes \[0\]"):
        with_moved_digit(tensor_of([[0, 1]] * 3), (1, 2))


def test_the_state_survives_json():
    codec = SemanticIdCodec(tensor_of([[2, 0], [0, 1]]), (3, 2))
    again = SemanticIdCodec.from_state(json.loads(json.dumps(codec.state())))
    assert again.item_codes.tolist() == codec.item_codes.tolist()
    assert again.level_sizes == codec.level_sizes
    with pytest.raises(ValueError, match="This is no codec state: 'level_sizes'"):
        SemanticIdCodec.from_state({"item_codes": []})


def test_codes_that_are_no_ids_are_refused():
    with pytest.raises(ValueError, match="level_sizes must name 2 levels, got 1"):
        SemanticIdCodec(tensor_of([[0, 0]]), (1,))
    with pytest.raises(ValueError, match="between 0 and their level's size minus 1"):
        SemanticIdCodec(tensor_of([[0, 3]]), (1, 3))
    with pytest.raises(ValueError, match="between 0 and their level's size minus 1"):
        SemanticIdCodec(tensor_of([[0, -1]]), (1, 3))
    with pytest.raises(ValueError, match="item_codes must be distinct"):
        SemanticIdCodec(tensor_of([[0, 1], [0, 1]]), (1, 3))
    with pytest.raises(ValueError, match="more IDs than 63 bits can number"):
        SemanticIdCodec(tensor_of([[0] * 4]), (2**16,) * 4)
