"""`matmul`: the array API's shapes, against products in float64 with a bound on what rounding may cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import perfxapi as px
from perfxapi.dims import Dim
from perfxapi.errors import InvalidArgumentError
from perfxapi.ops.spec import TensorSpec, op_spec

SHAPES = [
    ((3, 4), (4, 5)),
    ((4,), (4,)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((2, 3, 4), (4, 5)),
    ((2, 1, 3, 4), (6, 4, 5)),
    ((4,), (2, 4, 5)),
    ((2, 3, 4), (4,)),
    ((3, 0), (0, 5)),
    ((0, 4), (4, 5)),
    ((0, 2, 3), (3, 2)),
    ((33, 70), (70, 1)),
    ((1, 401), (401, 37)),
]


def within_rounding(got: Any, a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """Whether every element is within K eps |a| @ |b| of the product in float64 (Higham 2002, section 3.5)."""
    got = np.asarray(got)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = a.shape[-1] * np.finfo(got.dtype).eps * (np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64)))
    return got.shape == exact.shape and bool(np.all(np.abs(got - exact) <= bound))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("left", "right"), SHAPES)
@pytest.mark.parametrize("device", ["cpu", "numpy"])
def test_products_are_those_of_the_array_api(device: str, left: Any, right: Any, kind: type) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal(left).astype(kind), rng.standard_normal(right).astype(kind)
    product = px.matmul(px.asarray(a, device=device), px.asarray(b, device=device))
    assert str(product.device) == f"{device}:0"
    assert np.asarray(product).dtype == kind
    assert within_rounding(product, a, b)
    assert np.array_equal(np.asarray(px.asarray(a, device=device) @ b), np.asarray(product))


@given(st.integers(1, 40), st.integers(1, 900), st.integers(1, 40), st.booleans(), st.booleans(), st.integers(0, 3))
def test_operands_may_have_any_strides(m: int, k: int, n: int, turn_a: bool, turn_b: bool, step: int) -> None:
    rng = np.random.default_rng(m * 1000 + n)
    a = rng.standard_normal((k, m) if turn_a else (m, k)).astype(np.float32)
    b = rng.standard_normal((n, k) if turn_b else (k, n)).astype(np.float32)
    left, right = px.asarray(a, device="cpu"), px.asarray(b, device="cpu")
    if turn_a:
        a, left = a.T, left.permute_dims((1, 0))
    if turn_b:
        b, right = b.T, right.permute_dims((1, 0))
    if step:
        a, left = a[::-step, ::-1], left[::-step, ::-1]
    assert within_rounding(px.matmul(left, right), a, b)


def test_shapes_that_do_not_fit_are_refused() -> None:
    for left, right in (((3, 4), (3, 4)), ((3, 4), ()), ((2, 3, 4), (3, 4, 5)), ((4,), (3,))):
        with pytest.raises(InvalidArgumentError, match="matmul"):
            px.matmul(px.asarray(np.ones(left, np.float32)), np.ones(right, np.float32))


def test_symbolic_rows_stay_symbolic() -> None:
    tokens = Dim("num_tokens", 64)
    specs = [TensorSpec((tokens, 8), px.float32), TensorSpec((8, 5), px.float32)]
    assert op_spec("matmul").infer(specs, {}) == (TensorSpec((tokens, 5), px.float32),)


def test_a_traced_product_runs_in_a_command_list() -> None:
    weight = np.random.default_rng(1).standard_normal((24, 40)).astype(np.float32)
    tokens = Dim("num_tokens")
    graph = px.graph.trace(
        lambda x: {"y": x @ px.constant(weight)}, {"x": TensorSpec((tokens, 24), px.float32)}, device="cpu"
    )
    executable = px.graph.compile(graph, device="cpu", bounds={"num_tokens": 16})
    for count in (1, 7, 16):
        x = np.random.default_rng(count).standard_normal((count, 24)).astype(np.float32)
        assert within_rounding(executable(x=x)["y"], x, weight)
