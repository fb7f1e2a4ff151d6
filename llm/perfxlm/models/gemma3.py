"""Gemma 3, the text model (Gemma Team 2025, "Gemma 3 technical report")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import perfxapi as px
from perfxlm.config import MAX_LAYERS, MAX_LENGTH, MAX_WIDTH, MIN_THETA, ModelConfig, hf_fields, hf_rope, hf_windows
from perfxlm.fields import Fields
from perfxlm.layers.attention import Attention
from perfxlm.layers.base import ModelOptions, Weights
from perfxlm.layers.batch import Batch
from perfxlm.layers.decoder import Decoder, KVCache
from perfxlm.layers.feed_forward import FeedForward
from perfxlm.models.registry import register_model
from perfxlm.rope import RopeConfig

_GLOBAL_EVERY = 6
_LOCAL_THETA, _GLOBAL_THETA = 1e4, 1e6
_LAYERS_OF_27B = 62

# The published multimodal checkpoints leave these out of their text_config.
_HF_DEFAULTS = {
    "vocab_size": 262208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 131072,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": _GLOBAL_EVERY,
    "tie_word_embeddings": True,
}


@register_model("gemma3", "gemma3_text", "Gemma3ForCausalLM", "Gemma3TextModel", "Gemma3ForConditionalGeneration")
class Gemma3(Decoder):
    """Five layers with a sliding window to one without; RMS norm before and after each half layer; tied embeddings."""

    hf_names: ClassVar[Mapping[str, str]] = {
        "post_attention_norm": "post_attention_layernorm",
        "feed_forward_norm": "pre_feedforward_layernorm",
        "post_feed_forward_norm": "post_feedforward_layernorm",
    }

    @classmethod
    def config_from_gguf(cls, metadata: Mapping[str, Any], source: str) -> ModelConfig:
        """See Decoder. The file lacks the scale of queries: head_dim^-1/2, for 27B (hidden_size / num_heads)^-1/2."""
        base = ModelConfig.from_gguf(metadata, source)
        fields = Fields(metadata, source, f"{base.architecture}.")
        window = fields.integer("attention.sliding_window", high=MAX_LENGTH)
        period = fields.integer("attention.sliding_window_pattern", _GLOBAL_EVERY, high=MAX_LAYERS)
        is_local = _local_layers(base.num_layers, period)
        local = RopeConfig(fields.number("rope.freq_base_swa", _LOCAL_THETA, low=MIN_THETA), base.ropes[0].dim)
        scalar = base.hidden_size // base.num_heads if base.num_layers == _LAYERS_OF_27B else base.head_dim
        return replace(
            base,
            query_scale=scalar**-0.5,
            windows=tuple(window if here else 0 for here in is_local),
            ropes=tuple(local if here else rope for here, rope in zip(is_local, base.ropes, strict=True)),
            embedding_scale=math.sqrt(base.hidden_size),
        )

    @classmethod
    def config_from_hf(cls, config: Mapping[str, Any], source: str) -> ModelConfig:
        """See Decoder. Of a multimodal checkpoint, the text model is taken."""
        base = ModelConfig.from_hf(config, source, _HF_DEFAULTS)
        fields = hf_fields(config, source, _HF_DEFAULTS)
        fields.require_choice("hidden_activation", "gelu_pytorch_tanh", "gelu_pytorch_tanh")
        fields.require_absent("use_bidirectional_attention", "attn_logit_softcapping")
        period = fields.integer("sliding_window_pattern", high=MAX_LAYERS)
        window = fields.integer("sliding_window", high=MAX_LENGTH)
        windows = hf_windows(fields, window, _local_layers(base.num_layers, period))
        wide = hf_rope(fields, base.head_dim, theta=_GLOBAL_THETA)
        local = hf_rope(fields, base.head_dim, "sliding_attention", "rope_local_base_freq", _LOCAL_THETA)
        return replace(
            base,
            query_scale=fields.number("query_pre_attn_scalar", low=1e-6, high=MAX_WIDTH) ** -0.5,
            windows=windows,
            ropes=tuple(local if window else wide for window in windows),
            embedding_scale=math.sqrt(base.hidden_size),
            norm_offset=1.0,
            logit_softcap=fields.number("final_logit_softcapping", 0.0),
        )

    def layer(self, index: int, weights: Weights) -> Gemma3Layer:
        """See Decoder."""
        return Gemma3Layer(self.config, index, weights, self.options)


class Gemma3Layer:
    """x + norm(attention(norm(x))), then x + norm(feed_forward(norm(x))), with GELU."""

    def __init__(self, config: ModelConfig, layer: int, weights: Weights, options: ModelOptions) -> None:
        names = ("attention_norm", "post_attention_norm", "feed_forward_norm", "post_feed_forward_norm")
        self._norms = [weights.vector(name, config.hidden_size, layer, config.norm_offset) for name in names]
        self._attention = Attention(config, layer, weights, options, normalize_heads=True)
        self._feed_forward = FeedForward(config, layer, weights, options, activation="gelu_tanh")
        self._eps = config.rms_eps

    def __call__(self, x: px.Array, table: px.Array, batch: Batch, kv: KVCache) -> px.Array:
        """See DecoderLayer."""
        before_attention, after_attention, before_feed_forward, after_feed_forward = self._norms
        mixed = self._attention(px.nn.rms_norm(x, before_attention, eps=self._eps), table, batch, kv)
        x = x + px.nn.rms_norm(mixed, after_attention, eps=self._eps)
        fed = self._feed_forward(px.nn.rms_norm(x, before_feed_forward, eps=self._eps))
        change: px.Array = px.nn.rms_norm(fed, after_feed_forward, eps=self._eps)
        return x + change


def _local_layers(num_layers: int, period: int) -> list[bool]:
    """Which layers have a sliding window: all but each `period`-th."""
    return [(index + 1) % period != 0 for index in range(num_layers)]
