"""Weights of transformers' T5 in our network, for comparison and for a warm start."""

import torch
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration

from recsys.retriever.code_decoder import SemanticIdDecoder
from recsys.retriever.transformer import Encoder, NetworkSize


def t5_size(config: T5Config) -> NetworkSize:
    """The size of our network that holds the weights of a T5.

    Raises:
        ValueError: If its feed-forward layers are not plain ReLU ones.
    """
    if config.is_gated_act or config.dense_act_fn != "relu":
        raise ValueError(
            "only T5 with ReLU feed-forward layers fits this network, "
            f"got {config.feed_forward_proj!r}."
        )
    return NetworkSize(
        width=config.d_model,
        heads=config.num_heads,
        head_width=config.d_kv,
        feedforward=config.d_ff,
        encoder_layers=config.num_layers,
        decoder_layers=config.num_decoder_layers or config.num_layers,
        dropout=config.dropout_rate,
        buckets=config.relative_attention_num_buckets,
        max_distance=config.relative_attention_max_distance,
    )


def copy_t5_weights(
    source: T5ForConditionalGeneration, encoder: Encoder, decoder: SemanticIdDecoder
) -> None:
    """Make our network compute exactly what a T5 of the same size computes.

    The T5's vocabulary must begin with the codec's.

    Args:
        source: The T5, of the size `t5_size` gives.
        encoder: Receives the weights of its encoder.
        decoder: Receives the weights of its decoder, embeddings and head.
    """
    state = source.state_dict()
    rows = decoder.embedding.num_embeddings
    with torch.no_grad():
        decoder.embedding.weight.copy_(state["shared.weight"][:rows])
        if decoder.head is not None:
            decoder.head.weight.copy_(state["lm_head.weight"][:rows])
    _copy_stack(state, "encoder", encoder, len(encoder.attention))
    _copy_stack(state, "decoder", decoder.decoder, decoder.decoder.layers)
    _copy_cross_attention(state, decoder)


def _copy_stack(state: dict[str, Tensor], stack: str, target: nn.Module, layers: int) -> None:
    first = f"{stack}.block.0.layer.0.SelfAttention"
    copies = {
        "norm.weight": state[f"{stack}.final_layer_norm.weight"],
        "positions.bias.weight": state[f"{first}.relative_attention_bias.weight"],
    }
    last = 1 if stack == "encoder" else 2
    for layer in range(layers):
        block = f"{stack}.block.{layer}.layer"
        attention, dense = f"{block}.0.SelfAttention", f"{block}.{last}.DenseReluDense"
        joined = torch.cat([state[f"{attention}.{name}.weight"] for name in "qkv"])
        copies[f"attention.{layer}.norm.weight"] = state[f"{block}.0.layer_norm.weight"]
        copies[f"attention.{layer}.project.weight"] = joined
        copies[f"attention.{layer}.out.weight"] = state[f"{attention}.o.weight"]
        copies[f"feedforward.{layer}.norm.weight"] = state[f"{block}.{last}.layer_norm.weight"]
        copies[f"feedforward.{layer}.rise.weight"] = state[f"{dense}.wi.weight"]
        copies[f"feedforward.{layer}.fall.weight"] = state[f"{dense}.wo.weight"]
    _copy(target, copies)


def _copy_cross_attention(state: dict[str, Tensor], decoder: SemanticIdDecoder) -> None:
    copies, joined = {}, []
    for layer in range(decoder.decoder.layers):
        block = f"decoder.block.{layer}.layer.1"
        copies[f"cross.{layer}.norm.weight"] = state[f"{block}.layer_norm.weight"]
        copies[f"cross.{layer}.query.weight"] = state[f"{block}.EncDecAttention.q.weight"]
        copies[f"cross.{layer}.out.weight"] = state[f"{block}.EncDecAttention.o.weight"]
        joined += [state[f"{block}.EncDecAttention.{name}.weight"] for name in "kv"]
    copies["memory.weight"] = torch.cat(joined)
    _copy(decoder.decoder, copies)


def _copy(target: nn.Module, copies: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, values in copies.items():
            target.get_parameter(name).copy_(values)
