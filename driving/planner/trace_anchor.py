"""A trace as one more anchor of the diffusion planner, and what candidates begin at."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from driving.planner.diffusion_decoder import CandidateNotes
from driving.planner.going_on import GoingOn
from driving.planner.planner import PLAN_STEPS
from driving.planner.trace_condition import TraceCondition, trace_changes

STANDING_M = 0.1


@dataclass(frozen=True)
class Beginnings:
    """What the candidates of a planner begin at.

    Attributes:
        anchors: Changes from going on as now, for all rows or for each.
        notes: What there is to know of the candidates besides.
    """

    anchors: Float[Tensor, "*#batch candidate time 3"]
    notes: CandidateNotes | None = None

    def twice(self) -> "Beginnings":
        """The batch behind itself."""
        if self.notes is None:
            return self
        return Beginnings(self.anchors.repeat(2, 1, 1, 1), self.notes.twice())

    def chosen(self, winner: Int[Tensor, " batch"]) -> Float[Tensor, "batch time 3"]:
        """The anchor of one candidate per row."""
        every = self.anchors.expand(len(winner), -1, -1, -1)
        return every.take_along_dim(winner[:, None, None, None], 1)[:, 0]

    def counted(self, scores: Float[Tensor, "batch candidate"]) -> Float[Tensor, "batch candidate"]:
        """Scores with `-inf` where there is no candidate."""
        return scores if self.notes is None else scores.masked_fill(~self.notes.present, -torch.inf)

    def filled(
        self, changes: Float[Tensor, "batch candidate time 3"]
    ) -> Float[Tensor, "batch candidate time 3"]:
        """The first candidate in place of those that are not there, so that it moves no gate."""
        if self.notes is None:
            return changes
        return torch.where(self.notes.present[..., None, None], changes, changes[:, :1])


class TraceAnchor(nn.Module):
    """A trace is one more anchor, the last: its candidate is denoised as the others are.

    An answer tells changes from its anchor, so a planner that says nothing follows the trace; what
    it learns is how to. The candidate is told at which steps there are way-points, and by a token
    that it is no common anchor. Rows without a trace have no such candidate: the others do not see
    it, so they are what they would be without.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.told = nn.Linear(PLAN_STEPS, width)
        nn.init.zeros_(self.told.weight)
        nn.init.zeros_(self.told.bias)

    def forward(
        self, trace: TraceCondition, base: GoingOn, anchors: Float[Tensor, "candidate time 3"]
    ) -> Beginnings:
        """The anchors and the trace's."""
        rows, count = len(trace.mask), len(anchors)
        there = trace.mask.any(-1)
        own = torch.where(there[:, None, None], trace_anchor(trace, base), anchors[0])
        told = self.told(trace.mask.to(self.told.weight.dtype))
        nothing = told.new_zeros(rows, count, told.shape[-1])
        present = torch.ones(rows, count, dtype=torch.bool, device=there.device)
        return Beginnings(
            torch.cat([anchors.expand(rows, -1, -1, -1), own[:, None]], 1),
            CandidateNotes(
                torch.cat([nothing, told[:, None]], 1), torch.cat([present, there[:, None]], 1)
            ),
        )


def trace_anchor(trace: TraceCondition, base: GoingOn) -> Float[Tensor, "batch time 3"]:
    """Changes at all steps: linear between the start and the way-points, constant past the last.

    Headings follow from that, from the step before to the step after; standing they change nothing.
    """
    places = nn.functional.pad(trace_changes(trace, base) * trace.mask[..., None], (0, 0, 1, 0))
    known = nn.functional.pad(trace.mask, (1, 0), value=True)
    step = torch.arange(PLAN_STEPS + 1, device=known.device)
    before = torch.where(known, step, 0).cummax(1).values
    after = torch.where(known, step, PLAN_STEPS + 1).flip(1).cummin(1).values.flip(1)
    after = torch.where(after > PLAN_STEPS, before, after)
    share = (step - before) / (after - before).clamp_min(1)
    first, last = (places.take_along_dim(index[..., None], 1) for index in (before, after))
    changes = first + share[..., None].to(first.dtype) * (last - first)
    along = changes[..., 0] + nn.functional.pad(base.along_m, (1, 0))
    return torch.cat((changes, _turned(along, changes[..., 1])[..., None]), -1)[:, 1:]


def _turned(
    along_m: Float[Tensor, "batch knot"], left_m: Float[Tensor, "batch knot"]
) -> Float[Tensor, "batch knot"]:
    """Headings of a way by central differences, at the end by the last one."""
    ahead, aside = (torch.cat((part[:, :1], part, part[:, -1:]), 1) for part in (along_m, left_m))
    ahead, aside = ahead[:, 2:] - ahead[:, :-2], aside[:, 2:] - aside[:, :-2]
    return torch.where(ahead > STANDING_M, (aside / ahead.clamp_min(STANDING_M)).atan(), 0.0)
