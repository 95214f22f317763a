"""The trie beside sets of prefixes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.semantic_id.trie import SemanticIdTrie


def prefixes(codes: list[tuple[int, ...]], length: int) -> list[tuple[int, ...]]:
    return sorted({code[:length] for code in codes})


catalogues = st.tuples(
    st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 2**32 - 1)
).map(lambda drawn: random_codes(tuple(drawn[0]), drawn[1]))


def random_codes(sizes: tuple[int, ...], seed: int):
    random = np.random.default_rng(seed)
    codes = np.unique(random.integers(0, sizes, (int(random.integers(1, 60)), len(sizes))), axis=0)
    random.shuffle(codes)
    return torch.from_numpy(codes), sizes


@given(catalogues)
def test_every_node_has_exactly_its_children(drawn):
    codes, sizes = drawn
    rows = [tuple(row) for row in codes.tolist()]
    trie = SemanticIdTrie(codes, sizes)
    for level in range(len(sizes)):
        nodes, below = prefixes(rows, level), prefixes(rows, level + 1)
        assert trie.node_count(level) == len(nodes)
        logits = torch.randn(len(nodes), sizes[level])
        children, child_codes, exists = trie.children_of(level, torch.arange(len(nodes)))
        scores, places = trie.expand(level, torch.arange(len(nodes)), logits)
        for number, prefix in enumerate(nodes):
            expected = [i for i, child in enumerate(below) if child[:level] == prefix]
            assert children[number][exists[number]].tolist() == expected
            found = child_codes[number][exists[number]].tolist()
            assert found == [below[i][level] for i in expected]
            open_scores = scores[number] > -torch.inf
            assert places[number][open_scores].tolist() == expected
            assert torch.equal(scores[number][open_scores], logits[number, found])
            assert trie.leaves_below(level, torch.tensor(number)) == sum(
                row[:level] == prefix for row in rows
            )
    assert [rows[item] for item in trie.item_of_leaf.tolist()] == sorted(rows)


@given(catalogues, st.integers(0, 2**32 - 1))
def test_ancestors_and_allowed_counts(drawn, seed):
    codes, sizes = drawn
    rows = [tuple(row) for row in codes.tolist()]
    trie = SemanticIdTrie(codes, sizes)
    allowed = torch.from_numpy(np.random.default_rng(seed).random(len(rows)) < 0.5)
    ancestors = trie.ancestors(torch.arange(len(rows)))
    for level, counts in enumerate(trie.allowed_below(allowed)):
        below = prefixes(rows, level + 1)
        assert ancestors[level].tolist() == [below.index(row[: level + 1]) for row in rows]
        assert counts.tolist() == [
            sum(bool(allowed[i]) for i, row in enumerate(rows) if row[: level + 1] == prefix)
            for prefix in below
        ]


def test_wide_levels_are_dense_and_narrow_ones_are_not():
    codes = torch.tensor([[c, 0, d] for c in range(8) for d in range(2)])
    trie = SemanticIdTrie(codes, (10, 10, 3))
    assert trie.widths == (10, 1, 3)
    assert SemanticIdTrie(codes, (10, 10, 30)).widths == (10, 1, 2)


def test_codes_beyond_sixty_three_bits_are_sorted_too():
    random = np.random.default_rng(0)
    codes = torch.from_numpy(random.integers(0, 60_000, (50, 5)))
    trie = SemanticIdTrie(codes, (60_000,) * 5)
    ordered = codes[trie.item_of_leaf.long()].tolist()
    assert ordered == sorted(codes.tolist())
    assert trie.code(0).dtype == torch.int32


def test_arrays_are_small():
    trie = SemanticIdTrie(*random_codes((9, 9, 9, 9), 5))
    assert all(b.element_size() <= 4 for b in trie.buffers())
    assert not trie.state_dict()


@pytest.mark.parametrize(
    ("codes", "sizes", "message"),
    [
        ([[0, 1], [2, 1], [0, 1]], (3, 3), r"items 0 and 2 share the semantic ID \[0, 1\]"),
        ([[0, 3]], (3, 3), r"codes of level 1 must lie in 0\.\.2, got 3 to 3"),
        ([[-1, 0]], (3, 3), r"codes of level 0 must lie in 0\.\.2, got -1 to -1"),
        ([[0, 1]], (3,), r"level_sizes must have one entry per level \(2\)"),
        ([[], []], (), "a trie needs items and levels"),
    ],
)
def test_bad_codes_are_refused(codes, sizes, message):
    codes = torch.tensor(codes, dtype=torch.long).reshape(len(codes), -1)
    with pytest.raises(ValueError, match=message):
        SemanticIdTrie(codes, sizes)
