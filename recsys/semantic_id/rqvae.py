"""RQ-VAE: residual quantization in a learnt space, trained to rebuild the embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from recsys.semantic_id.k_means import k_means, nearest_centre
from recsys.semantic_id.quantizer import Quantizer, in_order_of_value, one_thread
from recsys.semantic_id.residual_kmeans import nearest_codes, summed_vectors


@dataclass(frozen=True)
class RqVaeTraining:
    """How an RQ-VAE learns.

    Attributes:
        steps: Number of training steps.
        batch_size: Items per step.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        commitment: Weight of the pull of an encoding towards its codes.
        ema_decay: Decay of the moving averages that become the codebooks; 0 trains the codebooks
            by gradient instead.
        restart_every: Steps after which codes that were not used since are moved to encodings of
            the present batch; 0 never does.

    Raises:
        ValueError: If a number is out of range.
    """

    steps: int = 2000
    batch_size: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    commitment: float = 0.25
    ema_decay: float = 0.0
    restart_every: int = 100

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if self.steps < 0 or self.batch_size < 1 or self.restart_every < 0:
            raise ValueError(
                "steps and restart_every must not be negative and batch_size at least 1, got "
                f"{self.steps}, {self.restart_every} and {self.batch_size}."
            )
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay:g}.")


@final
class RqVae(Quantizer):
    """Codes by residual quantization of an encoder's output.

    Codebooks start from k-means on the encodings, and codes that fall out of use are moved to
    where encodings are, so that a level does not collapse onto few codes.

    Args:
        width: Length of an embedding.
        levels: Number of levels.
        codes: Number of codes at every level.
        seed: Seed of weights, batches and restarts.
        hidden: Widths of the encoder's hidden layers; the decoder mirrors them.
        latent: Width of the space that is quantized.
        training: How it learns.

    Raises:
        ValueError: If a number is not positive.

    Source:
        Zeghidour et al., 2021, arXiv:2107.03312 (residual quantization, k-means start, restart);
        TIGER (Rajput et al., 2023, arXiv:2305.05065). Moving averages: van den Oord et al., 2017,
        arXiv:1711.00937, appendix A.1.
    """

    mean: Float[Tensor, " width"]
    scale: Float[Tensor, ""]
    live: Bool[Tensor, "level code"]

    def __init__(
        self,
        width: int,
        *,
        levels: int = 3,
        codes: int = 256,
        seed: int = 0,
        hidden: Sequence[int] = (256, 128),
        latent: int = 32,
        training: RqVaeTraining | None = None,
    ) -> None:
        super().__init__()
        for name, number in (
            ("width", width), ("levels", levels), ("codes", codes), ("latent", latent),
        ):  # fmt: skip
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}.")
        self.seed = seed
        self.training_settings = training or RqVaeTraining()
        sizes = (width, *hidden, latent)
        self.encoder = _perceptron(sizes)
        self.decoder = _perceptron(sizes[::-1])
        self.codebooks = nn.Parameter(torch.zeros(levels, codes, latent))
        self.register_buffer("live", torch.zeros(levels, codes, dtype=torch.bool))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of codes at each level."""
        levels, codes = self.live.shape
        return (codes,) * levels

    def fit(self, embeddings: Float[Tensor, "item width"]) -> None:
        """Train encoder, codebooks and decoder; nothing is drawn from torch's own seed."""
        generator = torch.Generator().manual_seed(self.seed)
        settings = self.training_settings
        with one_thread(), torch.enable_grad():
            rows = in_order_of_value(embeddings).float()
            self._start(rows, generator)
            optimizer = torch.optim.AdamW(
                self.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
            )
            averages = _MovingAverages(self.codebooks.detach(), settings.ema_decay)
            used = torch.zeros_like(self.live)
            for step in range(1, settings.steps + 1):
                batch = rows[_draw(len(rows), settings.batch_size, generator)]
                loss, codes, residuals = self._loss(self._normal(batch))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                averages.update(self.codebooks, codes, residuals)
                used[torch.arange(used.shape[0]), codes] = True
                if settings.restart_every and step % settings.restart_every == 0:
                    self._restart(~used, residuals, generator)
                    averages = _MovingAverages(self.codebooks.detach(), settings.ema_decay)
                    used.zero_()
            self._close(rows)

    @torch.no_grad()
    def assign(self, embeddings: Float[Tensor, "item width"]) -> Int[Tensor, "item level"]:
        """The nearest code of each level to what the levels before it left of the encoding.

        Raises:
            ValueError: If nothing was fitted.
        """
        with one_thread():
            encoder = self.encoder.double()
            encoded = encoder(self._normal(embeddings).double())
            self.encoder.float()
        return nearest_codes(encoded, self.codebooks, self.live)

    @torch.no_grad()
    def reconstruct(self, codes: Int[Tensor, "item level"]) -> Float[Tensor, "item width"]:
        """What the decoder makes of the codes."""
        return self.decoder(summed_vectors(codes, self.codebooks)) * self.scale + self.mean

    def _normal(self, embeddings: Float[Tensor, "item width"]) -> Float[Tensor, "item width"]:
        """Embeddings around zero with numbers of size one, whatever their length was."""
        return (embeddings - self.mean) / self.scale

    @torch.no_grad()
    def _start(self, rows: Float[Tensor, "item width"], generator: Generator) -> None:
        """Fresh weights, and codebooks from k-means on the residuals of their encodings."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
                nn.init.zeros_(layer.bias)
        self.mean.copy_(rows.mean(0))
        self.scale.copy_((rows - self.mean).square().mean().sqrt().clamp_min(1e-6))
        self.live.zero_()
        residuals = self.encoder(self._normal(rows))
        for level, size in enumerate(self.level_sizes):
            centres = k_means(residuals, centre_count=size, generator=generator, iterations=10)
            self.live[level] = True
            spread = residuals.std() if len(residuals) > 1 else residuals.new_ones(())
            self.codebooks[level].normal_(0.0, 1.0, generator=generator).mul_(spread)
            self.codebooks[level, : len(centres)] = centres
            residuals = residuals - centres[nearest_centre(residuals, centres)[0]]

    def _loss(
        self, rows: Float[Tensor, "item width"]
    ) -> tuple[Float[Tensor, ""], Int[Tensor, "item level"], Float[Tensor, "item level latent"]]:
        """Reconstruction, codebook and commitment terms; the codes; and what each level saw."""
        encoded = self.encoder(rows)
        residual, pulls, codes, seen = encoded, [], [], []
        summed = torch.zeros_like(encoded)
        settings = self.training_settings
        for book in self.codebooks:
            code, _ = nearest_centre(residual.detach(), book.detach())
            vector = book[code]
            codebook = functional.mse_loss(vector, residual.detach())
            commitment = functional.mse_loss(residual, vector.detach())
            pulls.append(codebook * (settings.ema_decay == 0.0) + settings.commitment * commitment)
            codes.append(code)
            seen.append(residual.detach())
            residual = residual - vector.detach()
            summed = summed + vector.detach()
        straight_through = encoded + (summed - encoded).detach()
        loss = functional.mse_loss(self.decoder(straight_through), rows) + sum(pulls)
        return loss, torch.stack(codes, 1), torch.stack(seen, 1)

    @torch.no_grad()
    def _restart(
        self,
        unused: Bool[Tensor, "level code"],
        residuals: Float[Tensor, "item level latent"],
        generator: Generator,
    ) -> None:
        """Move unused codes onto residuals of the batch, each onto another one where it can."""
        for level, dead in enumerate(unused):
            numbers = torch.nonzero(dead).flatten()
            order = torch.randperm(len(residuals), generator=generator)[: len(numbers)]
            self.codebooks[level, numbers[: len(order)]] = residuals[order, level]

    @torch.no_grad()
    def _close(self, rows: Float[Tensor, "item width"]) -> None:
        """Keep for assignment the codes that an item of the fitted catalogue carries."""
        codes = self.assign(rows)
        self.live.zero_()
        self.live[torch.arange(codes.shape[1]), codes] = True


class _MovingAverages:
    """Codebooks as moving averages of the residuals they are given; idle where decay is 0."""

    def __init__(self, codebooks: Float[Tensor, "level code latent"], decay: float) -> None:
        self.decay = decay
        self.counts = torch.ones(codebooks.shape[:2])
        self.sums = codebooks.clone()

    @torch.no_grad()
    def update(
        self,
        codebooks: Float[Tensor, "level code latent"],
        codes: Int[Tensor, "item level"],
        residuals: Float[Tensor, "item level latent"],
    ) -> None:
        """Blend a batch in and write the averages into the codebooks."""
        if self.decay == 0.0:
            return
        for level in range(codes.shape[1]):
            count = torch.bincount(codes[:, level], minlength=codebooks.shape[1]).float()
            total = torch.zeros_like(self.sums[level])
            total.index_add_(0, codes[:, level], residuals[:, level])
            self.counts[level].lerp_(count, 1.0 - self.decay)
            self.sums[level].lerp_(total, 1.0 - self.decay)
        codebooks.copy_(self.sums / self.counts.clamp_min(1e-5)[..., None])


def _draw(rows: int, count: int, generator: Generator) -> Int[Tensor, " item"]:
    """Numbers of the rows of one step: all of them where they fit, else drawn afresh."""
    if rows <= count:
        return torch.arange(rows)
    return torch.randint(rows, (count,), generator=generator)


def _perceptron(sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number, (inward, outward) in enumerate(pairwise(sizes)):
        if number:
            layers.append(nn.ReLU())
        layers.append(nn.Linear(inward, outward))
    return nn.Sequential(*layers)
