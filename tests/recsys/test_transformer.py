"""Our encoder-decoder beside transformers' T5, whole sequences beside steps."""

import pytest
import torch
import torch.nn.functional as F
from transformers import T5Config, T5ForConditionalGeneration

from recsys.retriever.code_decoder import SemanticIdDecoder
from recsys.retriever.t5_weights import copy_t5_weights, t5_size
from recsys.retriever.transformer import Encoder, _attention, attention_bias
from recsys.semantic_id.codec import SemanticIdCodec

LEVEL_SIZES = (7, 5, 4)
CODEC = SemanticIdCodec(torch.tensor([[0, 0, 0], [6, 4, 3]]), LEVEL_SIZES)


def small_t5(*, tied: bool = True, **changes) -> T5ForConditionalGeneration:
    torch.manual_seed(3)
    options = {
        "vocab_size": 3 + sum(LEVEL_SIZES), "d_model": 16, "d_kv": 6, "d_ff": 20, "num_heads": 2,
        "num_layers": 2, "num_decoder_layers": 3, "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 20, "pad_token_id": 0, "eos_token_id": None,
        "decoder_start_token_id": 1, "feed_forward_proj": "relu",
    }  # fmt: skip
    model = T5ForConditionalGeneration(T5Config(**(options | changes)))
    if not tied:
        model.config.scale_decoder_outputs = False
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    for name, parameter in model.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(parameter, mean=1.0)
    return model.eval()


def ours(model: T5ForConditionalGeneration, *, tied: bool = True):
    size = t5_size(model.config)
    encoder, decoder = Encoder(size), SemanticIdDecoder(CODEC, size, tied=tied)
    copy_t5_weights(model, encoder, decoder)
    return encoder.eval(), decoder.eval()


def inputs():
    torch.manual_seed(4)
    tokens = torch.randint(3, 3 + sum(LEVEL_SIZES), (3, 37))
    mask = torch.arange(37) < torch.tensor([[37], [5], [1]])
    codes = torch.stack([torch.randint(0, s, (3,)) for s in LEVEL_SIZES], 1)
    return tokens * mask, mask, codes


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_logits_equal_those_of_transformers(tied):
    model = small_t5(tied=tied)
    encoder, decoder = ours(model, tied=tied)
    tokens, mask, codes = inputs()
    started = decoder.started_tokens(codes[:, :-1])
    theirs = model(input_ids=tokens, attention_mask=mask.long(), decoder_input_ids=started).logits

    memory = decoder.prepare(encoder(decoder.embedding(tokens), mask), mask)
    hidden = decoder.decoder(decoder.embedding(started), memory)

    for level, (start, size) in enumerate(zip(decoder.offsets, LEVEL_SIZES, strict=True)):
        torch.testing.assert_close(
            decoder.level_logits(level, hidden[:, level]), theirs[:, level, start : start + size],
            rtol=1e-4, atol=1e-4,
        )  # fmt: skip


@torch.no_grad()
def test_steps_with_reordered_beams_equal_whole_sequences():
    encoder, decoder = ours(small_t5())
    tokens, mask, _ = inputs()
    encoded = encoder(decoder.embedding(tokens), mask)
    memory = decoder.prepare(encoded, mask)
    zeros = torch.zeros(3, 1, dtype=torch.long)
    decoder.step(memory, 0, zeros, zeros)
    first = torch.tensor([[3, 6], [0, 2], [5, 1]])
    decoder.step(memory, 1, first, torch.zeros(3, 2, dtype=torch.long))
    second = torch.tensor([[4, 0, 2], [1, 3, 1], [0, 0, 4]])
    parents = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 0, 1]])
    logits = decoder.step(memory, 2, second, parents)

    for beam in range(3):
        path = torch.stack((first.gather(1, parents[:, beam : beam + 1])[:, 0], second[:, beam]), 1)
        whole = decoder.started_tokens(path)
        hidden = decoder.decoder(decoder.embedding(whole), decoder.prepare(encoded, mask))
        expected = decoder.level_logits(2, hidden[:, 2])
        torch.testing.assert_close(logits[:, beam], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_padding_changes_nothing():
    encoder, decoder = ours(small_t5())
    tokens, mask, _ = inputs()
    zeros = torch.zeros(3, 1, dtype=torch.long)

    def logits(tokens, mask):
        memory = decoder.prepare(encoder(decoder.embedding(tokens), mask), mask)
        return decoder.step(memory, 0, zeros[: len(tokens)], zeros[: len(tokens)])

    together = logits(tokens, mask)
    for row, length in enumerate((37, 5, 1)):
        alone = logits(tokens[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("places", [7, 3])
def test_attention_and_its_gradients_equal_those_of_torch(places):
    torch.manual_seed(6)
    padding = attention_bias(torch.arange(7) < torch.tensor([[7], [4]]))
    queries, keys, values = (torch.randn(2, 3, length, 5) for length in (places, 7, 7))
    inputs = (queries, keys, values, torch.randn(1, 3, places, 7))
    slope = torch.randn(2, places, 15)

    def mine(queries, keys, values, bias):
        return _attention(queries, keys, values, bias + padding, 0.0)

    def theirs(queries, keys, values, bias):
        bias = bias + padding
        read = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=1.0)
        return read.transpose(1, 2).flatten(2)

    def with_gradients(function):
        leaves = [each.clone().requires_grad_() for each in inputs]
        read = function(*leaves)
        return read, *torch.autograd.grad(read, leaves, slope)

    torch.testing.assert_close(with_gradients(mine), with_gradients(theirs))
    torch.testing.assert_close(mine(*inputs), theirs(*inputs))


def test_attention_drops_whole_weights_and_keeps_their_mean():
    torch.manual_seed(7)
    zeros = torch.zeros(1, 1, 400, 4, requires_grad=True)
    values = torch.ones(1, 1, 50, 4)
    read = _attention(zeros, zeros[:, :, :50], values, torch.zeros(1, 1, 1, 50), 0.2)
    kept = read * 50 * 0.8
    torch.testing.assert_close(kept, kept.round(), rtol=0, atol=1e-3)
    assert 0.5 < kept.std() < 5
    assert abs(read.mean().item() - 1) < 0.02


def test_loss_is_the_cross_entropy_of_each_level():
    encoder, decoder = ours(small_t5())
    tokens, mask, codes = inputs()
    memory = decoder.prepare(encoder(decoder.embedding(tokens), mask), mask)
    real = torch.tensor([True, False, True])
    loss = decoder.loss(memory, codes, real)
    started = decoder.started_tokens(codes[:, :-1])
    hidden = decoder.decoder(decoder.embedding(started), memory)
    terms = [
        -decoder.level_logits(level, hidden[row, level]).log_softmax(-1)[codes[row, level]]
        for row in (0, 2)
        for level in range(3)
    ]
    torch.testing.assert_close(loss, torch.stack(terms).mean())
    assert decoder.loss(memory, codes, real & False) == 0


def test_autocast_runs_in_bfloat16_and_stays_close():
    encoder, decoder = ours(small_t5())
    tokens, mask, codes = inputs()

    def loss():
        memory = decoder.prepare(encoder(decoder.embedding(tokens), mask), mask)
        return decoder.loss(memory, codes, mask[:, 0])

    exact = loss()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = loss()
    rough.backward()
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)


def test_gated_t5_is_refused():
    with pytest.raises(ValueError, match="only T5 with ReLU feed-forward layers"):
        t5_size(T5Config(feed_forward_proj="gated-gelu"))
