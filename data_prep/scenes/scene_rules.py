"""How scenes are prepared, and where they go."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.scenes.recording_split import check_fractions
from data_prep.scenes.resample import LONGEST_GAP_S, STEP_S


@dataclass(frozen=True)
class SceneRules:
    """How scenes are prepared.

    Attributes:
        step_s: Seconds of a step.
        seed: Seed of the split.
        validation: Share of the vehicle states to validate on, by whole recordings.
        test: Share to test on.
        max_rejected_share: Largest share of refused tracks that does not stop the command.
    """

    step_s: float = STEP_S
    seed: int = 0
    validation: float = 0.15
    test: float = 0.15
    max_rejected_share: float = 0.2

    def __post_init__(self) -> None:
        """Refuse senseless numbers.

        Raises:
            InputError: If a step is not positive or too long, or a share is none.
        """
        if not 0 < self.step_s <= LONGEST_GAP_S:
            raise InputError(f"--step-s must lie in (0, {LONGEST_GAP_S:g}], got {self.step_s:g}.")
        if not 0 <= self.max_rejected_share <= 1:
            raise InputError(
                f"--max-rejected-share must lie in [0, 1], got {self.max_rejected_share:g}."
            )
        check_fractions(self.validation, self.test)


@dataclass(frozen=True)
class SceneDestination:
    """Where the artifact goes and what its manifest says of its origin.

    Attributes:
        out: Folder the artifact will be.
        overwrite: Replace an artifact that is there.
        command: The command that writes it.
        configuration: Its options.
        inputs: Content hash by input name.
    """

    out: Path
    overwrite: bool = False
    command: str = "data-prep scenes"
    configuration: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
