"""Data types and bfloat16."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import perfxapi as px
from perfxapi import dtypes
from perfxapi.dtypes import bfloat16_to_float32, dtype_of, float32_to_bfloat16, result_type
from perfxapi.errors import InvalidDTypeError, UnknownNameError


def test_codes_are_those_of_the_c_header() -> None:
    header = (px.include_dir() / "perfx/abi.h").read_text()
    codes = {name.lower(): int(code) for name, code in re.findall(r"PX_(\w+) = (\d+)[,\n]", header)}
    assert {dtype.name: codes[dtype.name] for dtype in dtypes.ALL} == {dtype.name: dtype.code for dtype in dtypes.ALL}


def test_a_dtype_is_found_by_name_by_numpy_type_and_as_itself() -> None:
    assert dtype_of("q4_k") is px.q4_k
    assert dtype_of(np.float32) is px.float32
    assert dtype_of(np.dtype("int64")) is px.int64
    assert dtype_of(px.bfloat16) is px.bfloat16
    assert repr(px.q8_0) == "perfxapi.q8_0"


def test_a_wrong_name_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown dtype 'flaot32'. Did you mean 'float32'\?"):
        dtype_of("flaot32")
    with pytest.raises(UnknownNameError, match="unknown dtype"):
        dtype_of(np.dtype([("a", "f4")]))


@pytest.mark.parametrize(("dtype", "columns", "nbytes"), [(px.q4_0, 64, 36), (px.q6_k, 512, 420), (px.float16, 7, 14)])
def test_bytes_of_a_row(dtype: px.DType, columns: int, nbytes: int) -> None:
    assert dtype.row_bytes(columns) == nbytes


@given(st.integers(0, 0xFFFF))
def test_every_bfloat16_survives_widening(bits: int) -> None:
    wide = bfloat16_to_float32(np.array([bits], np.uint16))
    back = float32_to_bfloat16(wide)
    assert np.isnan(wide[0]) if np.isnan(bfloat16_to_float32(back))[0] else back[0] == bits


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**120), max_value=2.0**120))
def test_narrowing_is_to_the_nearest_bfloat16(value: float) -> None:
    got = float(bfloat16_to_float32(float32_to_bfloat16(np.array([value], np.float32)))[0])
    bits = np.array([value], np.float32).view(np.uint32)[0] & np.uint32(0xFFFF0000)
    below = float(np.array([bits], np.uint32).view(np.float32)[0])
    above = float(np.array([int(bits) + 0x10000], np.uint32).view(np.float32)[0])
    assert abs(got - value) == min(abs(below - value), abs(above - value))


def test_ties_go_to_even_and_nan_stays() -> None:
    halves = np.array([0x3F808000, 0x3F818000, 0x7F800001], np.uint32).view(np.float32)
    assert float32_to_bfloat16(halves).tolist() == [0x3F80, 0x3F82, 0x7FC0]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (px.float32, px.float32, px.float32),
        (px.uint32, px.int8, px.int64),
        (px.float64, px.complex64, px.complex128),
        (px.bool, px.bool, px.bool),
        (px.uint8, px.int8, px.int16),
        (px.bfloat16, px.bfloat16, px.bfloat16),
        (px.float16, px.bfloat16, px.float32),
        (px.bfloat16, px.float64, px.float64),
        (px.complex64, px.bfloat16, px.complex64),
    ],
)
def test_promotion(first: px.DType, second: px.DType, expected: px.DType) -> None:
    assert result_type(first, second) is expected
    assert result_type(second, first) is expected


@pytest.mark.parametrize(
    ("first", "second"),
    [(px.int32, px.float32), (px.uint64, px.int8), (px.bool, px.int8), (px.bool, px.float32), (px.bfloat16, px.int32)],
)
def test_kinds_that_do_not_mix_are_a_typed_error(first: px.DType, second: px.DType) -> None:
    with pytest.raises(InvalidDTypeError, match=f"{first.name} and {second.name} have no common dtype"):
        result_type(first, second)
    with pytest.raises(TypeError, match="no common dtype"):
        result_type(second, first)
