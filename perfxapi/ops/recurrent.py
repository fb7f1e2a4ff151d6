"""Recurrent layers over a whole sequence, one direction: LSTM (Hochreiter and Schmidhuber 1997; peepholes: Gers and
Schmidhuber 2000), GRU (Cho et al. 2014) and the plain one (Elman 1990).

Operands, for G gates of H numbers each, stacked in the order that the op names (as in ONNX):

- x [length, batch, inputs]; weight [G * H, inputs]; recurrence [G * H, H]
- bias [2 * G * H]: what is added to the product with x, then what is added to the product with the state
- state (and cell) [batch, H] before the first step, zero where left out
- lengths [batch], int32: how many steps of each sequence count; past them outputs are zero and the state stays

Results are the states after every step [length, batch, H], and the last state (and cell) [batch, H]. With `reverse`
steps run from a sequence's last to its first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from perfxapi.dims import Size
from perfxapi.ops.spec import (
    Attribute,
    Attributes,
    OpSpec,
    Sample,
    TensorSpec,
    is_absent,
    register_op,
    require,
    require_indices,
    require_kind,
    require_shape,
)

_REVERSE = Attribute("reverse", int, 0)
_INPUTS = ("x", "weight", "recurrence", "bias", "lengths", "state")
RNN_ACTIVATIONS = ("tanh", "relu")


def _check(op: str, inputs: Sequence[TensorSpec], num_gates: int) -> tuple[TensorSpec, TensorSpec]:
    """Checks what all layers have in common. Returns the specs of all states and of one."""
    x, weight, recurrence, bias, lengths, *states = inputs
    for spec in (x, weight, recurrence, *(spec for spec in (bias, *states) if not is_absent(spec))):
        require_kind(op, spec, "float")
    require_shape(op, "recurrence", recurrence, None, None)
    require_shape(op, "x", x, None, None, None)
    size: Size = recurrence.shape[1]
    require(
        recurrence.shape[0] == num_gates * size, op, f"recurrence {list(recurrence.shape)} has not {num_gates} gates"
    )
    require_shape(op, "weight", weight, recurrence.shape[0], x.shape[2])
    batch = x.shape[1]
    if not is_absent(bias):
        require_shape(op, "the bias", bias, 2 * num_gates * size)
    if not is_absent(lengths):
        require_indices(op, lengths=lengths)
        require_shape(op, "lengths", lengths, batch)
    for state in states:
        if not is_absent(state):
            require_shape(op, "a state", state, batch, size)
    return TensorSpec((*x.shape[:2], size), x.dtype), TensorSpec((batch, size), x.dtype)


class _Sequence:
    """The operands of a layer in float64, and the walk over its steps."""

    def __init__(self, op: str, x: Any, recurrence: Any, bias: Any, lengths: Any, reverse: int) -> None:
        length, batch = x.shape[:2]
        counts = np.full(batch, length) if is_absent(lengths) else lengths
        require(bool(np.all((counts >= 0) & (counts <= length))), op, f"lengths must lie between 0 and {length}")
        self.size, self.dtype = recurrence.shape[1], x.dtype
        self.recurrence = recurrence.astype(np.float64).T
        given: Any = np.zeros(2 * len(recurrence)) if is_absent(bias) else bias.astype(np.float64)
        self.input_bias, self.state_bias = given[: len(recurrence)], given[len(recurrence) :]
        self._x, self._counts, self._reverse = x.astype(np.float64), counts, reverse
        self.outputs = np.zeros((length, batch, self.size))

    def start(self, state: Any) -> Any:
        """The first state."""
        return np.zeros(self.outputs.shape[1:]) if is_absent(state) else state.astype(np.float64)

    def steps(self, weight: Any) -> Iterator[tuple[int, Any, Any]]:
        """For each step its number, the gates' share of x, and which sequences [batch, 1] have that step."""
        products = self._x @ weight.astype(np.float64).T + self.input_bias
        for step in range(len(products))[:: -1 if self._reverse else 1]:
            yield step, products[step], (step < self._counts)[:, None]

    def results(self, *states: Any) -> tuple[Any, ...]:
        """The outputs and the last states in the dtype of x."""
        return tuple(values.astype(self.dtype) for values in (self.outputs, *states))


def _sigmoid(x: Any) -> Any:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def _lstm(
    x: Any,
    weight: Any,
    recurrence: Any,
    bias: Any,
    lengths: Any,
    state: Any,
    cell: Any,
    peepholes: Any,
    reverse: int,
) -> Any:
    sequence = _Sequence("lstm", x, recurrence, bias, lengths, reverse)
    h, c = sequence.start(state), sequence.start(cell)
    peeps = np.zeros(3 * sequence.size) if is_absent(peepholes) else peepholes.astype(np.float64)
    peep_i, peep_o, peep_f = peeps.reshape(3, -1)
    for step, product, alive in sequence.steps(weight):
        gates = product + h @ sequence.recurrence + sequence.state_bias
        i, o, f, update = np.split(gates, 4, axis=1)
        new_c = _sigmoid(f + peep_f * c) * c + _sigmoid(i + peep_i * c) * np.tanh(update)
        new_h = _sigmoid(o + peep_o * new_c) * np.tanh(new_c)
        h, c = np.where(alive, new_h, h), np.where(alive, new_c, c)
        sequence.outputs[step] = np.where(alive, new_h, 0)
    return sequence.results(h, c)


def _gru(
    x: Any,
    weight: Any,
    recurrence: Any,
    bias: Any,
    lengths: Any,
    state: Any,
    reverse: int,
    linear_before_reset: int,
) -> Any:
    sequence = _Sequence("gru", x, recurrence, bias, lengths, reverse)
    h, size = sequence.start(state), sequence.size
    for step, product, alive in sequence.steps(weight):
        first = product[:, : 2 * size] + h @ sequence.recurrence[:, : 2 * size] + sequence.state_bias[: 2 * size]
        z, r = np.split(_sigmoid(first), 2, axis=1)
        kept = h if linear_before_reset else r * h
        inner = kept @ sequence.recurrence[:, 2 * size :] + sequence.state_bias[2 * size :]
        update = np.tanh(product[:, 2 * size :] + (r * inner if linear_before_reset else inner))
        new_h = (1 - z) * update + z * h
        h = np.where(alive, new_h, h)
        sequence.outputs[step] = np.where(alive, new_h, 0)
    return sequence.results(h)


def _rnn(
    x: Any, weight: Any, recurrence: Any, bias: Any, lengths: Any, state: Any, reverse: int, activation: str
) -> Any:
    sequence = _Sequence("rnn", x, recurrence, bias, lengths, reverse)
    function: Callable[[Any], Any] = np.tanh if activation == "tanh" else lambda values: np.maximum(values, 0)
    h = sequence.start(state)
    for step, product, alive in sequence.steps(weight):
        new_h = function(product + h @ sequence.recurrence + sequence.state_bias)
        h = np.where(alive, new_h, h)
        sequence.outputs[step] = np.where(alive, new_h, 0)
    return sequence.results(h)


def _infer_lstm(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    *layer, peepholes = inputs
    outputs, state = _check("lstm", layer, 4)
    if not is_absent(peepholes):
        require_kind("lstm", peepholes, "float")
        require_shape("lstm", "peepholes", peepholes, 3 * state.shape[1])
    return outputs, state, state


_SIZES = ((1, 1, 3, 5), (6, 2, 7, 16), (9, 3, 40, 33), (3, 17, 8, 20), (0, 2, 3, 4), (4, 1, 128, 128))
"""Length, batch, inputs and H."""
_ABSENT = np.empty(0, np.float32)


def _layers(num_gates: int, seed: int) -> Iterable[tuple[tuple[Any, ...], bool, dict[str, int], str]]:
    """Operands up to the state, whether the state is given, attributes, and a label."""
    rng = np.random.default_rng(seed)
    for number, (length, batch, inputs, size) in enumerate(_SIZES):
        draw: Callable[..., Any] = lambda *shape: (0.4 * rng.standard_normal(shape)).astype(np.float32)  # noqa: E731
        x, rows = draw(length, batch, inputs), num_gates * size
        bias = draw(2 * rows) if number % 2 else _ABSENT
        lengths = rng.integers(0, length + 1, batch).astype(np.int32) if number in (2, 3) else _ABSENT
        state = draw(batch, size) if number % 3 else _ABSENT
        operands = (x, draw(rows, inputs), draw(rows, size), bias, lengths, state)
        for reverse in (0, 1):
            label = f"{length} x {batch} x {inputs}, {size}{', reverse' if reverse else ''}"
            yield operands, bool(number % 3), {"reverse": reverse}, label


def _lstm_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(60)
    for operands, with_state, attributes, label in _layers(4, 61):
        batch, size = operands[0].shape[1], operands[2].shape[1]
        cell = rng.standard_normal((batch, size)).astype(np.float32) if with_state else _ABSENT
        peepholes = rng.standard_normal(3 * size).astype(np.float32) if size in (16, 33) else _ABSENT
        yield Sample((*operands, cell, peepholes), attributes, label)
    wide = (rng.standard_normal(shape) for shape in ((3, 2, 4), (12, 4), (12, 3)))
    yield Sample((*wide, *[_ABSENT] * 5), {}, "float64")


def _gru_samples() -> Iterable[Sample]:
    for operands, _, attributes, label in _layers(3, 62):
        for linear in (0, 1):
            yield Sample(operands, {**attributes, "linear_before_reset": linear}, label)


def _rnn_samples() -> Iterable[Sample]:
    for operands, _, attributes, label in _layers(1, 63):
        for activation in RNN_ACTIVATIONS:
            yield Sample(operands, {**attributes, "activation": activation}, label)


def _register(
    name: str,
    num_gates: int,
    reference: Callable[..., Any],
    samples: Callable[[], Iterable[Sample]],
    attribute: Attribute,
) -> None:
    register_op(
        OpSpec(
            name,
            _INPUTS,
            lambda inputs, attributes: _check(name, inputs, num_gates),
            reference,
            samples,
            (_REVERSE, attribute),
            weights=(1, 2, 3),
            optional=(3, 4, 5),
            tolerance=1e-5,
            domain="neural",
        )
    )


register_op(
    OpSpec(
        "lstm",
        (*_INPUTS, "cell", "peepholes"),
        _infer_lstm,
        _lstm,
        _lstm_samples,
        (_REVERSE,),
        weights=(1, 2, 3, 7),
        optional=(3, 4, 5, 6, 7),
        tolerance=1e-5,
        domain="neural",
    )
)
"""Gates: input, output, forget, cell. Peepholes [3 * H]: input, output, forget."""
_register("gru", 3, _gru, _gru_samples, Attribute("linear_before_reset", int, 0))
"""Gates: update, reset, hidden. With `linear_before_reset` the reset gate scales the product, else the state."""
_register("rnn", 1, _rnn, _rnn_samples, Attribute("activation", str, "tanh", RNN_ACTIVATIONS))
