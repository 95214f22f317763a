"""Stored comparisons, a user's own among them, where a half and a builder are asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from data_prep.artifact import read_artifact
from data_prep.errors import ArtifactMismatch
from personalize.preference_optimization.candidates import Candidates, PairBuilder
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.policy import Policy, Rows
from personalize.preference_optimization.stored_comparisons import (
    KIND,
    StoredComparisons,
    read_comparisons,
)
from personalize.preference_optimization.tunable import (
    Evaluation,
    Judged,
    Tunable,
    TunableSource,
)


@final
@dataclass(frozen=True)
class GivenComparisons(PairBuilder):
    """The comparisons of an artifact, as far as candidates have the rows they speak of.

    A half whose candidates are all of them is a `ComparedSource`. A comparison whose best fails a
    gate is left out, whoever made it.

    Attributes:
        comparisons: Artifact `comparisons`.

    Raises:
        ArtifactMismatch: When called, if it is none or is damaged.
        ValueError: When called, if its responses are of another kind than the candidates'.
    """

    comparisons: Path

    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        """See `PairBuilder`; nothing is drawn."""
        stored = read_comparisons(self.comparisons)
        mine, theirs = candidates.responses, stored.responses
        if mine.shape[1:] != theirs.shape[1:] or mine.dtype != theirs.dtype:
            raise ValueError(
                f"{self.comparisons} compares responses of another kind: {tuple(theirs.shape[1:])} "
                f"{theirs.dtype}, not {tuple(mine.shape[1:])} {mine.dtype}."
            )
        _, content = torch.unique(torch.cat([mine, theirs]), dim=0, return_inverse=True)
        compared = stored.compared
        origin = stored.origin[:, None].expand_as(compared.rows)
        wanted = _keys(
            origin.flatten(),
            stored.context[compared.rows].flatten(),
            content[len(mine) :][stored.response[compared.rows]].flatten(),
        )
        known = _keys(candidates.origin, candidates.context, content[candidates.response])
        _, number = torch.unique(torch.cat([known, wanted]), dim=0, return_inverse=True)
        row = torch.full((len(number) + 1,), -1, dtype=torch.long)
        last_first = torch.arange(len(known) - 1, -1, -1)
        row[number[last_first]] = last_first
        rows = row[number[len(known) :]].view_as(compared.rows)
        there = (rows >= 0) | ~compared.present
        safe = candidates.gate[rows[:, 0].clamp_min(0)] if len(candidates.gate) else there[:, 0]
        kept = (there.all(-1) & safe).nonzero()[:, 0]
        found = compared.some(kept)
        return replace(found, rows=torch.where(found.present, rows[kept], 0))


@final
class ComparedSource(TunableSource):
    """A half whose candidates are what stored comparisons speak of.

    Args:
        half: Which artifacts the half is tuned from.
        comparisons: Artifact `comparisons`, made with the same tables or scenes.
    """

    def __init__(self, half: TunableSource, comparisons: Path) -> None:
        self.half, self.comparisons = half, comparisons

    def open(self) -> "ComparedHalf":
        """Open the half and the comparisons.

        Raises:
            InputError: If either is not there or is damaged, or the comparisons were made with
                other tables or scenes, whose contexts have other numbers.
        """
        half = self.half.open()
        artifact = read_artifact(self.comparisons, kind=KIND)
        for name, content in artifact.manifest.inputs.items():
            if name != "checkpoint" and half.inputs.get(name, content) != content:
                raise ArtifactMismatch(
                    f"{self.comparisons} was made with other {name} than the half has; compare "
                    "again."
                )
        inputs = {**half.inputs, KIND: artifact.content_hash}
        return ComparedHalf(half, read_comparisons(self.comparisons), inputs)


@final
class ComparedHalf(Tunable[Rows]):
    """See `ComparedSource`; all but the candidates is the half's own."""

    def __init__(self, half: Tunable, stored: StoredComparisons, inputs: Mapping[str, str]) -> None:
        self._half, self._stored = half, stored
        self.policy, self.reward_names, self.facts = half.policy, half.reward_names, half.facts
        self.inputs = inputs

    def candidates(
        self, contexts: Int[Tensor, " row"], policy: Policy[Rows], *, seed: int
    ) -> Candidates:
        """The rows of all comparisons that belong with these contexts, judged; nothing is drawn.

        The policy is not asked, so `log_prob` is 0; the distance is 0 for what was logged and 1 for
        all else.
        """
        stored = self._stored
        chosen = torch.isin(stored.origin, contexts.to(stored.origin))
        some = stored.compared.some(chosen)
        origin = stored.origin[chosen][:, None].expand_as(some.rows)[some.present]
        row = some.rows[some.present]
        keys = _keys(origin, stored.context[row], stored.response[row]).unique(dim=0)
        origin, context, response = keys.unbind(-1)
        answers = stored.responses[response][:, None]
        none = torch.zeros(len(keys))
        target, gate = none.bool(), ~none.bool()
        reward = torch.zeros(len(keys), len(self.reward_names))
        if len(keys):
            same = answers == self._half.targets(context)
            target = same.flatten(1).all(-1) & (context == origin)
            judged = self._half.judge(context, answers)
            reward, gate = judged.reward[:, 0], judged.gate[:, 0]
        return Candidates(
            context=context,
            origin=origin,
            response=response,
            responses=stored.responses,
            target=target,
            gate=gate,
            reward=reward,
            names=self.reward_names,
            log_prob=none,
            distance=(~target).float(),
            group=none.long(),
        )

    def contexts(self, split: str) -> Int[np.ndarray, " context"]:
        """See `Tunable`."""
        return self._half.contexts(split)

    def batch(self, contexts: Int[Tensor, " row"]) -> Rows:
        """See `Tunable`."""
        return self._half.batch(contexts)

    def targets(self, contexts: Int[Tensor, " row"]) -> Tensor:
        """See `Tunable`."""
        return self._half.targets(contexts)

    def judge(self, contexts: Int[Tensor, " row"], responses: Tensor) -> Judged:
        """See `Tunable`."""
        return self._half.judge(contexts, responses)

    def features(self, contexts: Int[Tensor, " row"], responses: Tensor) -> tuple[Tensor, Tensor]:
        """See `Tunable`."""
        return self._half.features(contexts, responses)

    def evaluate(self, policy: Policy[Rows], split: str, *, seed: int = 0) -> Evaluation:
        """See `Tunable`."""
        return self._half.evaluate(policy, split, seed=seed)

    def write(
        self, policy: Policy[Rows], out: Path, *, command: str, options: Mapping[str, Any]
    ) -> None:
        """See `Tunable`."""
        self._half.write(policy, out, command=command, options=options)


def _keys(
    origin: Int[Tensor, " row"], context: Int[Tensor, " row"], response: Int[Tensor, " row"]
) -> Int[Tensor, "row 3"]:
    return torch.stack([origin, context, response], -1)
