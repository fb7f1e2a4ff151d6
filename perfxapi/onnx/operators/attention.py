"""Attention, rotary embedding, and the recurrences that stand in for attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from perfxapi import dtypes
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.element_types import device_dtype
from perfxapi.onnx.operators.activation import softmax
from perfxapi.onnx.operators.shape import padded
from perfxapi.onnx.registry import OperatorNode, operator


def split_heads(x: Array, heads: int) -> Array:
    """[batch, length, heads * size] as [batch, heads, length, size]."""
    batch, length, width = (int(size) for size in x.shape)
    return x.reshape((batch, length, heads, width // heads)).permute_dims((0, 2, 1, 3))


def join_heads(x: Array) -> Array:
    """[batch, heads, length, size] as [batch, length, heads * size]."""
    batch, heads, length, size = (int(size) for size in x.shape)
    return x.permute_dims((0, 2, 1, 3)).reshape((batch, length, heads * size))


def _grouped_product(x: Array, y: Array) -> Array:
    """Products of [batch, heads, L, S] with [batch, fewer heads, S, T], each of which serves a group of heads."""
    batch, heads, rows, inner = (int(size) for size in x.shape)
    shared = int(y.shape[1])
    if heads == shared:
        return px.matmul(x, y)
    together = px.matmul(x.reshape((batch, shared, heads // shared * rows, inner)), y)
    return together.reshape((batch, heads, rows, int(y.shape[3])))


@operator("Attention")
def attention(
    node: OperatorNode,
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    lengths: Array | None = None,
) -> tuple[Array, ...]:
    """Scaled dot-product attention with masks, windows, a cache of keys and values, and groups of heads."""
    packed = query.ndim == 3
    if packed:
        query = split_heads(query, node.required("q_num_heads"))
        key, value = (split_heads(x, node.required("kv_num_heads")) for x in (key, value))
    past = 0
    if past_key is not None and past_value is not None:
        past = int(past_key.shape[2])
        key, value = px.concat([past_key, key], axis=2), px.concat([past_value, value], axis=2)
    root = math.sqrt(node.attribute("scale") or 1 / math.sqrt(int(query.shape[-1])))
    raw = _grouped_product(px.multiply(query, root), px.multiply(key, root).mT)
    capped = raw
    if cap := node.attribute("softcap", 0.0):
        capped = px.multiply(px.tanh(px.divide(raw, cap)), cap)
    bias = _bias(node, capped, mask, lengths, past)
    scores = capped if bias is None else px.add(capped, bias)
    weights = px.astype(_masked_softmax(node, scores, masked=bias is not None), query.dtype, copy=False)
    result = _grouped_product(weights, px.astype(value, query.dtype, copy=False))
    stages = (raw, capped, scores, weights)
    stage = int(node.attribute("qk_matmul_output_mode", 0))
    if not 0 <= stage < len(stages):
        raise InvalidArgumentError(f"{node}: qk_matmul_output_mode must be from 0 to 3; got {stage}")
    return (
        join_heads(result) if packed else result,
        key,
        value,
        stages[stage],
    )


def _bias(node: OperatorNode, scores: Array, mask: Array | None, lengths: Array | None, past: int) -> Array | None:
    """What is added to the scores: the mask, and minus infinity for keys that a query may not see; None for nothing."""
    rows, columns = (int(size) for size in scores.shape[-2:])
    bias: Array | None = None
    if mask is not None:
        missing = columns - int(mask.shape[-1])
        empty: Any = False if mask.dtype.kind == "bool" else -math.inf
        bias = padded(mask, [0] * mask.ndim, [0] * (mask.ndim - 1) + [missing], empty)
        if mask.dtype.kind == "bool":
            bias = _where_allowed(bias, scores)
    seen = _visible(node, rows, columns, lengths, past)
    if seen is None:
        return bias
    hidden = _where_allowed(seen, scores)
    return hidden if bias is None else px.add(px.astype(bias, scores.dtype, copy=False), hidden)


def _where_allowed(allowed: Array, like: Array) -> Array:
    minus_infinity = px.full((), -math.inf, dtype=like.dtype, device=like.device)
    return px.where(allowed, px.zeros((), dtype=like.dtype, device=like.device), minus_infinity)


def _visible(node: OperatorNode, rows: int, columns: int, lengths: Array | None, past: int) -> Array | None:
    """Which keys each query may see, by causality, windows and the lengths of padded sequences; None for all."""
    left, right = node.attribute("left_window_size", -1), node.attribute("right_window_size", -1)
    if node.attribute("is_causal", 0):
        right = 0
    keys = px.arange(columns, device=node.device)
    queries = px.arange(rows, device=node.device)[:, None]
    conditions = []
    offset: Any = past
    if lengths is not None:
        counts = px.astype(lengths, dtypes.int64, copy=False).reshape((-1, 1, 1, 1))
        conditions.append(px.less(keys, counts))
        offset = px.subtract(counts, rows)
    places = px.add(queries, offset)
    if left >= 0:
        conditions.append(px.greater_equal(keys, px.subtract(places, left)))
    if right >= 0:
        conditions.append(px.less_equal(keys, px.add(places, right)))
    result = None
    for condition in conditions:
        result = condition if result is None else px.logical_and(result, condition)
    return result


def _masked_softmax(node: OperatorNode, scores: Array, *, masked: bool) -> Array:
    """The softmax of rows, in the precision asked for; rows in which nothing is visible are zeros."""
    wide = scores
    if code := node.attribute("softmax_precision"):
        wide = px.astype(scores, device_dtype(code) or scores.dtype, copy=False)
    if not masked:
        return softmax(wide)
    blind = px.equal(px.max(wide, axis=-1, keepdims=True), -math.inf)
    return px.where(blind, 0, softmax(px.where(blind, 0, wide)))


@operator("FlexAttention", domain="ai.onnx.preview")
def flex_attention(node: OperatorNode, query: Array, key: Array, value: Array) -> Array:
    """Scaled dot-product attention; subgraphs may change the scores and the probabilities."""
    dtype = device_dtype(node.attribute("softmax_precision", 0))
    if dtype is None:
        dtype = dtypes.float64 if query.dtype is dtypes.float64 else dtypes.float32
    scale = node.attribute("scale") or 1 / math.sqrt(int(query.shape[-1]))
    wide_query, wide_key = (px.astype(x, dtype, copy=False) for x in (query, key))
    scores = px.multiply(_grouped_product(wide_query, wide_key.mT), scale)
    weights = _modified(node, "prob_mod", softmax(_modified(node, "score_mod", scores)))
    result = _grouped_product(weights, px.astype(value, dtype, copy=False))
    return px.astype(result, query.dtype, copy=False)


def _modified(node: OperatorNode, name: str, x: Array) -> Array:
    closure: Callable[..., Any] | None = node.attribute(name)
    return x if closure is None else closure(x)[0]


@operator("RotaryEmbedding")
def rotary_embedding(
    node: OperatorNode, x: Array, cosines: Array, sines: Array, positions: Array | None = None
) -> Array:
    """Pairs of elements of each head turned by angles that the positions choose (Su et al. 2021)."""
    heads = split_heads(x, node.required("num_heads")) if x.ndim == 3 else x
    size = node.attribute("rotary_embedding_dim", 0) or int(heads.shape[-1])
    if positions is not None:
        cosines, sines = px.take(cosines, positions, axis=0), px.take(sines, positions, axis=0)
    cosine, sine = (table[:, None, :, : size // 2] for table in (cosines, sines))
    turned, rest = heads[..., :size], heads[..., size:]
    interleaved = bool(node.attribute("interleaved", 0))
    if interleaved:
        first, second = turned[..., 0::2], turned[..., 1::2]
    else:
        first, second = turned[..., : size // 2], turned[..., size // 2 :]
    real = px.subtract(px.multiply(cosine, first), px.multiply(sine, second))
    imaginary = px.add(px.multiply(sine, first), px.multiply(cosine, second))
    if interleaved:
        turned = px.stack([real, imaginary], axis=-1).reshape(turned.shape)
    else:
        turned = px.concat([real, imaginary], axis=-1)
    result = px.concat([turned, rest], axis=-1) if size < int(heads.shape[-1]) else turned
    return join_heads(result) if x.ndim == 3 else result
