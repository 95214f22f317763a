"""Maps as they are drawn, fitted for several qualities, written and read."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from data_prep.artifact import create_artifact
from data_prep.errors import ArtifactMismatch, InputError
from personalize.steering.contrasting_rows import TooFewRows, contrasting_rows
from personalize.steering.edit_fits import EndToEnd
from personalize.steering.edits import ActivationMap
from personalize.steering.fitted_maps import (
    Ends,
    fitted_sets,
    known_ends,
    known_names,
    modules_matching,
    settings_of,
    told,
)
from personalize.steering.stored_maps import KIND, read_maps, write_maps


def test_maps_come_back_in_their_order(tmp_path):
    sets = {
        "speed": {
            "b.1": ActivationMap(torch.tensor([1.5, 1.0]), torch.tensor([0.0, -2.0])),
            "a": ActivationMap(torch.tensor([3.0]), torch.tensor([0.25])),
        },
        "calm": {"a": ActivationMap(torch.tensor([2.0]), torch.tensor([4.0]))},
    }
    with create_artifact(
        tmp_path / "maps", kind=KIND, command="test", configuration={}, inputs={"checkpoint": "x"}
    ) as writer:
        write_maps(writer, sets)
    found = read_maps(tmp_path / "maps", checkpoint="x")
    assert [(name, list(maps)) for name, maps in found.items()] == [
        ("speed", ["b.1", "a"]),
        ("calm", ["a"]),
    ]
    for name, maps in sets.items():
        for module, change in maps.items():
            assert torch.equal(found[name][module].scale, change.scale)
            assert torch.equal(found[name][module].shift, change.shift)
    assert read_maps(tmp_path / "maps").keys() == sets.keys()
    with pytest.raises(ArtifactMismatch, match="fitted to another checkpoint"):
        read_maps(tmp_path / "maps", checkpoint="y")


def test_rows_come_from_the_ends_and_from_different_owners():
    values = np.arange(40.0)[::-1].copy()
    mask = np.ones(40, np.bool_)
    mask[:4] = False  # the four largest are not known
    owners = np.arange(40) // 2
    low, high = contrasting_rows(values, mask, owners, count=4, share=0.25, seed=3)
    assert set(values[low]) <= set(range(9))
    assert set(values[high]) <= set(range(27, 36))
    for end in (low, high):
        assert len(set(owners[end])) == 4
    again = contrasting_rows(values, mask, owners, count=4, share=0.25, seed=3)
    assert np.array_equal(again.low, low)
    other = contrasting_rows(values, mask, owners, count=4, share=0.25, seed=4)
    assert not np.array_equal(other.low, low)


def test_no_owner_is_drawn_before_others_for_its_number():
    """Two of twenty at an end: the first ten are half of them over many seeds, not all."""
    rows = np.arange(40)
    draws = [contrasting_rows(rows * 1.0, rows >= 0, rows, count=2, share=0.5, seed=seed).low
             for seed in range(50)]  # fmt: skip
    assert 0.3 < np.mean(np.concatenate(draws) < 10) < 0.7


def test_ends_that_are_too_small_are_refused():
    values, mask = np.arange(8.0), np.ones(8, np.bool_)
    with pytest.raises(TooFewRows, match="rows of 3 owners, got 2"):
        contrasting_rows(values, mask, np.arange(8), count=3, share=0.25)
    with pytest.raises(ValueError, match=r"above 0 and at most 0.5, got 0.6"):
        contrasting_rows(values, mask, np.arange(8), share=0.6)
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        contrasting_rows(values, mask, np.arange(8), count=1)


def ends_of(name: str) -> Ends:
    if name == "rare":
        raise TooFewRows("an end needs rows of 9 owners, got 1.")
    if name == "wrong":
        raise ValueError("share must be above 0.")
    return Ends(lambda: None, lambda: None)


def test_a_quality_with_too_few_rows_is_left_out_unless_it_was_asked_for():
    ends, left_out = known_ends(["rare", "speed"], ends_of, needed=False)
    assert list(ends) == ["speed"]
    assert left_out == {"rare": "an end needs rows of 9 owners, got 1."}
    assert "rare: left out, an end needs" in told({}, left_out)
    for names, needed in ((["rare", "speed"], True), (["rare"], False)):
        with pytest.raises(InputError, match="Edits of rare cannot be fitted: an end needs"):
            known_ends(names, ends_of, needed=needed)
    with pytest.raises(InputError, match="Edits of wrong cannot be fitted: share must"):
        known_ends(["wrong"], ends_of, needed=False)


def test_names_and_modules():
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    assert modules_matching(model, r"\d") == ["0", "1"]
    with pytest.raises(InputError, match="no module that matches encoder"):
        modules_matching(model, "encoder")
    with pytest.raises(InputError, match="no regular expression"):
        modules_matching(model, "(")
    assert known_names(None, ["a", "b"]) == ["a", "b"]
    assert known_names(["b"], ["a", "b"]) == ["b"]
    with pytest.raises(InputError, match="no dimension c; known are a, b"):
        known_names(["c"], ["a", "b"])
    with pytest.raises(InputError, match="at least one step"):
        settings_of(0, 1.0)
    assert settings_of(5, 0.25) == EndToEnd(steps=5, sparsity=0.25)


def test_every_quality_gets_its_maps_and_its_facts():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Identity()).eval()
    rows = torch.randn(16, 3)

    def run(shift: float) -> None:
        model(rows + shift)

    ends = {
        "up": Ends(partial(run, 0.0), partial(run, 2.0)),
        "none": Ends(*[partial(run, 0.0)] * 2),
    }
    sets, facts = fitted_sets(model, ["0"], ends, EndToEnd(steps=40, sparsity=0.1))
    assert (sets["up"]["0"].shift > 1.0).all()
    assert facts["up"]["cost_before"] == pytest.approx(12.0, rel=1e-4)
    assert facts["up"]["cost_after"] < 0.1
    assert facts["none"] == {"cost_before": 0.0, "cost_after": 0.0, "active_share": 0.0}
    assert "up: cost 12.0 to 0.0" in told(facts, {})
    wrong = Ends(partial(run, torch.nan), partial(run, 2.0))
    with pytest.raises(InputError, match="Edits of up cannot be fitted: activations must be"):
        fitted_sets(model, ["0"], {"up": wrong}, EndToEnd())
