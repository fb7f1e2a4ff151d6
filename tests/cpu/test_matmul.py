"""The native products of floating-point matrices: an element's bits depend on its row and column alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import perfxapi as px


@pytest.fixture(autouse=True)
def _on_cpu() -> Iterator[None]:
    with px.use_device("cpu", fallback="error"):
        yield


def product(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(px.matmul(px.asarray(a), px.asarray(b)))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("k", "n"), [(1000, 70), (385, 33), (64, 256)])
def test_a_row_does_not_depend_on_how_many_there_are(kind: type, k: int, n: int) -> None:
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((300, k)).astype(kind), rng.standard_normal((k, n)).astype(kind)
    whole = product(a, b)
    for first, count in ((0, 1), (7, 1), (3, 2), (11, 5), (20, 13), (100, 128), (0, 299)):
        assert np.array_equal(product(a[first : first + count], b), whole[first : first + count])
    for first, count in ((0, 2), (5, 3), (2, 17), (0, n - 1)):
        assert np.array_equal(product(a, b[:, first : first + count]), whole[:, first : first + count])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_product_does_not_depend_on_the_layout_or_on_the_batch(kind: type) -> None:
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((4, 50, 500)).astype(kind), rng.standard_normal((4, 500, 40)).astype(kind)
    batch = product(a, b)
    turned = px.asarray(np.ascontiguousarray(a.transpose(0, 2, 1))).permute_dims((0, 2, 1))
    assert np.array_equal(np.asarray(turned @ px.asarray(b)), batch)
    turned = px.asarray(np.ascontiguousarray(b.transpose(0, 2, 1))).permute_dims((0, 2, 1))
    assert np.array_equal(np.asarray(px.asarray(a) @ turned), batch)
    for index in range(4):
        assert np.array_equal(product(a[index], b[index]), batch[index])
    joined = product(a, b[0])
    for index in range(4):
        assert np.array_equal(product(a[index], b[0]), joined[index])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 3, 17, 100, 4099])
def test_a_row_by_a_vector_does_not_depend_on_how_many_there_are(kind: type, k: int) -> None:
    rng = np.random.default_rng(8)
    a, x = rng.standard_normal((300, k)).astype(kind), rng.standard_normal(k).astype(kind)
    whole = product(a, x)
    bound = k * np.finfo(kind).eps * (np.abs(a.astype(np.float64)) @ np.abs(x))
    assert (np.abs(whole - a.astype(np.float64) @ x) <= bound).all()
    assert np.array_equal(product(a, x[:, None])[:, 0], whole)
    assert np.array_equal(product(a.reshape(3, 100, k), x).ravel(), whole)
    assert np.array_equal(
        product(a.reshape(3, 100, k), np.stack([x, 2 * x, x])[:, :, None])[1, :, 0], 2 * whole[100:200]
    )
    for first, count in ((0, 1), (7, 1), (3, 2), (11, 5), (20, 13), (100, 128), (0, 299)):
        assert np.array_equal(product(a[first : first + count], x), whole[first : first + count])


def test_rows_and_vectors_may_lie_in_steps() -> None:
    rng = np.random.default_rng(9)
    a, x = rng.standard_normal((37, 90)).astype(np.float32), rng.standard_normal((200, 3)).astype(np.float32)
    left, right = px.asarray(a), px.asarray(x)
    expected = product(a[::-2, 5:85].copy(), x[180:20:-2, 1].copy())
    assert np.array_equal(np.asarray(left[::-2, 5:85] @ right[180:20:-2, 1]), expected)


def test_infinity_and_nan_in_a_row_stay_there() -> None:
    a, x = np.ones((21, 51), np.float32), np.ones(51, np.float32)
    a[3, 50], a[20, 0], a[7, 8] = np.nan, np.inf, -np.inf
    result = product(a, x)
    assert np.isnan(result[3])
    assert (result[20], result[7]) == (np.inf, -np.inf)
    assert (np.delete(result, [3, 7, 20]) == 51).all()


def test_transposing_a_product_transposes_its_bits() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((90, 800)).astype(np.float32), rng.standard_normal((800, 30)).astype(np.float32)
    assert np.array_equal(product(b.T.copy(), a.T.copy()), product(a, b).T)


def test_infinity_and_nan_stay_where_they_are() -> None:
    a, b = np.ones((20, 50), np.float32), np.ones((50, 20), np.float32)
    a[3, 4], b[7, 9] = np.nan, np.inf
    result = product(a, b)
    assert np.isnan(result[3]).all()
    assert np.isinf(np.delete(result, 3, axis=0)[:, 9]).all()
    assert (np.delete(np.delete(result, 3, axis=0), 9, axis=1) == 50).all()
