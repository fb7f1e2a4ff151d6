"""Translations of ONNX's operators, a module for each family. Importing this package registers them."""

from perfxapi.onnx.operators import (
    activation,
    casting,
    elementwise,
    linear,
    loss,
    normalization,
    reduction,
    selection,
    sequence,
    shape,
)

__all__ = [
    "activation",
    "casting",
    "elementwise",
    "linear",
    "loss",
    "normalization",
    "reduction",
    "selection",
    "sequence",
    "shape",
]
