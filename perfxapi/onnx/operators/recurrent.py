"""Recurrent layers: LSTM, GRU and the plain one, in one or both directions.

With the activations that they usually have, a direction is one op (`nn.lstm`, `nn.gru`, `nn.rnn`). With others, with
clipping or with coupled gates it is unrolled, step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from perfxapi import dtypes, nn
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.operators import activation as act
from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.registry import OperatorNode, operator

Activation = Callable[[Array], Array]

_USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# The function of an activation, and its defaults of alpha and beta.
_ACTIVATIONS: dict[str, tuple[Callable[..., Array], tuple[float, ...]]] = {
    "affine": (lambda x, alpha, beta: px.add(px.multiply(x, alpha), beta), (1.0, 0.0)),
    "elu": (act.elu, (1.0,)),
    "hardsigmoid": (act.hard_sigmoid, (0.2, 0.5)),
    "leakyrelu": (act.leaky_relu, (0.01,)),
    "relu": (act.relu, ()),
    "scaledtanh": (lambda x, alpha, beta: px.multiply(px.tanh(px.multiply(x, beta)), alpha), (1.0, 1.0)),
    "sigmoid": (act.sigmoid, ()),
    "softplus": (act.softplus, ()),
    "softsign": (act.softsign, ()),
    "tanh": (px.tanh, ()),
    "thresholdedrelu": (act.thresholded_relu, (1.0,)),
}


@dataclass(frozen=True)
class _Layer:
    """One direction: the operands without their axis of directions, and what the node says of it."""

    node: OperatorNode
    index: int
    x: Array
    weight: Array
    recurrence: Array
    bias: Array | None
    lengths: Array | None
    state: Array | None
    cell: Array | None
    peepholes: Array | None

    @property
    def reverse(self) -> bool:
        direction = choice(self.node, "direction", ("forward", "reverse", "bidirectional"), "forward")
        return self.index == 1 or direction == "reverse"

    def names(self) -> list[str]:
        """The names of its activations."""
        usual = _USUAL[self.node.op_type]
        given: list[str] = self.node.attribute("activations") or usual * (self.index + 1)
        return given[len(usual) * self.index : len(usual) * (self.index + 1)]

    def activations(self) -> list[Activation]:
        """Its activations with their parameters, which `activation_alpha` and `activation_beta` list in order."""
        usual = _USUAL[self.node.op_type]
        given: list[str] = self.node.attribute("activations") or usual * (self.index + 1)
        parameters = [list(self.node.attribute(f"activation_{name}") or []) for name in ("alpha", "beta")]
        found: list[Activation] = []
        for name in given:
            if name.lower() not in _ACTIVATIONS:
                raise InvalidArgumentError(f"{self.node}: the activation {name!r} is none of {', '.join(_ACTIVATIONS)}")
            function, defaults = _ACTIVATIONS[name.lower()]
            values = [
                parameters[place].pop(0) if parameters[place] else default for place, default in enumerate(defaults)
            ]
            found.append(lambda x, function=function, values=values: function(x, *values))  # type: ignore[misc]
        return found[len(usual) * self.index : len(usual) * (self.index + 1)]

    def is_usual(self) -> bool:
        """Whether one op computes it."""
        plain = self.node.attribute("clip") is None and not self.node.attribute("input_forget", 0)
        names = self.names()
        return plain and (names == _USUAL[self.node.op_type] or (self.node.op_type == "RNN" and names == ["Relu"]))


# ---- one op


def _fused(layer: _Layer) -> tuple[Array, ...]:
    operands = (layer.x, layer.weight, layer.recurrence, layer.bias, layer.lengths, layer.state)
    reverse = int(layer.reverse)
    if layer.node.op_type == "LSTM":
        found: tuple[Array, ...] = nn.lstm(*operands, layer.cell, layer.peepholes, reverse=reverse)
    elif layer.node.op_type == "GRU":
        linear = layer.node.attribute("linear_before_reset", 0)
        found = nn.gru(*operands, reverse=reverse, linear_before_reset=linear)
    else:
        found = nn.rnn(*operands, reverse=reverse, activation=layer.names()[0].lower())
    return found


# ---- step by step


def _unrolled(layer: _Layer) -> tuple[Array, ...]:
    length, batch, _ = (int(size) for size in layer.x.shape)
    size, rows = int(layer.recurrence.shape[1]), int(layer.recurrence.shape[0])
    zeros = px.zeros((batch, size), dtype=layer.x.dtype, device=layer.node.device)
    states = [zeros if state is None else state for state in (layer.state, layer.cell)]
    states = states[: 2 if layer.node.op_type == "LSTM" else 1]
    products = px.matmul(layer.x, layer.weight.mT)
    if layer.bias is not None:
        products = px.add(products, layer.bias[:rows])
    step = {"LSTM": _lstm_step, "GRU": _gru_step, "RNN": _rnn_step}[layer.node.op_type](layer)
    outputs: list[Any] = [zeros] * length
    for turn in range(length)[:: -1 if layer.reverse else 1]:
        new = step(products[turn], *states)
        if layer.lengths is None:
            outputs[turn], states = new[0], list(new)
        else:
            alive = px.less(turn, layer.lengths)[:, None]
            outputs[turn] = px.where(alive, new[0], 0)
            states = [px.where(alive, one, old) for one, old in zip(new, states, strict=True)]
    whole = px.stack(outputs, axis=0) if outputs else px.zeros((0, batch, size), dtype=zeros.dtype, device=zeros.device)
    return whole, *states


def _clipped(layer: _Layer) -> Activation:
    limit = layer.node.attribute("clip")
    return (lambda x: x) if limit is None else (lambda x: px.clip(x, -limit, limit))


def _inner(layer: _Layer, state: Array, gates: slice) -> Array:
    """The product of a state with some rows of the recurrence, with their bias."""
    result = px.matmul(state, layer.recurrence[gates].mT)
    if layer.bias is None:
        return result
    return px.add(result, layer.bias[int(layer.recurrence.shape[0]) :][gates])


def _rnn_step(layer: _Layer) -> Callable[..., tuple[Array, ...]]:
    (f,), clip = layer.activations(), _clipped(layer)
    return lambda product, h: (f(clip(px.add(product, _inner(layer, h, slice(None))))),)


def _gru_step(layer: _Layer) -> Callable[..., tuple[Array, ...]]:
    (f, g), clip, size = layer.activations(), _clipped(layer), int(layer.recurrence.shape[1])
    linear = bool(layer.node.attribute("linear_before_reset", 0))

    def step(product: Array, h: Array) -> tuple[Array, ...]:
        gates = f(clip(px.add(product[:, : 2 * size], _inner(layer, h, slice(0, 2 * size)))))
        update, reset = gates[:, :size], gates[:, size:]
        last = slice(2 * size, None)
        inner = px.multiply(reset, _inner(layer, h, last)) if linear else _inner(layer, px.multiply(reset, h), last)
        new = g(clip(px.add(product[:, last], inner)))
        return (px.add(px.multiply(px.subtract(1, update), new), px.multiply(update, h)),)

    return step


def _lstm_step(layer: _Layer) -> Callable[..., tuple[Array, ...]]:
    (f, g, h_of), clip, size = layer.activations(), _clipped(layer), int(layer.recurrence.shape[1])
    coupled = bool(layer.node.attribute("input_forget", 0))

    def peeped(gate: Array, cell: Array, place: int) -> Array:
        if layer.peepholes is None:
            return gate
        return px.add(gate, px.multiply(layer.peepholes[place * size : (place + 1) * size], cell))

    def step(product: Array, h: Array, cell: Array) -> tuple[Array, ...]:
        gates = px.add(product, _inner(layer, h, slice(None)))
        i, o, forget, update = (gates[:, place * size : (place + 1) * size] for place in range(4))
        opened = f(clip(peeped(i, cell, 0)))
        kept = px.subtract(1, opened) if coupled else f(clip(peeped(forget, cell, 2)))
        new = px.add(px.multiply(kept, cell), px.multiply(opened, g(clip(update))))
        return px.multiply(f(clip(peeped(o, new, 1))), h_of(new)), new

    return step


# ---- the operators


@operator("LSTM", "GRU", "RNN")
def recurrent_layer(
    node: OperatorNode,
    x: Array,
    weight: Array,
    recurrence: Array,
    bias: Array | None = None,
    lengths: Array | None = None,
    state: Array | None = None,
    cell: Array | None = None,
    peepholes: Array | None = None,
) -> tuple[Array, ...]:
    """All states of a recurrent layer over a sequence, and the last ones."""
    batch_first = bool(node.attribute("layout", 0))
    if batch_first:
        x = x.permute_dims((1, 0, 2))
        state, cell = (None if s is None else s.permute_dims((1, 0, 2)) for s in (state, cell))
    counts = None if lengths is None else px.astype(lengths, dtypes.int32, copy=False)
    directions = []
    for index in range(int(weight.shape[0])):
        one: Callable[..., Any] = lambda part, index=index: None if part is None else part[index]  # noqa: E731
        layer = _Layer(
            node,
            index,
            x,
            weight[index],
            recurrence[index],
            one(bias),
            counts,
            one(state),
            one(cell),
            one(peepholes),
        )
        directions.append(_fused(layer) if layer.is_usual() else _unrolled(layer))
    outputs, *last = (_stacked(parts) for parts in zip(*directions, strict=True))
    outputs = outputs.permute_dims((1, 0, 2, 3))
    if batch_first:
        return outputs.permute_dims((2, 0, 1, 3)), *(part.permute_dims((1, 0, 2)) for part in last)
    return outputs, *last


def _stacked(parts: Sequence[Array]) -> Array:
    return px.stack(list(parts), axis=0) if len(parts) > 1 else px.expand_dims(parts[0], axis=0)
