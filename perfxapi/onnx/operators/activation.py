"""Activations of neural networks, and the softmax family."""

from __future__ import annotations

import math
from collections.abc import Callable

from perfxapi import dtypes, nn
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.operators.elementwise import aligned
from perfxapi.onnx.registry import OperatorNode, operator

_SELU_ALPHA = 1.67326319217681884765625
_SELU_GAMMA = 1.05070102214813232421875


def relu(x: Array) -> Array:
    """x where it is positive, else 0."""
    return px.maximum(x, 0)


def leaky_relu(x: Array, alpha: float = 0.01) -> Array:
    """x where it is not negative, else alpha * x."""
    return px.where(px.less(x, 0), px.multiply(x, alpha), x)


def elu(x: Array, alpha: float = 1.0) -> Array:
    """x where it is positive, else alpha * (exp(x) - 1)."""
    return px.where(px.greater(x, 0), x, px.multiply(px.expm1(px.minimum(x, 0)), alpha))


def thresholded_relu(x: Array, alpha: float = 1.0) -> Array:
    """x where it is more than alpha, else 0."""
    return px.where(px.greater(x, alpha), x, 0)


def hard_sigmoid(x: Array, alpha: float = 0.2, beta: float = 0.5) -> Array:
    """alpha * x + beta, at least 0 and at most 1."""
    return px.clip(px.add(px.multiply(x, alpha), beta), 0, 1)


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow."""
    return px.logaddexp(x, 0)


def softsign(x: Array) -> Array:
    """x / (1 + |x|)."""
    return px.divide(x, px.add(px.abs(x), 1))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    result: Array = nn.sigmoid(x)
    return result


def _swish(x: Array, alpha: float) -> Array:
    if alpha == 1.0:
        result: Array = nn.silu(x)
        return result
    return px.multiply(x, sigmoid(px.multiply(x, alpha)))


def _selu(x: Array, alpha: float, gamma: float) -> Array:
    return px.multiply(elu(x, alpha), gamma)


def _shrink(x: Array, lambd: float, bias: float) -> Array:
    low, high = px.less(x, -lambd), px.greater(x, lambd)
    return px.where(low, px.add(x, bias), px.where(high, px.subtract(x, bias), 0))


# The function of each operator, and its parameters with their defaults: attributes of the node.
_ACTIVATIONS: dict[str, tuple[Callable[..., Array], dict[str, float]]] = {
    "Celu": (lambda x, alpha: px.multiply(elu(px.divide(x, alpha)), alpha), {"alpha": 1.0}),
    "Elu": (elu, {"alpha": 1.0}),
    "HardSigmoid": (hard_sigmoid, {"alpha": 0.2, "beta": 0.5}),
    "HardSwish": (lambda x: px.multiply(x, hard_sigmoid(x, 1 / 6, 0.5)), {}),
    "LeakyRelu": (leaky_relu, {"alpha": 0.01}),
    "Mish": (lambda x: px.multiply(x, px.tanh(softplus(x))), {}),
    "Relu": (relu, {}),
    "Selu": (_selu, {"alpha": _SELU_ALPHA, "gamma": _SELU_GAMMA}),
    "Sigmoid": (sigmoid, {}),
    "Softplus": (softplus, {}),
    "Softsign": (softsign, {}),
    "Swish": (_swish, {"alpha": 1.0}),
    "ThresholdedRelu": (thresholded_relu, {"alpha": 1.0}),
}


def _register_activations() -> None:
    for name, (function, defaults) in _ACTIVATIONS.items():
        operator(name)(
            lambda node, x, function=function, defaults=defaults: function(
                x, *(node.attribute(attribute, default) for attribute, default in defaults.items())
            )
        )


_register_activations()


@operator("Gelu")
def gelu(node: OperatorNode, x: Array) -> Array:
    """x times the normal distribution's probability of less than x, or its approximation by a tanh."""
    approximate = choice(node, "approximate", ("none", "tanh"), "none")
    result: Array = nn.gelu_tanh(x) if approximate == "tanh" else nn.gelu(x)
    return result


@operator("Shrink")
def shrink(node: OperatorNode, x: Array) -> Array:
    """x moved towards 0 by `bias` where it is further than `lambd` from 0, else 0; of whole numbers rounded so, too."""
    wide = x if x.dtype.kind == "float" else px.astype(x, dtypes.float64)
    lambd, bias = node.attribute("lambd", 0.5), node.attribute("bias", 0.0)
    return px.astype(_shrink(wide, lambd, bias), x.dtype, copy=False)


@operator("PRelu")
def prelu(node: OperatorNode, x: Array, slope: Array) -> Array:
    """x where it is not negative, else slope * x."""
    if node.version < 7 and slope.ndim == 1 and x.ndim > 1:
        slope = slope.reshape((slope.shape[0], *(1,) * (x.ndim - 2)))
    return px.where(px.less(x, 0), px.multiply(x, aligned(node, x, slope)), x)


@operator("SwiGLU")
def swiglu(node: OperatorNode, gate: Array, value: Array) -> Array:
    """The swish of a gate, times a value."""
    return px.multiply(_swish(gate, node.attribute("alpha", 1.0)), value)


# ---- softmax


def _along_rows(node: OperatorNode, x: Array, function: Callable[[Array], Array]) -> Array:
    """A function of rows along `axis`; before opset 13 that axis and all behind it are one row."""
    if node.version < 13:
        axis = node.attribute("axis", 1)
        axis = axis + x.ndim if axis < 0 else axis
        rows = x.reshape((math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
        return function(rows).reshape(x.shape)
    axis = node.attribute("axis", -1)
    return px.moveaxis(function(px.moveaxis(x, axis, -1)), -1, axis)


def softmax(x: Array) -> Array:
    """The softmax along the last axis, in the dtype of x."""
    if x.dtype is dtypes.float64:
        powers = px.exp(px.subtract(x, px.max(x, axis=-1, keepdims=True)))
        return px.divide(powers, px.sum(powers, axis=-1, keepdims=True))
    return px.astype(nn.softmax(x), x.dtype, copy=False)


def log_softmax(x: Array) -> Array:
    """The logarithm of the softmax along the last axis, in the dtype of x."""
    if x.dtype is dtypes.float64:
        shifted = px.subtract(x, px.max(x, axis=-1, keepdims=True))
        return px.subtract(shifted, px.log(px.sum(px.exp(shifted), axis=-1, keepdims=True)))
    return px.astype(nn.log_softmax(x), x.dtype, copy=False)


def _hardmax(x: Array) -> Array:
    first = px.argmax(x, axis=-1, keepdims=True)
    return px.astype(px.equal(px.arange(int(x.shape[-1]), device=x.device), first), x.dtype)


@operator("Softmax")
def softmax_along(node: OperatorNode, x: Array) -> Array:
    """exp(x) over its sum along an axis."""
    return _along_rows(node, x, softmax)


@operator("LogSoftmax")
def log_softmax_along(node: OperatorNode, x: Array) -> Array:
    """The logarithm of the softmax along an axis."""
    return _along_rows(node, x, log_softmax)


@operator("Hardmax")
def hardmax_along(node: OperatorNode, x: Array) -> Array:
    """1 for the first largest element along an axis, 0 for the others."""
    return _along_rows(node, x, _hardmax)
