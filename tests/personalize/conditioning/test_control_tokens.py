"""Control tokens and the levels they stand for."""

import math

import pytest
import torch

from personalize.conditioning.control_tokens import ControlTokens, levels_of, quantile_edges


def test_every_level_has_its_own_tokens_and_none_has_the_last() -> None:
    torch.manual_seed(0)
    tokens = ControlTokens(3, 5, tokens=2)
    levels, mask = torch.tensor([2, 0, 1]), torch.tensor([True, True, False])
    found = tokens(levels, mask)
    assert found.shape == (3, 2, 5)
    assert torch.equal(found[0], tokens.table[2])
    assert torch.equal(found[1], tokens.table[0])
    assert torch.equal(found[2], tokens.table[3])
    other = tokens(torch.tensor([2, 0, 0]), mask)
    assert torch.equal(found, other)


def test_a_gradient_reaches_the_levels_that_were_read_alone() -> None:
    tokens = ControlTokens(2, 4)
    tokens(torch.tensor([1, 0]), torch.tensor([True, False])).sum().backward()
    gradient = tokens.table.grad
    assert gradient is not None
    assert gradient.abs().sum((1, 2)).tolist() == [0.0, 4.0, 4.0]


def test_levels_hold_equally_many_and_know_what_is_missing() -> None:
    values = torch.tensor([5.0, 1.0, 4.0, math.nan, 2.0, 3.0, 6.0])
    edges = quantile_edges(values, 3)
    levels, known = levels_of(values, edges)
    assert known.tolist() == [True, True, True, False, True, True, True]
    assert levels[known].tolist() == [2, 0, 1, 0, 1, 2]
    assert levels[~known].tolist() == [0]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 levels and 1 token, got 1 and 1"):
        ControlTokens(1, 4)
    with pytest.raises(ValueError, match="at least 2 levels and 1 token, got 2 and 0"):
        ControlTokens(2, 4, tokens=0)
    for values, count in (([1.0, 1.0, 1.0, 2.0], 2), ([math.nan], 0), ([1.0, 2.0, 2.0, 2.0], 2)):
        with pytest.raises(ValueError, match=f"levels need more distinct values, got {count}"):
            quantile_edges(torch.tensor(values), 3)
