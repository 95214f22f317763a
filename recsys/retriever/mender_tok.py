"""Mender-Tok: the next item's semantic ID from the words of preferences and items."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from data_prep.errors import InputError
from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.retriever.decode import BeamSearch
from recsys.retriever.generative import (
    Conditioning,
    GenerativeRetriever,
    last_preferences,
    recent_history,
)
from recsys.retriever.prompt import AVOID, ITEM, LIKE, PromptTable, pack
from recsys.retriever.transformer import NetworkSize


@final
class MenderTok(GenerativeRetriever):
    """Reads preferences and the texts of past items through a pretrained language encoder.

    The text is preferences first, then items, oldest first. Where it is too long, whole items are
    left out, the oldest first, and preferences stay. What is liked, avoided and met is said in
    words and once more by a learned vector on every token the decoder reads.

    Source:
        Paischer et al., 2025, Preference Discerning with LLM-Enhanced Generative Retrieval, arXiv
        2412.08604.
    """

    uses_preferences: ClassVar[bool] = True

    def __init__(  # noqa: PLR0913  (each one is a documented option of the configuration)
        self,
        catalogue: Catalogue,
        *,
        encoder: str,
        size: NetworkSize = NetworkSize(),  # noqa: B008  (frozen, and shown by --help)
        lora_rank: int = 16,
        history_items: int = 20,
        most_tokens: int = 256,
        most_text_tokens: int = 32,
        download: bool = False,
        conditioning: Conditioning = Conditioning(),  # noqa: B008
        label_smoothing: float = 0.0,
        search: BeamSearch = BeamSearch(),  # noqa: B008
    ) -> None:
        """Load the encoder and cut every text into tokens once.

        Args:
            catalogue: Semantic IDs of the items and the texts themselves.
            encoder: Name or folder of a T5-like checkpoint with its tokenizer.
            size: Widths and depths; only the decoder's are used.
            lora_rank: Rank of the trained low-rank additions to the encoder's queries and values;
                0 leaves the encoder as it is.
            history_items: Latest items read; older ones are left out.
            most_tokens: Most tokens read of a row.
            most_text_tokens: Most tokens read of one text.
            download: Fetch the checkpoint where it is not on this machine.
            conditioning: How preferences take part.
            label_smoothing: Share of the target's probability spread over all codes.
            search: How to search when recommending.

        Raises:
            InputError: If the catalogue has no texts or no semantic IDs, or there is no such
                checkpoint on this machine.
        """
        super().__init__(
            catalogue,
            size=size,
            tied=True,
            search=search,
            conditioning=conditioning,
            label_smoothing=label_smoothing,
        )
        if not catalogue.texts:
            raise InputError(
                "Mender-Tok reads texts; run `personalize encode` and pass its artifact as "
                "data.vectors."
            )
        tokenizer, self.encoder = _load(encoder, lora_rank=lora_rank, download=download)
        self.prompts = PromptTable(catalogue.texts, tokenizer, most_text_tokens=most_text_tokens)
        self.project = nn.Linear(self.encoder.config.hidden_size, size.width, bias=False)
        self.kinds = nn.Embedding(4, size.width)
        self._frozen = lora_rank == 0
        self._history_items = history_items
        self._most_tokens = most_tokens
        self.register_buffer("item_text_ids", catalogue.item_text_ids, persistent=False)
        self.register_buffer("item_text_mask", catalogue.item_text_mask, persistent=False)

    item_text_ids: Int[Tensor, " item"]
    item_text_mask: Bool[Tensor, " item"]

    def encode(
        self, batch: HistoryBatch
    ) -> tuple[Float[Tensor, "batch token model"], Bool[Tensor, "batch token"]]:
        """One vector per token of the text."""
        text_ids, preference_mask, avoid = last_preferences(batch)
        items, item_mask = recent_history(batch, self._history_items)
        item_mask = item_mask & self.item_text_mask[items]
        prompt = pack(
            self.prompts,
            torch.cat((text_ids, self.item_text_ids[items]), dim=1),
            torch.cat((torch.where(avoid, AVOID, LIKE), torch.full_like(items, ITEM)), dim=1),
            torch.cat((preference_mask, item_mask), dim=1),
            preferences=text_ids.shape[1],
            most_tokens=self._most_tokens,
        )
        with torch.no_grad() if self._frozen else nullcontext():
            read = self.encoder(input_ids=prompt.tokens, attention_mask=prompt.mask.long())
        return self.project(read.last_hidden_state) + self.kinds(prompt.kinds), prompt.mask


def _load(encoder: str, *, lora_rank: int, download: bool) -> tuple[Any, Any]:
    """Tokenizer and encoder; dropout is off in a frozen encoder."""
    from transformers import AutoModelForTextEncoding, AutoTokenizer

    options: dict[str, Any] = {} if lora_rank else {"dropout_rate": 0.0}
    try:
        tokenizer = AutoTokenizer.from_pretrained(encoder, local_files_only=not download)
        model = AutoModelForTextEncoding.from_pretrained(
            encoder, local_files_only=not download, **options
        )
    except OSError as error:
        remedy = "check its name" if download or Path(encoder).exists() else "set download to true"
        raise InputError(f"No encoder checkpoint {encoder!r} was found; {remedy}.") from error
    if not lora_rank:
        return tokenizer, model.requires_grad_(False)
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, target_modules=["q", "v"])
    return tokenizer, get_peft_model(model, lora)
