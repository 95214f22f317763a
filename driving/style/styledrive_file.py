"""StyleDrive's label files, `styletrain.json` and `styletest.json`: read and written."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.scenes.style_dimensions import StyleLabel

LETTERS: Mapping[str, StyleLabel] = {"A": "aggressive", "N": "normal", "C": "conservative"}

_SPELLINGS = {
    "roundabout_entrance": "roundout_entrance",
    "roundabout_interior": "roundout_interior",
    "carpark_areas": "carpark areas",
    "protected_intersection": "protected_intersections",
    "unprotected_intersection": "unprotected_intersections",
    "crosswalk": "crosswalks",
}
_OWN_FIELDS = ("token", "scene_token", "ANC_result", "scenario_type", "scene_scenario")


@dataclass(frozen=True)
class StyleDriveLabel:
    """One record.

    Attributes:
        token: OpenScene's name of the frame at which the future begins.
        label: The style.
        scenario_type: In the spelling of the files; None where the record has none.
        fields: Everything else, as it stands in the file.
    """

    token: str
    label: StyleLabel
    scenario_type: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


def scenario_name(text: str) -> str:
    """A type of scene in the spelling of the label files, which is ours too.

    Their files write `roundout_entrance` for a roundabout and `carpark areas` with a blank; their
    documentation and tables write the types in other ways.

    Example:
        >>> scenario_name("Roundabout Entrance"), scenario_name("Lane Following")
        ('roundout_entrance', 'lane_following')
    """
    plain = "_".join(text.strip().lower().split())
    return _SPELLINGS.get(plain, plain)


def read_styledrive_file(path: Path) -> dict[str, StyleDriveLabel]:
    """Every record of a label file by its token.

    Fields are not interpreted, as their documentation and their data disagree: `min_front_frame`
    is a pair of frame and distance, `speed_mode` is no style.

    Args:
        path: The JSON file.

    Raises:
        InputError: If it is no such file, or a record has no label of A, N or C.

    Source:
        `docs/dataset_stat.md` of github.com/AIR-THU/StyleDrive.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON; give StyleDrive's label file.") from error
    if not isinstance(records, dict) or not records:
        raise InputError(f"{path} holds no records by token; give StyleDrive's label file.")
    return {token: _label(token, record, path) for token, record in records.items()}


def write_styledrive_file(path: Path, labels: Iterable[StyleDriveLabel]) -> None:
    """Labels in StyleDrive's layout, in the order of their tokens.

    Args:
        path: The JSON file.
        labels: With the fields of `styledrive_fields`, or what is known of them.

    Raises:
        ValueError: If two labels have one token, or a field is no JSON (NaN is none).
    """
    letters = {label: letter for letter, label in LETTERS.items()}
    records: dict[str, dict[str, Any]] = {}
    for label in sorted(labels, key=lambda each: each.token):
        if label.token in records:
            raise ValueError(f"The token {label.token} has two labels.")
        record = {**label.fields, "ANC_result": letters[label.label]}
        if label.scenario_type is not None:
            record |= dict.fromkeys(("scenario_type", "scene_scenario"), label.scenario_type)
        records[label.token] = record | dict.fromkeys(("scene_token", "token"), label.token)
    text = json.dumps(records, allow_nan=False, ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def _label(token: str, record: object, path: Path) -> StyleDriveLabel:
    if not isinstance(record, dict):
        raise InputError(f"the record {token} of {path} is no object.")
    letter = str(record.get("ANC_result", "")).strip().upper()[:1]
    if letter not in LETTERS:
        raise InputError(f"the record {token} of {path} has no ANC_result of A, N or C.")
    kind = record.get("scenario_type") or record.get("scene_scenario")
    return StyleDriveLabel(
        token=token,
        label=LETTERS[letter],
        scenario_type=scenario_name(kind) if isinstance(kind, str) else None,
        fields={name: value for name, value in record.items() if name not in _OWN_FIELDS},
    )
