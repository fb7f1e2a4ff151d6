"""Symbolic dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import perfxapi as px
from perfxapi.dims import contiguous_strides, product, resolve_shape
from perfxapi.errors import TraceError

N = px.Dim("n")


@pytest.mark.parametrize(
    "misuse",
    [
        bool,
        int,
        float,
        range,
        lambda dim: dim > 3,
        lambda dim: dim + 1,
        lambda dim: 1 - dim,
        lambda dim: dim // 2,
        lambda dim: dim / 2,
        lambda dim: dim % 2,
        lambda dim: -dim,
        lambda dim: dim**2,
        lambda dim: [0] * dim,
        lambda dim: list(dim),
        lambda dim: dim * dim,
        lambda dim: dim * 2.5,
    ],
)
def test_asking_for_the_value_raises_and_names_the_dimension(misuse: Callable[[Any], object]) -> None:
    with pytest.raises(TraceError, match=r"'n'|dimension n"):
        misuse(N)


def test_products_of_shapes() -> None:
    assert product((N, 3, 4)) == N * 12
    assert product((2, 3)) == 6
    assert product(()) == 1
    with pytest.raises(TraceError, match="two symbolic dimensions"):
        product((N, px.Dim("m")))


def test_a_dimension_equals_itself_and_no_number() -> None:
    assert px.Dim("n") == N
    assert 2 * N == N * 2
    assert N != 3
    assert px.Dim("m") != N
    assert repr(4 * N) == "4*n"


@given(st.lists(st.integers(0, 6), max_size=5), st.integers(0, 9), st.sampled_from([1, 2, 4, 8]))
def test_symbolic_strides_resolve_to_those_of_the_resolved_shape(rest: list[int], n: int, itemsize: int) -> None:
    symbolic = contiguous_strides((N, *rest), itemsize)
    shape = resolve_shape((N, *rest), {"n": n})
    assert shape == (n, *rest)
    assert resolve_shape(symbolic, {"n": n}) == contiguous_strides(shape, itemsize)
