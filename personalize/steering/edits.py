"""Edits of activations: affine maps after some modules of a network, on while a block runs."""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

Forward = Callable[[], Tensor | None]
"""Runs the network on some rows; returns which positions are real, `[row, position]`, or None
where every position is."""

DESCENT = partial(SGD, lr=0.1)
LEAST_SCALE = 0.05
"""Fitted maps rise at least so steeply: transport on the line never turns back, and a map that is
flat cannot be undone."""
LEAST_SPREAD = 0.1
"""Coordinates that spread less, as a share of their module's spread, are measured as if they
spread so much: what hardly moves shall not weigh most."""


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
    if not values.isfinite().all():
        raise ValueError("strength must be finite.")
    backwards = bool((values < 0).any())
    modules = {name: module_named(model, name) for name in maps}
    thread = threading.get_ident()
    with ExitStack() as stack:
        for name, module in modules.items() if bool((values != 0).any()) else ():
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
        strength = self.strength.to(output)
        if strength.ndim and len(strength) != len(output):
            raise ValueError(
                f"strength has {len(strength)} rows, but {self.name} sees {len(output)}."
            )
        strength = strength.reshape(-1, *[1] * (output.ndim - 1))
        moved = self.forwards(output)
        if self.backwards is not None:
            moved = torch.where(strength < 0, self.backwards(output), moved)
        return output + strength.abs() * (moved - output)


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


def transport_cost(
    moved: Float[Tensor, "row width"], wanted: Float[Tensor, "other width"]
) -> Float[Tensor, ""]:
    """Squared Wasserstein distance of every coordinate's two samples, added up over coordinates.

    On the line the best transport joins equal ranks. It is a mean over ranks, so repeating a
    sample changes nothing; of two sizes every row is repeated until they are equally many, which
    is exact.

    Example:
        >>> transport_cost(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [1.0]]))
        tensor(1.)
    """
    size = math.lcm(len(moved), len(wanted))
    ranked = moved.sort(0).values.repeat_interleave(size // len(moved), 0)
    aimed = wanted.sort(0).values.repeat_interleave(size // len(wanted), 0)
    return (ranked - aimed).square().mean(0).sum()


def lin_act(
    model: nn.Module,
    modules: Sequence[str],
    source: Forward,
    target: Forward,
    *,
    incremental: bool = True,
) -> dict[str, ActivationMap]:
    """Maps in closed form, module by module: the least squares line between equal ranks.

    Args:
        model: The network, in evaluation mode.
        modules: Names of modules.
        source: Runs it on rows as they are.
        target: Runs it on as many rows as they should look; not pairs.
        incremental: Fit every module behind the edits of those before it. All at once, every
            module brings about again what those before it have done.

    Returns:
        By name, in the order in which the modules run.

    Raises:
        ValueError: As `pooled_activations`, or if source and target differ in their number.

    Source:
        Rodriguez et al., 2024, Controlling Language and Diffusion Models by Transporting
        Activations, arXiv:2410.23054. Their map holds inside the range seen in the source only.
    """
    with torch.no_grad():
        wanted = pooled_activations(model, modules, target)
        plain = pooled_activations(model, modules, source)
        maps: dict[str, ActivationMap] = {}
        for name, aimed in wanted.items():
            seen = plain[name]
            if len(seen) != len(aimed):
                raise ValueError(
                    f"source and target must be equally many, got {len(seen)} and {len(aimed)}."
                )
            if incremental:
                with edited(model, maps, 1.0):
                    seen = pooled_activations(model, [name], source)[name]
            maps[name] = _least_squares(seen.sort(0).values, aimed.sort(0).values)
    return maps


def _least_squares(
    seen: Float[Tensor, "row width"], aimed: Float[Tensor, "row width"]
) -> ActivationMap:
    middle, spread = seen.mean(0), _variance(seen)
    together = ((seen - middle) * (aimed - aimed.mean(0))).mean(0)
    scale = torch.where(spread > 0, together / spread.clamp_min(1e-12), 1.0)
    return ActivationMap(scale, aimed.mean(0) - scale * middle)


def _variance(rows: Float[Tensor, "row width"]) -> Float[Tensor, " width"]:
    return (rows - rows.mean(0)).square().mean(0)


@dataclass(frozen=True)
class EndToEnd:
    """How maps are fitted end to end.

    Attributes:
        steps: Steps of the optimizer; the step size falls to 0 along a cosine, and to a half after
            every step that made things worse, which is taken back.
        optimizer: Makes it from the parameters. The threshold is its step size times the pull: an
            optimizer that scales gradients, such as Adam, keeps everything below a pull of 1 and
            nothing above.
        sparsity: Pull of every number towards the identity: `gamma * lambda_1` of the paper.
        group_sparsity: Pull of all numbers of a module together: `gamma * lambda_G`.
        standardized: Measure every coordinate in standard deviations from its mean, so that one
            step size and one pull suit all of them. False is the paper's own parameters.

    Raises:
        ValueError: If there is no step, or a pull is negative.
    """

    steps: int = 300
    optimizer: Callable[[Iterable[Tensor]], Optimizer] = DESCENT
    sparsity: float = 0.0
    group_sparsity: float = 0.0
    standardized: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be fitted."""
        if self.steps < 1 or self.sparsity < 0 or self.group_sparsity < 0:
            raise ValueError(
                "fitting needs at least one step and pulls of at least 0, got "
                f"{self.steps}, {self.sparsity:g} and {self.group_sparsity:g}."
            )


def linear_end_to_end(
    model: nn.Module,
    modules: Sequence[str],
    source: Forward,
    target: Forward,
    *,
    settings: EndToEnd = EndToEnd(),
) -> dict[str, ActivationMap]:
    """Maps of all modules fitted together, through the network they edit; few of them active.

    Minimises the transport cost between edited source and plain target activations over all
    modules, by steps of an optimizer, each followed by a soft threshold and a shrinking of every
    module's numbers around the identity. Only the maps change; no weight does.

    Args:
        model: The network, in evaluation mode.
        modules: Names of modules.
        source: Runs it on rows as they are, with gradients.
        target: Runs it on rows as they should look; not pairs.
        settings: Steps, optimizer and sparsity.

    Returns:
        By name, in the order in which the modules run.

    Raises:
        ValueError: As `pooled_activations`, or if the network is in training mode or its
            activations are not finite.

    Source:
        Rodriguez et al., 2025, LinEAS, arXiv:2503.10679. The released loss adds samples up and
        draws from the larger set; here it is their mean, over all of both. Standard units, the
        least scale, full batches and taking back steps that make things worse are ours.
    """
    if model.training:
        raise ValueError("the network must be in evaluation mode; call eval() first.")
    with torch.no_grad():
        wanted = pooled_activations(model, modules, target)
        plain = pooled_activations(model, modules, source)
    frames = {
        name: _Frame.of(plain[name], aimed, standardized=settings.standardized)
        for name, aimed in wanted.items()
    }
    numbers = {name: frame.centre.new_zeros(2, len(frame.centre)) for name, frame in frames.items()}
    parameters = [value.requires_grad_() for value in numbers.values()]

    @torch.enable_grad()
    def objective() -> tuple[Tensor, tuple[Tensor, ...]]:
        maps = {name: frame.map(numbers[name]) for name, frame in frames.items()}
        with edited(model, maps, 1.0):
            moved = pooled_activations(model, modules, source)
        costs = [transport_cost(moved[n] / f.unit, wanted[n] / f.unit) for n, f in frames.items()]
        cost = torch.stack(costs).sum()
        return cost.detach(), torch.autograd.grad(cost, parameters)

    _descend(parameters, objective, settings)
    return {name: frame.map(numbers[name].detach()) for name, frame in frames.items()}


@torch.no_grad()
def _descend(
    parameters: list[Tensor],
    objective: Callable[[], tuple[Tensor, tuple[Tensor, ...]]],
    settings: EndToEnd,
) -> None:
    """Proximal steps from the identity; one that makes things worse is taken back and halved."""
    optimizer = settings.optimizer(parameters)
    first_sizes = [group["lr"] for group in optimizer.param_groups]
    kept = [parameter.clone() for parameter in parameters]
    kept_gradients: tuple[Tensor, ...] = ()
    least, damping = math.inf, 1.0
    for step in range(settings.steps + 1):
        cost, gradients = objective()
        total = float(cost + sum(_penalty(parameter, settings) for parameter in parameters))
        if total <= least and math.isfinite(total):
            least, kept, kept_gradients = total, [p.clone() for p in parameters], gradients
        elif step == 0:
            raise ValueError("activations must be finite; this network gives others.")
        else:
            damping /= 2
        for parameter, value, gradient in zip(parameters, kept, kept_gradients, strict=True):
            parameter.copy_(value)
            parameter.grad = gradient.clone()
        if step == settings.steps:
            return
        cosine = (1 + math.cos(math.pi * step / settings.steps)) / 2
        for group, size in zip(optimizer.param_groups, first_sizes, strict=True):
            group["lr"] = size * damping * cosine
        optimizer.step()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                _shrink(parameter, group["lr"], settings)


def _penalty(numbers: Float[Tensor, "2 width"], settings: EndToEnd) -> Tensor:
    """What both pulls ask for."""
    group = math.sqrt(numbers.shape[1]) * numbers.norm(dim=1).sum()
    return settings.sparsity * numbers.abs().sum() + settings.group_sparsity * group


@dataclass(frozen=True)
class _Frame:
    """The units in which a module's map is fitted."""

    centre: Float[Tensor, " width"]
    unit: Float[Tensor, " width"]

    @classmethod
    def of(cls, plain: Tensor, wanted: Tensor, *, standardized: bool) -> "_Frame":
        if not standardized:
            return cls(torch.zeros_like(plain[0]), torch.ones_like(plain[0]))
        variance = (_variance(plain) + _variance(wanted)) / 2
        least = LEAST_SPREAD**2 * variance.mean()
        unit = variance.clamp_min(least.clamp_min(torch.finfo(least.dtype).tiny)).sqrt()
        return cls(plain.mean(0), unit)

    def map(self, numbers: Float[Tensor, "2 width"]) -> ActivationMap:
        """Identity where both rows are 0: more of the slope, and a shift in units."""
        slope, shift = numbers
        return ActivationMap(1 + slope, shift * self.unit - slope * self.centre)


@torch.no_grad()
def _shrink(numbers: Float[Tensor, "2 width"], step_size: float, settings: EndToEnd) -> None:
    """The proximal step of both penalties, then the least scale."""
    threshold = step_size * settings.sparsity
    numbers.copy_(numbers.sign() * (numbers.abs() - threshold).clamp_min(0))
    norms = numbers.norm(dim=1, keepdim=True)
    pull = step_size * settings.group_sparsity * math.sqrt(numbers.shape[1])
    numbers.mul_((1 - pull / norms.clamp_min(1e-12)).clamp_min(0))
    numbers[0].clamp_min_(LEAST_SCALE - 1)


def active_share(maps: Maps) -> float:
    """Share of all coordinates that any map changes."""
    changed = [((m.scale != 1) | (m.shift != 0)).double() for m in maps.values()]
    return float(torch.cat(changed).mean()) if changed else 0.0
