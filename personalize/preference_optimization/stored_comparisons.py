"""Comparisons on disk: an artifact with their table and the responses they speak of."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from data_prep.artifact import Artifact, create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.comparison_set import ComparisonSet
from personalize.preference_optimization.comparison_tables import (
    COMPARISONS,
    comparison_table,
    comparisons_of_table,
)

KIND = "comparisons"
FACTS = "facts"


@dataclass(frozen=True)
class StoredComparisons:
    """Comparisons that need no half to be read.

    Attributes:
        compared: Of rows of the table that the next two make.
        context: Number of every row's context, as the half counts them.
        response: Number of every row's response among `responses`.
        origin: Number of the context of a split that every comparison belongs with.
        responses: `[response, ...]`.
        facts: What is known of how they were made, as plain JSON values.
    """

    compared: ComparedRows
    context: Int[Tensor, " row"]
    response: Int[Tensor, " row"]
    origin: Int[Tensor, " comparison"]
    responses: Tensor
    facts: Mapping[str, Any]

    def __len__(self) -> int:
        """Number of comparisons."""
        return len(self.compared)

    def comparison_set(self) -> ComparisonSet:
        """What batches are cut from."""
        return ComparisonSet.of(self.compared, self.context, self.response, self.responses)

    def some(self, chosen: Tensor) -> "StoredComparisons":
        """Some of the comparisons, of the same rows."""
        return replace(self, compared=self.compared.some(chosen), origin=self.origin[chosen])


def kept_comparisons(
    compared: ComparedRows, candidates: Candidates, facts: Mapping[str, Any]
) -> StoredComparisons:
    """Comparisons with what they speak of alone: other candidates and repeats are left out."""
    used, number = torch.unique(compared.rows, return_inverse=True)
    responses, response = torch.unique(
        candidates.responses[candidates.response[used]], dim=0, return_inverse=True
    )
    return StoredComparisons(
        compared=replace(compared, rows=number),
        context=candidates.context[used],
        response=response,
        origin=candidates.origin[compared.rows[:, 0]],
        responses=responses,
        facts=facts,
    )


def write_comparisons(
    out: Path,
    stored: StoredComparisons,
    *,
    command: str,
    configuration: Mapping[str, Any],
    inputs: Mapping[str, str],
    overwrite: bool = False,
) -> None:
    """Write an artifact `comparisons`.

    Args:
        out: Folder to write.
        stored: What is written.
        command: Who writes it.
        configuration: The command's options.
        inputs: Content hash of what they were made from, by name.
        overwrite: Replace what is there.

    Raises:
        InputError: If the folder may not be written.
    """
    with create_artifact(
        out,
        kind=KIND,
        command=command,
        configuration=configuration,
        inputs=inputs,
        overwrite=overwrite,
    ) as writer:
        table = comparison_table(stored.compared, stored.context, stored.response, stored.origin)
        writer.write_table(COMPARISONS, table)
        writer.write_arrays("responses", {"responses": stored.responses.numpy()})
        writer.write_json(FACTS, dict(stored.facts))
        writer.notes.update(counted(stored))


def counted(stored: StoredComparisons) -> dict[str, int]:
    """How many comparisons there are, of how many contexts, and of each source."""
    compared = stored.compared
    by_source = torch.bincount(compared.provenance, minlength=len(compared.sources)).tolist()
    return {
        "comparisons": len(compared),
        "contexts": len(stored.origin.unique()),
        **dict(zip(compared.sources, by_source, strict=True)),
    }


def read_comparisons(folder: Path) -> StoredComparisons:
    """Comparisons that `write_comparisons` wrote.

    Raises:
        ArtifactMismatch: If the artifact is damaged, of another kind, or of another version.
    """
    source = read_artifact(folder, kind=KIND)
    table = source.table(COMPARISONS)
    try:
        compared, context, response, origin = comparisons_of_table(table)
    except InputError as error:
        raise ArtifactMismatch(f"{folder} holds no comparisons that fit: {error}") from error
    responses = _responses(source)
    if int(response.max()) >= len(responses) or int(response.min()) < 0:
        raise ArtifactMismatch(f"{folder} compares responses that it does not hold.")
    return StoredComparisons(compared, context, response, origin, responses, source.json(FACTS))


def _responses(source: Artifact) -> Tensor:
    arrays = source.arrays("responses")
    if "responses" not in arrays:
        raise ArtifactMismatch(f"{source.folder} holds no array responses.")
    return torch.from_numpy(np.array(arrays["responses"]))
