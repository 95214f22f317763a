"""Rejection sampling over directions, tried on a small policy before and after."""

import torch

from benchmarks.methods.directional_preference import shown, toy


def test_two_rounds_move_the_front_and_one_draw_does_not() -> None:
    torch.manual_seed(0)
    row = toy(3, steps=40)
    assert shown(row)
    assert row["after"]["area"] > 2 * row["before"]["area"]
    assert row["control"]["area"] < 1.5 * row["before"]["area"]
    assert not shown(row | {"after": row["control"]})
