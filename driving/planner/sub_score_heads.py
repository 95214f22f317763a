"""Predicted sub-scores of trajectories, and the pick that weighs them by preference."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.planner.attention import attention
from driving.planner.batch import PROBABILITIES, SUB_SCORES, ScoredProposals
from driving.planner.planner import PLAN_STEPS, StyleCondition

SCALES = (1.0,) * len(PROBABILITIES) + (2.0, 10.0)
"""What a head's output of 1 stands for: a probability, 2 s of time gap, 10 m/s."""
PREFERRED = (
    ("speed", "mean_speed_mps", 1.0),
    ("time_gap", "mean_time_gap_s", 1.0),
    ("yielding_margin", "time_to_collision", 1.0),
    ("acceleration", "comfort", -0.25),
    ("braking", "comfort", -0.25),
    ("jerk", "comfort", -0.25),
    ("lateral_acceleration", "comfort", -0.25),
)
"""Which sub-score a style dimension of 1 asks more of (or less), and how much."""


@dataclass(frozen=True)
class Selection:
    """How the plan is picked among the candidates.

    Attributes:
        preference_weight: Weight of the sub-scores that the style asks for beside a candidate's
            merit; 0 picks by merit alone.
        safety_gate: A candidate counts only if its predicted probability of no collision within
            the drivable area is at least this share of the safest candidate's; 0 opens the gate.
            No style and no weight moves it. Heads that never saw a target gate nothing.
        central: A candidate's merit is minus its expected distance, in metres, to what will be
            driven: the mean distance to all candidates by their probabilities. Where twenty lie
            close together the likeliest one alone is a poor guess. If false, merit is the log of
            the candidate's own probability.
    """

    preference_weight: float = 0.0
    safety_gate: float = 0.5
    central: bool = True

    def __post_init__(self) -> None:
        if self.preference_weight < 0 or not 0 <= self.safety_gate <= 1:
            raise ValueError(
                "selection needs a preference_weight of at least 0 and a safety_gate from 0 to 1, "
                f"got {self.preference_weight:g} and {self.safety_gate:g}."
            )

    def scores(
        self,
        merit: Float[Tensor, "batch candidate"],
        sub_scores: Float[Tensor, "batch candidate head"],
        known: Bool[Tensor, " head"],
        style: StyleCondition,
    ) -> Float[Tensor, "batch candidate"]:
        """The score of every candidate; `-inf` where the gate is shut.

        Args:
            merit: What the decoder thinks of them.
            sub_scores: Predicted sub-scores in the order of `SUB_SCORES`.
            known: Which heads were ever trained; the others have no say.
            style: What is asked for.
        """
        weights = _preferences(style, sub_scores.device) * known
        weights = weights / sub_scores.new_tensor(SCALES)
        centred = sub_scores - sub_scores.mean(1, keepdim=True)
        scores = merit + self.preference_weight * (centred @ weights.unsqueeze(-1))[..., 0]
        safety = torch.where(known[:2], sub_scores[..., :2], 1.0).prod(-1)
        admitted = safety >= self.safety_gate * safety.amax(-1, keepdim=True)
        return scores.masked_fill(~admitted, -torch.inf)


def expected_distance(
    poses: Float[Tensor, "batch candidate time 3"],
    probabilities: Float[Tensor, "batch candidate"],
) -> Float[Tensor, "batch candidate"]:
    """Mean distance of every candidate to all, in metres, weighed by how probable they are.

    The candidate with the least is the medoid of the predicted distribution: of all candidates
    the one that minimises the expected average displacement error.

    Example:
        >>> three = torch.tensor([0.0, 1.0, 5.0])[None, :, None, None].expand(1, 3, 8, 3)
        >>> along_x, shares = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([[0.2, 0.5, 0.3]])
        >>> expected_distance(three * along_x, shares)
        tensor([[2.0000, 1.4000, 3.0000]])
    """
    apart = (poses[:, :, None, :, :2] - poses[:, None, :, :, :2]).square().sum(-1)
    return (apart.sqrt().mean(-1) * probabilities[:, None]).sum(-1)


class SubScoreHeads(nn.Module):
    """Sub-scores of trajectories, whether candidates, anchors or the log.

    A trajectory looks at the scene once. Because it is read from its poses and not from a
    decoder's features, the heads learn from any proposal with known sub-scores.
    """

    known: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.poses = nn.Linear(3 * PLAN_STEPS, width)
        self.joined = nn.Linear(width, width)
        self.keys_values = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, len(SUB_SCORES))
        self.register_buffer("known", torch.zeros(len(SUB_SCORES), dtype=torch.bool))

    def forward(
        self,
        poses: Float[Tensor, "batch proposal time 3"],
        tokens: Float[Tensor, "batch token width"],
        mask: Bool[Tensor, "batch token"],
    ) -> Float[Tensor, "batch proposal head"]:
        """Outputs before the sigmoid, or in units of `SCALES`; poses are normalised."""
        features = self.joined(self.poses(poses.flatten(2)).relu_())
        keys, values = self.keys_values(tokens).chunk(2, dim=-1)
        seen = attention(features, keys, values, self.heads, mask[:, None, None])
        features = self.norm(features + self.output(seen))
        return self.outer(self.inner(features).relu_())

    def loss(
        self, outputs: Float[Tensor, "batch proposal head"], targets: ScoredProposals
    ) -> Float[Tensor, ""]:
        """Cross-entropy of the probabilities and smooth L1 of the measures, mean over targets."""
        values = targets.values / targets.values.new_tensor(SCALES)
        count = len(PROBABILITIES)
        found = torch.cat(
            [
                functional.binary_cross_entropy_with_logits(
                    outputs[..., :count], values[..., :count].clamp(0.0, 1.0), reduction="none"
                ),
                functional.smooth_l1_loss(
                    outputs[..., count:], values[..., count:], reduction="none"
                ),
            ],
            dim=-1,
        )
        if self.training:
            self.known |= targets.mask.any(1).any(0)
        return (found * targets.mask).sum() / targets.mask.sum().clamp_min(1)


def sub_scores_of(
    outputs: Float[Tensor, "batch proposal head"],
) -> Float[Tensor, "batch proposal head"]:
    """Outputs of the heads as probabilities, seconds and metres per second."""
    count = len(PROBABILITIES)
    scales = outputs.new_tensor(SCALES[count:])
    return torch.cat([outputs[..., :count].sigmoid(), outputs[..., count:] * scales], dim=-1)


def _preferences(style: StyleCondition, device: torch.device) -> Float[Tensor, "batch head"]:
    matrix = torch.zeros(len(STYLE_DIMENSIONS), len(SUB_SCORES))
    for dimension, head, weight in PREFERRED:
        matrix[STYLE_DIMENSIONS.index(dimension), SUB_SCORES.index(head)] = weight
    values = style.values * style.mask
    return values @ matrix.to(device=device, dtype=values.dtype)
