"""What every layer is built from: named weights, and the options of one model instance."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import perfxapi as px


class Weights(Protocol):
    """The tensors of one checkpoint under PerfXLM's own names (see `perfxlm.weights.names`), whatever its format.

    `layer` is the index of the decoder layer for names that each layer has. Both getters raise ConfigError naming the
    tensor where it is missing, or where its shape or type is not the expected one.
    """

    def matrix(self, name: str, shape: tuple[int, int], layer: int | None = None) -> px.Array:
        """A weight matrix [rows, columns] in its stored type, zero-copy."""

    def vector(self, name: str, size: int, layer: int | None = None, offset: float = 0.0) -> px.Array:
        """A weight vector [size] in float32, with `offset` added."""


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How a model computes.

    `activation_format` is the precision of activations in products with quantized weights ("float32", "int8",
    "int16"); products with float weights are always float32. `kv_dtype` is the type of the KV cache, float32 or
    float16. `devices` names the device of each layer (empty: all are on the one that the model's graph is compiled
    for).
    """

    activation_format: str = "int16"
    kv_dtype: px.DType = px.float32
    devices: tuple[str, ...] = ()

    def device_of(self, layer: int) -> str | None:
        """The device that was named for a layer; None where none was."""
        return self.devices[layer] if self.devices else None

    def on_device_of(self, layer: int) -> AbstractContextManager[object]:
        """Within the context, ops are on the device that was named for a layer, if one was."""
        device = self.device_of(layer)
        return px.use_device(device) if device is not None else nullcontext()


@dataclass(frozen=True, slots=True)
class KVSpec:
    """The KV cache that one layer needs.

    `window` is how far it looks back, in tokens; 0: to the beginning. `device` is named where the layer's was.
    """

    num_kv_heads: int
    head_dim: int
    window: int
    dtype: px.DType
    device: str | None = None


def linear(x: px.Array, weight: px.Array, options: ModelOptions) -> px.Array:
    """x [tokens, columns] times weight [rows, columns] transposed: [tokens, rows]."""
    activation_format = options.activation_format if weight.dtype.is_quantized else "float32"
    product: px.Array = px.nn.linear(x, weight, activation_format=activation_format)
    return product
