"""Edits of activations: affine maps after some modules of a network, on while a block runs."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Forward = Callable[[], Tensor | None]
"""Runs the network on some rows; returns which positions are real, `[row, position]`, or None
where every position is."""


@dataclass(frozen=True)
class ActivationMap:
    """`scale * z + shift`, coordinate by coordinate; scale 1 and shift 0 is the identity."""

    scale: Float[Tensor, " width"]
    shift: Float[Tensor, " width"]

    def __call__(self, activations: Float[Tensor, "*row width"]) -> Float[Tensor, "*row width"]:
        """The mapped activations."""
        return self.scale * activations + self.shift

    def inverse(self) -> "ActivationMap":
        """The map that undoes this one.

        Raises:
            ValueError: If a coordinate is flat or turned round.
        """
        if not (self.scale > 0).all():
            raise ValueError(
                "a map can be undone only where every scale is positive, got "
                f"{self.scale.min().item():g}."
            )
        return ActivationMap(1 / self.scale, -self.shift / self.scale)

    def then(self, following: "ActivationMap") -> "ActivationMap":
        """This map and then another one, as one map.

        What a norm does last is such a map, its scale and its bias: an edit behind a norm folds
        into them, and costs nothing.
        """
        return ActivationMap(following.scale * self.scale, following(self.shift))

    def to(self, target: torch.device | str) -> "ActivationMap":
        """The same map on a device."""
        return ActivationMap(self.scale.to(target), self.shift.to(target))


Maps = Mapping[str, ActivationMap]
"""Maps by the name of the module whose output they change."""


@contextmanager
def edited(model: nn.Module, maps: Maps, strength: float | Float[Tensor, " row"]) -> Iterator[None]:
    """A block in which the outputs of some modules are changed.

    At strength `s` an output `z` becomes `z + s * (T(z) - z)`; below 0 it moves by `|s|` towards
    what the inverse of `T` makes of it. At 0 nothing is hooked at all. Blocks may be nested: the
    outer edit is made first. Only the thread that opened the block is edited, so one model can
    answer several requests; hooks come off whatever happens inside.

    Args:
        model: The network; its weights are not touched.
        maps: Maps by the name of a module that gives one tensor, the width last.
        strength: One for all rows, or one per row of what the modules see.

    Raises:
        ValueError: If there is no such module, its output does not fit, a strength is not finite,
            or a map that is to be undone cannot be.

    Source:
        Rodriguez et al., 2025, LinEAS, arXiv:2503.10679, whose hook computes
        `s * T(z) + (1 - s) * z`. Strengths per row and below 0 are ours.
    """
    values = torch.as_tensor(strength)
    known = values.cpu()  # one wait for the device, however much is asked of it
    if not known.isfinite().all():
        raise ValueError("strength must be finite.")
    backwards = bool((known < 0).any())
    modules = {name: module_named(model, name) for name in maps}
    thread = threading.get_ident()
    with ExitStack() as stack:
        for name, module in modules.items() if known.any() else ():
            undone = maps[name].inverse() if backwards else None
            change = _Change(name, maps[name], undone, values, thread)
            stack.callback(module.register_forward_hook(change).remove)
        yield


@contextmanager
def edited_by_all(
    model: nn.Module,
    sets: Mapping[str, Maps],
    strengths: Mapping[str, float | Float[Tensor, " row"]],
) -> Iterator[None]:
    """Several edits at once, in the order of `sets`; see `edited`.

    Args:
        model: The network.
        sets: Maps by the name of what they bring about.
        strengths: Of some or all of them; what is not named is not edited.

    Raises:
        ValueError: If a strength is given of maps that are not there.
    """
    if unknown := [name for name in strengths if name not in sets]:
        raise ValueError(f"there are no maps for {unknown[0]}; there are {', '.join(sets)}.")
    with ExitStack() as stack:
        for name, maps in sets.items():
            stack.enter_context(edited(model, maps, strengths.get(name, 0.0)))
        yield


@dataclass(frozen=True)
class _Change:
    """The hook of one module."""

    name: str
    forwards: ActivationMap
    backwards: ActivationMap | None
    strength: Tensor
    thread: int

    def __call__(self, module: nn.Module, inputs: object, output: object) -> Tensor | None:
        if threading.get_ident() != self.thread:
            return None
        output = _checked(self.name, output, self.forwards)
        strength = self.strength.to(output.device)
        if strength.ndim and len(strength) != len(output):
            raise ValueError(
                f"strength has {len(strength)} rows, but {self.name} sees {len(output)}."
            )
        strength = strength.reshape(-1, *[1] * (output.ndim - 1))
        moved = self.forwards.to(output.device)(output)
        if self.backwards is not None:
            undone = self.backwards.to(output.device)(output)
            moved = torch.where(strength < 0, undone, moved)
        return (output + strength.abs() * (moved - output)).to(output.dtype)


def _checked(name: str, output: object, change: ActivationMap) -> Tensor:
    if not isinstance(output, Tensor):
        raise ValueError(f"{name} gives {type(output).__name__}, but an edit needs a tensor.")  # noqa: TRY004
    if output.shape[-1] != len(change.scale):
        raise ValueError(f"{name} is {output.shape[-1]} wide, but its map is {len(change.scale)}.")
    return output


def module_named(model: nn.Module, name: str) -> nn.Module:
    """A module of a network.

    Raises:
        ValueError: If there is none of this name.
    """
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise ValueError(f"{type(model).__name__} has no module {name}.") from error


def pooled_activations(
    model: nn.Module, modules: Iterable[str], forward: Forward
) -> dict[str, Float[Tensor, "row width"]]:
    """What some modules give for every row: the mean over its real positions.

    Args:
        model: The network.
        modules: Names of its modules.
        forward: Runs it once.

    Returns:
        By name, in the order in which the modules ran.

    Raises:
        ValueError: If a module is not there, does not run, runs twice, or gives no tensor.
    """
    found: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, inputs: object, output: object) -> None:
        if name in found or not isinstance(output, Tensor):
            raise ValueError(f"{name} must run once and give a tensor.")
        found[name] = output

    names = list(modules)
    with ExitStack() as stack:
        for name in names:
            module = module_named(model, name)
            stack.callback(module.register_forward_hook(partial(record, name)).remove)
        mask = forward()
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{missing[0]} must run once and give a tensor.")
    return {name: _pooled(output, mask) for name, output in found.items()}


def _pooled(
    output: Float[Tensor, "row *position width"], mask: Bool[Tensor, "row position"] | None
) -> Float[Tensor, "row width"]:
    if output.ndim == 2:
        return output
    if mask is None:
        return output.flatten(1, -2).mean(1)
    weights = mask.unsqueeze(-1).to(output.dtype)
    return (output * weights).sum(1) / weights.sum(1).clamp_min(1)


def active_share(maps: Maps) -> float:
    """Share of all coordinates that any map changes."""
    changed = [((m.scale != 1) | (m.shift != 0)).double() for m in maps.values()]
    return float(torch.cat(changed).mean()) if changed else 0.0
