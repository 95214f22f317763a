"""Road users who slow are expected to go on slowing until they stand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from driving.simulation.slowing import HARDEST_EXPECTED_MPS2, lost_speed_mps2, slowing_on


def test_who_brakes_stands_in_the_end_and_who_does_not_goes_on():
    time_s = torch.tensor([1.0, 2.0, 5.0])
    moved, after, until = slowing_on(torch.tensor([[6.0], [6.0]]), torch.tensor([[3.0], [0.0]]),
                                     time_s)  # fmt: skip
    assert moved.tolist() == [[4.5, 6.0, 6.0], [6.0, 12.0, 30.0]]
    assert after.tolist() == [[3.0, 0.0, 0.0], [6.0, 6.0, 6.0]]
    assert until.tolist() == [[1.0, 2.0, 2.0], [1.0, 2.0, 5.0]]


@given(speed=st.floats(0, 40), braking=st.floats(0, 8), time=st.floats(0, 10))
def test_nobody_is_braked_into_reverse_and_energy_is_kept(speed, braking, time):
    moved, after, _ = (
        value.item()
        for value in slowing_on(*torch.tensor([speed, braking, time], dtype=torch.double))
    )
    assert after >= -1e-9
    assert speed**2 - after**2 == pytest.approx(2 * braking * moved, abs=1e-6)


def test_lost_speed_counts_where_both_moments_were_seen():
    before = torch.tensor([10.0, 10.0, 8.0, 30.0])
    now = torch.tensor([9.0, 9.0, 9.0, 10.0])
    seen = torch.tensor([True, False, True, True])
    found = lost_speed_mps2(before, now, seen, 0.5)
    assert found.tolist() == [2.0, 0.0, 0.0, HARDEST_EXPECTED_MPS2]
