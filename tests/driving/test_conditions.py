"""What a planner is asked for under each condition."""

import numpy as np
import pytest
import torch

from data_prep.errors import InputError
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.evaluation.conditions import asked_styles, inferred_styles, is_oracle, sweep_names

VECTORS = {
    "own_values": np.arange(40, dtype=np.float32).reshape(5, 8) / 40,
    "own_mask": np.arange(40).reshape(5, 8) % 3 > 0,
}


def test_nothing_is_asked_under_none() -> None:
    asked = asked_styles("none", None, [3, 4])
    assert asked.values.shape == (2, 8)
    assert not asked.mask.any()
    assert not asked.values.any()


def test_presets_lie_at_the_ends_of_every_dimension() -> None:
    aggressive = asked_styles("aggressive", None, [0])
    assert aggressive.mask.all()
    assert aggressive.values[0].tolist() == [1, -1, 1, 1, 1, 1, 1, -1]
    assert torch.equal(asked_styles("conservative", None, [0]).values, -aggressive.values)
    assert not asked_styles("normal", None, [0]).values.any()
    assert asked_styles("normal", None, [0]).mask.all()


def test_one_dimension_leaves_the_others_open() -> None:
    asked = asked_styles("time_gap-0.5", None, [0])
    assert asked.mask[0].tolist() == [name == "time_gap" for name in STYLE_DIMENSIONS]
    assert asked.values[0, 1] == -0.5
    assert sweep_names()[:4] == ["speed-1", "speed+1", "time_gap-1", "time_gap+1"]
    for name in sweep_names():
        assert asked_styles(name, None, [0]).mask.sum() == 1


def test_stored_styles_keep_their_rows_and_masks() -> None:
    asked = asked_styles("own", VECTORS, [4, 0])
    assert asked.mask.tolist() == VECTORS["own_mask"][[4, 0]].tolist()
    assert asked.values[0, 1] == pytest.approx(33 / 40 * VECTORS["own_mask"][4, 1])
    assert not asked.values[~asked.mask].any()


def test_shuffling_keeps_the_styles_and_moves_them() -> None:
    rows = np.arange(5)
    own, mixed = asked_styles("own", VECTORS, rows), asked_styles("shuffled", VECTORS, rows)
    assert sorted(map(tuple, own.values.tolist())) == sorted(map(tuple, mixed.values.tolist()))
    assert not torch.equal(own.values, mixed.values)
    assert torch.equal(mixed.values, asked_styles("shuffled", VECTORS, rows).values)


def test_what_is_inferred_is_how_whoever_it_is_about_drove_before() -> None:
    vectors = VECTORS | {
        "before_values": -VECTORS["own_values"],
        "before_mask": ~VECTORS["own_mask"],
    }
    rows = np.array([4, 0, 2])
    before = asked_styles("before", vectors, rows)
    for condition in ("own", "none", "aggressive", "time_gap-0.5", "before"):
        found = inferred_styles(condition, vectors, rows)
        assert found is not None
        assert torch.equal(found.values, before.values)
        assert torch.equal(found.mask, before.mask)
    mixed = asked_styles("shuffled", vectors, rows, seed=3)
    inferred = inferred_styles("shuffled", vectors, rows, seed=3)
    assert inferred is not None
    for row in range(3):  # whose own style was taken is whose past is
        whose = next(
            sample for sample in rows
            if (mixed.mask[row].numpy() == VECTORS["own_mask"][sample]).all()
            and (mixed.values[row].numpy() == VECTORS["own_values"][sample] * VECTORS["own_mask"][
                sample]).all()
        )  # fmt: skip
        assert inferred.mask[row].tolist() == vectors["before_mask"][whose].tolist()
        expected = vectors["before_values"][whose] * vectors["before_mask"][whose]
        assert inferred.values[row].tolist() == pytest.approx(expected.tolist())
    assert inferred_styles("own", VECTORS, rows) is None
    assert inferred_styles("aggressive", None, rows) is None


def test_oracles_are_known() -> None:
    assert is_oracle("own")
    assert is_oracle("truth")
    assert not is_oracle("before")


@pytest.mark.parametrize("wrong", ["fast", "speed+2", "speed+fast", "speed"])
def test_an_unknown_condition_is_named(wrong: str) -> None:
    with pytest.raises(InputError, match=f"there is no condition {wrong.replace('+', '.')}"):
        asked_styles(wrong, None, [0])


def test_missing_vectors_are_named() -> None:
    with pytest.raises(InputError, match="needs style vectors that hold before"):
        asked_styles("before", VECTORS, [0])
    with pytest.raises(InputError, match="needs style vectors that hold own"):
        asked_styles("shuffled", None, [0])
