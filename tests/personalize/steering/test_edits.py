"""Edits of activations: exact at strength 0, undone below 0, off whatever happens."""

import threading
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import nn

from personalize.steering.edit_fits import transport_cost
from personalize.steering.edits import (
    ActivationMap,
    active_share,
    edited,
    edited_by_all,
    pooled_activations,
)

WIDTH = 5


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)]
    return nn.Sequential(*layers).double().eval()


def drawn_map(seed: int = 0) -> ActivationMap:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.rand(2, WIDTH, generator=generator, dtype=torch.float64)
    return ActivationMap(numbers[0] * 2 + 0.1, numbers[1] - 0.5)


def rows(count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, WIDTH, generator=generator, dtype=torch.float64)


def hook_count(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize(
    ("strength", "expected"),
    [(1.0, [5.0, 2.0]), (0.5, [3.0, 3.0]), (-1.0, [0.0, 6.0]), (-0.5, [0.5, 5.0]), (2.0, [9.0, 0])],
)
def test_a_hand_worked_map(strength, expected):
    model = nn.Sequential(nn.Identity())
    change = ActivationMap(torch.tensor([4.0, 1.0]), torch.tensor([1.0, -2.0]))
    with edited(model, {"0": change}, strength):
        found = model(torch.tensor([[1.0, 4.0]]))
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_without_strength_nothing_is_hooked_and_nothing_changes():
    model = network()
    before = model(rows())
    with edited(model, {"1": drawn_map()}, 0.0):
        assert hook_count(model) == 0
        assert torch.equal(model(rows()), before)
    with edited(model, {"1": drawn_map()}, torch.zeros(4)):
        assert hook_count(model) == 0
    with edited(model, {"1": drawn_map()}, torch.tensor([0.0, 1.0, 0.0, -1.0])):
        among = model(rows())
    assert torch.equal(among[[0, 2]], before[[0, 2]])
    assert not torch.isclose(among[[1, 3]], before[[1, 3]]).any()


def test_a_batch_of_strengths_is_its_rows_one_by_one():
    model, strengths = network(), torch.tensor([0.3, -0.7, 1.0, 0.0])
    positions = rows(12).view(4, 3, WIDTH)
    with edited(model, {"0": drawn_map(1), "1": drawn_map(2)}, strengths):
        together = model(positions)
    for row, strength in enumerate(strengths.tolist()):
        with edited(model, {"0": drawn_map(1), "1": drawn_map(2)}, strength):
            alone = model(positions[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone)


@settings(max_examples=15)
@given(st.integers(0, 1000))
def test_the_inverse_undoes_a_map(seed):
    change = drawn_map(seed)
    torch.testing.assert_close(change.inverse()(change(rows())), rows())
    model = nn.Sequential(nn.Identity(), nn.Identity())
    with edited(model, {"0": change}, 1.0), edited(model, {"1": change}, -1.0):
        torch.testing.assert_close(model(rows()), rows())


@settings(max_examples=15)
@given(st.integers(0, 1000), st.floats(0.0, 1.0))
def test_an_edit_behind_a_norm_folds_into_its_scale_and_bias(seed, strength):
    model, change = network(seed), drawn_map(seed)
    norm = model[1]
    assert isinstance(norm, nn.LayerNorm)
    partly = ActivationMap(1 + strength * (change.scale - 1), strength * change.shift)
    folded = ActivationMap(norm.weight.detach() + 0.3, norm.bias.detach() - 0.2)
    norm.weight.data, norm.bias.data = folded.scale, folded.shift
    with edited(model, {"1": change}, strength):
        expected = model(rows())
    both = folded.then(partly)
    norm.weight.data, norm.bias.data = both.scale, both.shift
    torch.testing.assert_close(model(rows()), expected)


def test_nested_edits_are_made_from_the_outside_in_and_come_off():
    model = nn.Sequential(nn.Identity())
    double = ActivationMap(torch.tensor([2.0]), torch.tensor([0.0]))
    add = ActivationMap(torch.tensor([1.0]), torch.tensor([3.0]))
    one = torch.ones(1, 1)
    with edited(model, {"0": double}, 1.0):
        with edited(model, {"0": add}, 1.0):
            assert model(one).item() == 5.0
        assert model(one).item() == 2.0
    assert model(one).item() == 1.0
    sets = {"double": {"0": double}, "add": {"0": add}}
    with edited_by_all(model, sets, {"add": 1.0, "double": 0.5}):
        assert model(one).item() == 4.5
    with edited_by_all(model, sets, {"add": 1.0}):
        assert model(one).item() == 4.0
    assert hook_count(model) == 0


def test_hooks_come_off_after_an_error():
    model = network()
    with (
        pytest.raises(ZeroDivisionError),
        edited(model, {"0": drawn_map(), "1": drawn_map()}, 1.0),
    ):
        _ = 1 / 0
    assert hook_count(model) == 0
    maps = {"0": drawn_map(), "9": drawn_map()}
    with pytest.raises(ValueError, match="no module 9"), edited(model, maps, 1.0):
        pass
    assert hook_count(model) == 0


def test_what_is_computed_in_less_precision_stays_so():
    model = network().to(torch.bfloat16)
    with edited(model, {"1": drawn_map()}, torch.tensor([1.0, -0.5, 0.0, 1.0])):
        assert model(rows().to(torch.bfloat16)).dtype == torch.bfloat16


def test_two_models_share_nothing():
    first, second = network(), network()
    before = second(rows())
    with edited(first, {"1": drawn_map()}, 1.0):
        assert torch.equal(second(rows()), before)
        assert not torch.equal(first(rows()), before)


def test_another_thread_is_not_edited():
    model, seen = network(), []
    before = model(rows())
    with edited(model, {"1": drawn_map()}, 1.0):
        other = threading.Thread(target=lambda: seen.append(model(rows())))
        other.start()
        other.join()
        assert not torch.equal(model(rows()), before)
    assert torch.equal(seen[0], before)


def test_what_does_not_fit_is_refused():
    model = network()
    narrow = ActivationMap(torch.ones(1), torch.zeros(1))
    with (
        pytest.raises(ValueError, match="0 is 5 wide, but its map is 1"),
        edited(model, {"0": narrow}, 1.0),
    ):
        model(rows())
    with (
        pytest.raises(ValueError, match="strength has 3 rows, but 0 sees 4"),
        edited(model, {"0": drawn_map()}, torch.ones(3)),
    ):
        model(rows())
    with pytest.raises(ValueError, match="finite"), edited(model, {}, float("nan")):
        pass
    flat = ActivationMap(torch.tensor([0.0]), torch.zeros(1))
    with pytest.raises(ValueError, match="every scale is positive, got 0"), edited(
        model, {"0": flat}, -1.0
    ):  # fmt: skip
        pass
    with (
        pytest.raises(ValueError, match="no maps for charm; there are speed"),
        edited_by_all(model, {"speed": {}}, {"charm": 1.0}),
    ):
        pass
    lstm = nn.Sequential(nn.LSTM(WIDTH, WIDTH))
    with (
        pytest.raises(ValueError, match="gives tuple, but an edit needs a tensor"),
        edited(lstm, {"0": drawn_map()}, 1.0),
    ):
        lstm(torch.ones(2, WIDTH))


def test_activations_are_means_over_real_positions_in_the_order_of_running():
    model = nn.Sequential(nn.Identity(), nn.Flatten(2))
    inputs = torch.tensor([[[1.0], [3.0], [50.0]], [[2.0], [60.0], [70.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])

    def forward(mask):
        model(inputs)
        return mask

    found = pooled_activations(model, ["1", "0"], partial(forward, mask))
    assert list(found) == ["0", "1"]
    assert found["0"].tolist() == [[2.0], [2.0]]
    whole = pooled_activations(model, ["0"], partial(forward, None))
    assert whole["0"].tolist() == [[18.0], [44.0]]
    assert hook_count(model) == 0


def test_a_module_must_run_once():
    model = nn.Sequential(nn.Identity(), nn.Identity())
    with pytest.raises(ValueError, match="1 must run once"):
        pooled_activations(model, ["1"], lambda: model[0](torch.ones(1, 1)) and None)
    with pytest.raises(ValueError, match="0 must run once"):
        pooled_activations(model, ["0"], lambda: model(model(torch.ones(1, 1))) and None)
    assert hook_count(model) == 0


@settings(max_examples=15)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 100))
def test_the_transport_cost_is_that_of_the_best_assignment(first, second, seed):
    """The oracle knows nothing of ranks: it pairs copies of all rows, one coordinate at a time."""
    generator = torch.Generator().manual_seed(seed)
    moved = torch.randn(first, 3, generator=generator, dtype=torch.float64)
    wanted = torch.randn(second, 3, generator=generator, dtype=torch.float64) * 2 + 1
    expected = 0.0
    for coordinate in range(3):
        many = moved[:, coordinate].repeat(second), wanted[:, coordinate].repeat(first)
        costs = (many[0][:, None] - many[1][None]).square().numpy()
        expected += costs[linear_sum_assignment(costs)].mean()
    found = transport_cost(moved, wanted)
    assert found.item() == pytest.approx(expected)
    torch.testing.assert_close(transport_cost(moved.repeat(3, 1), wanted), found)
    torch.testing.assert_close(transport_cost(moved.flip(0), wanted), found)
    torch.testing.assert_close(transport_cost(wanted, moved), found)


def test_active_coordinates_are_those_that_change():
    change = ActivationMap(torch.tensor([1.0, 1.0, 2.0, 1.0]), torch.tensor([0.0, 3.0, 1.0, 0.0]))
    assert active_share({"a": change, "b": ActivationMap(torch.ones(4), torch.zeros(4))}) == 0.25
    assert active_share({}) == 0.0
