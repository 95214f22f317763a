"""Displacement errors against numbers worked by hand."""

import pytest
import torch

from driving.metrics.displacement import displacement_errors


def test_errors_by_hand() -> None:
    driven = torch.zeros(1, 8, 3)
    plans = torch.zeros(2, 8, 3)
    plans[0, :, 0] = torch.arange(1.0, 9.0)
    plans[0, :, 2] = 6.0  # 0.2832 short of a full turn
    plans[1, :, 1] = torch.tensor([0.0, 0, 0, 0, 9, 0, 0, 3])
    errors = displacement_errors(plans, driven, torch.ones(1, 8, dtype=torch.bool))
    assert errors.final_m.tolist() == [[2, 4, 6, 8], [0, 0, 0, 3]]
    assert errors.average_m.tolist() == [[1.5, 2.5, 3.5, 4.5], [0, 0, 1.5, 1.5]]
    assert errors.heading_rad[0].tolist() == pytest.approx([2 * torch.pi - 6] * 4)
    assert errors.missed.tolist() == [[False, False, False, True], [False, False, True, True]]
    assert errors.style_l2_m.tolist() == [6.0, 1.0]


def test_unseen_steps_do_not_count() -> None:
    driven, plans = torch.zeros(8, 3), torch.zeros(8, 3)
    plans[:, 0] = torch.tensor([1.0, 100, 3, 4, 5, 6, 7, 100])
    mask = torch.tensor([True, False, True, True, True, True, True, False])
    errors = displacement_errors(plans, driven, mask)
    assert errors.final_mask.tolist() == [False, True, True, False]
    assert errors.final_m.tolist() == [0, 4, 6, 0]
    assert errors.average_m.tolist() == pytest.approx([1, 8 / 3, 19 / 5, 26 / 6])
    assert not errors.style_l2_mask
    assert errors.style_l2_m == 0
    nothing = displacement_errors(plans, driven, torch.zeros(8, dtype=torch.bool))
    assert not nothing.average_mask.any()
    assert not nothing.missed.any()


def test_finer_steps_give_the_same_final_errors() -> None:
    fine = torch.randn(3, 40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    other = torch.zeros(1, 40, 3, dtype=torch.float64)
    seen = torch.ones(1, 40, dtype=torch.bool)
    coarse = displacement_errors(fine[:, 4::5], other[:, 4::5], seen[:, 4::5])
    exact = displacement_errors(fine, other, seen, step_s=0.1)
    assert torch.equal(coarse.final_m, exact.final_m)
    assert torch.equal(coarse.style_l2_m, exact.style_l2_m)


@pytest.mark.parametrize(("steps", "step_s"), [(7, 0.5), (8, 0.3)])
def test_refuses_plans_without_full_seconds(steps: int, step_s: float) -> None:
    plans = torch.zeros(1, steps, 3)
    with pytest.raises(ValueError, match="at every second up to 4 s"):
        displacement_errors(plans, plans, torch.ones(1, steps, dtype=torch.bool), step_s=step_s)
