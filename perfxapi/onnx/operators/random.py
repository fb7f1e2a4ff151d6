"""Random draws, made by NumPy on the host between plans, so that each run draws anew (or again from its `seed`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.onnx.element_types import code_of, host_dtype
from perfxapi.onnx.operators.shape import sizes_of
from perfxapi.onnx.registry import OperatorNode, Value, from_host, known, operator


def _generator(node: OperatorNode) -> np.random.RandomState:
    seed = node.attribute("seed")
    return np.random.RandomState(None if seed is None else int(seed))


def _made(node: OperatorNode, values: Any, code: int) -> Value:
    return from_host(np.asarray(values).astype(host_dtype(code)), node.device)


def _uniform(node: OperatorNode, sizes: Any, code: int) -> Value:
    low, high = node.attribute("low", 0.0), node.attribute("high", 1.0)
    return _made(node, _generator(node).uniform(low, high, sizes), code)


def _normal(node: OperatorNode, sizes: Any, code: int) -> Value:
    return _made(node, _generator(node).normal(node.attribute("mean", 0.0), node.attribute("scale", 1.0), sizes), code)


@operator("RandomUniform", between_plans=True)
def random_uniform(node: OperatorNode) -> Value:
    """Numbers drawn evenly from `low` to `high`."""
    return _uniform(node, node.required("shape"), node.attribute("dtype", 1))


@operator("RandomNormal", between_plans=True)
def random_normal(node: OperatorNode) -> Value:
    """Normally distributed numbers of a mean and a deviation (`scale`)."""
    return _normal(node, node.required("shape"), node.attribute("dtype", 1))


@operator("RandomUniformLike", between_plans=True)
def random_uniform_like(node: OperatorNode, like: Value) -> Value:
    """Numbers drawn evenly, as many as another tensor has, of its type if no other is given."""
    return _uniform(node, sizes_of(like), node.attribute("dtype") or code_of(like))


@operator("RandomNormalLike", between_plans=True)
def random_normal_like(node: OperatorNode, like: Value) -> Value:
    """Normally distributed numbers, as many as another tensor has, of its type if no other is given."""
    return _normal(node, sizes_of(like), node.attribute("dtype") or code_of(like))


@operator("Bernoulli", between_plans=True)
def bernoulli(node: OperatorNode, probabilities: Value) -> Value:
    """1 with the probability that each element gives, else 0."""
    draws = _generator(node).uniform(size=sizes_of(probabilities))
    return _made(node, draws < known(probabilities), node.attribute("dtype") or code_of(probabilities))


@operator("Multinomial", between_plans=True)
def multinomial(node: OperatorNode, logarithms: Value) -> Value:
    """Classes drawn from rows of unnormalized log-probabilities, `sample_size` of each row."""
    rows = known(logarithms).astype(np.float64)
    noise = _generator(node).gumbel(size=(len(rows), node.attribute("sample_size", 1), rows.shape[1]))
    return _made(node, np.argmax(rows[:, None, :] + noise, axis=-1), node.attribute("dtype", 6))


def _may_train(node: OperatorNode, inputs: Sequence[str]) -> bool:
    """Whether a Dropout may draw: where it says so or, since opset 12, where an operand may."""
    if node.version >= 12:
        return len(inputs) > 2 and bool(inputs[2])
    return node.version < 7 and not node.attribute("is_test", 0)


@operator("Dropout", between_plans=_may_train)
def dropout(node: OperatorNode, x: Array, ratio: Value = None, training: Value = None) -> tuple[Value, ...]:
    """x as it is; in training with elements set to 0 at random and the others scaled up. And which were kept."""
    drops, rate = not node.attribute("is_test", int(node.version >= 7)), node.attribute("ratio", 0.5)
    if node.version >= 12:
        drops = training is not None and bool(known(training).reshape(-1)[0])
        rate = float(known(ratio).reshape(-1)[0]) if drops and ratio is not None else 0.5
    if not drops or rate == 0.0:
        whole = np.ones(sizes_of(x), np.bool_)
        return x, from_host(whole if node.version >= 10 else whole.astype(host_dtype(code_of(x))), node.device)
    kept = px.asarray(_generator(node).uniform(size=sizes_of(x)) >= rate, device=node.device)
    return px.where(kept, px.multiply(x, 1.0 / (1.0 - rate)), 0), kept
