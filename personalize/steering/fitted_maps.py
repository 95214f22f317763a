"""What the commands that fit edits share: which modules, one set of maps per quality, the facts."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import nn

from data_prep.artifact import create_artifact
from data_prep.errors import InputError
from data_prep.progress import track
from personalize.steering.contrasting_rows import TooFewRows
from personalize.steering.edit_fits import EndToEnd, linear_end_to_end, transport_cost
from personalize.steering.edits import (
    ActivationMap,
    Forward,
    active_share,
    edited,
    pooled_activations,
)
from personalize.steering.stored_maps import KIND, write_maps

ENCODER_BLOCKS = r"encoder\.(layers|attention|feedforward)\.\d+|encoder\.norm(_out)?"
"""The blocks of an encoder, and its last norm."""


class FittingOptions(TypedDict):
    """What is said by the options of `add_fitting_options`, the checkpoint's aside.

    Attributes:
        dimensions: Qualities; None takes all that enough rows are known of.
        rows: Rows of each end, of as many owners.
        share: Share of the rows that makes an end.
        modules: Regular expression of module names; None takes the encoder's blocks.
        steps: Steps of the fit.
        sparsity: Pull of every number towards the identity.
        seed: Seed of the draw of rows.
    """

    dimensions: Sequence[str] | None
    rows: int
    share: float
    modules: str | None
    steps: int
    sparsity: float
    seed: int


@dataclass(frozen=True)
class Ends:
    """Runs of a network on the rows at both ends of a quality."""

    low: Forward
    high: Forward


def modules_matching(model: nn.Module, pattern: str) -> list[str]:
    """Names of modules the whole of which matches a regular expression.

    Raises:
        InputError: If it is no regular expression, or none matches.
    """
    try:
        found = [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]
    except re.error as error:
        raise InputError(f"--modules {pattern} is no regular expression: {error}.") from error
    if not found:
        raise InputError(f"{type(model).__name__} has no module that matches {pattern}.")
    return found


def known_names(wanted: Iterable[str] | None, known: Sequence[str]) -> list[str]:
    """The names asked for, or all there are.

    Raises:
        InputError: If one is not known.
    """
    names = list(known if wanted is None else wanted)
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"There is no dimension {unknown[0]}; known are {', '.join(known)}.")
    return names


def known_ends(
    names: Sequence[str], ends_of: Callable[[str], Ends], *, needed: bool
) -> tuple[dict[str, Ends], dict[str, str]]:
    """The ends of every quality that has enough rows, and why the others are left out.

    Args:
        names: The qualities.
        ends_of: Finds the ends of one.
        needed: Whether all of them are needed.

    Raises:
        InputError: If one that is needed has too few rows, none has enough, or an option is out
            of range.
    """
    ends, left_out = {}, {}
    for name in names:
        try:
            ends[name] = ends_of(name)
        except InputError:
            raise
        except TooFewRows as error:
            left_out[name] = str(error)
        except ValueError as error:
            raise InputError(f"Edits of {name} cannot be fitted: {error}") from error
    if left_out and (needed or not ends):
        name, reason = next(iter(left_out.items()))
        raise InputError(f"Edits of {name} cannot be fitted: {reason}")
    return ends, left_out


def settings_of(steps: int, sparsity: float) -> EndToEnd:
    """How to fit, from the options of a command.

    Raises:
        InputError: If one is out of range.
    """
    try:
        return EndToEnd(steps=steps, sparsity=sparsity)
    except ValueError as error:
        raise InputError(f"These edits cannot be fitted: {error}") from error


def told(facts: Mapping[str, Mapping[str, float]], left_out: Mapping[str, str]) -> str:
    """What a command says when it is done: a line per quality."""
    lines = [
        f"{name}: cost {fact['cost_before']:.1f} to {fact['cost_after']:.1f}, "
        f"{fact['active_share']:.0%} of the coordinates changed\n"
        for name, fact in facts.items()
    ]
    lines += [f"{name}: left out, {reason}\n" for name, reason in left_out.items()]
    return "".join(lines)


def fitted_sets(
    model: nn.Module, modules: Sequence[str], ends: Mapping[str, Ends], settings: EndToEnd
) -> tuple[dict[str, dict[str, ActivationMap]], dict[str, dict[str, Any]]]:
    """Maps from the low to the high end of every quality, and what came of the fit.

    Args:
        model: In evaluation mode.
        modules: Names of its modules.
        ends: Runs of it, by quality.
        settings: How to fit.

    Returns:
        Maps, and beside them, by quality: the transport cost of the rows of the fit without and
        with the edit, and the share of coordinates that it changes.

    Raises:
        InputError: If activations are not finite, or a module does not run just once.
    """
    sets, facts = {}, {}
    for quality, rows in track(ends.items(), "fitting", total=len(ends)):
        try:
            maps = linear_end_to_end(model, modules, rows.low, rows.high, settings=settings)
        except ValueError as error:
            raise InputError(f"Edits of {quality} cannot be fitted: {error}") from error
        with torch.no_grad():
            wanted = pooled_activations(model, modules, rows.high)
            plain = pooled_activations(model, modules, rows.low)
            with edited(model, maps, 1.0):
                moved = pooled_activations(model, modules, rows.low)
        facts[quality] = {
            "cost_before": sum(float(transport_cost(plain[n], wanted[n])) for n in wanted),
            "cost_after": sum(float(transport_cost(moved[n], wanted[n])) for n in wanted),
            "active_share": active_share(maps),
        }
        sets[quality] = maps
    return sets, facts


@dataclass(frozen=True)
class FittedMaps:
    """What a command that fits edits writes.

    Attributes:
        sets: Maps by quality.
        facts: What came of each fit; see `fitted_sets`.
        left_out: Qualities without maps, and why.
        configuration: The options as they were understood.
    """

    sets: Mapping[str, Mapping[str, ActivationMap]]
    facts: Mapping[str, Mapping[str, Any]]
    left_out: Mapping[str, str]
    configuration: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        known: Sequence[str],
        ends_of: Callable[[str], Ends],
        options: FittingOptions,
    ) -> "FittedMaps":
        """Fit maps for every quality asked for.

        Args:
            model: In evaluation mode.
            known: The qualities there are.
            ends_of: Finds the ends of one.
            options: Of the command.

        Raises:
            InputError: If an option is out of range, a quality or module is not there, too few
                rows are at an end, or activations are not finite.
        """
        names = modules_matching(model, options["modules"] or ENCODER_BLOCKS)
        settings = settings_of(options["steps"], options["sparsity"])
        wanted = options["dimensions"]
        ends, left_out = known_ends(known_names(wanted, known), ends_of, needed=wanted is not None)
        sets, facts = fitted_sets(model, names, ends, settings)
        configuration = {**options, "dimensions": list(sets), "modules": names}
        return cls(sets, facts, left_out, configuration)

    def write(
        self,
        out: Path,
        *,
        command: str,
        checkpoint: Path,
        inputs: Mapping[str, str],
        overwrite: bool,
    ) -> None:
        """Write an artifact `activation_maps`, and say what came of it on standard error.

        Args:
            out: Folder of the artifact.
            command: The command that writes it.
            checkpoint: As the command was given it.
            inputs: Content hashes of what was read.
            overwrite: Replace an artifact that is there.
        """
        with create_artifact(
            out,
            kind=KIND,
            command=command,
            configuration={"checkpoint": str(checkpoint), **self.configuration},
            inputs=inputs,
            overwrite=overwrite,
        ) as writer:
            write_maps(writer, self.sets)
            writer.notes.update({"fits": dict(self.facts), "left_out": dict(self.left_out)})
        sys.stderr.write(told(self.facts, self.left_out))
