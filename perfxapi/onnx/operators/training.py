"""Steps of optimizers (domain ai.onnx.preview.training)."""

from __future__ import annotations

from collections.abc import Callable

from perfxapi import dtypes
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.registry import OperatorNode, Value, known, operator

_DOMAIN = "ai.onnx.preview.training"


def _regularized(node: OperatorNode, x: Array, gradient: Array) -> Array:
    return px.add(px.multiply(x, node.attribute("norm_coefficient", 0.0)), gradient)


def _each(operands: tuple[Array, ...], num_kinds: int, step: Callable[..., tuple[Array, ...]]) -> tuple[Array, ...]:
    """A step for each tensor. Operands and results are sorted by kind: all tensors, then all gradients, ..."""
    count = len(operands) // num_kinds
    rows = [step(*operands[place::count]) for place in range(count)]
    return tuple(part for kind in zip(*rows, strict=True) for part in kind)


@operator("Momentum", domain=_DOMAIN)
def momentum(node: OperatorNode, rate: Array, turn: Value, *operands: Array) -> tuple[Array, ...]:
    """Gradient descent with momentum, standard or Nesterov's."""
    alpha, nesterov = node.required("alpha"), choice(node, "mode", ("standard", "nesterov")) == "nesterov"
    beta = node.required("beta") if int(known(turn).reshape(-1)[0]) > 0 else 1.0

    def step(x: Array, gradient: Array, velocity: Array) -> tuple[Array, ...]:
        slope = _regularized(node, x, gradient)
        faster = px.add(px.multiply(velocity, alpha), px.multiply(slope, beta))
        direction = faster
        if nesterov:
            direction = px.add(slope, px.multiply(faster, alpha))
        return px.subtract(x, px.multiply(rate, direction)), faster

    return _each(operands, 3, step)


@operator("Adagrad", domain=_DOMAIN)
def adagrad(node: OperatorNode, rate: Array, turn: Array, *operands: Array) -> tuple[Array, ...]:
    """AdaGrad (Duchi et al. 2011)."""
    decay = px.multiply(px.astype(turn, rate.dtype), node.attribute("decay_factor", 0.0))
    slowed = px.divide(rate, px.add(decay, 1.0))

    def step(x: Array, gradient: Array, squares: Array) -> tuple[Array, ...]:
        slope = _regularized(node, x, gradient)
        more = px.add(squares, px.multiply(slope, slope))
        scale = px.add(px.sqrt(more), node.attribute("epsilon", 1e-6))
        return px.subtract(x, px.divide(px.multiply(slope, slowed), scale)), more

    return _each(operands, 3, step)


@operator("Adam", domain=_DOMAIN)
def adam(node: OperatorNode, rate: Array, turn: Value, *operands: Array) -> tuple[Array, ...]:
    """Adam (Kingma and Ba 2015)."""
    alpha, beta = node.attribute("alpha", 0.9), node.attribute("beta", 0.999)
    turns = int(known(turn).reshape(-1)[0])
    if turns > 0:
        correction = ((1 - beta**turns) ** 0.5) / (1 - alpha**turns)
        rate = px.multiply(px.astype(rate, rate.dtype if rate.dtype.kind == "float" else dtypes.float32), correction)

    def step(x: Array, gradient: Array, first: Array, second: Array) -> tuple[Array, ...]:
        slope = _regularized(node, x, gradient)
        first = px.add(px.multiply(first, alpha), px.multiply(slope, 1 - alpha))
        second = px.add(px.multiply(second, beta), px.multiply(px.multiply(slope, slope), 1 - beta))
        scale = px.add(px.sqrt(second), node.attribute("epsilon", 1e-6))
        moved = px.subtract(x, px.divide(px.multiply(first, rate), scale))
        return px.multiply(moved, 1 - node.attribute("norm_coefficient_post", 0.0)), first, second

    return _each(operands, 4, step)
