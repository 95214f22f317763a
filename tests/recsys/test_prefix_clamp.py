"""A clamped prefix is the filter of the items under it, and ranks as the whole catalogue does."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.recommender import Filters
from recsys.retriever.decode import BeamSearch, Scoring
from recsys.retriever.prefix_clamp import PrefixClamp
from recsys.semantic_id.trie import SemanticIdTrie
from tests.recsys.retriever_fixtures import small_catalogue
from tests.recsys.table_decoder import TableDecoder, rows_without_history

ITEMS = 40


def trie_of(seed: int) -> tuple[SemanticIdTrie, torch.Tensor]:
    catalogue = small_catalogue(items=ITEMS, seed=seed)
    return SemanticIdTrie(catalogue.item_codes, catalogue.level_sizes), catalogue.item_codes


def test_items_under_a_prefix_by_hand():
    codes = torch.tensor([[1, 0], [0, 1], [1, 2], [0, 0], [2, 2]])
    trie = SemanticIdTrie(codes, (4, 3))
    found = [PrefixClamp(prefix).allowed_items(trie).tolist() for prefix in ((1,), (0, 1), ())]
    assert found == [
        [True, False, True, False, False],
        [False, True, False, False, False],
        [True] * 5,
    ]


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(0, ITEMS - 1), st.integers(0, 3))
def test_a_clamp_is_the_filter_of_the_items_under_it(seed, item, length):
    trie, codes = trie_of(seed)
    prefix = tuple(codes[item, :length].tolist())
    expected = torch.tensor([tuple(row[:length]) == prefix for row in codes.tolist()])
    assert torch.equal(PrefixClamp(prefix).allowed_items(trie), expected)


@settings(max_examples=25)
@given(
    st.integers(0, 1000), st.integers(0, ITEMS - 1), st.integers(1, 2),
    st.sampled_from(["raw", "renormalized"]),
)  # fmt: skip
def test_a_search_ranks_the_items_under_a_prefix_as_the_whole_catalogue_does(
    seed, item, length, scoring: Scoring
):
    trie, codes = trie_of(seed)
    decoder, rows = TableDecoder(trie.level_sizes, seed=seed), rows_without_history(2)
    clamp = PrefixClamp(tuple(codes[item, :length].tolist()))
    under = clamp.allowed_items(trie)
    every = BeamSearch(ITEMS, scoring)(decoder, rows, trie, count=ITEMS)
    count = int(under.sum())
    clamped = BeamSearch(ITEMS, scoring)(
        decoder, rows, trie, count=count, filters=clamp(Filters(), trie)
    )
    expected = every.item_ids[0][under[every.item_ids[0]]]
    assert clamped.item_ids[0].tolist() == expected.tolist()
    if scoring == "raw":  # else the codes of the prefix, which are certain, add nothing
        torch.testing.assert_close(clamped.scores[0], every.scores[0][under[every.item_ids[0]]])


def test_the_other_filters_stay():
    trie, codes = trie_of(3)
    prefix = (int(codes[5, 0]),)
    only = torch.arange(ITEMS) % 2 == 0
    found = PrefixClamp(prefix)(Filters(exclude_history=True, allowed_items=only), trie)
    assert found.exclude_history
    assert found.allowed_items is not None
    assert torch.equal(found.allowed_items, only & (codes[:, 0] == prefix[0]))


def test_an_empty_prefix_changes_nothing():
    trie, _ = trie_of(0)
    filters = Filters(exclude_history=True)
    assert PrefixClamp()(filters, trie) is filters


def test_a_prefix_of_no_item_is_refused():
    trie = SemanticIdTrie(torch.tensor([[1, 0], [0, 1]]), (4, 3))
    with pytest.raises(ValueError, match=r"no item's semantic ID begins with \(1, 2\)\."):
        PrefixClamp((1, 2)).allowed_items(trie)
    with pytest.raises(ValueError, match=r"begins with \(3,\)"):
        PrefixClamp((3, 0)).allowed_items(trie)
    with pytest.raises(ValueError, match="at most 2 codes here, got 3"):
        PrefixClamp((1, 0, 0)).allowed_items(trie)
