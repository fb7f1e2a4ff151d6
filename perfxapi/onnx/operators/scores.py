"""What the operators of classical machine learning share: transforms of scores, and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.operators.activation import sigmoid, softmax
from perfxapi.onnx.registry import OperatorNode, Value, known

_PROBIT_TURN = 0.147
"""The constant of Winitzki's approximation of the inverse error function (2008)."""


def post_transform(scores: Array, name: str) -> Array:
    """Scores as `post_transform` of an operator says. Raises InvalidArgumentError for one that ONNX does not have."""
    if name == "NONE":
        return scores
    if name == "LOGISTIC":
        return sigmoid(scores)
    if name == "SOFTMAX":
        return softmax(scores)
    if name == "SOFTMAX_ZERO":
        return _softmax_of_nonzero(scores)
    if name == "PROBIT":
        return _probit(scores)
    raise InvalidArgumentError(f"post_transform must be NONE, LOGISTIC, SOFTMAX, SOFTMAX_ZERO or PROBIT; got {name!r}")


def _softmax_of_nonzero(scores: Array) -> Array:
    """The softmax in which scores of 0 stay 0 and do not count."""
    zero = px.equal(scores, 0)
    powers = px.where(zero, 0, px.exp(px.subtract(scores, px.max(scores, axis=-1, keepdims=True))))
    total = px.sum(powers, axis=-1, keepdims=True)
    return px.divide(powers, px.where(px.equal(total, 0), 1, total))


def _probit(scores: Array) -> Array:
    """The number below which a normally distributed one lies with that probability."""
    x = px.subtract(px.multiply(scores, 2), 1)
    log = px.log(px.subtract(1, px.multiply(x, x)))
    half = px.add(px.multiply(log, 0.5), 2 / (np.pi * _PROBIT_TURN))
    root = px.sqrt(px.subtract(px.sqrt(px.subtract(px.multiply(half, half), px.divide(log, _PROBIT_TURN))), half))
    return px.multiply(px.copysign(root, x), float(np.sqrt(2)))


def both_classes(score: Array, transform: str, *, is_probability: bool) -> Array:
    """The scores of two classes by that of the second: the first has what is left of 1, or the negative.

    A softmax has nothing to do for one score; of one in log-odds (`LOGISTIC`) the first class has the negative.
    """
    rest = px.subtract(1, score) if is_probability and transform != "LOGISTIC" else px.negative(score)
    pair = px.stack([rest, score], axis=1)
    return pair if transform.startswith("SOFTMAX") else post_transform(pair, transform)


def labels(node: OperatorNode, integers: str, strings: str) -> Sequence[Any]:
    """The names of the classes, which are numbers or strings."""
    found: Sequence[Any] = node.attribute(integers) or node.attribute(strings) or ()
    if not found:
        raise InvalidArgumentError(f"{node}: has no class labels")
    return found


def top_labels(node: OperatorNode, index: Array, names: Sequence[Any]) -> Value:
    """The names of the classes with these numbers."""
    if isinstance(names[0], str):
        return np.asarray(np.array(names, object)[known(index)], object)
    return px.take(px.asarray(np.array(names, np.int64), device=node.device), index, axis=0)


def as_floats(x: Array) -> Array:
    """Features as float32, as the results of these operators are."""
    return px.astype(x, dtypes.float32, copy=False)
