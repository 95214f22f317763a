"""Parts of the training module: seeds, targets, planned steps, the learning rate, finite steps."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from data_prep.errors import InputError
from personalize.finite_steps import FiniteSteps, TrainingDivergedError, batch_tensors
from personalize.learning_rate import planned_steps, warm_up_cosine
from personalize.run_checkpoints import RunCheckpoints
from personalize.watched_module import step_seed
from recsys.collate import Padded, Ragged, sequence_batch
from recsys.module import last_targets


def test_seeds_are_stable_and_all_different():
    seeds = {
        step_seed(seed, step, rank) for seed in (0, 1) for step in range(50) for rank in (0, 1)
    }
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert step_seed(0, 0) == 7340184341046728869


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=5))
def test_the_last_real_target(masks):
    values = np.arange(4 * len(masks)).reshape(len(masks), 4)
    history = Ragged.from_lists([[1] * 4] * len(masks)).last(4)
    batch = sequence_batch(np.arange(len(masks)), history, Padded(values, np.array(masks)))
    for row, mask in enumerate(masks):
        places = [place for place, real in enumerate(mask) if real]
        expected = values[row, places[-1] if places else 0]
        assert last_targets(batch)[row] == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 30),
        ({"accumulated": 4}, 9),
        ({"limit": 7}, 21),
        ({"limit": 0.5}, 15),
        ({"max_steps": 12}, 12),
        ({"max_epochs": -1}, float("inf")),
        ({"max_epochs": -1, "max_steps": 5}, 5),
    ],
)
def test_planned_steps(options, expected):
    plain = {"limit": 1.0, "accumulated": 1, "max_epochs": 3, "max_steps": -1}
    assert planned_steps(10, **plain | options) == expected


@given(st.integers(0, 20), st.integers(1, 60), st.floats(0, 1))
def test_the_learning_rate_rises_then_falls_to_its_share(warm_up, rest, share):
    total = warm_up + rest
    factors = [
        warm_up_cosine(step, warm_up_steps=warm_up, total_steps=total, final_share=share)
        for step in range(total + 3)
    ]
    assert all(left < right for left, right in pairwise(factors[:warm_up]))
    falling = factors[warm_up:]
    assert all(left >= right - 1e-12 for left, right in pairwise(falling))
    assert factors[warm_up] == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(share)
    assert warm_up_cosine(10**6, warm_up_steps=warm_up, total_steps=float("inf")) == 1.0


def _batch(value: int) -> dict[str, torch.Tensor]:
    return {"history_item_ids": torch.full((2, 3), value)}


@pytest.mark.parametrize("bad", ["loss", "norm"])
@pytest.mark.parametrize("lag", [0, 3])
def test_a_step_that_is_not_finite_is_found_and_its_batch_kept(tmp_path, bad, lag):
    steps = FiniteSteps(tmp_path, lag=lag)
    one = torch.tensor(1.0)
    values = [{"loss": one, "norm": one} for _ in range(2 + lag)]
    values.insert(2, {"loss": one, "norm": one, bad: torch.tensor(float("inf"))})
    for step in range(2 + lag):
        steps.watch(step, _batch(step), values[step]["loss"], values[step]["norm"])
    with pytest.raises(TrainingDivergedError, match=r"Step 2 has loss .* Lower the learning rate"):
        steps.watch(2 + lag, _batch(2 + lag), values[-1]["loss"], values[-1]["norm"])
    kept = load_file(tmp_path / "not-finite-step-00000002.safetensors")
    assert torch.equal(kept["history_item_ids"], _batch(2)["history_item_ids"])


def test_steps_still_waiting_are_looked_at_before_a_checkpoint(tmp_path):
    steps = FiniteSteps(tmp_path, lag=8)
    steps.watch(0, _batch(0), torch.tensor(1.0), torch.tensor(1.0))
    steps.watch(1, _batch(1), torch.tensor(float("nan")), torch.tensor(1.0))
    with pytest.raises(TrainingDivergedError, match="Step 1 has loss nan"):
        steps.check_all()


def test_tensors_of_other_batches():
    assert batch_tensors([1, 2]) == {}
    assert list(batch_tensors({"a": torch.ones(1), "b": "text"})) == ["a"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"keep": 0}, r"checkpoints\.keep must be at least 1, got 0"),
     ({"every_n_batches": 0}, r"checkpoints\.every_n_batches must be at least 1, got 0")],
)  # fmt: skip
def test_checkpoint_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        RunCheckpoints(**options)
