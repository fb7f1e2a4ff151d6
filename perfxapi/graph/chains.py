"""Elementwise steps that become one chain (`perfxapi/ops/chain.py`)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from perfxapi.creation import constant
from perfxapi.dtypes import float32
from perfxapi.graph.ir import Node, Value, is_whole, same_view
from perfxapi.graph.rewriting import Rewriter, make_node
from perfxapi.memory import Buffer, View
from perfxapi.ops.chain import MAX_OPERANDS, MAX_ROWS, STEPS


def _is_chained(node: Node) -> bool:
    """Whether a node can be a step of a chain."""
    dtypes = [*(view.dtype for view in node.inputs), *(value.spec.dtype for value in node.outputs)]
    return node.spec.name in STEPS and all(dtype is float32 for dtype in dtypes)


def fuse_elementwise_chain(rewriter: Rewriter, node: Node) -> bool:
    """A step and what it alone reads, and so on: all steps of one shape whose results nothing else needs."""
    if not _is_chained(node):
        return False
    shape = node.outputs[0].spec.shape
    chosen: dict[int, Node] = {id(node): node}
    grown = True
    while grown:
        grown = False
        for view in [view for step in chosen.values() for view in step.inputs]:
            step = rewriter.produced_by.get(view.buffer)
            if step is None or id(step) in chosen or not _is_chained(step) or step.outputs[0].spec.shape != shape:
                continue
            if step.device != node.device:
                continue
            readers = rewriter.readers[view.buffer]
            inside = len(readers) == rewriter.uses[view.buffer] and all(id(reader) in chosen for reader in readers)
            if inside and all(_reads_whole(reader, view.buffer) for reader in readers):
                candidate = {**chosen, id(step): step}
                if len(candidate) <= MAX_ROWS and len(_outer(candidate.values())) <= MAX_OPERANDS:
                    chosen, grown = candidate, True
    if len(chosen) < 2:
        return False
    steps = rewriter.in_order(chosen.values())
    outer = _outer(steps)
    program = constant(_program_of(steps, outer), name="program").view
    return rewriter.replace(make_node("elementwise_chain", (program, *outer), node.outputs), steps, node)


def _reads_whole(node: Node, value: Value) -> bool:
    """Whether a node reads all of a value, in its own shape, wherever it reads it."""
    views = [view for view in node.inputs if view.buffer is value]
    return all(is_whole(view) and view.shape == value.spec.shape for view in views)


def _outer(steps: Iterable[Node]) -> list[View]:
    """What a chain reads from outside, each view once."""
    nodes = list(steps)
    inner = {value for step in nodes for value in step.outputs}
    found: list[View] = []
    for view in (view for step in nodes for view in step.inputs if view.buffer not in inner):
        if not any(_same_operand(view, other) for other in found):
            found.append(view)
    return found


def _same_operand(one: View, other: View) -> bool:
    """Whether two views are the same elements: of one buffer, or of two constants that hold the same number."""
    if same_view(one, other):
        return True
    number = _number(one)
    return number is not None and one.shape == other.shape and number == _number(other)


def _number(view: View) -> bytes | None:
    """The bytes of a constant of one element; None for all else."""
    if not isinstance(view.buffer, Buffer) or not view.buffer.constant or any(size != 1 for size in view.shape):
        return None
    return view.host().tobytes()


def _program_of(steps: list[Node], outer: list[View]) -> npt.NDArray[np.int32]:
    """The program of a chain whose operands are `outer`."""
    results = {step.outputs[0]: len(outer) + index for index, step in enumerate(steps)}

    def place(view: View) -> int:
        if view.buffer in results:
            return results[view.buffer]
        return next(index for index, other in enumerate(outer) if _same_operand(view, other))

    rows = [(STEPS.index(step.spec.name), place(step.inputs[0]), place(step.inputs[-1])) for step in steps]
    return np.array(rows, np.int32)
