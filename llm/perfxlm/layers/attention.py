"""Causal self-attention with grouped heads (Ainslie et al. 2023) over a paged KV cache (Kwon et al. 2023)."""

from __future__ import annotations

import perfxapi as px
from perfxlm.config import ModelConfig
from perfxlm.layers.base import ModelOptions, Weights, linear
from perfxlm.layers.batch import Batch


class Attention:
    """Attention of decoder layer `layer`; with `normalize_heads`, queries and keys first pass an RMS norm per head."""

    def __init__(
        self, config: ModelConfig, layer: int, weights: Weights, options: ModelOptions, *, normalize_heads: bool = False
    ) -> None:
        self._config, self._layer, self._options = config, layer, options
        query_width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self._query = weights.matrix("query", (query_width, config.hidden_size), layer)
        self._key = weights.matrix("key", (kv_width, config.hidden_size), layer)
        self._value = weights.matrix("value", (kv_width, config.hidden_size), layer)
        self._output = weights.matrix("attention_output", (config.hidden_size, query_width), layer)
        self._norms: tuple[px.Array | None, px.Array | None] = (None, None)
        if normalize_heads:
            query_norm = weights.vector("query_norm", config.head_dim, layer, config.norm_offset)
            self._norms = (query_norm, weights.vector("key_norm", config.head_dim, layer, config.norm_offset))

    def __call__(self, x: px.Array, table: px.Array, batch: Batch, kv: tuple[px.Array, px.Array]) -> px.Array:
        """x [tokens, hidden_size] to the same shape.

        This step's keys and values are written into `kv`, the layer's two caches. `table` is the rotary table at the
        tokens' positions.
        """
        config, (query_norm, key_norm) = self._config, self._norms
        query = self._heads(linear(x, self._query, self._options), config.num_heads)
        key = self._heads(linear(x, self._key, self._options), config.num_kv_heads)
        value = self._heads(linear(x, self._value, self._options), config.num_kv_heads)
        query, key = self._rotate(query, query_norm, table), self._rotate(key, key_norm, table)
        px.nn.kv_write(key, value, batch.slot_mapping, *kv)
        mixed: px.Array = px.nn.paged_attention(
            query,
            *kv,
            batch.query_start,
            batch.kv_len,
            batch.block_table,
            scale=config.query_scale,
            window=config.windows[self._layer],
            softcap=config.attention_softcap,
        )
        return linear(mixed.reshape(x.shape[0], config.num_heads * config.head_dim), self._output, self._options)

    def _heads(self, x: px.Array, num_heads: int) -> px.Array:
        return x.reshape(x.shape[0], num_heads, self._config.head_dim)

    def _rotate(self, x: px.Array, norm: px.Array | None, table: px.Array) -> px.Array:
        if norm is not None:
            x = px.nn.rms_norm(x, norm, eps=self._config.rms_eps)
        rotated: px.Array = px.nn.rope(x, table, interleaved=int(self._config.rope_interleaved))
        return rotated
