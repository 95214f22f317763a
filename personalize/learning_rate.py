"""Share of the learning rate at each step: a linear warm-up, then half a cosine."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning import Trainer


def warm_up_cosine(
    step: int, *, warm_up_steps: int, total_steps: int | float, final_share: float = 0.0
) -> float:
    """Factor on the learning rate at a step.

    Args:
        step: Number of the step, from 0.
        warm_up_steps: Steps in which the factor rises in equal parts to 1; 0 starts at 1.
        total_steps: Steps of the whole run; `inf` keeps the factor at 1 after the warm-up.
        final_share: Factor at the last step and after it.

    Returns:
        A factor between 0 and 1, never 0 during the warm-up.

    Source:
        Loshchilov and Hutter, 2016, arXiv:1608.03983, one cycle without restart.

    Example:
        >>> [round(warm_up_cosine(s, warm_up_steps=2, total_steps=6), 3) for s in range(7)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if step < warm_up_steps:
        return (step + 1) / warm_up_steps
    if math.isinf(total_steps):
        return 1.0
    progress = min(1.0, (step - warm_up_steps) / max(1.0, total_steps - warm_up_steps))
    return final_share + (1.0 - final_share) * 0.5 * (1.0 + math.cos(math.pi * progress))


def planned_steps(
    batches: int,
    *,
    limit: int | float | None,
    accumulated: int,
    max_epochs: int | None,
    max_steps: int,
) -> float:
    """Optimizer steps of a whole run, from a trainer's settings.

    Args:
        batches: Batches of one epoch.
        limit: Batches of an epoch that are used, or their share; None uses none.
        accumulated: Batches per optimizer step.
        max_epochs: Epochs at most; None or -1 sets no end.
        max_steps: Optimizer steps at most; -1 sets no end.

    Returns:
        The number of steps; infinite where no end is set.
    """
    used = min(batches, limit) if isinstance(limit, int) else int(batches * (limit or 0.0))
    epochs = math.inf if max_epochs in (None, -1) else max_epochs
    steps = math.ceil(used / accumulated) * epochs
    return float(steps if max_steps == -1 else min(steps, max_steps))


def let_settings_win(trainer: "Trainer") -> None:
    """Give the configured optimizer settings to a state that was loaded with others.

    Called when training starts, before the first step; the schedule goes on from where it was.
    """
    from torch.optim.lr_scheduler import LambdaLR

    for optimizer, scheduler in zip(trainer.optimizers, trainer.lr_scheduler_configs, strict=True):
        schedule = scheduler.scheduler
        if not isinstance(schedule, LambdaLR):
            continue
        for number, group in enumerate(optimizer.param_groups):
            group.update(optimizer.defaults)
            group["initial_lr"] = schedule.base_lrs[number] = optimizer.defaults["lr"]
            factor = schedule.lr_lambdas[number](schedule.last_epoch)
            group["lr"] = optimizer.defaults["lr"] * factor
