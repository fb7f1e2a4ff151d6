"""Fusion: patterns of nodes become one node where the target has the kernel.

Every fused op carries its decomposition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi import dtypes
from perfxapi.dtypes import DType
from perfxapi.graph.ir import Graph, Node, Value, is_whole, same_view
from perfxapi.memory import Buffer, View
from perfxapi.ops.spec import TensorSpec, is_absent, op_spec

Supports = Callable[[Node], bool]
"""Whether the target runs a (fused) node with a kernel of its own."""


class _Fuser:
    """One graph being rewritten. `produced_by`, `uses` and `readers` describe it as it stands.

    Nodes keep their places while patterns are matched, a removed one leaving None: no rewrite goes through the graph.
    """

    def __init__(self, graph: Graph, supports: Supports) -> None:
        self.supports = supports
        self.places: list[Node | None] = list(graph.nodes)
        self.uses = graph.uses()
        self.produced_by = {value: node for node in graph.nodes for value in node.outputs}
        self.readers: dict[Value, list[Node]] = {}
        # a value that an op writes in place must be read where its readers stood
        self._mutated = {node.inputs[index].buffer for node in graph.nodes for index in node.spec.mutates}
        self._place_of = {id(node): place for place, node in enumerate(graph.nodes)}
        for node in graph.nodes:
            for value in node.values_read():
                self.readers.setdefault(value, []).append(node)

    def producer(self, view: View, op: str) -> Node | None:
        """The node of kind `op` whose whole result `view` is, where nothing else uses it."""
        if not is_whole(view):
            return None
        node = self.produced_by.get(view.buffer)
        return node if node is not None and node.spec.name == op and self.uses[view.buffer] == 1 else None

    def replace(self, fused: Node, removed: Iterable[Node], at: Node) -> bool:
        """Puts `fused` in the place of `at` (one of `removed`), if the target supports it."""
        if not self._mutated.isdisjoint(fused.values_read()) or not self.supports(fused):
            return False
        place = self._place_of[id(at)]
        for node in removed:
            self.places[self._place_of.pop(id(node))] = None
            for value in node.values_read():
                self.uses[value] -= 1
                self.readers[value].remove(node)
        self.places[place] = fused
        self._place_of[id(fused)] = place
        self.produced_by.update(dict.fromkeys(fused.outputs, fused))
        for value in fused.values_read():
            self.uses[value] += 1
            self.readers[value].append(fused)
        return True


def _node(op: str, inputs: Iterable[View], outputs: Iterable[Value], **attributes: Any) -> Node:
    spec = op_spec(op)
    return Node(spec, tuple(inputs), tuple(outputs), spec.check_attributes(attributes))


def _fuse_norm_rope(fuser: _Fuser, node: Node) -> bool:
    if node.spec.name != "rope":
        return False
    norm = fuser.producer(node.inputs[0], "rms_norm")
    if norm is None or norm.inputs[0].shape != node.inputs[0].shape:
        return False
    if node.inputs[1].shape[-1] != node.inputs[0].shape[-1]:  # a rotation of part of each head
        return False
    inputs = (norm.inputs[0], norm.inputs[1], node.inputs[1])
    fused = _node("norm_rope", inputs, node.outputs, **norm.attributes, **node.attributes)
    return fuser.replace(fused, (norm, node), node)


def _fuse_gated_linear(fuser: _Fuser, node: Node) -> bool:
    if node.spec.name != "gated_activation":
        return False
    gate, up = (fuser.producer(view, "linear") for view in node.inputs)
    if gate is None or up is None or not same_view(gate.inputs[0], up.inputs[0]) or gate.attributes != up.attributes:
        return False
    inputs = (gate.inputs[0], gate.inputs[1], up.inputs[1])
    fused = _node("gated_linear", inputs, node.outputs, **gate.attributes, **node.attributes)
    return fuser.replace(fused, (gate, up, node), node)


def _norm_of(fuser: _Fuser, total: Value) -> Node | None:
    """The first rms_norm that reads all of `total`, in its own shape."""
    readers = fuser.readers.get(total, [])
    found = (r for r in readers if r.spec.name == "rms_norm" and r.inputs[0].shape == total.spec.shape)
    return next((r for r in found if is_whole(r.inputs[0])), None)


def _fuse_residual_norm(fuser: _Fuser, node: Node) -> bool:
    """x + y (or x + rms_norm(y, post)), then rms_norm of the sum."""
    if node.spec.name != "add" or node.inputs[0].shape != node.inputs[1].shape or len(node.inputs[0].shape) != 2:
        return False
    norm = _norm_of(fuser, node.outputs[0])
    if norm is None or not all(view.is_contiguous for view in node.inputs):
        return False
    outputs = (node.outputs[0], norm.outputs[0])
    for x, y in (node.inputs, node.inputs[::-1]):
        post = fuser.producer(y, "rms_norm")
        if post is not None and post.attributes == norm.attributes and post.inputs[0].shape == x.shape:
            inputs = (post.inputs[0], post.inputs[1], x, norm.inputs[1])
            fused = _node("norm_add_rms_norm", inputs, outputs, **norm.attributes)
            if fuser.replace(fused, (post, node, norm), node):
                return True
    fused = _node("add_rms_norm", (*node.inputs, norm.inputs[1]), outputs, **norm.attributes)
    return fuser.replace(fused, (node, norm), node)


def _fuse_multi_linear(fuser: _Fuser, node: Node) -> bool:
    """Several products of the same activations: quantized once, divided among the threads as one."""
    if node.spec.name != "linear":
        return False
    x = node.inputs[0]
    group = [
        other
        for other in fuser.readers.get(x.buffer, [])
        if other.spec.name == "linear" and other.attributes == node.attributes and same_view(other.inputs[0], x)
    ]
    if len(group) < 2 or not all(isinstance(other.inputs[1].buffer, Buffer) for other in group):
        return False
    inputs = (x, *(other.inputs[1] for other in group))
    fused = _node("multi_linear", inputs, (other.outputs[0] for other in group), **node.attributes)
    return fuser.replace(fused, group, group[0])


# ---- what is done to each channel of a convolution's result


_FOLDED = (dtypes.float32, dtypes.float64)
"""Dtypes of which so much is kept that rounding once, and not after each step, is no other result."""


def _fold_into_convolution(fuser: _Fuser, node: Node) -> bool:
    """Constants for each channel (or for all) that the result is multiplied by go into the weight, those that are added
    into the bias: what is left of a batch normalization, and of what exporters make of one.
    """
    if node.spec.name not in ("convolution", "convolution_transpose") or node.outputs[0].spec.dtype not in _FOLDED:
        return False
    if not all(isinstance(view.buffer, Buffer) and view.buffer.constant for view in node.inputs[1:]):
        return False
    removed = [node]
    factor: Any = 1.0
    shift: Any = 0.0
    while (step := _channelwise(fuser, removed[-1])) is not None:
        reader, multiplied, added = step
        factor, shift = factor * multiplied, shift * multiplied + added
        removed.append(reader)
    if len(removed) == 1:
        return False
    last = removed[-1]
    return fuser.replace(_scaled_and_shifted(node, factor, shift, last.outputs), removed, last)


def _channelwise(fuser: _Fuser, node: Node) -> tuple[Node, Any, Any] | None:
    """The only reader of a result, where it multiplies it by and adds to it constants of each channel; and these."""
    (result,) = node.outputs
    if fuser.uses.get(result) != 1 or len(fuser.readers.get(result, ())) != 1:
        return None
    (reader,) = fuser.readers[result]
    if reader.spec.name not in ("add", "divide", "multiply", "subtract") or reader.outputs[0].spec != result.spec:
        return None
    own = 0 if reader.inputs[0].buffer is result else 1
    if own == 1 and reader.spec.name in ("divide", "subtract"):
        return None
    numbers = _per_channel(reader.inputs[1 - own], result.spec)
    if numbers is None or not same_view(reader.inputs[own], result.view()):
        return None
    if reader.spec.name in ("add", "subtract"):
        return reader, 1.0, numbers if reader.spec.name == "add" else -numbers
    if reader.spec.name == "divide" and not numbers.all():
        return None
    return reader, 1 / numbers if reader.spec.name == "divide" else numbers, 0.0


def _per_channel(view: View, result: TensorSpec) -> npt.NDArray[np.float64] | None:
    """The numbers of a constant of one element for each channel of a result, or of one element; else None."""
    if not isinstance(view.buffer, Buffer) or not view.buffer.constant or view.dtype is not result.dtype:
        return None
    sizes = (1,) * (len(result.shape) - len(view.shape)) + view.shape
    if any(size != 1 for axis, size in enumerate(sizes) if axis != 1):
        return None
    values = view.host().astype(np.float64).reshape(-1)
    return np.broadcast_to(values, (int(result.shape[1]),)) if np.isfinite(values).all() else None


def _scaled_and_shifted(convolution: Node, factor: Any, shift: Any, outputs: tuple[Value, ...]) -> Node:
    """The convolution whose result is `factor` times the given one's, plus `shift`, both for each channel."""
    x, weight, bias = convolution.inputs
    channels = int(outputs[0].spec.shape[1])
    filters = weight.host().astype(np.float64)
    scale = np.broadcast_to(np.asarray(factor, np.float64), (channels,))
    if convolution.spec.name == "convolution":
        filters = filters * scale.reshape(-1, *(1,) * (filters.ndim - 1))
    else:  # [channels of x, channels of a group, ...]
        groups = convolution.attributes["groups"]
        apart = filters.reshape(groups, -1, *filters.shape[1:])
        filters = (apart * scale.reshape(groups, 1, -1, *(1,) * (filters.ndim - 2))).reshape(filters.shape)
    base = np.zeros(channels) if is_absent(bias) else bias.host().astype(np.float64)
    inputs = (x, _constant(filters, weight.dtype), _constant(base * scale + shift, weight.dtype))
    return Node(convolution.spec, inputs, outputs, convolution.attributes)


def _constant(values: npt.NDArray[Any], dtype: DType) -> View:
    stored = np.ascontiguousarray(values, dtype.numpy)
    return View(Buffer.from_host(stored.reshape(-1).view(np.uint8), constant=True), dtype, stored.shape)


_PASSES: tuple[Callable[[_Fuser, Node], bool], ...] = (
    _fold_into_convolution,
    _fuse_norm_rope,
    _fuse_gated_linear,
    _fuse_residual_norm,
    _fuse_multi_linear,
)


def fuse(graph: Graph, supports: Supports) -> Graph:
    """A copy of the graph with every pattern that `supports` allows fused."""
    fuser = _Fuser(graph, supports)
    for rewrite in _PASSES:
        for place in range(len(fuser.places)):
            node = fuser.places[place]
            if node is not None:
                rewrite(fuser, node)
    fused = Graph(graph.inputs, [node for node in fuser.places if node is not None], graph.outputs)
    fused.validate()
    return fused
