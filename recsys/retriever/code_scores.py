"""Log-probabilities of given semantic IDs: what a beam search would have added up for them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recsys.batch import HistoryBatch
from recsys.retriever.decode import CodeDecoder


def code_scores(
    decoder: CodeDecoder, batch: HistoryBatch, codes: Int[Tensor, "batch candidate level"]
) -> Float[Tensor, "batch candidate"]:
    """The sum over levels of each code's log-probability, given the codes above it.

    It equals the score `BeamSearch` with raw scoring gives an item, wherever the beam finds it.

    Args:
        decoder: The model.
        batch: The rows.
        codes: Semantic IDs to score for each row; they need not be distinct.
    """
    state = decoder.prepare(batch)
    total = torch.zeros(codes.shape[:2], device=codes.device)
    last = torch.zeros_like(codes[:, :1, 0])
    parents = last
    for level in range(codes.shape[2]):
        logits = decoder.step(state, level, last, parents).float().log_softmax(-1)
        wanted = codes[:, :, level]
        if level:
            chosen = logits.gather(2, wanted.unsqueeze(2)).squeeze(2)
        else:  # all candidates still share the start
            chosen = logits[:, 0].gather(1, wanted)
        total = total + chosen
        shape = codes.shape[:2]
        parents = torch.arange(shape[1], device=codes.device).expand(shape)
        parents = parents if level else torch.zeros_like(parents)
        last = wanted
    return total
