"""The ops of a language model beside its products, on each OpenCL device: right at the edges of tiles, and the same
bits for a row whatever stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from opencl_devices import on_each_device

import perfxapi as px
from perfxapi import nn
from perfxapi.errors import InvalidArgumentError
from perfxapi.ops.attention import paged_case
from perfxapi.ops.spec import op_spec

pytestmark = on_each_device


@pytest.fixture(autouse=True)
def forced(device: str) -> Iterator[None]:
    """Everything runs on the device by kernels of its own, or fails."""
    with px.use_device(device, fallback="error"):
        yield


def rows(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def run(op: str, *operands: Any, **attributes: Any) -> list[Any]:
    """The results as NumPy arrays."""
    found = getattr(nn, op)(*(px.asarray(operand) for operand in operands), **attributes)
    return [np.asarray(array) for array in (found if isinstance(found, tuple) else (found,))]


def expected(op: str, *operands: Any, **attributes: Any) -> list[Any]:
    spec = op_spec(op)
    found = spec.reference(*(operand.copy() for operand in operands), **spec.check_attributes(attributes))
    return list(found) if isinstance(found, tuple) else [found]


def assert_right(op: str, *operands: Any, tolerance: float = 2e-6, **attributes: Any) -> None:
    for got, want in zip(run(op, *operands, **attributes), expected(op, *operands, **attributes), strict=True):
        if want.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(np.abs(want).max(initial=0), 1e-30))
        else:
            np.testing.assert_array_equal(got, want)


def assert_rows_alone(op: str, *operands: Any, shared: Sequence[int] = (), **attributes: Any) -> None:
    """Each row of each result has the same bits where it is the only one. `shared` operands belong to all rows."""
    together = run(op, *operands, **attributes)
    for row in range(len(operands[0])):
        alone = run(op, *(x if i in shared else x[row : row + 1] for i, x in enumerate(operands)), **attributes)
        for whole, part in zip(together, alone, strict=True):
            np.testing.assert_array_equal(whole[row : row + 1].view(np.uint32), part.view(np.uint32))


@pytest.mark.parametrize("columns", [1, 15, 16, 17, 255, 257, 640])
def test_norms(device: str, columns: int):
    rng = np.random.default_rng(columns)
    x, y, weight, post = rows(rng, 5, columns), rows(rng, 5, columns), rows(rng, columns), rows(rng, columns)
    for op, operands, shared in (
        ("rms_norm", (x, weight), (1,)),
        ("add_rms_norm", (x, y, weight), (2,)),
        ("norm_add_rms_norm", (y, post, x, weight), (1, 3)),
    ):
        assert_right(op, *operands, eps=1e-5)
        assert_rows_alone(op, *operands, shared=shared, eps=1e-5)


@pytest.mark.parametrize("dim", [2, 16, 30, 34, 256])
@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotations(device: str, dim: int, interleaved: int):
    rng = np.random.default_rng(dim)
    x, weight, positions = rows(rng, 4, 3, dim), rows(rng, dim), np.array([0, 3, 100, 8191], np.int32)
    frequencies = (10000.0 ** (-np.arange(dim // 2) * 2 / dim)).astype(np.float32)
    assert_right("rope_table", positions, frequencies, tolerance=4e-6)
    (table,) = run("rope_table", positions, frequencies)
    assert_right("rope", x, table, interleaved=interleaved)
    assert_right("norm_rope", x, weight, table, interleaved=interleaved)
    assert_rows_alone("rope", x, table, interleaved=interleaved)
    assert_rows_alone("norm_rope", x, weight, table, shared=(1,), interleaved=interleaved)


@pytest.mark.parametrize("columns", [1, 16, 17, 511, 513, 40000])
def test_softmax_and_its_kin(device: str, columns: int):
    x = 5 * rows(np.random.default_rng(columns), 3, columns)
    for op in ("softmax", "log_softmax", "logsumexp"):
        assert_right(op, x)
        assert_rows_alone(op, x)


@pytest.mark.parametrize(("columns", "k"), [(1, 1), (1023, 7), (1024, 1024), (1025, 9), (5000, 40)])
def test_topk_orders_equals_by_place_and_nan_last(device: str, columns: int, k: int):
    rng = np.random.default_rng(columns)
    x = np.round(4 * rows(rng, 3, columns)) / 4
    x[0, : columns // 2] = -0.0
    x[1, ::3] = np.nan
    values, indices = run("topk", x, k=k)
    want = np.argsort(-x, axis=-1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, want)
    np.testing.assert_array_equal(values, np.take_along_axis(x, want, -1))


def test_take_rows_refuses_what_is_not_there(device: str):
    x = rows(np.random.default_rng(1), 5, 300)
    assert_right("take_rows", x, np.array([4, 0, 4], np.int32), tolerance=0)
    for wrong in (-1, 5):
        with pytest.raises(InvalidArgumentError):
            run("take_rows", x, np.array([0, wrong], np.int32))


def test_samples_are_those_of_the_reference(device: str):
    rng = np.random.default_rng(2)
    for columns in (1, 50, 1024, 2500):
        count = 60
        logits = 3 * rows(rng, count, columns)
        logits[rng.random(logits.shape) < 0.1] = -np.inf
        logits[:, 0] = 1
        operands = [
            logits,
            rng.choice(np.array([0, 0.7, 1, 1.5], np.float32), count),
            rng.choice(np.array([0, 1, 7, 40], np.int32), count),
            rng.choice(np.array([0, 0.3, 0.95, 1], np.float32), count),
            rng.choice(np.array([0, 0.05, 1], np.float32), count),
            rng.random(count, np.float32),
        ]
        got, want = run("sample", *operands)[0], expected("sample", *operands)[0]
        # at the edge of a token's share, sums in float32 and float64 may disagree
        assert np.count_nonzero(got != want) <= 1
        assert_rows_alone("sample", *operands)


def test_equal_logits_share_evenly(device: str):
    logits, count = np.zeros((5, 3000), np.float32), 5
    uniform = ((np.arange(count) + 0.5) / count).astype(np.float32)
    for top_p, kept in ((1.0, 3000), (0.5, 1500)):
        settings = np.ones(count, np.float32), np.zeros(count, np.int32), np.full(count, top_p, np.float32)
        (ids,) = run("sample", logits, *settings, np.zeros(count, np.float32), uniform)
        np.testing.assert_allclose(ids, uniform * kept, atol=1)


@pytest.mark.parametrize("cache", [np.float32, np.float16])
@pytest.mark.parametrize(("window", "softcap"), [(0, 0.0), (100, 0.0), (0, 20.0)])
def test_attention_at_the_edges_of_partitions(device: str, cache: type, window: int, softcap: float):
    rng = np.random.default_rng(3)
    for lengths in ([(1, 1)], [(1, 16), (1, 127)], [(1, 128)], [(1, 129)], [(1, 400)], [(5, 257), (20, 20), (1, 130)]):
        operands = paged_case(rng, lengths, (4, 2), 32, cache=cache)
        attributes = {"scale": 32**-0.5, "window": window, "softcap": softcap}
        (got,) = attention(*operands, **attributes)
        np.testing.assert_allclose(got, expected("paged_attention", *operands, **attributes)[0], rtol=0, atol=4e-6)


def attention(q: Any, k_cache: Any, v_cache: Any, *lists: Any, **attributes: Any) -> list[Any]:
    """Attention over caches that live on the device."""
    caches = []
    for contents in (k_cache, v_cache):
        state = px.state(contents.shape, str(contents.dtype))
        state.view.buffer.store(contents.reshape(-1).view(np.uint8), [(0, contents.nbytes)])
        caches.append(state)
    found = nn.paged_attention(px.asarray(q), *caches, *map(px.asarray, lists), **attributes)
    return [np.asarray(found)]


@pytest.mark.parametrize("heads", [(4, 1), (6, 2), (3, 3), (32, 1)])
def test_attention_of_a_token_has_the_same_bits_in_any_company(device: str, heads: tuple[int, int]):
    rng = np.random.default_rng(4)
    q, k_cache, v_cache, query_start, kv_len, table = paged_case(rng, [(40, 300), (1, 200)], heads, 32)
    attributes = {"scale": 0.2, "window": 150}
    (together,) = attention(q, k_cache, v_cache, query_start, kv_len, table, **attributes)
    for start, stop in ((0, 1), (0, 7), (7, 8), (7, 40)):
        chunk = np.array([0, stop - start], np.int32)
        length = np.array([260 + stop], np.int32)
        (alone,) = attention(q[start:stop], k_cache, v_cache, chunk, length, table[:1], **attributes)
        np.testing.assert_array_equal(together[start:stop].view(np.uint32), alone.view(np.uint32))
    (last,) = attention(q[40:], k_cache, v_cache, np.array([0, 1], np.int32), kv_len[1:], table[1:], **attributes)
    np.testing.assert_array_equal(together[40:].view(np.uint32), last.view(np.uint32))


@pytest.mark.parametrize("tokens", [1, 32, 33, 100])
@pytest.mark.parametrize("cache", ["float32", "float16"])
def test_kv_write(device: str, tokens: int, cache: str):
    rng = np.random.default_rng(tokens)
    k, v = rows(rng, tokens, 2, 48), rows(rng, tokens, 2, 48)
    slots = rng.permutation(128)[:tokens].astype(np.int32)
    slots[tokens // 3] = -1 if tokens > 1 else slots[0]
    caches = px.state((8, 2, 48, 16), cache), px.state((8, 2, 16, 48), cache)
    want = [np.zeros(state.shape, cache) for state in caches]
    op_spec("kv_write").reference(k, v, slots, *want)
    nn.kv_write(px.asarray(k), px.asarray(v), px.asarray(slots), *caches)
    for state, contents in zip(caches, want, strict=True):
        np.testing.assert_array_equal(read(state), contents)
    slots[-1] = 128
    with pytest.raises(InvalidArgumentError):
        nn.kv_write(px.asarray(k + 1), px.asarray(v), px.asarray(slots), *caches)
    np.testing.assert_array_equal(read(caches[0]), want[0])


def read(state: Any) -> Any:
    return state.view.over(state.view.buffer.fetch([state.view.extent])[0])
