"""Block-quantized storage types in NumPy: the reference that every backend's kernels are compared with.

`storage` packs and unpacks, `products` multiplies; `simple_types` and `k_types` know the bytes of each type, and
`fitting` finds scales.
"""

from __future__ import annotations

from perfxapi.quantization.blocks import QuantizedBlocks
from perfxapi.quantization.products import (
    ACTIVATION_BLOCK,
    ACTIVATION_LEVELS,
    float_linear,
    fused_multiply_add,
    quantize_activations,
    quantized_linear,
)
from perfxapi.quantization.storage import dequantize, quantize, unpack_codes

__all__ = [
    "ACTIVATION_BLOCK",
    "ACTIVATION_LEVELS",
    "QuantizedBlocks",
    "dequantize",
    "float_linear",
    "fused_multiply_add",
    "quantize",
    "quantize_activations",
    "quantized_linear",
    "unpack_codes",
]
