"""Fitted edits: hand-worked lines, sparsity, few samples; means over samples, not sums."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from personalize.steering.edit_fits import EndToEnd, lin_act, linear_end_to_end, transport_cost
from personalize.steering.edits import active_share, edited


def running(model: nn.Module, inputs: Tensor) -> Callable[[], None]:
    def forward() -> None:
        model(inputs)

    return forward


def identities(count: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Identity() for _ in range(count))).eval()


def test_closed_form_is_the_line_between_equal_ranks():
    model = identities(1)
    source = torch.tensor([[0.0, 5.0], [4.0, 5.0], [2.0, 5.0]])
    target = torch.tensor([[9.0, 1.0], [1.0, 1.0], [5.0, 4.0]])  # 1 + 2 z; a shift of -3
    maps = lin_act(model, ["0"], running(model, source), running(model, target))
    torch.testing.assert_close(maps["0"].scale, torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(maps["0"].shift, torch.tensor([1.0, -3.0]))


def test_closed_form_at_once_overshoots_and_one_after_another_does_not():
    model = identities(3)
    source, target = torch.arange(6.0)[:, None], torch.arange(6.0)[:, None] + 2
    runs = running(model, source), running(model, target)
    for incremental, moved in ((True, 2.0), (False, 6.0)):
        maps = lin_act(model, ["0", "1", "2"], *runs, incremental=incremental)
        with edited(model, maps, 1.0):
            torch.testing.assert_close(model(source), source + moved)


def test_closed_form_needs_equal_numbers():
    model = identities(1)
    with pytest.raises(ValueError, match="equally many, got 2 and 3"):
        lin_act(model, ["0"], running(model, torch.ones(2, 1)), running(model, torch.ones(3, 1)))


def test_one_step_is_worked_by_hand():
    """Source 0, 2; target 3, 5: the gradient of the slope is -2 * 3, of the shift -6."""
    model = identities(1)
    source, target = torch.tensor([[2.0], [0.0]]), torch.tensor([[3.0], [5.0]])
    settings = EndToEnd(
        steps=1,
        optimizer=partial(SGD, lr=0.1),
        sparsity=2.0,
        group_sparsity=1.0,
        standardized=False,
    )
    maps = linear_end_to_end(
        model, ["0"], running(model, source), running(model, target), settings=settings
    )
    # 0.6, soft threshold 0.2 to 0.4, the module's norm shrunk by 0.1 to 0.3
    torch.testing.assert_close(maps["0"].scale, torch.tensor([1.3]))
    torch.testing.assert_close(maps["0"].shift, torch.tensor([0.3]))


def test_the_group_pull_grows_with_the_width_and_takes_a_module_out_whole():
    model = identities(1)
    source = torch.tensor([[0.0] * 4, [2.0] * 4])
    target = source + torch.tensor([0.0, 0.0, 3.0, 4.0])
    runs = running(model, source), running(model, target)

    def fitted(pull: float) -> Tensor:
        settings = EndToEnd(steps=1, group_sparsity=pull, standardized=False)
        return linear_end_to_end(model, ["0"], *runs, settings=settings)["0"].shift

    # The shift steps by 0.2 * (0, 0, 3, 4), of norm 1; a pull of 2 takes 0.1 * 2 * sqrt(4) = 0.4
    torch.testing.assert_close(fitted(2.0), 0.6 * torch.tensor([0.0, 0.0, 0.6, 0.8]))
    assert fitted(5.01).tolist() == [0.0] * 4


def test_the_group_pull_is_counted_with_the_width_where_a_step_is_taken_back():
    """The step makes 25 of cost to 7.45, but both rows of norm 2.7 pull by 2 * sqrt(4) * 5.4."""
    source = torch.tensor([[0.0] * 4, [2.0] * 4])
    target = source + torch.tensor([0.0, 0.0, 3.0, 4.0])
    model = identities(1)
    settings = EndToEnd(
        steps=1, optimizer=partial(SGD, lr=0.45), group_sparsity=2.0, standardized=False
    )
    runs = running(model, source), running(model, target)
    maps = linear_end_to_end(model, ["0"], *runs, settings=settings)
    assert maps["0"].shift.tolist() == [0.0] * 4


def test_steps_grow_shorter_along_a_cosine():
    """4 away from 0, so steps of 0.1 * 2 * 4 and then, at half the size, of 0.05 * 2 * 3.2."""
    model, settings = identities(1), EndToEnd(steps=2, standardized=False)
    runs = running(model, torch.zeros(2, 1)), running(model, torch.full((2, 1), 4.0))
    maps = linear_end_to_end(model, ["0"], *runs, settings=settings)
    torch.testing.assert_close(maps["0"].shift, torch.tensor([1.12]))


def test_the_standard_unit_is_of_source_and_target_and_no_coordinate_has_less_than_a_tenth():
    """Variances 1 and 7 give a unit of 2; 0 beside them one of sqrt(0.01 * 4 / 2)."""
    model, root, least = identities(1), 7**0.5, 0.02**0.5
    source = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    target = torch.tensor([[10 - root, least], [10 + root, least]])
    settings = EndToEnd(steps=1, sparsity=1.0)
    runs = running(model, source), running(model, target)
    maps = linear_end_to_end(model, ["0"], *runs, settings=settings)
    # Steps of 0.1 * 9 and 0.1 * 2 units, less the threshold of 0.1; that of the slope is below it.
    torch.testing.assert_close(maps["0"].shift, torch.tensor([0.8 * 2, 0.1 * least]))
    assert maps["0"].scale.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("optimizer", "standardized"),
    [(partial(SGD, lr=0.1), True), (partial(SGD, lr=0.1), False), (partial(Adam, lr=0.1), True)],
)
def test_a_known_map_is_found_and_no_weight_is_touched(optimizer, standardized):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Identity()).eval()
    before = [parameter.clone() for parameter in model.parameters()]
    inputs = torch.randn(64, 3)
    with torch.no_grad():
        start = model(inputs)
    aim = start * torch.tensor([0.5, 1.5, 0.8]) + torch.tensor([1.5, -1.0, 0.0])

    def target() -> None:
        model[1](aim)

    settings = EndToEnd(steps=80, optimizer=optimizer, standardized=standardized)
    maps = linear_end_to_end(model, ["1"], running(model, inputs), target, settings=settings)
    torch.testing.assert_close(maps["1"](start), aim, atol=0.2, rtol=0.02)
    for parameter, kept in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, kept)
        assert parameter.grad is None


def test_repeating_every_sample_changes_nothing():
    """A loss added up over samples would step and threshold otherwise."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh()).eval()
    source, target = torch.randn(8, 4), torch.randn(8, 4) + 0.5
    settings = EndToEnd(steps=15, sparsity=0.3)
    once = linear_end_to_end(
        model, ["1", "3"], running(model, source), running(model, target), settings=settings
    )
    thrice = linear_end_to_end(
        model,
        ["1", "3"],
        running(model, source.repeat(3, 1)),
        running(model, target.repeat(5, 1)),
        settings=settings,
    )
    for name, change in once.items():
        torch.testing.assert_close(change.scale, thrice[name].scale)
        torch.testing.assert_close(change.shift, thrice[name].shift)


def test_only_what_differs_is_edited_and_units_do_not_matter():
    torch.manual_seed(2)
    source = torch.randn(32, 4)
    target = source + torch.tensor([0.0, 2.0, 0.0, 0.0])
    units = torch.tensor([1.0, 1000.0, 1000.0, 0.001])
    model, settings = identities(1), EndToEnd(steps=40, sparsity=0.5)
    runs = running(model, source), running(model, target)
    maps = linear_end_to_end(model, ["0"], *runs, settings=settings)
    assert active_share(maps) == 0.25
    assert maps["0"].shift[1] > 1.0
    runs = running(model, source * units), running(model, target * units)
    scaled = linear_end_to_end(model, ["0"], *runs, settings=settings)
    torch.testing.assert_close(scaled["0"].scale, maps["0"].scale, atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled["0"].shift / units, maps["0"].shift, atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [0.1, 1e9])
def test_steps_that_are_too_large_do_no_harm(size):
    """Fitted by plain descent these networks gave numbers that are none, or worse than no edit."""
    torch.manual_seed(4)
    layers = [nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)) for _ in range(3)]
    model = nn.Sequential(*layers, nn.Linear(6, 6, bias=False)).eval()
    nn.init.normal_(model[3].weight, std=10.0)  # pyright: ignore[reportArgumentType]
    source, target = torch.randn(4, 6), torch.randn(4, 6) + 1
    runs = running(model, source), running(model, target)
    names = ["0", "1", "2", "3"]
    settings = EndToEnd(steps=40, optimizer=partial(SGD, lr=size))
    maps = linear_end_to_end(model, names, *runs, settings=settings)
    with torch.no_grad():
        aim = model(target)
        before = transport_cost(model(source), aim)
        with edited(model, maps, 1.0):
            after = transport_cost(model(source), aim)
    assert after < 0.9 * before


def test_a_coordinate_that_hardly_spreads_does_not_weigh_most():
    torch.manual_seed(3)
    source = torch.randn(16, 3) * torch.tensor([1.0, 1.0, 1e-6])
    target = source + torch.tensor([1.0, 0.0, 1e-5])  # ten of its own deviations
    model = identities(1)
    maps = linear_end_to_end(
        model,
        ["0"],
        running(model, source),
        running(model, target),
        settings=EndToEnd(steps=40, sparsity=0.3),
    )
    assert maps["0"].shift[0] > 0.5
    assert maps["0"].shift[2] == 0.0


def test_a_map_that_is_fitted_can_be_undone():
    model = identities(1)
    source, target = torch.randn(16, 2) + 3, torch.zeros(16, 2)
    runs = running(model, source), running(model, target)
    maps = linear_end_to_end(model, ["0"], *runs, settings=EndToEnd(steps=50))
    assert (maps["0"].scale > 0).all()
    torch.testing.assert_close(maps["0"].inverse()(maps["0"](source)), source)


def test_what_cannot_be_fitted_is_refused():
    model = identities(1)
    run = running(model, torch.ones(2, 1))
    with pytest.raises(ValueError, match=r"evaluation mode; call eval\(\)"):
        linear_end_to_end(model.train(), ["0"], run, run)
    with pytest.raises(ValueError, match="activations must be finite"):
        linear_end_to_end(model.eval(), ["0"], running(model, torch.full((2, 1), torch.nan)), run)
    for wrong in (
        partial(EndToEnd, steps=0),
        partial(EndToEnd, sparsity=-1.0),
        partial(EndToEnd, group_sparsity=-0.5),
    ):
        with pytest.raises(ValueError, match="at least one step"):
            wrong()


WIDTH, LAYERS, MOVED = 24, 4, 4


def tanh_network(seed: int) -> nn.Sequential:
    """Four tanh layers and a linear output, drawn."""
    torch.manual_seed(seed)
    layers = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(LAYERS)]
    for layer in layers:
        nn.init.normal_(layer[0].weight, std=1.2 / WIDTH**0.5)  # pyright: ignore
    return (
        nn.Sequential(*layers, nn.Linear(WIDTH, WIDTH)).eval().requires_grad_(requires_grad=False)
    )


def drawn(generator: torch.Generator, count: int, moved: Tensor | None) -> Tensor:
    """Standard normal rows; in the target a few coordinates are narrower and lie elsewhere."""
    rows = torch.randn(count, WIDTH, generator=generator)
    if moved is not None:
        rows[:, moved[:MOVED]] = 0.6 * rows[:, moved[:MOVED]] + 1.0
    return rows


def test_few_samples_are_enough_where_edits_are_sparse():
    """Held-out cost of the output relative to no edit, 32 and 32 rows, unpaired, three seeds."""
    names = [str(layer) for layer in range(LAYERS)]
    relative: dict[str, list[float]] = {"closed": [], "at once": [], "sparse": [], "half": []}
    shares = []
    for seed in range(3):
        model, generator = tanh_network(seed), torch.Generator().manual_seed(seed)
        moved = torch.randperm(WIDTH, generator=generator)
        fit = running(model, drawn(generator, 32, None)), running(
            model, drawn(generator, 32, moved)
        )  # fmt: skip
        held, aimed = drawn(generator, 2000, None), model(drawn(generator, 2000, moved))
        sparse = linear_end_to_end(model, names, *fit, settings=EndToEnd(steps=60, sparsity=0.8))
        shares.append(active_share(sparse))
        before = transport_cost(model(held), aimed)
        for name, maps, strength in (
            ("closed", lin_act(model, names, *fit), 1.0),
            ("at once", lin_act(model, names, *fit, incremental=False), 1.0),
            ("sparse", sparse, 1.0),
            ("half", sparse, 0.5),
        ):
            with edited(model, maps, strength):
                relative[name].append(float(transport_cost(model(held), aimed) / before))
    means = {name: float(np.mean(values)) for name, values in relative.items()}
    assert all(s < c for s, c in zip(relative["sparse"], relative["closed"], strict=True))
    assert means["sparse"] < 0.9 * means["closed"]
    assert means["sparse"] < 0.5
    assert max(shares) < 0.4
    assert means["at once"] > 2 * means["closed"]
    assert means["sparse"] < means["half"] < 1.0  # the more strength, the nearer
