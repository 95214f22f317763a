"""The file of thresholds: typed, validated, with the embedded one as the default."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data_prep.errors import InputError
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS, StyleLabel
from driving.style.measures import MEASURE_NAMES
from driving.style.scenario import SCENARIO_TYPES

EMBEDDED = Path(__file__).with_name("thresholds.yaml")


class Bound(BaseModel):
    """An absolute bound on a measure that decides the label by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: Literal[MEASURE_NAMES]  # pyright: ignore[reportInvalidTypeForm]
    label: StyleLabel
    below: float | None = None
    above: float | None = None

    @model_validator(mode="after")
    def _one_side(self) -> "Bound":
        if (self.below is None) == (self.above is None):
            raise ValueError("give either below or above")
        return self

    def holds(self, value: float) -> bool:
        """Whether a value is beyond the bound."""
        if self.below is not None:
            return value < self.below
        return self.above is not None and value > self.above

    def words(self, value: float) -> str:
        """The bound and the value as a rule one can read."""
        side, bound = ("below", self.below) if self.below is not None else ("above", self.above)
        return f"{self.measure} {value:.2f} is {side} {bound:g}"


class Thresholds(BaseModel):
    """What `thresholds.yaml` holds; see the comments there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: dict[str, dict[str, float]]
    aggressive_percentile: float = Field(ge=50, le=100)
    conservative_percentile: float = Field(ge=0, le=50)
    fewest_samples: int = Field(ge=1)
    least_share: float = Field(ge=0, le=1)
    bounds: tuple[Bound, ...] = ()
    fewest_samples_of_scale: int = Field(ge=2)

    @model_validator(mode="after")
    def _known_names(self) -> "Thresholds":
        if "all" not in self.weights:
            raise ValueError("weights must have an entry all")
        for name, weights in self.weights.items():
            if name != "all" and name not in SCENARIO_TYPES:
                raise ValueError(f"{name} is no scenario type")
            if unknown := set(weights) - set(STYLE_DIMENSIONS):
                raise ValueError(f"{', '.join(sorted(unknown))} is no style dimension")
            if any(weight < 0 for weight in weights.values()) or not any(weights.values()):
                raise ValueError(f"the weights of {name} must not be negative, nor all 0")
        return self

    def of_type(self, scenario_type: str) -> tuple[float, ...]:
        """Weight of every style dimension in a scenario type."""
        weights = self.weights.get(scenario_type, self.weights["all"])
        return tuple(weights.get(name, 0.0) for name in STYLE_DIMENSIONS)


def read_thresholds(path: Path | None) -> Thresholds:
    """The thresholds in a YAML file, or the embedded ones.

    Raises:
        InputError: If the file cannot be read or does not hold thresholds.
    """
    path = path or EMBEDDED
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Thresholds.model_validate(raw)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path}: {error}; name a file with --thresholds.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {' '.join(str(error).split())}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{path}: {where}: {first['msg']}.") from error
