"""The ops of the core. Importing this package registers them."""

from perfxapi.ops import attention, elementwise, linear, matrix, normalization, sampling
from perfxapi.ops.spec import (
    Attribute,
    Attributes,
    Cost,
    OpSpec,
    QuantizedArray,
    Sample,
    TensorSpec,
    all_ops,
    op_spec,
    register_op,
)

__all__ = [
    "Attribute",
    "Attributes",
    "Cost",
    "OpSpec",
    "QuantizedArray",
    "Sample",
    "TensorSpec",
    "all_ops",
    "attention",
    "elementwise",
    "linear",
    "matrix",
    "normalization",
    "op_spec",
    "register_op",
    "sampling",
]
