"""The gated feed-forward layer (Shazeer 2020, "GLU variants improve transformer")."""

from __future__ import annotations

import perfxapi as px
from perfxlm.config import ModelConfig
from perfxlm.layers.base import ModelOptions, Weights, linear


class FeedForward:
    """down(activation(gate(x)) * up(x)) of decoder layer `layer`; `activation` is "silu" or "gelu_tanh"."""

    def __init__(
        self, config: ModelConfig, layer: int, weights: Weights, options: ModelOptions, *, activation: str
    ) -> None:
        widen = (config.intermediate_size, config.hidden_size)
        self._activation, self._options = activation, options
        self._gate = weights.matrix("gate", widen, layer)
        self._up = weights.matrix("up", widen, layer)
        self._down = weights.matrix("down", (config.hidden_size, config.intermediate_size), layer)

    def __call__(self, x: px.Array) -> px.Array:
        """x [tokens, hidden_size] to the same shape."""
        gate, up = linear(x, self._gate, self._options), linear(x, self._up, self._options)
        return linear(px.nn.gated_activation(gate, up, activation=self._activation), self._down, self._options)
