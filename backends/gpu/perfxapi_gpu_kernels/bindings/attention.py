"""Attention over a paged cache, and writing to the cache."""

from __future__ import annotations

import numpy as np

from perfxapi.backend import OpCall
from perfxapi.memory import View
from perfxapi_gpu_kernels.bindings.accepting import lanes_in_group
from perfxapi_gpu_kernels.driver import Properties
from perfxapi_gpu_kernels.launches import Argument, Launch, Request, bind_op
from perfxapi_gpu_kernels.sources import Program, program

_CACHES = ("float32", "float16")
_PARTITION, _CHUNK = 128, 16  # as in attention.h
_MAX_ROWS = 16
"""Query rows that a work-group of attention works on."""
_FEW_SLOTS = 32
"""Up to so many slots are checked by each work-group of kv_write, beyond by a kernel of its own."""


def _steps(x: View) -> tuple[np.int64, np.int64]:
    """Elements from a token to the next, and from a head to the next."""
    token, head = (int(step) // x.dtype.itemsize for step in x.strides[:2])
    return np.int64(token), np.int64(head)


def _cache_refusal(
    op: str, rows: tuple[View, ...], k_cache: View, v_cache: View, lists: tuple[View, ...]
) -> str | None:
    names = {k_cache.dtype.name, v_cache.dtype.name}
    if len(names) > 1 or not names <= set(_CACHES):
        return f"{op} with caches of {k_cache.dtype.name} and {v_cache.dtype.name}"
    if any(x.dtype.name != "float32" for x in rows):
        return f"{op} of {', '.join(x.dtype.name for x in rows)}"
    if any(x.strides[-1] != x.dtype.itemsize and x.shape[-1] != 1 for x in rows):
        return f"{op} of heads with gaps"
    whole = k_cache.is_contiguous and v_cache.is_contiguous and all(view.is_contiguous for view in lists)
    return None if whole else f"{op} with a cache or lists that have gaps"


def _accepts_kv_write(call: OpCall, properties: Properties) -> str | None:
    k, v, slots, k_cache, v_cache = call.inputs
    return _cache_refusal(call.op, (k, v), k_cache, v_cache, (slots,))


@bind_op("kv_write", accepts=_accepts_kv_write)
def _kv_write(request: Request) -> list[Launch]:
    k, v, slots, k_cache, v_cache = request.call.inputs
    tokens, heads, dim = (int(size) for size in k.shape)
    if not tokens or not heads or not dim:
        return []
    blocks, block_size = int(v_cache.shape[0]), int(v_cache.shape[2])
    lanes = lanes_in_group(request.properties, most=-(-dim // 16) * 16)
    built, local = program("kv_cache", CACHE=k_cache.dtype.name, **lanes), (lanes["GROUP"], 1, 1)
    counts = np.int32(tokens), np.int32(blocks * block_size)
    is_checked = tokens > _FEW_SLOTS
    launches = []
    if is_checked:
        groups = -(-tokens // 64), 1, 1
        launches.append(Launch(built, "check_slots", groups, (64, 1, 1), (slots, *counts), checks=True))
    sizes = np.int32(dim), np.int32(block_size), *_steps(k), *_steps(v), np.int32(is_checked)
    arguments: tuple[Argument, ...] = (*request.call.inputs, *counts, *sizes)
    return [*launches, Launch(built, "kv_write", (tokens, heads, 1), local, arguments, checks=True)]


def _accepts_attention(call: OpCall, properties: Properties) -> str | None:
    q, k_cache, v_cache, query_start, kv_len, block_table = call.inputs
    if int(v_cache.shape[2]) % _CHUNK or int(q.shape[2]) % _CHUNK:
        return f"paged_attention with blocks of {v_cache.shape[2]} and heads of {q.shape[2]}"
    if _local_bytes(_tile_heads(q, k_cache), int(q.shape[2])) > properties.local_memory:
        return f"paged_attention with heads of {q.shape[2]}"
    return _cache_refusal(call.op, (q,), k_cache, v_cache, (query_start, kv_len, block_table))


def _local_bytes(rows: int, dim: int) -> int:
    """Local memory of a work-group."""
    return 4 * rows * (dim + _PARTITION + _PARTITION // _CHUNK + 6)


def _tile_heads(q: View, k_cache: View) -> int:
    """Query heads in a tile: as many of those that share a kv head as a tile may have, in equal parts."""
    group = int(q.shape[1]) // max(int(k_cache.shape[1]), 1)
    return max((count for count in range(1, _MAX_ROWS + 1) if group % count == 0), default=1)


def _num_shares(call: OpCall, properties: Properties) -> int:
    """Work-groups that share a tile's partitions; 1 where there are tiles enough."""
    q, k_cache = call.inputs[:2]
    tokens, requests = int(q.shape[0]), int(call.inputs[4].shape[0])
    tiles = tokens * (int(q.shape[1]) // _tile_heads(q, k_cache))
    wanted = 2 * properties.compute_units
    return max(1, min(_max_parts(call), -(-wanted // max(tiles, 1)))) if tokens <= requests else 1


def _max_parts(call: OpCall) -> int:
    """Partitions that a token may see."""
    width, block_size = int(call.inputs[5].shape[1]), int(call.inputs[2].shape[2])
    most, window = -(-width * block_size // _PARTITION), call.attributes["window"]
    return min(most, -(-window // _PARTITION) + 1) if window > 0 else most


def _attention_workspace(call: OpCall, properties: Properties) -> int:
    """Room for each partition of each row: planned for the most tokens, of which only few share their partitions."""
    q = call.inputs[0]
    heads, dim, requests = int(q.shape[1]), int(q.shape[2]), int(call.inputs[4].shape[0])
    shared = min(int(q.shape[0]), requests, 2 * properties.compute_units)
    return 4 * shared * heads * _max_parts(call) * (dim + 2)


@bind_op("paged_attention", accepts=_accepts_attention, workspace=_attention_workspace)
def _paged_attention(request: Request) -> list[Launch]:
    q, k_cache, v_cache, _, kv_len, table = request.call.inputs
    tokens, heads, dim = (int(size) for size in q.shape)
    requests, properties, attributes = int(kv_len.shape[0]), request.properties, request.call.attributes
    if not tokens or not heads or not dim or not requests:
        return []
    tile_heads = _tile_heads(q, k_cache)
    tile_tokens = 1 if tokens <= requests else max(1, _rows_that_fit(properties, dim) // tile_heads)
    sizes = tokens, requests, int(table.shape[1]), int(v_cache.shape[0]), heads, int(v_cache.shape[1])
    arguments: tuple[Argument, ...] = (*request.call.inputs, *request.call.outputs, *map(np.int32, sizes), *_steps(q))
    arguments += np.float32(attributes["scale"]), np.int32(attributes["window"]), np.float32(attributes["softcap"])
    tiles = min(tokens, tokens // tile_tokens + requests), heads // tile_heads
    shares = _num_shares(request.call, properties)
    workspace = request.workspace if shares > 1 else None
    source = "attention" if workspace is None else "attention_parts"
    built, group = _program(request, source, tile_heads, tile_tokens)
    if workspace is None:
        return [Launch(built, "attend", (*tiles, 1), (group, 1, 1), arguments, checks=True)]
    arguments += workspace, np.int32(_max_parts(request.call))
    return [
        Launch(built, "attend_parts", (*tiles, shares), (group, 1, 1), arguments, checks=True),
        Launch(built, "merge_parts", (*tiles, tile_heads), (group, 1, 1), arguments, checks=True),
    ]


def _rows_that_fit(properties: Properties, dim: int) -> int:
    """Rows of a tile, by the local memory of a work-group."""
    return max(1, min(_MAX_ROWS, properties.local_memory // _local_bytes(1, dim)))


def _program(request: Request, source: str, tile_heads: int, tile_tokens: int) -> tuple[Program, int]:
    q, k_cache, v_cache = request.call.inputs[:3]
    lanes = lanes_in_group(request.properties, most=_PARTITION)
    shape: dict[str, str | int] = {"DIM": int(q.shape[2]), "BLOCK": int(v_cache.shape[2]), "CACHE": k_cache.dtype.name}
    return program(source, HEADS=tile_heads, TOKENS=tile_tokens, **shape, **lanes), lanes["GROUP"]
