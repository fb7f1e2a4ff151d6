"""Functions that tests save as ONNX: each with inputs, and the operators of domains beside ONNX's that it may need."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import perfxapi as px


class Saved(NamedTuple):
    function: Callable[..., Any]
    shapes: dict[str, tuple[int, ...]]
    own: tuple[str, ...] = ()
    dtype: str = "float32"


def normal(*shape: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def perceptron(x):
    hidden = px.nn.gelu(x @ px.asarray(normal(6, 8)) + px.asarray(normal(8)))
    return px.nn.softmax(px.nn.layer_norm(hidden, px.asarray(normal(8)), px.asarray(normal(8, seed=2))))


def network(image):
    """A small vision network: convolutions with and without groups and bias, pools, a transpose."""
    x = px.nn.convolution(image, px.asarray(normal(4, 3, 3, 3)), px.asarray(normal(4)), pads=(1, 1, 1, 1))
    x = px.maximum(x, 0.0)
    x = px.nn.convolution(x, px.asarray(normal(4, 1, 3, 3)), None, groups=4, strides=(2, 2), pads=(1, 1, 1, 1))
    up = px.nn.convolution_transpose(x, px.asarray(normal(4, 2, 2, 2)), None, strides=(2, 2))
    pooled = px.nn.pool(x, mode="max", window=(2, 2), strides=(2, 2))
    averaged = px.nn.pool(x, mode="average", window=(3, 3), pads=(1, 1, 1, 1), count_include_pad=1)
    return {"up": up, "pooled": pooled, "averaged": averaged, "mean": px.mean(x, axis=(2, 3))}


def views(x):
    """What is no node of a graph and must be one of a file."""
    rows, columns = x.shape
    table = px.reshape(x, (2, rows // 2, columns))
    return {
        "reversed": px.exp(px.flip(x, axis=0)),
        "every_third": px.exp(x[1::3, ::-2]),
        "transposed": px.exp(px.permute_dims(table, (2, 0, 1))),
        "row": px.exp(x[3, ...]),
        "repeated": px.exp(px.broadcast_to(x[0, ...], (4, columns))),
        "new_axes": px.exp(px.expand_dims(x[:, 1], axis=0)),
        "diagonal": px.linalg.diagonal(x[:columns, :]) * 2.0,
    }


def arithmetic(x, y):
    z = px.where(x < y, x + y, x * y - 2.0)
    return {
        "z": z / (px.abs(y) + 1.0),
        "powers": px.pow(px.abs(x), 1.5) + px.sqrt(px.abs(x)) + px.round(y) + px.sign(x) + px.floor(y),
        "trigonometry": px.sin(x) + px.cos(y) + px.atan(x) + px.tanh(y) + px.sinh(x),
        "reduced": px.sum(z, axis=1, keepdims=True) + px.max(x, axis=1, keepdims=True) - px.min(y),
        "average": px.mean(z, axis=0),
        "running": px.cumulative_sum(z, axis=1),
        "largest": px.argmax(x, axis=0),
        "joined": px.concat([x, y, z], axis=1),
        "chosen": px.take(z, px.asarray(np.array([2, 0])), axis=0),
        "compared": px.logical_and(x <= y, px.logical_not(x == y)),
        "activations": px.nn.silu(x) + px.nn.sigmoid(y) + px.nn.gelu_tanh(x) + px.nn.erf(y),
    }


def integers(x):
    return {
        "bits": (x & 6) | (x ^ 3),
        "sum": px.sum(x, axis=0),
        "mixed": px.astype(x, px.int16) + px.asarray(np.array([100000], np.int32)),
        "floats": px.astype(x, px.float32) / 2.0,
    }


def beyond_onnx(x):
    """Ops that ONNX does not have."""
    return {
        "angles": px.atan2(x, x + 1.0),
        "norm": px.nn.rms_norm(x, px.asarray(normal(4))),
        "left": px.remainder(x, 2.0),
    }


SAVED = {
    "perceptron": Saved(perceptron, {"x": (5, 6)}),
    "network": Saved(network, {"image": (2, 3, 9, 10)}),
    "views": Saved(views, {"x": (12, 5)}),
    "arithmetic": Saved(arithmetic, {"x": (3, 4), "y": (3, 4)}),
    "integers": Saved(integers, {"x": (3, 4)}, dtype="int32"),
    "beyond_onnx": Saved(beyond_onnx, {"x": (3, 4)}, ("atan2", "remainder", "rms_norm")),
}


def inputs_of(saved: Saved) -> dict[str, Any]:
    return {name: (normal(*shape) * 3).astype(saved.dtype) for name, shape in saved.shapes.items()}


def specs_of(saved: Saved) -> dict[str, px.TensorSpec]:
    return {name: px.TensorSpec(shape, px.dtype_of(saved.dtype)) for name, shape in saved.shapes.items()}
