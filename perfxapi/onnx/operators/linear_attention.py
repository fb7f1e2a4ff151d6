"""The recurrences that stand in for attention: linear attention, and the short convolution before it.

A state S [keys, values] of each head has keys and values added token by token, and queries read it. Tokens are taken in
chunks: within one, what they read of each other is a triangle of products, as in attention (Yang et al. 2024, "Gated
Delta Networks"); the state is only carried from chunk to chunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from perfxapi import dtypes, nn
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.dtypes import DType
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.operators.attention import join_heads, split_heads
from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.registry import OperatorNode, operator


def _accumulator(x: Array) -> DType:
    """The dtype in which sums of many elements are kept."""
    return x.dtype if x.dtype is dtypes.float64 else dtypes.float32


@dataclass(frozen=True)
class _Chunk:
    """Some tokens of all heads.

    `keys` [batch, heads, 1, tokens, K], `queries` the same with as many rows of heads as share a state, `values`
    [batch, heads, 1, tokens, V]. `decay` [..., tokens, K or 1] is the logarithm of what is left, at each token, of
    what was there before the chunk; `rate` [..., tokens, 1] how much of what a value differs by is added.
    """

    queries: Array
    keys: Array
    values: Array
    decay: Array | None
    rate: Array | None

    def kept(self, x: Array) -> Array:
        """What rows read the state before the chunk with, once it has decayed."""
        return x if self.decay is None else px.multiply(x, px.exp(self.decay))

    def pairs(self, x: Array, *, own: bool) -> Array:
        """The product of each token's row with every key before it (and its `own`), decayed on the way; else 0."""
        size = int(self.keys.shape[3])
        before = px.asarray(np.tril(np.ones((size, size), np.bool_), 0 if own else -1), device=x.device)
        if self.decay is None:
            return px.where(before, px.matmul(x, self.keys.mT), 0)
        apart = px.subtract(self.decay[..., :, None, :], self.decay[..., None, :, :])
        left = px.exp(px.where(before[..., None], apart, 0))
        if int(left.shape[-1]) == 1:
            return px.where(before, px.multiply(px.matmul(x, self.keys.mT), left[..., 0]), 0)
        products = px.multiply(px.multiply(x[..., :, None, :], self.keys[..., None, :, :]), left)
        return px.where(before, px.sum(products, axis=-1), 0)

    def added(self, state: Array) -> Array:
        """What each token adds beside its key: its value, or `rate` times what that differs by from what S says."""
        if self.rate is None:
            return self.values
        told = px.matmul(self.kept(self.keys), state)
        wanted = px.multiply(px.subtract(self.values, told), self.rate)
        size = int(self.keys.shape[3])
        if size == 1:
            return wanted
        system = px.multiply(self.pairs(self.keys, own=False), self.rate)
        result: Array = px.linalg.solve(px.add(system, px.eye(size, dtype=system.dtype, device=system.device)), wanted)
        return result

    def run(self, state: Array) -> tuple[Array, Array]:
        """What the queries read, and the state after the chunk."""
        added = self.added(state)
        read = px.add(px.matmul(self.kept(self.queries), state), px.matmul(self.pairs(self.queries, own=True), added))
        keys = self.keys
        if self.decay is not None:
            last = self.decay[..., -1:, :]
            keys = px.multiply(keys, px.exp(px.subtract(last, self.decay)))
            state = px.multiply(state, px.exp(last).mT)
        return read, px.add(state, px.matmul(keys.mT, added))


@operator("LinearAttention")
def linear_attention(
    node: OperatorNode,
    query: Array,
    key: Array,
    value: Array,
    state: Array | None = None,
    decay: Array | None = None,
    beta: Array | None = None,
) -> tuple[Array, Array]:
    """What queries read of a state to which keys and values are added token by token, and the last state.

    `update_rule` says how: the state decays by exp(decay) ("gated"), and only what a value differs by from what the
    state says already is added ("delta").
    """
    rule = choice(node, "update_rule", ("linear", "gated", "delta", "gated_delta"), "gated_delta")
    shared, heads = node.required("kv_num_heads"), node.required("q_num_heads")
    if (decay is None and rule.startswith("gated")) or (beta is None and "delta" in rule):
        raise InvalidArgumentError(f"{node}: the update rule {rule} needs a decay, beta, or both")
    kind = _accumulator(query if state is None else state)
    queries, keys, values = (
        px.astype(split_heads(x, count), kind, copy=False)
        for x, count in ((query, heads), (key, shared), (value, shared))
    )
    batch, _, length, width = (int(size) for size in keys.shape)
    grouped = queries.reshape((batch, shared, heads // shared, length, width))
    stored = query.dtype if state is None else state.dtype
    sizes = (batch, shared, 1, width, int(values.shape[-1]))
    carried = px.zeros(sizes, dtype=kind, device=node.device)
    if state is not None:
        carried = px.astype(state, kind, copy=False).reshape(sizes)
    logs = None if decay is None or "gated" not in rule else _by_head(decay, shared, kind)
    rates = None if beta is None or "delta" not in rule else _rates(beta, kind)
    size = node.attribute("chunk_size", 64)
    results = []
    for start in range(0, length, size):
        part = (..., slice(start, start + size), slice(None))
        sums = None if logs is None else px.cumulative_sum(logs[part], axis=3)
        rate = None if rates is None else rates[part]
        chunk = _Chunk(grouped[part], keys[:, :, None][part], values[:, :, None][part], sums, rate)
        read, carried = chunk.run(carried)
        results.append(read)
    whole = px.concat(results, axis=3)
    scale = node.attribute("scale", 0.0) or 1 / math.sqrt(width)
    output = px.multiply(whole, scale).reshape((batch, heads, length, sizes[-1]))
    last = px.astype(carried.reshape((batch, shared, width, sizes[-1])), stored, copy=False)
    return px.astype(join_heads(output), query.dtype, copy=False), last


def _by_head(decay: Array, shared: int, kind: DType) -> Array:
    """Logarithms of decays as [batch, heads, 1, tokens, keys or 1]."""
    return split_heads(px.astype(decay, kind, copy=False), shared)[:, :, None]


def _rates(beta: Array, kind: DType) -> Array:
    """Rates as [batch, heads or 1, 1, tokens, 1]."""
    return px.astype(beta, kind, copy=False).permute_dims((0, 2, 1))[:, :, None, :, None]


@operator("CausalConvWithState")
def causal_convolution(
    node: OperatorNode, x: Array, weight: Array, bias: Array | None = None, state: Array | None = None
) -> tuple[Array, Array]:
    """Each channel's weighted sum of the current and the last elements, and the elements that the next call needs."""
    size, length = int(weight.shape[2]), int(x.shape[2])
    if state is None:
        state = px.zeros((*x.shape[:2], size - 1), dtype=x.dtype, device=node.device)  # type: ignore[arg-type]
    whole = px.concat([state, x], axis=2) if size > 1 else x
    wide, taps = (px.astype(part, _accumulator(x), copy=False) for part in (whole, weight))
    result = px.multiply(wide[:, :, :length], taps[:, 0, 0:1])
    for tap in range(1, size):
        result = px.add(result, px.multiply(wide[:, :, tap : tap + length], taps[:, 0, tap : tap + 1]))
    if bias is not None:
        result = px.add(result, px.astype(bias, result.dtype, copy=False)[:, None])
    if choice(node, "activation", ("none", "silu", "swish"), "none") != "none":
        result = nn.silu(result)
    return px.astype(result, x.dtype, copy=False), whole[:, :, int(whole.shape[2]) - size + 1 :]
