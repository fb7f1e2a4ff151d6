"""Fusion: patterns of nodes become one node where the target has the kernel.

Every fused op carries its decomposition.
"""

from __future__ import annotations

from collections.abc import Callable

from perfxapi.graph.chains import fuse_elementwise_chain
from perfxapi.graph.folding import fold_into_convolution
from perfxapi.graph.ir import Graph, Node, Value, is_whole, same_view
from perfxapi.graph.rewriting import Rewriter, Supports, make_node
from perfxapi.memory import Buffer


def _fuse_norm_rope(rewriter: Rewriter, node: Node) -> bool:
    if node.spec.name != "rope":
        return False
    norm = rewriter.producer(node.inputs[0], "rms_norm")
    if norm is None or norm.inputs[0].shape != node.inputs[0].shape:
        return False
    if node.inputs[1].shape[-1] != node.inputs[0].shape[-1]:  # a rotation of part of each head
        return False
    inputs = (norm.inputs[0], norm.inputs[1], node.inputs[1])
    fused = make_node("norm_rope", inputs, node.outputs, **norm.attributes, **node.attributes)
    return rewriter.replace(fused, (norm, node), node)


def _fuse_gated_linear(rewriter: Rewriter, node: Node) -> bool:
    if node.spec.name != "gated_activation":
        return False
    gate, up = (rewriter.producer(view, "linear") for view in node.inputs)
    if gate is None or up is None or not same_view(gate.inputs[0], up.inputs[0]) or gate.attributes != up.attributes:
        return False
    inputs = (gate.inputs[0], gate.inputs[1], up.inputs[1])
    fused = make_node("gated_linear", inputs, node.outputs, **gate.attributes, **node.attributes)
    return rewriter.replace(fused, (gate, up, node), node)


def _norm_of(rewriter: Rewriter, total: Value) -> Node | None:
    """The first rms_norm that reads all of `total`, in its own shape."""
    readers = rewriter.readers.get(total, [])
    found = (r for r in readers if r.spec.name == "rms_norm" and r.inputs[0].shape == total.spec.shape)
    return next((r for r in found if is_whole(r.inputs[0])), None)


def _fuse_residual_norm(rewriter: Rewriter, node: Node) -> bool:
    """x + y (or x + rms_norm(y, post)), then rms_norm of the sum."""
    if node.spec.name != "add" or node.inputs[0].shape != node.inputs[1].shape or len(node.inputs[0].shape) != 2:
        return False
    norm = _norm_of(rewriter, node.outputs[0])
    if norm is None or not all(view.is_contiguous for view in node.inputs):
        return False
    outputs = (node.outputs[0], norm.outputs[0])
    for x, y in (node.inputs, node.inputs[::-1]):
        post = rewriter.producer(y, "rms_norm")
        if post is not None and post.attributes == norm.attributes and post.inputs[0].shape == x.shape:
            inputs = (post.inputs[0], post.inputs[1], x, norm.inputs[1])
            fused = make_node("norm_add_rms_norm", inputs, outputs, **norm.attributes)
            if rewriter.replace(fused, (post, node, norm), node):
                return True
    fused = make_node("add_rms_norm", (*node.inputs, norm.inputs[1]), outputs, **norm.attributes)
    return rewriter.replace(fused, (node, norm), node)


def _fuse_multi_linear(rewriter: Rewriter, node: Node) -> bool:
    """Several products of the same activations: quantized once, divided among the threads as one."""
    if node.spec.name != "linear":
        return False
    x = node.inputs[0]
    group = [
        other
        for other in rewriter.readers.get(x.buffer, [])
        if other.spec.name == "linear" and other.attributes == node.attributes and same_view(other.inputs[0], x)
    ]
    if len(group) < 2 or not all(isinstance(other.inputs[1].buffer, Buffer) for other in group):
        return False
    inputs = (x, *(other.inputs[1] for other in group))
    fused = make_node("multi_linear", inputs, (other.outputs[0] for other in group), **node.attributes)
    return rewriter.replace(fused, group, group[0])


_PASSES: tuple[Callable[[Rewriter, Node], bool], ...] = (
    fold_into_convolution,
    _fuse_norm_rope,
    _fuse_gated_linear,
    _fuse_residual_norm,
    _fuse_multi_linear,
    fuse_elementwise_chain,
)


def fuse(graph: Graph, supports: Supports) -> Graph:
    """A copy of the graph with every pattern that `supports` allows fused."""
    rewriter = Rewriter(graph, supports)
    for rewrite in _PASSES:
        places = range(len(rewriter.places))
        # a chain grows from its last step
        for place in reversed(places) if rewrite is fuse_elementwise_chain else places:
            node = rewriter.places[place]
            if node is not None:
                rewrite(rewriter, node)
    fused = Graph(graph.inputs, [node for node in rewriter.places if node is not None], graph.outputs)
    fused.validate()
    return fused
