"""Packed weights, and products with them on each OpenCL device: sizes at tiles' edges, and batches of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from opencl_devices import on_each_device

import perfxapi as px
from perfxapi import dtypes, quantization
from perfxapi.dtypes import dtype_of
from perfxapi.memory import Buffer, View
from perfxapi.ops.linear import random_weight, round_activations, weight_values
from perfxapi_gpu_kernels.packing import FORMATS, pack

ON_DEVICE = {"fallback": "error"}


def weight_on(device: str, weight: Any, name: str) -> px.Array:
    """A random weight as a constant on a device."""
    dtype = dtype_of(name)
    raw = weight.raw if dtype.is_quantized else getattr(weight, "bits", weight)
    return px.constant(raw, dtype, values_of(weight).shape, device=device)


def values_of(weight: Any) -> Any:
    """A random weight's values in float32."""
    return dtypes.bfloat16_to_float32(weight.bits) if hasattr(weight, "bits") else weight_values(weight)


def unpacked(packed: Any, name: str, rows: int, columns: int, lanes: int) -> Any:
    """The values of a packed weight, word by word."""
    form = FORMATS[name]
    tiles, blocks = -(-rows // lanes), columns // form.block
    per_word = form.columns_of_word
    words = packed[: tiles * lanes * columns // per_word * 4].view(np.uint32).reshape(tiles, -1, lanes)
    rest = packed[words.nbytes :]
    half = np.float16 if form.scale_bytes == 2 else np.float32
    scales = rest[: tiles * lanes * blocks * form.scale_bytes].view(half).reshape(tiles, blocks, lanes)
    minima = rest[scales.nbytes :].view(np.float32).reshape(tiles, -1, lanes)
    values = np.empty((rows, columns))
    for row in range(rows):
        tile, lane = divmod(row, lanes)
        for column in range(columns):
            word = int(words[tile, column // per_word, lane])
            place, block = column % per_word, column // form.block
            if form.form == "CODES8":
                code = (word >> 8 * place & 255 ^ 128) - 128
            else:
                code = (word >> 4 * place & 15) - 8 * (form.form == "CODES4_OF_8")
            values[row, column] = float(scales[tile, block, lane]) * code
            if form.has_minimum:
                values[row, column] -= minima[tile, block, lane]
    return values


@pytest.mark.parametrize("name", [name for name in FORMATS if dtype_of(name).is_quantized])
@pytest.mark.parametrize("lanes", [16, 32])
def test_packed_weights_hold_the_values_of_the_original(name: str, lanes: int):
    dtype, rows, columns = dtype_of(name), 35, 256
    weight = random_weight(np.random.default_rng(3), rows, columns, dtype)
    view = View(Buffer.from_host(weight.raw.reshape(-1), constant=True), dtype, (rows, columns))
    found = unpacked(pack(view, lanes), name, rows, columns, lanes)
    np.testing.assert_allclose(found, quantization.dequantize(weight.raw, dtype), rtol=1e-6, atol=1e-7)


def test_rows_and_columns_that_fill_up_a_packed_weight_are_zero():
    values = np.arange(1, 3 * 5 + 1, dtype=np.float16).reshape(3, 5)
    packed = pack(View(Buffer.from_host(values.view(np.uint8).reshape(-1)), px.float16, (3, 5)), 16)
    words = packed.view(np.float16).reshape(1, 16, 16, 2)  # tiles, words of a row, lanes, columns of a word
    np.testing.assert_array_equal(words[0, :2, :3].transpose(1, 0, 2).reshape(3, 4), values[:, :4])
    np.testing.assert_array_equal(words[0, 2, :3, 0], values[:, 4])
    assert np.count_nonzero(words) == 15


@on_each_device
@pytest.mark.parametrize("name", ["q4_k", "bfloat16"])
def test_products_at_the_edges_of_tiles(device: str, name: str):
    rng = np.random.default_rng(4)
    activation_format = "int16" if dtype_of(name).is_quantized else "float32"
    weight = random_weight(rng, 130, 512, dtype_of(name))
    for rows in (1, 15, 16, 17, 63, 64, 65, 130):
        part = quantized_rows(weight, rows)
        on_device = weight_on(device, part, name)
        for tokens in (1, 9):
            x = rng.standard_normal((tokens, 512)).astype(np.float32)
            with px.use_device(device, **ON_DEVICE):
                found = px.nn.linear(px.asarray(x, device=device), on_device, activation_format=activation_format)
            exact = round_activations(x, activation_format).astype(np.float64) @ values_of(part).T.astype(np.float64)
            np.testing.assert_allclose(np.asarray(found), exact, atol=4e-6 * np.abs(exact).max())


def quantized_rows(weight: Any, rows: int) -> Any:
    """The first rows of a random weight."""
    field = "raw" if hasattr(weight, "raw") else "bits"
    rest = (weight.dtype,) if field == "raw" else ()
    return type(weight)(getattr(weight, field)[:rows], *rest)


@on_each_device
@pytest.mark.parametrize("name", ["q6_k", "float16"])
def test_a_token_is_the_same_bits_in_any_batch(device: str, name: str):
    rng = np.random.default_rng(5)
    activation_format = "int16" if dtype_of(name).is_quantized else "float32"
    gate, up = (weight_on(device, random_weight(rng, 72, 512, dtype_of(name)), name) for _ in range(2))
    x = rng.standard_normal((21, 512)).astype(np.float32)

    def results(batch: Any) -> tuple[Any, ...]:
        operand = px.asarray(np.ascontiguousarray(batch), device=device)
        single = px.nn.linear(operand, gate, activation_format=activation_format)
        both = px.nn.multi_linear(operand, gate, up, activation_format=activation_format)
        gated = px.nn.gated_linear(operand, gate, up, activation_format=activation_format, activation="gelu_tanh")
        return tuple(np.asarray(result) for result in (single, *both, gated))

    with px.use_device(device, **ON_DEVICE):
        whole = results(x)
        np.testing.assert_array_equal(whole[0], whole[1])
        for first, last in ((0, 1), (3, 5), (8, 13), (13, 21)):
            for all_rows, part in zip(whole, results(x[first:last]), strict=True):
                np.testing.assert_array_equal(all_rows[first:last], part)


@on_each_device
@pytest.mark.parametrize("activation_format", ["int8", "int16"])
def test_activations_that_are_no_numbers_spoil_their_rows_alone(device: str, activation_format: str):
    rng = np.random.default_rng(6)
    weight = random_weight(rng, 20, 256, dtypes.q8_0)
    x = rng.standard_normal((6, 256)).astype(np.float32)
    x[0, 5], x[1, 7], x[3, 32:64] = np.nan, np.inf, -np.inf
    x[2], x[4, :32] = 0, 1e-42  # whose inverse is infinite
    with px.use_device(device, **ON_DEVICE):
        operand, constant = px.asarray(x, device=device), weight_on(device, weight, "q8_0")
        found = np.asarray(px.nn.linear(operand, constant, activation_format=activation_format))
    with np.errstate(all="ignore"):
        expected = round_activations(x, activation_format) @ values_of(weight).T
    assert np.isnan(expected[[0, 1, 3]]).all()
    np.testing.assert_allclose(found, expected, atol=4e-6 * np.nanmax(np.abs(expected)))
    assert not found[2].any()
