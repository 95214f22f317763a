"""Training in stages, in real runs of a small module."""

from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from data_prep.errors import InputError
from personalize.training_stages import Stage, TrainingStages, matching, stage_at

pytestmark = pytest.mark.filterwarnings("ignore")


class _Module(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.control = nn.Linear(3, 2)
        self.body = nn.Linear(2, 1)
        self.fixed = nn.Parameter(torch.ones(1), requires_grad=False)
        self.seen: list[dict[str, float]] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.control(x).tanh()) * self.fixed

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.seen.append({name: float(p.sum()) for name, p in self.named_parameters()})
        return (self(batch[0]) - batch[1]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.1, weight_decay=0.1)


def _loader(batch_size: int = 4) -> DataLoader:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(32, 3, generator=generator)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=batch_size)


def _trainer(folder: Path, stages: TrainingStages, steps: int, **more: object) -> L.Trainer:
    return L.Trainer(
        default_root_dir=folder, max_steps=steps, callbacks=[stages], accelerator="cpu",
        logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, **more,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def _stages() -> TrainingStages:
    return TrainingStages([Stage(["control.*"], 3)])


def test_stages_follow_one_another() -> None:
    stages = [Stage(["a"], 2), Stage(["b"], 1)]
    assert [stage_at(stages, step) for step in range(5)] == [0, 0, 1, 2, 2]
    assert stage_at([], 7) == 0
    names = ["model.control.table", "model.body", "control"]
    assert matching(names, ["*.control.*", "body"]) == {"model.control.table"}


def test_the_body_stands_still_in_the_first_stage_and_moves_after_it(tmp_path: Path) -> None:
    module = _Module()
    _trainer(tmp_path, _stages(), 6).fit(module, _loader())
    weights = [seen["body.weight"] for seen in module.seen]
    control = [seen["control.weight"] for seen in module.seen]
    assert weights[0] == weights[1] == weights[2] == weights[3]
    assert len(set(weights[3:])) == 3
    assert len(set(control)) == 6
    assert {seen["fixed"] for seen in module.seen} == {1.0}


def test_without_stages_nothing_is_different(tmp_path: Path) -> None:
    plain, staged = _Module(), _Module()
    _trainer(tmp_path, TrainingStages([]), 4).fit(staged, _loader())
    optimizer = plain.configure_optimizers()
    for x, y in list(_loader())[:4]:
        optimizer.zero_grad()
        plain.training_step([x, y], 0).backward()
        optimizer.step()
    for name, parameter in plain.state_dict().items():
        assert torch.equal(parameter, staged.state_dict()[name]), name


@pytest.mark.parametrize("stopped_at", [2, 3, 5])
def test_a_resumed_run_goes_on_in_the_right_stage(tmp_path: Path, stopped_at: int) -> None:
    whole, first, second = _Module(), _Module(), _Module()
    _trainer(tmp_path, _stages(), 7).fit(whole, _loader(32))
    trainer = _trainer(tmp_path, _stages(), stopped_at)
    trainer.fit(first, _loader(32))
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    resumed = _trainer(tmp_path, _stages(), 7)
    resumed.fit(second, _loader(32), ckpt_path=str(tmp_path / "stopped.ckpt"))
    assert resumed.global_step == 7
    assert second.seen == whole.seen[stopped_at:]
    for name, parameter in whole.state_dict().items():
        assert torch.equal(parameter, second.state_dict()[name]), name


def test_stages_count_optimizer_steps_and_not_batches(tmp_path: Path) -> None:
    module = _Module()
    stages = TrainingStages([Stage(["control.*"], 2)])
    _trainer(tmp_path, stages, 4, accumulate_grad_batches=2).fit(module, _loader())
    weights = [seen["body.weight"] for seen in module.seen]
    assert len(set(weights[:6])) == 1  # two steps of two batches, and the batches of the third
    assert len(set(weights)) == 2


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_that_ends_within_a_stage_leaves_everything_free(tmp_path: Path, fails: bool) -> None:
    module = _Module()
    if fails:
        module.on_before_zero_grad = lambda optimizer: 1 / 0  # pyright: ignore
        with pytest.raises(ZeroDivisionError):
            _trainer(tmp_path, _stages(), 2).fit(module, _loader())
    else:
        _trainer(tmp_path, _stages(), 2).fit(module, _loader())
    learning = {name for name, p in module.named_parameters() if p.requires_grad}
    assert learning == {"control.weight", "control.bias", "body.weight", "body.bias"}


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    for patterns, steps in (([], 1), (["a"], 0)):
        with pytest.raises(ValueError, match="a stage needs at least one pattern and one step"):
            Stage(patterns, steps)
    unknown = TrainingStages([Stage(["controls.*", "fixed"], 3)])
    with pytest.raises(InputError, match=r"No parameter that learns is named controls\.\* or fix"):
        _trainer(tmp_path, unknown, 1).fit(_Module(), _loader())


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(L.Trainer, "world_size", 2)
    with pytest.raises(InputError, match="Training in stages is done by one process"):
        _stages().on_fit_start(_trainer(tmp_path, _stages(), 1), _Module())
