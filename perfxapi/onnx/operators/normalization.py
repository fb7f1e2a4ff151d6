"""Normalizations."""

from __future__ import annotations

import math

from perfxapi import dtypes, nn
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.dims import Shape
from perfxapi.onnx.element_types import device_dtype
from perfxapi.onnx.operators.precision import rounded_once, widened
from perfxapi.onnx.operators.shape import normalized, sizes_of
from perfxapi.onnx.registry import OperatorNode, operator


def _per_channel(x: Array, parameter: Array) -> Array:
    """A parameter for each channel, laid along axis 1 of x."""
    return parameter.reshape((parameter.shape[0], *(1,) * (x.ndim - 2)))


def _centered(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """x less its mean over axes, that mean, and the variance."""
    average = px.mean(x, axis=axes, keepdims=True)
    apart = px.subtract(x, average)
    return apart, average, px.mean(px.multiply(apart, apart), axis=axes, keepdims=True)


def _inverse_root(variance: Array, epsilon: float) -> Array:
    return px.divide(1.0, px.sqrt(px.add(variance, epsilon)))


def _stash(node: OperatorNode, x: Array) -> Array:
    """x in the precision that the first stage is computed in."""
    dtype = device_dtype(node.attribute("stash_type", 1))
    return x if dtype is None or x.dtype is dtypes.float64 else px.astype(x, dtype, copy=False)


def _is_fused(sizes: Shape, x: Array, *parameters: Array | None) -> bool:
    """Whether one op computes a normalization over the last axes, of these sizes, rounded as ONNX wants it."""
    given = [parameter for parameter in parameters if parameter is not None]
    return all(one.dtype is dtypes.float32 for one in (x, *given)) and all(one.shape == sizes for one in given)


@operator("LayerNormalization")
def layer_normalization(
    node: OperatorNode, x: Array, scale: Array, bias: Array | None = None
) -> Array | tuple[Array, Array, Array]:
    """x with mean 0 and variance 1 over the axes from `axis` on, scaled and shifted; the mean; 1 over the deviation."""
    axis, epsilon = normalized(node.attribute("axis", -1), x.ndim), node.attribute("epsilon", 1e-5)
    if not (node.wants(1) or node.wants(2)) and _is_fused(x.shape[axis:], x, scale, bias):
        whole: Array = nn.layer_norm(x, scale, bias, eps=epsilon)
        return whole
    apart, average, variance = _centered(_stash(node, x), tuple(range(axis, x.ndim)))
    inverse = _inverse_root(variance, epsilon)
    result = px.multiply(px.astype(px.multiply(apart, inverse), x.dtype, copy=False), scale)
    return (result if bias is None else px.add(result, bias)), average, inverse


@operator("RMSNormalization")
def rms_normalization(node: OperatorNode, x: Array, scale: Array) -> Array:
    """x over its root mean square over the axes from `axis` on, scaled."""
    axis, epsilon = normalized(node.attribute("axis", -1), x.ndim), node.attribute("epsilon", 1e-5)
    if axis == x.ndim - 1 and _is_fused(x.shape[axis:], x, scale):
        whole: Array = nn.rms_norm(x, scale, eps=epsilon)
        return whole
    wide = _stash(node, x)
    squares = px.mean(px.multiply(wide, wide), axis=tuple(range(axis, x.ndim)), keepdims=True)
    root = px.sqrt(px.add(squares, epsilon))
    return px.multiply(px.astype(px.divide(wide, root), scale.dtype, copy=False), scale)


@operator("InstanceNormalization")
def instance_normalization(node: OperatorNode, x: Array, scale: Array, bias: Array) -> Array:
    """Each channel of each sample with mean 0 and variance 1, scaled and shifted."""
    apart, _, variance = _centered(widened(x), tuple(range(2, x.ndim)))
    unit = px.multiply(apart, _inverse_root(variance, node.attribute("epsilon", 1e-5)))
    result = px.add(px.multiply(unit, _per_channel(x, scale)), _per_channel(x, bias))
    return px.astype(result, x.dtype, copy=False)


@operator("GroupNormalization")
def group_normalization(node: OperatorNode, x: Array, scale: Array, bias: Array) -> Array:
    """Groups of channels of each sample with mean 0 and variance 1, scaled and shifted: before opset 21 by group."""
    groups = node.required("num_groups")
    wide = _stash(node, x)
    together = wide.reshape((x.shape[0], groups, -1))
    apart, _, variance = _centered(together, (2,))
    unit = px.multiply(apart, _inverse_root(variance, node.attribute("epsilon", 1e-5)))
    if node.version < 21:
        unit = px.astype(unit, x.dtype, copy=False)
        unit = px.add(px.multiply(unit, _per_channel(unit, scale)), _per_channel(unit, bias))
        return unit.reshape(x.shape)
    unit = px.astype(unit.reshape(x.shape), x.dtype, copy=False)
    return px.add(px.multiply(unit, _per_channel(x, scale)), _per_channel(x, bias))


@operator("BatchNormalization")
def batch_normalization(
    node: OperatorNode, x: Array, scale: Array, bias: Array, mean: Array, variance: Array
) -> Array | tuple[Array, ...]:
    """Channels less a mean, over a deviation, scaled and shifted. In training these are the batch's own, and the
    running ones follow by `momentum`.
    """
    training = bool(node.attribute("training_mode", 0))
    wide, average, spread = widened(x), widened(mean), widened(variance)
    if training:
        axes = (0, *range(2, x.ndim))
        average, spread = (px.squeeze(part, axis=axes) for part in _centered(wide, axes)[1:])
    inverse = _inverse_root(spread, node.attribute("epsilon", 1e-5))
    factor = px.multiply(widened(scale), inverse)
    shift = px.subtract(widened(bias), px.multiply(average, factor))
    result = px.add(px.multiply(wide, _per_channel(x, factor)), _per_channel(x, shift))
    result = px.astype(result, x.dtype, copy=False)
    if not training:
        return result
    momentum = node.attribute("momentum", 0.9)
    running = [
        px.astype(px.add(px.multiply(widened(old), momentum), px.multiply(new, 1 - momentum)), old.dtype, copy=False)
        for old, new in ((mean, average), (variance, spread))
    ]
    return result, *running


@operator("LpNormalization")
def lp_normalization(node: OperatorNode, x: Array) -> Array:
    """x over its norm (`p` 1 or 2) along an axis; where the norm is 0, 0."""
    axis, order = node.attribute("axis", -1), node.attribute("p", 2)
    if order not in (1, 2):
        raise node.unsupported(f"a norm of order {order}")
    return rounded_once(_unit)(x, axis, order)


def _unit(x: Array, axis: int, order: int) -> Array:
    if order == 1:
        norm = px.sum(px.abs(x), axis=axis, keepdims=True)
    else:
        norm = px.sqrt(px.sum(px.multiply(x, x), axis=axis, keepdims=True))
    return px.divide(x, px.where(px.equal(norm, 0), 1, norm))


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: OperatorNode, x: Array) -> Array:
    """x with mean 0 and variance 1 over axes (by default all but the channels')."""
    axes = tuple(normalized(axis, x.ndim) for axis in node.attribute("axes", [0, 2, 3]))
    apart, _, variance = _centered(widened(x), axes)
    return px.astype(px.divide(apart, px.add(px.sqrt(variance), 1e-9)), x.dtype, copy=False)


@operator("LRN")
def local_response_normalization(node: OperatorNode, x: Array) -> Array:
    """x over a power of the sum of squares in neighboring channels (Krizhevsky et al. 2012)."""
    size, (batch, channels, *spatial) = node.required("size"), sizes_of(x)
    wide = widened(x)
    squares = px.multiply(wide, wide).reshape((batch, 1, channels, math.prod(spatial)))
    pads = ((size - 1) // 2, 0, size // 2, 0)
    means = nn.pool(squares, mode="average", window=(size, 1), pads=pads, count_include_pad=1).reshape(x.shape)
    base = px.add(px.multiply(means, node.attribute("alpha", 1e-4)), node.attribute("bias", 1.0))
    return px.astype(px.divide(wide, px.pow(base, node.attribute("beta", 0.75))), x.dtype, copy=False)
