"""Attention over a paged KV cache (Kwon et al. 2023), for flattened tokens of several requests.

Caches: k_cache [num_blocks, num_kv_heads, head_dim, block_size], v_cache [num_blocks, num_kv_heads, block_size,
head_dim]: keys are stored transposed so that a vector register takes the same channel of several keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from perfxapi.memory import Range, View
from perfxapi.ops.spec import (
    Attribute,
    Attributes,
    OpSpec,
    Sample,
    TensorSpec,
    float32_of,
    register_op,
    require,
    require_indices,
    require_kind,
    require_shape,
)


def _kv_write(k: Any, v: Any, slot_mapping: Any, k_cache: Any, v_cache: Any) -> None:
    block_size = v_cache.shape[2]
    _check_slots(slot_mapping, v_cache.shape)
    kept = np.flatnonzero(slot_mapping >= 0)
    slots = slot_mapping[kept]
    blocks, places = slots // block_size, slots % block_size
    k_cache[blocks, :, :, places] = k[kept]
    v_cache[blocks, :, places, :] = v[kept]


def _check_slots(slots: Any, v_shape: Any) -> None:
    fits = bool(np.all((slots >= -1) & (slots < v_shape[0] * v_shape[2])))
    require(fits, "kv_write", "a slot lies outside the cache (-1 stands for none)")


def _infer_kv_write(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    k, v, slot_mapping, k_cache, v_cache = inputs
    require_indices("kv_write", slot_mapping=slot_mapping)
    for spec in (k, v, k_cache, v_cache):
        require_kind("kv_write", spec, "float")
    require_shape("kv_write", "k", k, None, None, None)
    require_shape("kv_write", "slot_mapping", slot_mapping, k.shape[0])
    _check_caches("kv_write", k_cache, v_cache)
    require(k.shape == v.shape, "kv_write", f"k and v differ: {k.shape}, {v.shape}")
    require(k_cache.shape[1:3] == k.shape[1:3], "kv_write", f"k_cache {k_cache.shape} does not hold keys of {k.shape}")
    require(v_cache.shape[1] == v.shape[1] and v_cache.shape[3] == v.shape[2], "kv_write", "v_cache does not fit v")
    return ()


def _check_caches(op: str, k_cache: TensorSpec, v_cache: TensorSpec) -> None:
    require_shape(op, "k_cache", k_cache, None, None, None, None)
    num_blocks, num_kv_heads, head_dim, block_size = k_cache.shape
    require_shape(op, "v_cache", v_cache, num_blocks, num_kv_heads, block_size, head_dim)


def _block_ranges(view: View, blocks: Any) -> list[Range]:
    """The byte ranges of whole cache blocks, neighbors joined."""
    block_bytes = int(view.strides[0])
    ranges: list[Range] = []
    for block in np.unique(blocks).tolist():
        offset = view.offset + block * block_bytes
        if ranges and sum(ranges[-1]) == offset:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + block_bytes)
        else:
            ranges.append((offset, block_bytes))
    return ranges


def _kv_write_ranges(inputs: Sequence[View], attributes: Attributes) -> dict[int, list[Range]]:
    slots = inputs[2].host()
    _check_slots(slots, inputs[4].shape)
    blocks = slots[slots >= 0] // inputs[4].shape[2]
    return {3: _block_ranges(inputs[3], blocks), 4: _block_ranges(inputs[4], blocks)}


def _visible_blocks(query_start: Any, kv_len: Any, block_table: Any, block_size: int, window: int) -> Any:
    blocks = []
    for request, length in enumerate(kv_len.tolist()):
        first_query = length - int(query_start[request + 1] - query_start[request])
        first = max(0, first_query - window + 1) if window else 0
        blocks.append(block_table[request, first // block_size : -(-length // block_size)])
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int32)


def _attention_ranges(inputs: Sequence[View], attributes: Attributes) -> dict[int, list[Range]]:
    q, k_cache, v_cache, query_start, kv_len, block_table = inputs
    lists = (query_start.host(), kv_len.host(), block_table.host())
    _check_requests(int(q.shape[0]), v_cache.shape, *lists)
    blocks = _visible_blocks(*lists, int(v_cache.shape[2]), attributes["window"])
    return {1: _block_ranges(k_cache, blocks), 2: _block_ranges(v_cache, blocks)}


def _attend(q: Any, keys: Any, values: Any, first_position: int, scale: float, window: int, softcap: float) -> Any:
    """One request: q [n, heads, dim] at consecutive positions, keys and values [kv_heads, length, dim], in float64."""
    num_queries, num_heads, head_dim = q.shape
    grouped = q.reshape(num_queries, keys.shape[0], -1, head_dim).transpose(1, 2, 0, 3)
    scores = (grouped @ keys.swapaxes(1, 2)[:, None]) * scale
    if softcap:
        scores = softcap * np.tanh(scores / softcap)
    positions = first_position + np.arange(num_queries)[:, None]
    keys_at = np.arange(keys.shape[1])[None]
    hidden = keys_at > positions
    if window:
        hidden |= keys_at <= positions - window
    scores = np.where(hidden, -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    attended: Any = weights @ values[:, None]
    return attended.transpose(2, 0, 1, 3).reshape(num_queries, num_heads, -1)


def _paged_attention(
    q: Any,
    k_cache: Any,
    v_cache: Any,
    query_start: Any,
    kv_len: Any,
    block_table: Any,
    scale: float,
    window: int,
    softcap: float,
) -> Any:
    _check_requests(len(q), v_cache.shape, query_start, kv_len, block_table)
    out = np.zeros(q.shape, np.float32)
    for request, length in enumerate(kv_len.tolist()):
        start, stop = int(query_start[request]), int(query_start[request + 1])
        if start == stop:
            continue
        blocks = block_table[request, : -(-length // v_cache.shape[2])]
        keys = np.moveaxis(k_cache[blocks].astype(np.float64), (1, 3), (0, 2))
        values = np.moveaxis(v_cache[blocks].astype(np.float64), 1, 0)
        keys = keys.reshape(keys.shape[0], -1, keys.shape[3])[:, :length]
        values = values.reshape(values.shape[0], -1, values.shape[3])[:, :length]
        queries = q[start:stop].astype(np.float64)
        out[start:stop] = _attend(queries, keys, values, length - (stop - start), scale, window, softcap)
    return out


def _check_requests(num_tokens: int, v_shape: Any, query_start: Any, kv_len: Any, block_table: Any) -> None:
    """Raises InvalidArgumentError where requests reach past the tokens, their block tables or the cache."""
    op, counts = "paged_attention", np.diff(query_start)
    ordered = query_start[0] == 0 and bool(np.all(counts >= 0)) and query_start[-1] <= num_tokens
    require(ordered, op, f"query_start {query_start.tolist()} does not divide {num_tokens} tokens")
    require(bool(np.all(kv_len >= counts)), op, "a request has more queries than keys")
    blocks = -(-kv_len // v_shape[2])
    require(bool(np.all(blocks <= block_table.shape[1])), op, "a request has more keys than its block table holds")
    used = block_table[np.arange(block_table.shape[1]) < blocks[:, None]]
    require(bool(np.all((used >= 0) & (used < v_shape[0]))), op, "a block lies outside the cache")


def _infer_attention(inputs: Sequence[TensorSpec], attributes: Attributes) -> tuple[TensorSpec, ...]:
    op = "paged_attention"
    q, k_cache, v_cache, query_start, kv_len, block_table = inputs
    require_indices(op, query_start=query_start, kv_len=kv_len, block_table=block_table)
    for spec in (q, k_cache, v_cache):
        require_kind(op, spec, "float")
    require_shape(op, "q", q, None, None, None)
    _check_caches(op, k_cache, v_cache)
    require_shape(op, "kv_len", kv_len, None)
    require_shape(op, "block_table", block_table, kv_len.shape[0], None)
    num_requests = kv_len.shape[0]
    require_shape(op, "query_start", query_start, num_requests + 1 if isinstance(num_requests, int) else None)
    heads, kv_heads = q.shape[1], k_cache.shape[1]
    fits = isinstance(heads, int) and isinstance(kv_heads, int) and heads % kv_heads == 0
    require(fits, op, f"{heads} query heads are not a multiple of {kv_heads} kv heads")
    require(q.shape[2] == k_cache.shape[2], op, "head sizes differ")
    return (float32_of(q.shape),)


def paged_case(
    rng: np.random.Generator,
    lengths: Sequence[tuple[int, int]],
    heads: tuple[int, int],
    head_dim: int,
    block_size: int = 16,
    cache: type = np.float32,
) -> tuple[Any, ...]:
    """Inputs of paged_attention for requests given as (number of queries, kv length), with shuffled blocks and rubbish
    elsewhere.
    """
    num_blocks = sum(-(-length // block_size) for _, length in lengths) + 2
    order = rng.permutation(num_blocks)
    table = np.zeros((len(lengths), max(-(-length // block_size) for _, length in lengths)), np.int32)
    taken = 0
    for request, (_, length) in enumerate(lengths):
        count = -(-length // block_size)
        table[request, :count] = order[taken : taken + count]
        taken += count
    k_cache: Any = rng.standard_normal((num_blocks, heads[1], head_dim, block_size)).astype(cache)
    v_cache: Any = rng.standard_normal((num_blocks, heads[1], block_size, head_dim)).astype(cache)
    query_start = np.concatenate([[0], np.cumsum([count for count, _ in lengths])]).astype(np.int32)
    q = rng.standard_normal((int(query_start[-1]), heads[0], head_dim)).astype(np.float32)
    return q, k_cache, v_cache, query_start, np.array([length for _, length in lengths], np.int32), table


def _attention_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(14)
    cases = (
        ([(1, 1)], (4, 1), 256, 0, 0.0),
        ([(7, 7), (1, 40), (3, 21)], (4, 2), 64, 0, 0.0),
        ([(1, 300), (40, 70)], (8, 8), 32, 24, 0.0),
        ([(33, 33)], (6, 2), 48, 8, 50.0),
        ([(1, 600), (1, 17)], (4, 1), 128, 0, 0.0),
    )
    for lengths, heads, head_dim, window, softcap in cases:
        for cache in (np.float32, np.float16):
            attributes = {"scale": head_dim**-0.5, "window": window, "softcap": softcap}
            inputs = paged_case(rng, lengths, heads, head_dim, cache=cache)
            yield Sample(inputs, attributes, f"{lengths} heads {heads} dim {head_dim} window {window}")


register_op(
    OpSpec(
        "paged_attention",
        ("q", "k_cache", "v_cache", "query_start", "kv_len", "block_table"),
        _infer_attention,
        _paged_attention,
        _attention_samples,
        (Attribute("scale", float), Attribute("window", int, 0), Attribute("softcap", float, 0.0)),
        state=(1, 2),
        ranges=_attention_ranges,
        tolerance=4e-6,
    )
)


def _kv_write_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(15)
    for cache in (np.float32, np.float16):
        for tokens, heads, head_dim in ((1, 1, 256), (5, 2, 33), (0, 1, 16)):
            k, v = (rng.standard_normal((tokens, heads, head_dim)).astype(np.float32) for _ in range(2))
            slots = rng.permutation(64)[:tokens].astype(np.int32)
            slots[1:2] = -1
            caches = np.zeros((4, heads, head_dim, 16), cache), np.zeros((4, heads, 16, head_dim), cache)
            yield Sample((k, v, slots, *caches), {}, f"{tokens} tokens")


register_op(
    OpSpec(
        "kv_write",
        ("k", "v", "slot_mapping", "k_cache", "v_cache"),
        _infer_kv_write,
        _kv_write,
        _kv_write_samples,
        mutates=(3, 4),
        state=(3, 4),
        ranges=_kv_write_ranges,
        tolerance=0,
    )
)
