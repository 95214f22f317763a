"""A reward model learnt from a half's comparisons, calibrated and reported."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, RichProgressBar

from data_prep.artifact import read_artifact
from data_prep.errors import InputError
from personalize.checkpoint import KIND, newest_whole, weights_of
from personalize.checkpoint_plugin import FolderCheckpoints, RunRecord
from personalize.plain_progress import PlainProgress
from personalize.preference_optimization.tunable import TEST, TRAINING, VALIDATION, Tunable
from personalize.reward_learning.configuration import RewardLearning
from personalize.reward_learning.judged_split import JudgedSplit, judged_split
from personalize.reward_learning.module import MONITOR, RewardModule, batches
from personalize.reward_learning.report import preference_report, split_logits
from personalize.rewards.bradley_terry import seeded
from personalize.rewards.preference_calibration import fitted_temperature
from personalize.rewards.preference_model import PreferenceModel, Sizes
from personalize.run_checkpoints import RunCheckpoints
from personalize.run_folder import RunFolder, differences


@dataclass(frozen=True)
class Splits:
    """The comparisons of all three splits.

    Attributes:
        training: What is learnt from.
        validation: What decides when to end, and sets the temperature.
        test: What is reported.
    """

    training: JudgedSplit
    validation: JudgedSplit
    test: JudgedSplit


def prepared_splits(half: Tunable, options: RewardLearning) -> Splits:
    """Comparisons in contexts of every split; qualities in deviations of the training rows.

    Raises:
        InputError: If a split has no comparison.
    """
    wanted = (
        (TRAINING, options.training_contexts),
        (VALIDATION, options.validation_contexts),
        (TEST, options.test_contexts),
    )
    found = [
        judged_split(half, options.builder, name, contexts=most, seed=options.seed)
        for name, most in wanted
    ]
    quality = found[0].table.quality
    mean, scale = quality.mean(0), quality.std(0, correction=0).clamp_min(1e-6)
    scaled = [
        replace(part, table=replace(part.table, quality=(part.table.quality - mean) / scale))
        for part in found
    ]
    return Splits(scaled[0], scaled[1].paired(), scaled[2].paired())


def built_model(options: RewardLearning, training: JudgedSplit) -> tuple[PreferenceModel, Sizes]:
    """A model with first weights that follow from the seed alone, and its sizes.

    Raises:
        InputError: If encoder or head do not fit the data.
    """
    table, comparisons = training.table, training.comparisons
    sizes = Sizes(
        context_width=table.context.shape[1],
        response_width=table.response.shape[1],
        qualities=table.names,
        annotators=int(comparisons.annotator.amax()) + 1,
        comparisons=len(comparisons),
    )

    def build() -> PreferenceModel:
        encoder = options.encoder(sizes)
        return PreferenceModel(encoder, options.head(sizes, encoder.width))

    try:
        return seeded(build, options.seed), sizes
    except ValueError as error:
        raise InputError(f"The head or the encoder does not fit the data: {error}") from error


def train(
    model: PreferenceModel,
    splits: Splits,
    options: RewardLearning,
    *,
    run: RunFolder,
    record: RunRecord,
) -> None:
    """Train in place, going on where the run was left, and take the weights that validated best.

    Raises:
        InputError: If the run folder holds another run.
    """
    passes = options.training
    module = RewardModule(
        model,
        options.contrast,
        splits.training,
        learning_rate=passes.learning_rate,
        weight_decay=passes.weight_decay,
    )
    size, seed = passes.batch_size, options.seed
    trainer = _trainer(options, run, record)
    start = _begun(run, record)
    L.seed_everything(seed, verbose=False)  # dropout asks the global generator
    trainer.fit(
        module,
        batches(splits.training, batch_size=size, seed=seed, shuffled=True),
        batches(splits.validation, batch_size=size, seed=seed, shuffled=False),
        ckpt_path=None if start is None else str(start),
        weights_only=True,
    )
    if trainer.interrupted:
        raise KeyboardInterrupt
    best = newest_whole(run.path, "best")
    if best is not None:
        module.load_state_dict(weights_of(read_artifact(best, kind=KIND)))
    model.cpu().eval()


def finished(model: PreferenceModel, splits: Splits, *, seed: int) -> dict[str, Any]:
    """Set the model's temperature and scale, and say what it is worth before and after.

    The temperature is set on validation comparisons, and reported on those of the test.
    """
    told = split_logits(model, splits.test)
    before = preference_report(told, splits.test, seed=seed)
    held = split_logits(model, splits.validation)
    win_share = (1 + splits.validation.comparisons.strength) / 2
    model.temperature.copy_(fitted_temperature(held, win_share))
    table = splits.training.table
    model.standardize(table.context, table.response)
    after = preference_report(split_logits(model, splits.test), splits.test, seed=seed)
    return {
        "temperature": float(model.temperature),
        "training_comparisons": len(splits.training.comparisons),
        "validation_comparisons": len(splits.validation.comparisons),
        "before_calibration": before,
        "after_calibration": after,
    }


def _trainer(options: RewardLearning, run: RunFolder, record: RunRecord) -> L.Trainer:
    passes, bar = options.training, sys.stderr.isatty()
    return L.Trainer(
        accelerator=passes.accelerator,
        devices=1,
        max_epochs=passes.epochs,
        max_steps=passes.steps,
        default_root_dir=run.path,
        logger=False,
        plugins=[FolderCheckpoints(record)],
        callbacks=[
            EarlyStopping(MONITOR, patience=passes.patience, check_on_train_epoch_end=False),
            RunCheckpoints(MONITOR, lower_is_better=True, every_n_batches=None),
            RichProgressBar() if bar else PlainProgress(),
        ],
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=bar,
    )


def _begun(run: RunFolder, record: RunRecord) -> Path | None:
    """The state to go on from, in a folder that holds this run and no other."""
    if run.configuration is None:
        run.begin(record.configuration, record.inputs)
        return None
    changed = differences(run.configuration, record.configuration)
    changed += [f"content of {line.split(':')[0]}" for line in _changed_inputs(run, record)]
    if changed:
        raise InputError(
            f"{run.path} holds another unfinished run ({'; '.join(changed[:3])}); remove it, or "
            "choose another --out."
        )
    return newest_whole(run.path, "last")


def _changed_inputs(run: RunFolder, record: RunRecord) -> list[str]:
    known: Mapping[str, str] = run.inputs
    return differences(known, record.inputs)
