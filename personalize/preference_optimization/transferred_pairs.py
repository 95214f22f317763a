"""Comparisons carried from the candidates of one task to those of another, by shape alone."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.preference_optimization.candidate_blocks import context_blocks
from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.label_transfer import (
    Transfer,
    distances,
    matched,
    transferred_labels,
)


def transferred_pairs(
    source: Candidates,
    labels: ComparedRows,
    target: Candidates,
    *,
    settings: Transfer | None = None,
    least_agreement: float = 0.0,
) -> ComparedRows:
    """What the comparisons of a source say of the rows of a target that holds none.

    The rows that are compared in the source are matched with the responses to each context of the
    target that pass every gate, by the distances of the responses among themselves. The rows of a
    source should number a few dozen: time grows with the cube.

    Args:
        source: Candidates of the task whose comparisons are known.
        labels: Those comparisons.
        target: Candidates of the other task.
        settings: How tasks are matched.
        least_agreement: A pair counts where plans from several starts agree on it by more than
            this; a symmetric shape cannot tell which way round it lies, and there they do not.

    Returns:
        Pairs of rows of the target; the strength is that of the label, `|2 p - 1|`.

    Raises:
        ValueError: If there is no comparison, or nothing differs among the source's responses.
        InputError: If POT is not installed.

    Source:
        In the manner of PEARL; see `matched` and `transferred_labels`, which hold the method.
    """
    settings = settings or Transfer()
    pairs = labels.pairs()
    if not len(pairs):
        raise ValueError("labels must hold at least one comparison.")
    rows, number = torch.unique(torch.stack([pairs.better, pairs.worse]), return_inverse=True)
    shape = distances(_numbers(source, rows))
    first, second = number[0].numpy(), number[1].numpy()
    known = np.zeros(shape.shape, bool)
    known[first, second] = known[second, first] = True
    said = np.full(shape.shape, 0.5)
    said[first, second] = pairs.win_share.double().numpy()
    said[second, first] = 1 - said[first, second]
    parts: list[Tensor] = []
    strengths: list[Tensor] = []
    found = context_blocks(target, passing=True)
    for block, present in zip(found.rows, found.present, strict=True):
        there = block[present]
        features = _numbers(target, there)
        if len(np.unique(features, axis=0)) < 2:
            continue
        carried = transferred_labels(matched(shape, distances(features), settings), said, known)
        probability = torch.as_tensor(carried.probability)
        pair = torch.triu_indices(len(there), len(there), offset=1)
        lead = 2 * probability[pair[0], pair[1]] - 1
        agreed = torch.as_tensor(carried.agreement)[pair[0], pair[1]] > least_agreement
        use = agreed & (lead.abs() > 0)
        ordered = torch.where(lead < 0, pair.flip(0), pair)[:, use]
        parts.append(there[ordered.T])
        strengths.append(lead.abs()[use])
    compared = torch.cat([torch.zeros(0, 2, dtype=torch.long), *parts])
    strength = torch.cat([torch.zeros(0, dtype=torch.float64), *strengths]).float().clamp(0, 1)
    annotator = target.group[compared[:, 0]]
    return ComparedRows.of(compared, "transferred", strength=strength, annotator=annotator)


def _numbers(
    candidates: Candidates, rows: Int[Tensor, " chosen"]
) -> Float[np.ndarray, "chosen feature"]:
    """The responses of some rows as rows of numbers."""
    return candidates.responses[candidates.response[rows]].flatten(1).double().numpy()
