"""The scene as tokens: one per road user, per piece of a map line, per piece of the route, and ego.

Every group of points goes through a small PointNet (Qi et al., 2017, arXiv:1612.00593; for
polylines as in VectorNet, Gao et al., 2020, arXiv:2005.04259), then all tokens attend to each
other. Nothing knows the order of agents or lines and absent ones are masked keys, so padding and
where it stands changes nothing.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from driving.planner.attention import EncoderLayer
from driving.planner.planner import PlannerInput

POSITION_M, SPACING_M, SPEED_MPS, SIZE_M, HISTORY_S = 40.0, 5.0, 10.0, 5.0, 1.0
"""What an input of 1 stands for."""
HISTORY_STEP_S = 0.1
AGENT_KINDS, LINE_KINDS, LIGHTS = 5, 5, 4


@dataclass(frozen=True)
class SceneTokens:
    """An encoded scene.

    Attributes:
        tokens: The first one is the ego.
        mask: Which tokens stand for something; the ego's always does.
    """

    tokens: Float[Tensor, "batch token width"]
    mask: Bool[Tensor, "batch token"]

    @property
    def vector(self) -> Float[Tensor, "batch both"]:
        """The ego's token beside the mean of all tokens."""
        weights = self.mask.unsqueeze(-1).to(self.tokens.dtype)
        mean = (self.tokens * weights).sum(1) / weights.sum(1)
        return torch.cat([self.tokens[:, 0], mean], dim=-1)


class PointNet(nn.Module):
    """One token per group of points: two layers on every point, then the largest of each feature.

    A group without points gives the token of its attributes alone.
    """

    def __init__(self, features: int, attributes: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(features, width)
        self.second = nn.Linear(width, width)
        self.output = nn.Linear(width + attributes, width)

    def forward(
        self,
        points: Float[Tensor, "batch group point feature"],
        mask: Bool[Tensor, "batch group point"],
        attributes: Float[Tensor, "batch group attribute"],
        shift: Float[Tensor, "batch group point width"] | None = None,
    ) -> Float[Tensor, "batch group width"]:
        """The tokens.

        Args:
            points: Features of every point.
            mask: Which points are there.
            attributes: What is known of the group as a whole.
            shift: Added to the first layer's output.
        """
        hidden = self.first(points)
        hidden = (hidden if shift is None else hidden + shift).relu_()
        values = self.second(hidden).relu_().masked_fill(~mask.unsqueeze(-1), 0.0)
        return self.output(torch.cat([values.amax(-2), attributes], dim=-1))


class SceneEncoder(nn.Module):
    """Tokens of a scene; knows no style, so one encoding serves every style."""

    def __init__(
        self,
        width: int = 64,
        *,
        heads: int = 4,
        layers: int = 2,
        feedforward: int = 128,
        history_steps: int = 11,
        route_piece_points: int = 10,
    ) -> None:
        """Set the sizes.

        Args:
            width: Numbers per token.
            heads: Attention heads; they divide the width.
            layers: Transformer layers.
            feedforward: Width inside their feed-forward networks.
            history_steps: Newest steps of the ego's history that are read.
            route_piece_points: Points of the route in one token.

        Raises:
            ValueError: If the heads do not divide the width.
        """
        super().__init__()
        if width % heads:
            raise ValueError(f"heads must divide the width {width}, got {heads}.")
        self.history_steps = history_steps
        self.route_piece_points = route_piece_points
        self.ego = nn.Linear(6 * history_steps + 2, width)
        self.agents = PointNet(7, 2, width)
        self.lines = PointNet(4, 2, width)
        self.route = PointNet(6, 0, width)
        self.agent_kinds = nn.Embedding(AGENT_KINDS, width)
        self.line_kinds = nn.Embedding(LINE_KINDS, width)
        self.line_lights = nn.Embedding(LIGHTS, width)
        self.route_lights = nn.Embedding(LIGHTS, width)
        self.route_kind = nn.Parameter(0.02 * torch.randn(width))
        self.layers = nn.ModuleList(EncoderLayer(width, heads, feedforward) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, scene: PlannerInput) -> SceneTokens:
        """The encoded scenes."""
        route, route_mask = self._route_tokens(scene)
        tokens = torch.cat(
            [
                self._ego_token(scene).unsqueeze(1),
                self._agent_tokens(scene),
                self._line_tokens(scene),
                route,
            ],
            dim=1,
        )
        ego_mask = torch.ones_like(scene.ego_history_mask[:, :1])
        mask = torch.cat(
            [ego_mask, scene.agent_mask.any(-1), scene.line_mask.any(-1), route_mask], dim=1
        )
        key_mask = mask[:, None, None]
        for layer in self.layers:
            tokens = layer(tokens, key_mask)
        return SceneTokens(self.norm(tokens), mask)

    def _ego_token(self, scene: PlannerInput) -> Float[Tensor, "batch width"]:
        missing = self.history_steps - scene.ego_history.shape[1]
        history = scene.ego_history[:, -self.history_steps :]
        seen = scene.ego_history_mask[:, -self.history_steps :]
        if missing > 0:
            history = functional.pad(history, (0, 0, missing, 0))
            seen = functional.pad(seen, (missing, 0))
        features = torch.cat(
            [
                history[..., :2] / POSITION_M,
                history[..., 2:3].sin(),
                history[..., 2:3].cos(),
                history[..., 3:] / SPEED_MPS,
                torch.ones_like(history[..., :1]),
            ],
            dim=-1,
        )
        features = features.masked_fill(~seen.unsqueeze(-1), 0.0).flatten(1)
        return self.ego(torch.cat([features, scene.ego_size_m / SIZE_M], dim=-1))

    def _agent_tokens(self, scene: PlannerInput) -> Float[Tensor, "batch agent width"]:
        agents = scene.agents
        ages = torch.arange(1 - agents.shape[2], 1, device=agents.device, dtype=agents.dtype)
        ages = (ages * (HISTORY_STEP_S / HISTORY_S))[:, None].expand(*agents.shape[:3], 1)
        heading = agents[..., 2:3]
        points = torch.cat(
            [
                agents[..., :2] / POSITION_M,
                heading.sin(),
                heading.cos(),
                agents[..., 3:] / SPEED_MPS,
                ages,
            ],
            dim=-1,
        )
        tokens = self.agents(points, scene.agent_mask, scene.agent_sizes_m / SIZE_M)
        return tokens + self.agent_kinds(scene.agent_kinds)

    def _line_tokens(self, scene: PlannerInput) -> Float[Tensor, "batch line width"]:
        limits = torch.stack(
            [scene.line_limits_mps / SPEED_MPS, scene.line_limit_mask.to(scene.lines.dtype)], -1
        )
        points = _with_directions(scene.lines, scene.line_mask)
        tokens = self.lines(points, scene.line_mask, limits)
        return tokens + self.line_kinds(scene.line_kinds) + self.line_lights(scene.line_lights)

    def _route_tokens(
        self, scene: PlannerInput
    ) -> tuple[Float[Tensor, "batch piece width"], Bool[Tensor, "batch piece"]]:
        """Tokens of pieces of equally many points, counted from the beginning of the route."""
        size = self.route_piece_points
        short = -scene.route.shape[1] % size
        points = torch.cat(
            [
                _with_directions(scene.route, scene.route_mask),
                scene.route_limits_mps.unsqueeze(-1) / SPEED_MPS,
                scene.route_limit_mask.unsqueeze(-1).to(scene.route.dtype),
            ],
            dim=-1,
        )
        points = functional.pad(points, (0, 0, 0, short)).unflatten(1, (-1, size))
        mask = functional.pad(scene.route_mask, (0, short)).unflatten(1, (-1, size))
        lights = functional.pad(scene.route_lights, (0, short)).unflatten(1, (-1, size))
        nothing = points.new_zeros(*points.shape[:2], 0)
        tokens = self.route(points, mask, nothing, self.route_lights(lights))
        return tokens + self.route_kind, mask.any(-1)


def _with_directions(
    points: Float[Tensor, "batch *group point 2"], mask: Bool[Tensor, "batch *group point"]
) -> Float[Tensor, "batch *group point 4"]:
    """Scaled positions beside the way to the next point; 0 where there is no next one."""
    steps = torch.diff(points, dim=-2) / SPACING_M
    together = (mask[..., 1:] & mask[..., :-1]).unsqueeze(-1)
    steps = functional.pad(steps.masked_fill(~together, 0.0), (0, 0, 0, 1))
    return torch.cat([points / POSITION_M, steps], dim=-1)
