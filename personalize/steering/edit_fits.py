"""Fitting edits of activations: in closed form, or end to end through the network they edit."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from personalize.steering.edits import ActivationMap, Forward, edited, pooled_activations

DESCENT = partial(SGD, lr=0.1)
LEAST_SCALE = 0.05
"""Fitted maps rise at least so steeply: transport on the line never turns back, and a map that is
flat cannot be undone."""
LEAST_SPREAD = 0.1
"""Coordinates that spread less, as a share of their module's spread, are measured as if they
spread so much: what hardly moves shall not weigh most."""


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
