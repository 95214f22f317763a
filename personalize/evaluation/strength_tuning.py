"""Strengths of a chain: the settings to try, and which of them is taken."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from itertools import product
from typing import Any, get_type_hints

from personalize.steering.chain import Chain


@dataclass(frozen=True)
class Trial:
    """What one setting came to on tuning contexts.

    Attributes:
        steering_error: Mean distance from the goals.
        quality_loss: Loss of the main quality as a share of what it is unsteered.
    """

    steering_error: float
    quality_loss: float


def best_trial(trials: Sequence[Trial], largest_quality_loss: float) -> int:
    """Number of the setting of least steering error among those that lose little enough.

    Args:
        trials: At least one; of equal ones the first is taken.
        largest_quality_loss: Largest loss that is allowed.

    Returns:
        Where none loses little enough, the one that loses least.

    Raises:
        ValueError: If there is no trial.
    """
    if not trials:
        raise ValueError("trials must hold at least one setting, got none.")
    allowed = [n for n, trial in enumerate(trials) if trial.quality_loss <= largest_quality_loss]
    if allowed:
        return min(allowed, key=lambda n: trials[n].steering_error)
    return min(range(len(trials)), key=lambda n: trials[n].quality_loss)


def variants(chain: Chain, tune: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """Every combination of the listed settings, the last name changing fastest.

    Raises:
        ValueError: If a name is no number of the chain, a list is empty, or a value does not fit.
    """
    for name, values in tune.items():
        if not values:
            raise ValueError(f"{name} must list at least one value to try, got none.")
        for value in values:
            with_setting(chain, name, value)
    return [dict(zip(tune, chosen, strict=True)) for chosen in product(*tune.values())]


def with_settings(chain: Chain, settings: Mapping[str, float]) -> Chain:
    """The chain with some numbers changed, by dotted name."""
    for name, value in settings.items():
        chain = with_setting(chain, name, value)
    return chain


def with_setting(chain: Chain, name: str, value: float) -> Chain:
    """The chain with one number changed.

    Args:
        chain: Any chain.
        name: Dotted, such as `lookahead.strength`.
        value: A whole number where the setting counts something.

    Raises:
        ValueError: If the chain has no such number, or the value does not fit.

    Example:
        >>> with_setting(Chain(), "lookahead.strength", 3.0).lookahead
        Lookahead(strength=3.0)
    """
    return _replaced(chain, name.split("."), value, name)


def _replaced(part: Any, path: Sequence[str], value: float, name: str) -> Any:  # noqa: ANN401
    first, *rest = path
    kinds = _kinds(part)
    if first not in kinds:
        raise ValueError(f"{name} is no setting of the chain; {_of_part(part, first)}.")
    if rest:
        return replace(part, **{first: _replaced(getattr(part, first), rest, value, name)})
    if kinds[first] is int:
        if value != int(value):
            raise ValueError(f"{name} must be a whole number, got {value:g}.")
        return replace(part, **{first: int(value)})
    if kinds[first] is not float:
        raise ValueError(f"{name} is no number, so no strengths can be tried of it.")
    return replace(part, **{first: float(value)})


def _kinds(part: object) -> dict[str, Any]:
    return get_type_hints(type(part)) if is_dataclass(part) else {}


def _of_part(part: Any, first: str) -> str:  # noqa: ANN401  (any part of a chain)
    if part is None:
        return f"what {first} would belong to is not there"
    if not is_dataclass(part):
        return f"there is nothing below {part}"
    return f"there are {', '.join(field.name for field in fields(part))}"


def described(chain: Chain) -> dict[str, Any]:
    """What a chain does, by dotted name, as plain values; what is at its default is left out.

    Example:
        >>> described(with_setting(Chain(), "guidance.weight", 2.0))
        {'guidance.weight': 2.0}
    """
    return _described(chain, Chain(), "")


def _described(part: object, usual: object, prefix: str) -> dict[str, Any]:
    if part == usual:
        return {}
    if not is_dataclass(part) or isinstance(part, type):
        plain = isinstance(part, (bool, int, float, str)) or part is None
        return {prefix: part if plain else str(part)}
    found: dict[str, Any] = {}
    for field in fields(part):
        name = f"{prefix}.{field.name}" if prefix else field.name
        alike = type(part) is type(usual)
        default = getattr(usual, field.name) if alike else _default(field)
        found |= _described(getattr(part, field.name), default, name)
    return found or {prefix: type(part).__name__}


def _default(field: Field) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()
