"""Sequences of tensors, and optionals: Python lists, and None for an optional that is empty."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.operators.moving import moves
from perfxapi.onnx.operators.shape import cut, even_parts, normalized
from perfxapi.onnx.registry import OperatorNode, Value, as_sequence, from_host, known, known_ints, operator


def _place(position: Value, size: int) -> int:
    """A position in a sequence, counted from the front."""
    place = known_ints(position)[0]
    if not -size <= place < size:
        raise InvalidArgumentError(f"position {place} is outside a sequence of {size}")
    return place % size


@operator("SequenceEmpty")
def sequence_empty(node: OperatorNode) -> Value:
    """A sequence of nothing."""
    return []


@operator("SequenceConstruct")
def sequence_construct(node: OperatorNode, *items: Value) -> Value:
    """A sequence of the operands."""
    return list(items)


@operator("SequenceAt")
def sequence_at(node: OperatorNode, sequence: Value, position: Value) -> Value:
    """The item at a position."""
    items = as_sequence(sequence)
    return items[_place(position, len(items))]


@operator("SequenceInsert")
def sequence_insert(node: OperatorNode, sequence: Value, item: Value, position: Value = None) -> Value:
    """The sequence with an item before a position, or at its end."""
    items = list(as_sequence(sequence))
    place = len(items) if position is None else known_ints(position)[0]
    if not -len(items) <= place <= len(items):
        raise InvalidArgumentError(f"{node}: position {place} is outside a sequence of {len(items)}")
    items.insert(place, item)
    return items


@operator("SequenceErase")
def sequence_erase(node: OperatorNode, sequence: Value, position: Value = None) -> Value:
    """The sequence without the item at a position, or without its last."""
    items = list(as_sequence(sequence))
    del items[-1 if position is None else _place(position, len(items))]
    return items


@operator("SequenceLength")
def sequence_length(node: OperatorNode, sequence: Value) -> Value:
    """How many items a sequence has, as int64."""
    return from_host(np.array(len(as_sequence(sequence)), np.int64), node.device)


@operator("ConcatFromSequence")
def concat_from_sequence(node: OperatorNode, sequence: Value) -> Any:
    """The items one after another along an axis, which is a new one with `new_axis`."""
    join = _stacked if node.attribute("new_axis", 0) else _joined
    return join(node, *as_sequence(sequence))


@moves(every=True)
def _joined(node: OperatorNode, *items: Array) -> Array:
    return px.concat(list(items), axis=node.required("axis"))


@moves(every=True)
def _stacked(node: OperatorNode, *items: Array) -> Array:
    return px.stack(list(items), axis=node.required("axis"))


@operator("SplitToSequence")
@moves(0)
def split_to_sequence(node: OperatorNode, x: Array, sizes: Value = None) -> Any:
    """The parts of x along an axis as a sequence: of given sizes, of one size, or single ones."""
    axis = normalized(node.attribute("axis", 0), x.ndim)
    total = int(x.shape[axis])
    if sizes is None:
        parts = cut(x, axis, [1] * total)
        return parts if node.attribute("keepdims", 1) else [px.squeeze(part, axis=axis) for part in parts]
    given = known(sizes)
    if given.ndim:
        return cut(x, axis, known_ints(sizes))
    return cut(x, axis, even_parts(total, int(given), math.ceil(total / int(given))))


# ---- optionals


@operator("Optional")
def optional(node: OperatorNode, value: Value = None) -> Value:
    """An optional that holds a value, or is empty."""
    return value


@operator("OptionalHasElement")
def optional_has_element(node: OperatorNode, value: Value = None) -> Value:
    """Whether an optional holds a value."""
    return from_host(np.array(value is not None), node.device)


@operator("OptionalGetElement")
def optional_get_element(node: OperatorNode, value: Value) -> Value:
    """The value that an optional holds. Raises InvalidArgumentError for an empty one."""
    if value is None:
        raise InvalidArgumentError(f"{node}: the optional is empty")
    return value
