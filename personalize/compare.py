"""The command `personalize compare`: from a half and a builder to an artifact of comparisons."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from data_prep.artifact import file_sha256, map_arrays
from data_prep.errors import InputError
from data_prep.progress import track
from personalize.configured_command import configured
from personalize.preference_optimization.candidates import PairBuilder, joined_candidates
from personalize.preference_optimization.comparison_tables import (
    comparisons_of_table,
    own_comparisons,
)
from personalize.preference_optimization.stored_comparisons import (
    StoredComparisons,
    counted,
    kept_comparisons,
    write_comparisons,
)
from personalize.preference_optimization.tunable import (
    TEST,
    TRAINING,
    VALIDATION,
    Tunable,
    TunableSource,
)


class Comparing:
    """What `personalize compare` is configured with.

    Args:
        source: The trained generator whose answers are compared.
        builder: Which comparisons are made of its candidates.
        table: A table of one's own comparisons instead, a Parquet or CSV file with the columns
            `comparison`, `place` (0 is the best), `context` and `response`, and any of `grade`,
            `strength`, `margin`, `weight`, `annotator`, `origin` and `provenance`.
        responses: A safetensors file whose array `responses` holds what the table numbers; without,
            a response is its number, such as an item.
        splits: Splits of the half whose contexts are compared.
        contexts: Most contexts of each split, chosen at random; 0 takes all.
        contexts_at_once: Contexts whose candidates are made in one go.
        seed: Of everything that is drawn.

    Raises:
        ValueError: If not exactly one of builder and table is given, a responses file comes without
            a table, a split has another name, or a number is out of range.
    """

    def __init__(  # noqa: PLR0913  (each one is a documented option of the configuration)
        self,
        *,
        source: TunableSource,
        builder: PairBuilder | None = None,
        table: Path | None = None,
        responses: Path | None = None,
        splits: Sequence[str] = (TRAINING, VALIDATION),
        contexts: int = 0,
        contexts_at_once: int = 64,
        seed: int = 0,
    ) -> None:
        if (builder is None) == (table is None):
            raise ValueError("exactly one of builder and table must be given.")
        if responses is not None and table is None:
            raise ValueError("responses belong to a table, and none is given.")
        if not splits or not set(splits) <= {TRAINING, VALIDATION, TEST}:
            told = ", ".join(splits)
            raise ValueError(f"splits must be among {TRAINING}, {VALIDATION}, {TEST}, got {told}.")
        if contexts < 0 or contexts_at_once < 1 or seed < 0:
            raise ValueError(
                "contexts and seed must be 0 or more and contexts_at_once 1 or more, got "
                f"{contexts}, {seed} and {contexts_at_once}."
            )
        self.source, self.builder, self.table, self.responses = source, builder, table, responses
        self.splits, self.contexts, self.contexts_at_once = splits, contexts, contexts_at_once
        self.seed = seed


def run(*, config: Path, out: Path, overwrite: bool, changes: Sequence[str]) -> None:
    """Compare what a configuration names and write the artifact `comparisons`.

    Args:
        config: The file.
        out: Folder to write.
        overwrite: Replace comparisons that are there.
        changes: Settings to change, as `NAME=VALUE`.

    Raises:
        InputError: If the configuration or what it names does not fit, nothing is decided, or the
            artifact cannot be written.
    """
    options, configuration = configured(Comparing, "personalize compare", config, changes)
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; pass --overwrite to replace it.")
    half = options.source.open()
    inputs = dict(half.inputs)
    try:
        if options.table is None:
            stored = built_comparisons(half, options)
        else:
            stored = given_comparisons(half, options)
            inputs["table"] = file_sha256(options.table)
            if options.responses is not None:
                inputs["responses"] = file_sha256(options.responses)
    except ValueError as error:
        raise InputError(f"The comparisons cannot be made: {error}") from error
    if not len(stored):
        raise InputError("No comparison is decided: the builder found no pair that differs enough.")
    write_comparisons(
        out,
        stored,
        command="personalize compare",
        configuration=configuration,
        inputs=inputs,
        overwrite=overwrite,
    )
    words = ", ".join(f"{count} {name}" for name, count in counted(stored).items())
    sys.stderr.write(f"{words}\n{out}\n")


def built_comparisons(half: Tunable, options: Comparing) -> StoredComparisons:
    """Comparisons that the builder makes of the half's candidates, some contexts at a time.

    Raises:
        InputError: If the splits have no context.
    """
    contexts = _contexts(half, options.splits, most=options.contexts, seed=options.seed)
    if not len(contexts) or options.builder is None:
        raise InputError(f"The half has no context in {', '.join(options.splits)}.")
    parts = [
        half.candidates(some, half.policy, seed=options.seed)
        for some in track(contexts.split(options.contexts_at_once), "Candidates")
    ]
    candidates = joined_candidates(parts)
    compared = options.builder(candidates, seed=options.seed)
    return kept_comparisons(compared, candidates, dict(half.facts))


def given_comparisons(half: Tunable, options: Comparing) -> StoredComparisons:
    """A user's own comparisons, checked against the contexts of the splits.

    Raises:
        InputError: If the table or the responses do not fit, or an origin is none of the splits.
    """
    if options.table is None:
        raise InputError("There is no table of comparisons.")
    compared, context, response, origin = comparisons_of_table(own_comparisons(options.table))
    strange = origin[~torch.isin(origin, _contexts(half, options.splits))]
    if len(strange):
        raise InputError(
            f"{options.table} compares in context {int(strange[0])}, which is none of the splits "
            f"{', '.join(options.splits)}."
        )
    if options.responses is None:
        responses, response = torch.unique(response, return_inverse=True)
    else:
        responses = _responses(options.responses)
        if int(response.min()) < 0 or int(response.max()) >= len(responses):
            raise InputError(
                f"{options.table} numbers responses up to {int(response.max())}, and "
                f"{options.responses} holds {len(responses)}."
            )
    return StoredComparisons(compared, context, response, origin, responses, dict(half.facts))


def _contexts(
    half: Tunable, splits: Sequence[str], *, most: int = 0, seed: int = 0
) -> Int[Tensor, " context"]:
    """Contexts of some splits, of each at most so many, drawn at random; 0 takes all."""
    found: list[Tensor] = []
    for split in splits:
        all_of_it = torch.as_tensor(half.contexts(split)).long()
        order = torch.randperm(len(all_of_it), generator=torch.Generator().manual_seed(seed))
        found.append(all_of_it[order[: most or None].sort().values])
    return torch.cat(found)


def _responses(path: Path) -> Tensor:
    try:
        arrays = map_arrays(path)
        return torch.from_numpy(np.array(arrays["responses"]))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} holds no array responses in safetensors.") from error
