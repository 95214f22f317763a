"""What items are read and found by: an embedding of their own, their text and their codes."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from recsys.catalogue import Catalogue


class ItemVectors(nn.Module):
    """Item vectors to read with and to be found by: own embedding, text and codes added up."""

    text: Float[Tensor, "item width"]
    centred_text: Float[Tensor, "item width"]
    centre: Float[Tensor, " width"]
    text_mask: Bool[Tensor, " item"]
    flat_codes: Int[Tensor, "item level"]

    def __init__(self, catalogue: Catalogue, width: int) -> None:
        super().__init__()
        self.own = nn.Embedding(catalogue.item_count, width)
        nn.init.normal_(self.own.weight, std=width**-0.5)
        text = torch.zeros(catalogue.item_count, catalogue.text_width)
        if len(catalogue.text_vectors):
            text = catalogue.text_vectors[catalogue.item_text_ids]
            text = torch.where(catalogue.item_text_mask[:, None], text, 0.0)
        self.register_buffer("text", text, persistent=False)
        centre = text.sum(0) / catalogue.item_text_mask.sum().clamp_min(1)
        self.register_buffer("text_mask", catalogue.item_text_mask, persistent=False)
        self._set_centre(centre)
        sizes = catalogue.level_sizes
        starts = torch.tensor([sum(sizes[:level]) for level in range(len(sizes))], dtype=torch.long)
        self.register_buffer("flat_codes", catalogue.item_codes.long() + starts, persistent=False)
        self.text_in = nn.Linear(text.shape[1], width, bias=False)
        self.text_out = nn.Linear(text.shape[1], width, bias=False)
        self.codes_in = nn.Embedding(max(sum(sizes), 1), width)
        self.codes_out = nn.Embedding(max(sum(sizes), 1), width)
        for text_map in (self.text_in, self.text_out):
            nn.init.normal_(text_map.weight, std=width**-0.5)
        for codes in (self.codes_in, self.codes_out):
            nn.init.normal_(codes.weight, std=0.5 * width**-0.5)

    def keep_centre(self, trained: "ItemVectors") -> None:
        """Measure texts from the centre of the catalogue that was trained on, as its weights do."""
        self._set_centre(trained.centre)

    def _set_centre(self, centre: Float[Tensor, " width"]) -> None:
        centred = torch.where(self.text_mask[:, None], self.text - centre, 0.0)
        self.register_buffer("centre", centre, persistent=False)
        self.register_buffer("centred_text", centred, persistent=False)

    def read(self, item_ids: Int[Tensor, "batch step"]) -> Float[Tensor, "batch step model"]:
        """What the encoder reads of items."""
        codes = self.codes_in(self.flat_codes[item_ids]).sum(-2)
        return self.own(item_ids) + self.text_in(self.text[item_ids]) + codes

    def table(self) -> Float[Tensor, "item model"]:
        """What every item is found by."""
        codes = self.codes_out(self.flat_codes).sum(-2)
        return self.own.weight + self.text_out(self.text) + codes
