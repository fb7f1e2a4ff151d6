"""The trunk that decoder-only transformers share: embedding, layers, final normalization, head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import perfxapi as px
from perfxlm.config import ModelConfig
from perfxlm.layers.attention import Attention
from perfxlm.layers.base import KVSpec, ModelOptions, Weights, linear
from perfxlm.layers.batch import Batch
from perfxlm.layers.feed_forward import FeedForward
from perfxlm.layers.rotary import RotaryTables

KVCache = tuple[px.Array, px.Array]


class DecoderLayer(Protocol):
    """One layer of a decoder."""

    def __call__(self, x: px.Array, table: px.Array, batch: Batch, kv: KVCache) -> px.Array:
        """The residual stream x [tokens, hidden_size] after this layer. See `Attention` for the other arguments."""


class PreNormLayer:
    """The layer of Llama and its kin: x + attention(norm(x)), then x + feed_forward(norm(x)), with SiLU."""

    def __init__(
        self, config: ModelConfig, layer: int, weights: Weights, options: ModelOptions, *, normalize_heads: bool = False
    ) -> None:
        self._eps = config.rms_eps
        self._attention_norm = weights.vector("attention_norm", config.hidden_size, layer)
        self._attention = Attention(config, layer, weights, options, normalize_heads=normalize_heads)
        self._feed_forward_norm = weights.vector("feed_forward_norm", config.hidden_size, layer)
        self._feed_forward = FeedForward(config, layer, weights, options, activation="silu")

    def __call__(self, x: px.Array, table: px.Array, batch: Batch, kv: KVCache) -> px.Array:
        """See DecoderLayer."""
        x = x + self._attention(px.nn.rms_norm(x, self._attention_norm, eps=self._eps), table, batch, kv)
        return x + self._feed_forward(px.nn.rms_norm(x, self._feed_forward_norm, eps=self._eps))


class Decoder(ABC):
    """A decoder-only language model. An architecture says how its files are read, and what its layers are.

    `head` is the output matrix [vocab_size, hidden_size] (the embedding table itself, where they are tied); logits are
    hidden @ head.T, capped by `logit_softcap` where that is not 0. `kv_specs` lists the KV caches, one per layer.
    """

    hf_names: ClassVar[Mapping[str, str]] = {}
    """Names of tensors in HuggingFace checkpoints where they differ from the usual (see `perfxlm.weights.names`)."""

    def __init__(self, config: ModelConfig, weights: Weights, options: ModelOptions | None = None) -> None:
        self.config, self.options = config, options or ModelOptions()
        self.hidden_size, self.vocab_size = config.hidden_size, config.vocab_size
        self.logit_softcap = config.logit_softcap
        table_shape = (config.vocab_size, config.hidden_size)
        self._embedding = weights.matrix("token_embedding", table_shape)
        self._layers = [self.layer(index, weights) for index in range(config.num_layers)]
        self._output_norm = weights.vector("output_norm", config.hidden_size, offset=config.norm_offset)
        self.head = self._embedding if config.tied_embeddings else weights.matrix("output", table_shape)
        self._rotary = RotaryTables(config.ropes, self.options)
        self.kv_specs = [
            KVSpec(config.num_kv_heads, config.head_dim, window, self.options.kv_dtype, self.options.device_of(layer))
            for layer, window in enumerate(config.windows)
        ]

    @classmethod
    @abstractmethod
    def config_from_gguf(cls, metadata: Mapping[str, Any], source: str) -> ModelConfig:
        """The configuration in a GGUF file's metadata. Raises ConfigError naming `source` and the bad key."""

    @classmethod
    @abstractmethod
    def config_from_hf(cls, config: Mapping[str, Any], source: str) -> ModelConfig:
        """The configuration in a decoded config.json. Raises ConfigError naming `source` and the bad key."""

    @abstractmethod
    def layer(self, index: int, weights: Weights) -> DecoderLayer:
        """Builds decoder layer `index`."""

    def hidden(self, batch: Batch, kv: Sequence[KVCache]) -> px.Array:
        """The final hidden states [num_tokens, hidden_size] of the step's tokens, normalized: the input of `head`.

        `kv` holds each layer's key and value cache, which are written in place. Where layers have devices, the
        embedding is on that of the first.
        """
        on_device_of, tables = self.options.on_device_of, self._rotary(batch.positions)
        with on_device_of(0):
            x: px.Array = px.nn.embedding(batch.tokens, self._embedding, scale=self.config.embedding_scale)
        for index, (layer, table, cache) in enumerate(zip(self._layers, tables, kv, strict=True)):
            with on_device_of(index):
                x = layer(x, table, batch, cache)
        normalized: px.Array = px.nn.rms_norm(x, self._output_norm, eps=self.config.rms_eps)
        return normalized

    def logits(self, hidden: px.Array) -> px.Array:
        """The logits [rows, vocab_size] of hidden states [rows, hidden_size]."""
        logits = linear(hidden, self.head, self.options)
        if not self.logit_softcap:
            return logits
        bounded: px.Array = px.nn.tanh(logits / self.logit_softcap)
        return bounded * self.logit_softcap
