"""Constants of each channel after a convolution, folded into its weight and bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi import dtypes
from perfxapi.creation import constant
from perfxapi.dtypes import DType
from perfxapi.graph.ir import Node, Value, same_view
from perfxapi.graph.rewriting import Rewriter
from perfxapi.memory import Buffer, View
from perfxapi.ops.spec import TensorSpec, is_absent

_FOLDED = (dtypes.float32, dtypes.float64)
"""Dtypes of which so much is kept that rounding once, and not after each step, is no other result."""


def fold_into_convolution(rewriter: Rewriter, node: Node) -> bool:
    """Constants for each channel (or for all) that the result is multiplied by go into the weight, those that are added
    into the bias: what is left of a batch normalization, and of what exporters make of one.
    """
    if node.spec.name not in ("convolution", "convolution_transpose") or node.outputs[0].spec.dtype not in _FOLDED:
        return False
    if not all(isinstance(view.buffer, Buffer) and view.buffer.constant for view in node.inputs[1:]):
        return False
    removed = [node]
    factor: Any = 1.0
    shift: Any = 0.0
    while (step := _channelwise(rewriter, removed[-1])) is not None:
        reader, multiplied, added = step
        factor, shift = factor * multiplied, shift * multiplied + added
        removed.append(reader)
    if len(removed) == 1:
        return False
    last = removed[-1]
    folded = _scaled_and_shifted(node, factor, shift, last.outputs)
    return all(map(_keeps_digits, folded.inputs[1:])) and rewriter.replace(folded, removed, last)


def _keeps_digits(view: View) -> bool:
    """Whether all numbers of a constant are finite, and those that are not 0 have all their digits."""
    values = np.abs(view.host())
    return bool(np.isfinite(values).all() and ((values == 0) | (values >= np.finfo(values.dtype).tiny)).all())


def _channelwise(rewriter: Rewriter, node: Node) -> tuple[Node, Any, Any] | None:
    """The only reader of a result, where it multiplies it by and adds to it constants of each channel; and these."""
    (result,) = node.outputs
    if rewriter.uses.get(result) != 1 or len(rewriter.readers.get(result, ())) != 1:
        return None
    (reader,) = rewriter.readers[result]
    if reader.spec.name not in ("add", "divide", "multiply", "subtract") or reader.outputs[0].spec != result.spec:
        return None
    own = 0 if reader.inputs[0].buffer is result else 1
    if own == 1 and reader.spec.name in ("divide", "subtract"):
        return None
    numbers = _per_channel(reader.inputs[1 - own], result.spec)
    if numbers is None or not same_view(reader.inputs[own], result.view()):
        return None
    if reader.spec.name in ("add", "subtract"):
        return reader, 1.0, numbers if reader.spec.name == "add" else -numbers
    if reader.spec.name == "divide" and not numbers.all():
        return None
    return reader, 1 / numbers if reader.spec.name == "divide" else numbers, 0.0


def _per_channel(view: View, result: TensorSpec) -> npt.NDArray[np.float64] | None:
    """The numbers of a constant of one element for each channel of a result, or of one element; else None."""
    if not isinstance(view.buffer, Buffer) or not view.buffer.constant or view.dtype is not result.dtype:
        return None
    sizes = (1,) * (len(result.shape) - len(view.shape)) + view.shape
    if any(size != 1 for axis, size in enumerate(sizes) if axis != 1):
        return None
    values = view.host().astype(np.float64).reshape(-1)
    return np.broadcast_to(values, (int(result.shape[1]),)) if np.isfinite(values).all() else None


def _scaled_and_shifted(convolution: Node, factor: Any, shift: Any, outputs: tuple[Value, ...]) -> Node:
    """The convolution whose result is `factor` times the given one's, plus `shift`, both for each channel."""
    x, weight, bias = convolution.inputs
    channels = int(outputs[0].spec.shape[1])
    filters = weight.host().astype(np.float64)
    scale = np.broadcast_to(np.asarray(factor, np.float64), (channels,))
    if convolution.spec.name == "convolution":
        filters = filters * scale.reshape(-1, *(1,) * (filters.ndim - 1))
    else:  # [channels of x, channels of a group, ...]
        groups = convolution.attributes["groups"]
        apart = filters.reshape(groups, -1, *filters.shape[1:])
        filters = (apart * scale.reshape(groups, 1, -1, *(1,) * (filters.ndim - 2))).reshape(filters.shape)
    base = np.zeros(channels) if is_absent(bias) else bias.host().astype(np.float64)
    inputs = (x, _constant(filters, weight.dtype), _constant(base * scale + shift, weight.dtype))
    return Node(convolution.spec, inputs, outputs, convolution.attributes)


def _constant(values: npt.NDArray[Any], dtype: DType) -> View:
    with np.errstate(over="ignore", under="ignore"):  # what does not fit is not folded
        stored = np.ascontiguousarray(values, dtype.numpy)
    return constant(stored).view
