"""Preferences without names: a point on a sphere of what can be made, found from comparisons."""

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


@final
class SphereEncoder(nn.Module):
    """What was made (a trajectory, a list of items) as a point on the unit sphere.

    A decoder that is conditioned on the point of what it has to make learns what the points mean
    (hindsight). The last layer is projected, so that every point has length 1: the released code
    only asks for it by a penalty.

    Source:
        Kang et al., 2023, Beyond Reward: Offline Preference-guided Policy Optimization (OPPO),
        arXiv:2305.16217; there three layers and a sum over steps, here a mean.
    """

    def __init__(
        self,
        features: int,
        *,
        latent: int = 8,
        model: int = 32,
        layers: int = 1,
        heads: int = 2,
        steps: int = 64,
    ) -> None:
        """Build the network.

        Args:
            features: Numbers per step.
            latent: Dimensions of the sphere's space.
            model: Width of the layers.
            layers: Layers in which steps attend to one another.
            heads: Attention heads.
            steps: Most steps.
        """
        super().__init__()
        self.project = nn.Linear(features, model)
        self.places = nn.Parameter(torch.randn(steps, model) * 0.02)
        layer = nn.TransformerEncoderLayer(
            model, heads, 2 * model, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.last = nn.Linear(model, latent)

    def forward(
        self,
        steps: Float[Tensor, "batch step feature"],
        mask: Bool[Tensor, "batch step"],
    ) -> Float[Tensor, "batch latent"]:
        """A unit vector per row; padding changes nothing. A row needs at least one real step."""
        features = self.project(torch.where(mask[..., None], steps, 0.0))
        features = features + self.places[: steps.shape[1]]
        features = self.layers(features, src_key_padding_mask=~mask)
        weights = mask[..., None].to(features.dtype)
        mean = (features * weights).sum(1) / weights.sum(1)
        return functional.normalize(self.last(mean), dim=-1)


def triplet(
    anchor: Float[Tensor, "*#row latent"],
    better: Float[Tensor, "*row latent"],
    worse: Float[Tensor, "*row latent"],
    *,
    margin: float = 1.0,
) -> Float[Tensor, "*row"]:
    """How far the better one is from being nearer to the anchor than the worse one by a margin.

    Example:
        >>> triplet(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))
        tensor(2.)
    """
    near, far = (anchor - better).norm(dim=-1), (anchor - worse).norm(dim=-1)
    return (near - far + margin).clamp_min(0)


def hindsight_loss(
    reconstruction: Float[Tensor, " batch"],
    anchor: Float[Tensor, "#pair latent"],
    better: Float[Tensor, "pair latent"],
    worse: Float[Tensor, "pair latent"],
    *,
    triplet_weight: float = 0.1,
) -> Float[Tensor, ""]:
    """What encoder and decoder minimise; the latent preference is held still.

    Args:
        reconstruction: Minus the log-probability of what was made, given its own point.
        anchor: Latent preference of each pair's subject; no gradient reaches it.
        better: Points of what was preferred, with gradients.
        worse: Points of what it was preferred to.
        triplet_weight: What the comparisons are worth beside the reconstruction.

    Source:
        OPPO, arXiv:2305.16217. Its penalty on the length of the points is not needed on a sphere.
    """
    compared = triplet(anchor.detach(), better, worse)
    return reconstruction.mean() + triplet_weight * compared.mean()


def mean_difference(
    better: Float[Tensor, "user pair latent"],
    worse: Float[Tensor, "user pair latent"],
    mask: Bool[Tensor, "user pair"],
) -> Float[Tensor, "user latent"]:
    """The unit direction from what is worse to what is better, on average.

    It needs no optimisation, so it is what a found latent is compared with, and where it starts.
    From 20 comparisons it was the better of the two in `benchmarks/methods/oppo.py`.

    Returns:
        Zeros for a user without comparisons, or whose comparisons cancel.
    """
    total = ((better - worse) * mask[..., None]).sum(1)
    length = total.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-6, total / length.clamp_min(1e-6), 0.0)


def found_latents(
    better: Float[Tensor, "user pair latent"],
    worse: Float[Tensor, "user pair latent"],
    mask: Bool[Tensor, "user pair"],
    *,
    start: Float[Tensor, "user latent"] | None = None,
    steps: int = 200,
    learning_rate: float = 0.05,
    margin: float = 1.0,
) -> Float[Tensor, "user latent"]:
    """A latent preference per user by gradient steps on it alone; encoder and decoder stay.

    The latent stays on the sphere: its direction is what is optimised, and after every step it is
    projected. Without that it grows to several times the length of anything the decoder has seen,
    because the margin always asks for more. Projecting alone is not enough either: Adam scales
    every coordinate of the gradient, which does not vanish at the best point of the sphere but
    points outwards there, so it would drift towards directions whose coordinates are equally large.

    Args:
        better: Points of what each user preferred.
        worse: Points of what they preferred it to.
        mask: Which pairs are real.
        start: Where to begin, of any length but 0. Default: `mean_difference`.
        steps: Gradient steps.
        learning_rate: Of Adam.
        margin: Of the triplet.

    Returns:
        Unit vectors; zeros for a user who has no comparison and no start.

    Source:
        OPPO, arXiv:2305.16217, whose released code has the projection commented out.
    """
    better, worse = better.detach(), worse.detach()
    start = mean_difference(better, worse, mask) if start is None else start.detach()
    latents = functional.normalize(start, dim=-1).requires_grad_()
    optimizer = torch.optim.Adam([latents], lr=learning_rate)
    count = mask.sum(1).clamp_min(1)
    with torch.enable_grad():
        for _ in range(steps):
            directions = functional.normalize(latents, dim=-1)
            loss = triplet(directions[:, None], better, worse, margin=margin) * mask
            optimizer.zero_grad()
            (loss.sum(1) / count).sum().backward()
            optimizer.step()
            with torch.no_grad():
                latents.copy_(functional.normalize(latents, dim=-1))
    return latents.detach()
