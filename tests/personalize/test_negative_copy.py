"""Fine-tuning a copy, and the checkpoint it is written as."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save
from torch import nn

from data_prep.artifact import Artifact, create_artifact, read_artifact
from data_prep.errors import InputError
from personalize.checkpoint import KIND, WEIGHTS
from personalize.negative_copy import FineTuning, fine_tuned, write_copy


@pytest.fixture
def source(tmp_path: Path) -> Artifact:
    """A checkpoint with a model, its average, a counter and an optimizer's state."""
    model = {"a": torch.tensor([1.0]), "b.c": torch.tensor([2.0])}
    weights = {f"mine.{name}": value for name, value in model.items()}
    weights |= {f"averaged.{name}": value + 5 for name, value in model.items()}
    with create_artifact(
        tmp_path / "source", kind=KIND, command="fit",
        configuration={"model": {"width": 3}}, inputs={"tables": "abc"},
    ) as writer:  # fmt: skip
        writer.path(WEIGHTS).write_bytes(save(weights | {"other": torch.zeros(1)}))
        writer.path("training_state.pt").write_bytes(b"an optimizer")
        writer.write_json("sizes", {"items": 4})
    return read_artifact(tmp_path / "source", kind=KIND)


def _written(source: Artifact, out: Path, **more: Any) -> Artifact:
    student = {"a": torch.tensor([7.0]), "b.c": torch.tensor([8.0])}
    write_copy(
        source, student, out, command="negative", prefixes=("averaged.", "mine."),
        options={"steps": 2}, **more,
    )  # fmt: skip
    return read_artifact(out, kind=KIND)


def test_a_copy_has_the_students_weights_under_every_prefix_and_the_sources_documents(
    source: Artifact, tmp_path: Path
):
    made = _written(source, tmp_path / "copy")
    weights = {name: float(value) for name, value in load_file(made.file(WEIGHTS)).items()}
    assert weights == {"averaged.a": 7.0, "averaged.b.c": 8.0, "mine.a": 7.0, "mine.b.c": 8.0}
    assert made.json("sizes") == {"items": 4}
    assert not made.has("training_state.pt")


def test_a_copy_says_what_it_was_made_from(source: Artifact, tmp_path: Path):
    manifest = _written(source, tmp_path / "copy").manifest
    assert manifest.command == "negative"
    assert manifest.configuration == {"model": {"width": 3}, "negative": {"steps": 2}}
    assert manifest.inputs == {"tables": "abc", "checkpoint": source.content_hash}
    assert manifest.notes["negative_of"] == str(source.folder)


def test_a_copy_replaces_another_only_when_asked(source: Artifact, tmp_path: Path):
    _written(source, tmp_path / "copy")
    with pytest.raises(InputError, match="exists; pass --overwrite to replace it"):
        _written(source, tmp_path / "copy")
    _written(source, tmp_path / "copy", overwrite=True)


def test_tuning_goes_down_the_loss_in_so_many_steps_and_repeats_itself():
    def run(seed: int) -> tuple[list[float], float]:
        model = nn.Linear(1, 1)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        model.bias.requires_grad = False

        def loss(_number: int) -> torch.Tensor:
            return (model(torch.ones(1, 1)) - 3 + 0.1 * torch.randn(())).square().sum()

        settings = FineTuning(steps=20, learning_rate=0.1, seed=seed)
        losses = fine_tuned(model, loss, settings, description="steps")
        assert float(model.bias.detach()) == 0
        return losses, float(model.weight.detach())

    losses, weight = run(1)
    assert len(losses) == 20
    assert losses[-1] < losses[0] / 2
    assert run(1) == (losses, weight)
    assert run(2) != (losses, weight)


def test_a_gradient_of_any_size_counts_as_one_of_norm_1_at_most():
    """After a step down a slope of 1000 one of 1 up turns back; with 1000 in mind it would not."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    slopes, settings = (1000.0, -1.0), FineTuning(steps=2, learning_rate=0.1)
    fine_tuned(model, lambda step: slopes[step] * model.weight.sum(), settings, description="x")
    assert -0.1 < float(model.weight.detach()) < -0.08


def test_tuning_that_diverges_says_so():
    model = nn.Linear(1, 1)
    with pytest.raises(InputError, match="Fine-tuning diverged; lower --learning-rate"):
        fine_tuned(
            model, lambda _: model.weight.sum() * torch.nan, FineTuning(steps=2), description="x"
        )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"steps": 0}, "--steps must be at least 1, got 0"),
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "--learning-rate must be positive, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(option: dict, message: str):
    with pytest.raises(InputError, match=message):
        FineTuning(**option)
