"""SLOT Quantizer: embeddings of items become codes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Quantizer(nn.Module, ABC):
    """Learns codebooks from the embeddings of items and gives any embedding its codes.

    What was learnt lies in the parameters and buffers, so `state_dict` holds all of it.

    Laws, held by `tests/test_slots.py` for every variant: every code lies between 0 and its
    level's size minus 1; fitting twice gives the same codes; reordering the items reorders the
    codes and changes nothing else; an embedding gets the same codes alone and among others; the
    number of threads changes nothing.
    """

    @property
    @abstractmethod
    def level_sizes(self) -> tuple[int, ...]:
        """Number of codes at each level."""

    @abstractmethod
    def fit(self, embeddings: Float[Tensor, "item width"]) -> None:
        """Learn the codebooks; what was learnt before is forgotten."""

    @abstractmethod
    def assign(self, embeddings: Float[Tensor, "item width"]) -> Int[Tensor, "item level"]:
        """Codes of embeddings, seen or unseen."""

    @abstractmethod
    def reconstruct(self, codes: Int[Tensor, "item level"]) -> Float[Tensor, "item width"]:
        """The embeddings that codes stand for."""


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside the block: float sums then come in one order on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def in_order_of_value(
    embeddings: Float[Tensor, "item width"],
) -> Float[Tensor, "item width"]:
    """The same rows in an order that depends on their values alone, not on how items are numbered.

    Raises:
        ValueError: If there is no row or a value is not finite.
    """
    if not embeddings.numel():
        raise ValueError("embeddings must hold at least one item.")
    if not bool(torch.isfinite(embeddings).all()):
        raise ValueError("embeddings must be finite.")
    rows = embeddings.detach().cpu().contiguous().numpy()
    keys = rows.view(f"V{rows.shape[1] * rows.itemsize}").ravel()
    return embeddings[torch.from_numpy(keys.argsort(kind="stable")).to(embeddings.device)]
