"""A T5 of one layer with its tokenizer, randomly initialised, for tests that need one."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

WORDS = ["<pad>", "</s>", "<unk>", "I", "like", "avoid", "Item", ":", "text", "number"]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = WORDS + [str(n) for n in range(80)]
    model = models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def write_tiny_t5(folder: Path) -> str:
    """The folder, with the model and its tokenizer in it."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=100, d_model=12, d_kv=4, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0
    )
    T5EncoderModel(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)
