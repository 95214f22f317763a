"""Spoilt items against a comparison of all codes, and as candidates of a small world."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.errors import InputError
from personalize.preference_optimization.auxiliary import PreferenceDegree
from personalize.preference_optimization.compared import Scored
from personalize.preference_optimization.comparison_set import ComparisonSet
from personalize.preference_optimization.extremes import WholeRankings
from recsys.item_candidates import ItemCandidates, spoilt_items
from recsys.item_rewards import KeptCodes
from recsys.semantic_id.trie import SemanticIdTrie
from recsys.tuning import TunableItems, TunedItems
from tests.recsys.retriever_fixtures import LEVEL_SIZES, small_catalogue

CATALOGUE = small_catalogue(items=60, seed=4)
CODES = CATALOGUE.item_codes
TRIE = SemanticIdTrie(CODES, LEVEL_SIZES)


def kept(first: int, second: int) -> int:
    """Leading codes that two items share."""
    same = (CODES[first] == CODES[second]).tolist()
    return [*same, False].index(False)


def test_a_spoilt_item_keeps_all_leading_codes_but_its_degree_and_any_such_may_come():
    everything = torch.arange(60)
    drawn = torch.stack([spoilt_items(TRIE, everything, 4, seed=seed) for seed in range(150)], -1)
    alone_in_their_code = 0
    for item in range(60):
        for degree in range(1, 5):
            expected = {other for other in range(60) if kept(item, other) == 4 - degree}
            found = set(drawn[item, degree - 1].tolist())
            if not expected:
                alone_in_their_code += 1
                assert found == {item}
            elif len(expected) <= 20:
                assert found == expected
            else:
                assert found <= expected
    assert 0 < alone_in_their_code < 200


def test_spoilt_items_of_a_batch_are_those_of_its_rows_and_of_fewer_degrees():
    targets = torch.tensor([5, 17, 41])
    found = spoilt_items(TRIE, targets, 3, seed=2)
    alone = [spoilt_items(TRIE, target[None], 3, seed=2) for target in targets]
    assert torch.equal(found, torch.cat(alone))
    assert found.tolist() == spoilt_items(TRIE, targets, 3, seed=2).tolist()
    others = [spoilt_items(TRIE, targets, 3, seed=seed).tolist() for seed in range(9)]
    assert any(other != found.tolist() for other in others)


def opened(root: Path, model: str = "mender_emb", **options) -> TunableItems:
    given: dict[str, Any] = {"judges": [KeptCodes()]} | options
    return TunedItems(checkpoint=root / model, **given).open()


def test_lists_of_spoilt_items_fall_by_one_with_every_degree(one_world):
    half = opened(one_world.root, candidates=ItemCandidates(beam=0, spoilt=2))
    codes = half.world.item_codes
    levels = codes.shape[1]
    contexts = torch.from_numpy(half.contexts("train"))
    found = half.candidates(contexts, half.policy, seed=0)
    compared = WholeRankings({"kept_codes": 1.0}, length=3)(found)
    assert len(compared.rows)
    batch = ComparisonSet.of_candidates(compared, found).batch(
        torch.arange(len(compared.rows)), half
    )
    targets = half.targets(found.origin[compared.rows[:, 0]])
    assert torch.equal(batch.responses[:, :1], targets)
    term = PreferenceDegree(3)
    degree = term.degree(Scored.of(batch.grade, grade=batch.grade))
    for row, place in batch.present.nonzero().tolist():
        same = (codes[batch.responses[row, place]] == codes[targets[row, 0]]).tolist()
        assert int(degree[row, place]) == min(levels - [*same, False].index(False), 2)
    assert {1, 2} <= set(degree[batch.present].tolist())


def test_spoilt_items_come_after_the_beam_and_once(one_world):
    plain = opened(one_world.root, candidates=ItemCandidates(beam=5))
    both = opened(one_world.root, candidates=ItemCandidates(beam=5, spoilt=3))
    contexts = torch.from_numpy(plain.contexts("train"))[:6]
    few, more = (half.candidates(contexts, half.policy, seed=1) for half in (plain, both))
    for context in contexts.tolist():
        items = [
            found.responses[found.response[found.context == context]].tolist()
            for found in (few, more)
        ]
        assert items[1][: len(items[0])] == items[0]
        assert len(set(items[1])) == len(items[1])
    assert len(more.context) > len(few.context)


def test_what_cannot_be_spoilt_is_refused(one_world):
    with pytest.raises(ValueError, match="beam, drawn and spoilt must not be negative: 20, 0, -1"):
        ItemCandidates(spoilt=-1)
    uncoded = replace(CATALOGUE, item_codes=torch.zeros(60, 0).long(), level_sizes=())
    with pytest.raises(
        InputError, match="spoilt needs semantic IDs, and this recommender has none"
    ):
        ItemCandidates(spoilt=1).trie_of(uncoded)
    with pytest.raises(InputError, match=r"candidates.spoilt is 9, but .* have . levels"):
        opened(one_world.root, candidates=ItemCandidates(spoilt=9))
    assert ItemCandidates().trie_of(uncoded) is None
