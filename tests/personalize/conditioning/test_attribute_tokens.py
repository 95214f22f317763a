"""Value-and-mask conditions as tokens."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personalize.conditioning.attribute_tokens import AttributeTokens, ConditionDropout


def _tokens(bins: int = 8, attributes: int = 3) -> AttributeTokens:
    torch.manual_seed(0)
    return AttributeTokens(attributes, 5, bins=bins).eval()


@given(st.integers(0, 10_000))
def test_what_is_masked_changes_nothing_and_a_batch_is_its_rows(seed: int) -> None:
    tokens = _tokens()
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(4, 3, generator=generator)
    mask = torch.rand(4, 3, generator=generator) < 0.5
    found = tokens(values, mask)
    other = torch.where(mask, values, torch.nan)
    assert torch.equal(tokens(other, mask), found)
    apart = torch.cat([tokens(values[n : n + 1], mask[n : n + 1]) for n in range(4)])
    assert torch.equal(apart, found)
    assert torch.equal(found[~mask], tokens.null.expand(4, 3, 5)[~mask])


def test_a_value_on_a_bin_has_its_token_and_one_between_two_the_mean() -> None:
    tokens = _tokens(bins=5)
    mask = torch.ones(1, 3, dtype=torch.bool)
    found = tokens(torch.tensor([[0.0, 0.75, 1.0]]), mask)[0]
    wanted = torch.stack([tokens.table[0, 0], tokens.table[1, 3], tokens.table[2, 4]])
    assert torch.allclose(found, wanted)
    found = tokens(torch.tensor([[0.1, 7.0, -3.0]]), mask)[0]
    between = 0.6 * tokens.table[0, 0] + 0.4 * tokens.table[0, 1]
    wanted = torch.stack([between, tokens.table[1, 4], tokens.table[2, 0]])
    assert torch.allclose(found, wanted, atol=1e-6)


def test_bins_are_ordered_from_the_start() -> None:
    torch.manual_seed(1)
    tokens = AttributeTokens(2, 64, bins=64)
    near = (tokens.table[:, 1:] - tokens.table[:, :-1]).norm(dim=-1).mean()
    far = (tokens.table[:, 32:] - tokens.table[:, :-32]).norm(dim=-1).mean()
    assert far > 4 * near  # a random walk: the root of 32


def test_with_two_bins_a_value_lies_on_a_line() -> None:
    tokens = _tokens(bins=2)
    mask = torch.ones(3, 3, dtype=torch.bool)
    low, middle, high = tokens(torch.tensor([[0.2] * 3, [0.5] * 3, [0.8] * 3]), mask)
    assert torch.allclose(middle, (low + high) / 2, atol=1e-6)


def test_dropout_hides_as_often_as_it_says_and_only_in_training() -> None:
    torch.manual_seed(2)
    given_mask = torch.ones(20_000, 4, dtype=torch.bool)
    given_mask[:, 3] = False
    mask = ConditionDropout(whole=0.1, attribute=0.2)(given_mask)
    assert not mask[:, 3].any()
    assert mask[:, :3].float().mean().item() == pytest.approx(0.9 * 0.8, abs=0.01)
    whole = (~mask.any(1)).float().mean().item()
    assert whole == pytest.approx(0.1 + 0.9 * 0.2**3, abs=0.01)
    tokens = _tokens()
    values, mask = torch.rand(50, 3), torch.ones(50, 3, dtype=torch.bool)
    assert torch.equal(tokens(values, mask), tokens(values, mask))
    assert not torch.equal(tokens.train()(values, mask), tokens.eval()(values, mask))


def test_no_dropout_is_the_identity() -> None:
    mask = torch.rand(30, 4) < 0.5
    assert torch.equal(ConditionDropout(0.0, 0.0)(mask), mask)


def test_single_dropout_alone_hardly_ever_asks_for_nothing() -> None:
    """The prediction without a condition, which guidance subtracts, needs rows of its own."""
    torch.manual_seed(3)
    mask = torch.ones(20_000, 6, dtype=torch.bool)
    assert (~ConditionDropout(whole=0.0)(mask).any(1)).sum() < 10
    assert (~ConditionDropout()(mask).any(1)).sum() > 1800


def test_what_makes_no_sense_is_refused() -> None:
    for whole, attribute in ((1.5, 0.2), (0.1, -0.1), (math.nan, 0.2)):
        with pytest.raises(ValueError, match=r"dropout\.whole and \.attribute must be from 0 to 1"):
            ConditionDropout(whole, attribute)
    with pytest.raises(ValueError, match="at least 1 attribute and 2 bins, got 0 and 64"):
        AttributeTokens(0, 4)
    with pytest.raises(ValueError, match="at least 1 attribute and 2 bins, got 3 and 1"):
        AttributeTokens(3, 4, bins=1)
