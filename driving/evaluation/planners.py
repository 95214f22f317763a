"""Planners by name: those that follow rules, and those of a checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_prep.errors import InputError
from driving.planner.planner import Planner


def _constant_velocity() -> Planner:
    from driving.planner.constant_velocity import ConstantVelocity

    return ConstantVelocity()


def _idm() -> Planner:
    from driving.planner.idm import Idm

    return Idm()


def _idm_lane_change() -> Planner:
    from driving.planner.idm_lane_change import IdmLaneChange

    return IdmLaneChange()


def _pdm() -> Planner:
    from driving.planner.pdm import Pdm

    return Pdm()


RULES: Mapping[str, Callable[[], Planner]] = {
    "constant_velocity": _constant_velocity,
    "idm": _idm,
    "idm_lane_change": _idm_lane_change,
    "pdm": _pdm,
}
LOG = "log"


@dataclass(frozen=True)
class NamedPlanner:
    """A planner to evaluate.

    Attributes:
        name: Its row in the report.
        planner: None drives as the log did.
        content_hash: Of its checkpoint; empty for rules.
        notes: What is known of it, plain JSON values.
        reads_style: Whether the style that is asked for can change its plans.
    """

    name: str
    planner: Planner | None
    content_hash: str
    notes: Mapping[str, Any]
    reads_style: bool


def open_planner(
    *,
    checkpoint: Path | None,
    rules: str | None,
    name: str | None,
    changes: Mapping[str, Any],
    device: str,
) -> NamedPlanner:
    """The planner that was asked for.

    Raises:
        InputError: If not exactly one of checkpoint and rules is given, or it is not known.
        ArtifactMismatch: If the checkpoint does not fit.
    """
    if (checkpoint is None) == (rules is None):
        raise InputError("pass either --checkpoint FOLDER or --rules NAME, and not both.")
    if checkpoint is None:
        if changes:
            raise InputError("--set changes a trained planner; rules have no options to set.")
        return _by_rules(rules or "", name)
    from driving.load import load_planner

    loaded = load_planner(checkpoint, changes=changes)
    planner = loaded.planner.to(device).eval()
    chosen = loaded.configuration["model"]["planner"]
    injection = str((chosen.get("init_args") or {}).get("injection") or "")
    return NamedPlanner(
        name=name or loaded.folder.parent.parent.name,
        planner=planner,
        content_hash=loaded.content_hash,
        notes={
            "class": str(chosen["class_path"]),
            "configuration": dict(loaded.configuration),
            "parameters": sum(p.numel() for p in planner.parameters()),
        },
        reads_style="WithoutStyle" not in injection,
    )


def _by_rules(rules: str, name: str | None) -> NamedPlanner:
    if rules == LOG:
        return NamedPlanner(name or LOG, None, "", {"class": "the log itself"}, False)
    if rules not in RULES:
        raise InputError(f"there are no rules {rules}; choose among {', '.join([LOG, *RULES])}.")
    planner = RULES[rules]()
    return NamedPlanner(
        name or rules, planner, "", {"class": type(planner).__name__}, rules != "constant_velocity"
    )


def chosen_device(device: str | None) -> str:
    """The device asked for, else a GPU where there is one."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")
