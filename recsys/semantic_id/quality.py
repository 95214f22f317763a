"""How good semantic IDs are before anything is trained on them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class LevelQuality:
    """One level of the semantic IDs.

    Attributes:
        size: Number of codes.
        used: Number of codes that an item carries.
        perplexity: Number of codes that would be in use if all were used equally: exp of the
            entropy, in nats, of the codes' frequencies. It is `size` at best and 1 at worst.
        prefixes: Number of distinct IDs up to and including this level.
        mean_children: Codes that follow a prefix before this level, mean over prefixes.
        most_children: The same, at most.
        single_child_share: Share of the prefixes before this level that one code follows.
    """

    size: int
    used: int
    perplexity: float
    prefixes: int
    mean_children: float
    most_children: int
    single_child_share: float


@dataclass(frozen=True)
class Quality:
    """Semantic IDs in figures.

    Attributes:
        items: Number of items.
        levels: Every level, the collision digit included.
        collision_rate: Share of items whose codes another item has too, before the last digit.
        bucket_sizes: Number of codes by how many items have them.
        largest_bucket: Most items with the same codes.
        reconstruction_error: Mean squared distance between embeddings and what their codes stand
            for, as a share of the embeddings' variance; 0 is perfect, 1 is no better than their
            mean. None where there is nothing to compare.
    """

    items: int
    levels: tuple[LevelQuality, ...]
    collision_rate: float
    bucket_sizes: dict[int, int]
    largest_bucket: int
    reconstruction_error: float | None

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        document = asdict(self)
        document["bucket_sizes"] = {str(size): n for size, n in self.bucket_sizes.items()}
        return document


def semantic_id_quality(
    item_codes: Int[Tensor, "item level"],
    level_sizes: Sequence[int],
    *,
    quantizer_codes: Int[Tensor, "item digit"],
    reconstruction_error: float | None = None,
) -> Quality:
    """Use, collisions and branching of semantic IDs.

    Args:
        item_codes: Complete semantic IDs, the collision digit included.
        level_sizes: Number of codes at each of their levels.
        quantizer_codes: What the quantizer gave, before collisions were resolved.
        reconstruction_error: See `relative_reconstruction_error`.

    Raises:
        ValueError: If there are no items.
    """
    if not len(item_codes):
        raise ValueError("item_codes must hold at least one item.")
    _, buckets = torch.unique(quantizer_codes, dim=0, return_counts=True)
    sizes, times = torch.unique(buckets, return_counts=True)
    return Quality(
        items=len(item_codes),
        levels=tuple(
            _level(item_codes[:, : level + 1], size) for level, size in enumerate(level_sizes)
        ),
        collision_rate=float(buckets[buckets > 1].sum()) / len(item_codes),
        bucket_sizes=dict(zip(sizes.tolist(), times.tolist(), strict=True)),
        largest_bucket=int(buckets.max()),
        reconstruction_error=reconstruction_error,
    )


def relative_reconstruction_error(
    embeddings: Float[Tensor, "item width"], reconstructed: Float[Tensor, "item width"]
) -> float | None:
    """Mean squared error of a reconstruction as a share of the embeddings' variance.

    Returns:
        0 where it is perfect, 1 where it is as good as the mean; None where all embeddings agree.
    """
    exact = embeddings.double()
    variance = (exact - exact.mean(0)).square().sum()
    if not bool(variance > 0):
        return None
    return float((exact - reconstructed.double()).square().sum() / variance)


def quality_table(quality: Quality) -> str:
    """The figures as a small table in plain text."""
    lines = ["level  size  used  perplexity  prefixes  children (mean, most)  single child"]
    for number, level in enumerate(quality.levels, 1):
        children = f"{level.mean_children:.1f}, {level.most_children}"
        lines.append(
            f"{number:>5}{level.size:>6}{level.used:>6}{level.perplexity:>12.1f}"
            f"{level.prefixes:>10}{children:>23}{level.single_child_share:>14.1%}"
        )
    lines.append(
        f"{quality.items} items; {quality.collision_rate:.1%} share their codes with another "
        f"before collisions are resolved; largest bucket {quality.largest_bucket}"
    )
    if quality.reconstruction_error is not None:
        lines.append(f"unexplained variance of the vectors: {quality.reconstruction_error:.1%}")
    return "\n".join(lines) + "\n"


def _level(prefixes: Int[Tensor, "item level"], size: int) -> LevelQuality:
    counts = torch.bincount(prefixes[:, -1], minlength=size)
    shares = counts[counts > 0].double() / len(prefixes)
    distinct = torch.unique(prefixes, dim=0)
    if distinct.shape[1] == 1:  # the root is the one prefix before the first level
        children = torch.tensor([len(distinct)])
    else:
        _, children = torch.unique(distinct[:, :-1], dim=0, return_counts=True)
    return LevelQuality(
        size=size,
        used=int((counts > 0).sum()),
        perplexity=float((-(shares * shares.log()).sum()).exp()),
        prefixes=len(distinct),
        mean_children=float(children.double().mean()),
        most_children=int(children.max()),
        single_child_share=float((children == 1).double().mean()),
    )
