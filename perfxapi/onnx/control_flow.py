"""If, Loop, Scan and SequenceMap (ONNX, opset 1 to 28): subgraphs that are called.

In a plan they are unrolled where conditions and counts are known and few steps result; otherwise they run between
plans, and their bodies are programs with plans of their own.
"""

from __future__ import annotations

from itertools import count as counting

import numpy as np

import perfxapi as px
from perfxapi.array import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.element_types import host_dtype
from perfxapi.onnx.program import Closure, Port
from perfxapi.onnx.registry import (
    OperatorNode,
    Value,
    as_sequence,
    from_host,
    known,
    operator,
)


@operator("If")
def _if(node: OperatorNode, condition: Value) -> tuple[Value, ...]:
    branch: Closure = node.required("then_branch" if known(condition).reshape(-1)[0] else "else_branch")
    return branch()


@operator("Loop")
def _loop(node: OperatorNode, limit: Value, condition: Value, *state: Value) -> tuple[Value, ...]:
    body: Closure = node.required("body")
    turns = range(int(known(limit).reshape(-1)[0])) if limit is not None else counting()
    going: Value = from_host(np.array(True), node.device) if condition is None else condition
    carried = list(state)
    scanned: list[list[Value]] = [[] for _ in range(len(node.outputs) - len(state))]
    for turn in turns:
        if not known(going).all():
            break
        body.count_turn()
        going, *results = body(from_host(np.array(turn, np.int64), node.device), going, *carried)
        carried = results[: len(state)]
        for items, item in zip(scanned, results[len(state) :], strict=True):
            items.append(item)
    ports = body.program.outputs[1 + len(state) :]
    return *carried, *(_stacked(node, items, 0, port) for items, port in zip(scanned, ports, strict=True))


def _stacked(node: OperatorNode, items: list[Value], axis: int, port: Port) -> Value:
    """The results of all turns along a new axis; of none, an empty tensor as the subgraph's output is declared."""
    if items and all(isinstance(item, np.ndarray) for item in items):
        return np.stack([item for item in items if isinstance(item, np.ndarray)], axis)
    if items:
        return px.stack([_tensor(node, item) for item in items], axis=axis)
    sizes = [size if isinstance(size, int) else 0 for size in port.shape or ()]
    return from_host(np.zeros((*sizes[:axis], 0, *sizes[axis:]), host_dtype(port.code)), node.device)


def _tensor(node: OperatorNode, value: Value) -> Array:
    """A tensor that a device holds. Raises UnsupportedOperatorError for other values."""
    if not isinstance(value, Array):
        raise node.unsupported("a sequence, or a tensor that no device holds,")
    return value


@operator("Scan")
def _scan(node: OperatorNode, *operands: Value) -> tuple[Value, ...]:
    if node.version < 9:
        return _scan_batches(node, *operands)
    body: Closure = node.required("body")
    num_scanned = node.required("num_scan_inputs")
    num_state = len(operands) - num_scanned
    num_outputs = len(node.outputs) - num_state
    ins, outs = (node.attribute(f"scan_{way}_directions", []) for way in ("input", "output"))
    axes, out_axes = (node.attribute(f"scan_{way}_axes", []) for way in ("input", "output"))
    scanned = [
        _moved(_tensor(node, x), axes[i] if axes else 0, bool(ins and ins[i]))
        for i, x in enumerate(operands[num_state:])
    ]
    state, collected = _scan_all(node, body, list(operands[:num_state]), scanned, num_outputs)
    for index, items in enumerate(collected):
        if outs and outs[index]:
            items.reverse()
    ports = body.program.outputs[num_state:]
    results = []
    for index, (items, port) in enumerate(zip(collected, ports, strict=True)):
        rank = len(_tensor(node, items[0]).shape) + 1 if items else 1
        axis = out_axes[index] if out_axes else 0
        results.append(_stacked(node, items, axis + rank if axis < 0 else axis, port))
    return *state, *results


def _moved(x: Array, axis: int, backwards: bool) -> Array:
    """The scanned axis first, in the order in which it is scanned."""
    moved = px.moveaxis(x, axis, 0)
    return px.flip(moved, axis=0) if backwards else moved


def _scan_all(
    node: OperatorNode, body: Closure, state: list[Value], scanned: list[Array], num_outputs: int
) -> tuple[list[Value], list[list[Value]]]:
    turns = int(scanned[0].shape[0])
    if any(int(x.shape[0]) != turns for x in scanned):
        lengths = ", ".join(str(x.shape[0]) for x in scanned)
        raise InvalidArgumentError(f"{node}: what is scanned must have one length; got {lengths}")
    collected: list[list[Value]] = [[] for _ in range(num_outputs)]
    for turn in range(turns):
        body.count_turn()
        results = body(*state, *(x[turn, ...] for x in scanned))
        state = list(results[: len(state)])
        for items, item in zip(collected, results[len(state) :], strict=True):
            items.append(item)
    return state, collected


def _scan_batches(node: OperatorNode, lengths: Value, *operands: Value) -> tuple[Value, ...]:
    """Opset 8: a batch of scans, each of its own length; results are padded with zeros."""
    body: Closure = node.required("body")
    num_scanned = node.required("num_scan_inputs")
    num_state = len(operands) - num_scanned
    directions = node.attribute("directions", [])
    arrays = [_tensor(node, x) for x in operands]
    batch, longest = int(arrays[0].shape[0]), int(arrays[num_state].shape[1])
    sizes = [longest] * batch if lengths is None else [int(n) for n in known(lengths).reshape(-1)]
    rows: list[tuple[Value, ...]] = []
    for item, size in enumerate(sizes):
        scanned = [
            _moved(x[item, :size, ...], 0, bool(directions and directions[i])) for i, x in enumerate(arrays[num_state:])
        ]
        state, collected = _scan_all(
            node, body, [x[item, ...] for x in arrays[:num_state]], scanned, len(node.outputs) - num_state
        )
        padded = [_padded(px.stack([_tensor(node, value) for value in items]), longest) for items in collected]
        rows.append((*state, *padded))
    return tuple(px.stack([_tensor(node, row[index]) for row in rows]) for index in range(len(node.outputs)))


def _padded(x: Array, size: int) -> Array:
    rows, *rest = (int(length) for length in x.shape)
    return px.concat([x, px.zeros((size - rows, *rest), dtype=x.dtype, device=x.device)]) if rows < size else x


@operator("SequenceMap")
def _sequence_map(node: OperatorNode, sequence: Value, *others: Value) -> tuple[Value, ...]:
    body: Closure = node.required("body")
    rows = []
    for turn in range(len(as_sequence(sequence))):
        body.count_turn()
        rows.append(body(*(value[turn] if isinstance(value, list) else value for value in (sequence, *others))))
    return tuple([row[index] for row in rows] for index in range(len(node.outputs)))
