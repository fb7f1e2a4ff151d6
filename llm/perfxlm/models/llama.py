"""Llama 2 and 3 (Touvron et al. 2023; Grattafiori et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from perfxlm.config import ModelConfig, hf_fields
from perfxlm.layers.base import Weights
from perfxlm.layers.decoder import Decoder, PreNormLayer
from perfxlm.models.registry import register_model


@register_model("llama", "LlamaForCausalLM")
class Llama(Decoder):
    """Grouped-query attention with rotary embedding, RMS norm before each half layer, SiLU gate."""

    @classmethod
    def config_from_gguf(cls, metadata: Mapping[str, Any], source: str) -> ModelConfig:
        """See Decoder. GGUF files hold the rows of queries and keys permuted, so that neighbors are rotated."""
        return replace(ModelConfig.from_gguf(metadata, source), rope_interleaved=True)

    @classmethod
    def config_from_hf(cls, config: Mapping[str, Any], source: str) -> ModelConfig:
        """See Decoder."""
        defaults = {"tie_word_embeddings": False, "hidden_act": "silu"}
        hf_fields(config, source, defaults).require_choice("hidden_act", "silu", "silu")
        return ModelConfig.from_hf(config, source, defaults)

    def layer(self, index: int, weights: Weights) -> PreNormLayer:
        """See Decoder."""
        return PreNormLayer(self.config, index, weights, self.options)
