"""Fourier transforms on each OpenCL device: any length along any axis, against NumPy in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from opencl_devices import on_each_device

import perfxapi as px
from perfxapi_gpu_kernels.bindings.fourier import radices

LENGTHS = (1, 2, 3, 7, 8, 13, 64, 105, 509, 1024, 5040)


@pytest.fixture
def forced(device: str) -> Iterator[None]:
    """Everything runs on the device by kernels of its own, or fails."""
    with px.use_device(device, fallback="error"):
        yield


def complexes(seed: int, *shape: int) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def assert_near(got: Any, want: Any, length: int) -> None:
    """Errors grow as the number of passes does (Gentleman and Sande 1966)."""
    got = np.asarray(got)
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 1.5e-7 * (1 + math.log2(length)) * np.abs(want).max()


@pytest.mark.parametrize("length", range(1, 2000, 37))
def test_radices_make_up_the_length(length: int):
    found = radices(length)
    rest = length
    for prime in (2, 3, 5, 7):
        while rest % prime == 0:
            rest //= prime
    assert (found is None) == (rest > 1)
    assert found is None or (math.prod(found) == length and max(found) <= 8)


@on_each_device
@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("length", LENGTHS)
def test_lines_of_any_length(device: str, length: int):
    x = complexes(length, 3, length)
    wide = x.astype(np.complex128)
    assert_near(px.fft.fft(px.asarray(x)), np.fft.fft(wide), length)
    assert_near(px.fft.ifft(px.asarray(x), norm="ortho"), np.fft.ifft(wide, norm="ortho"), length)
    assert_near(px.fft.rfft(px.asarray(x.real.copy())), np.fft.rfft(wide.real), length)
    half = wide[:, : length // 2 + 1]
    got = px.fft.irfft(px.asarray(x)[:, : length // 2 + 1], n=length, norm="forward")
    assert_near(got, np.fft.irfft(half, length, norm="forward"), length)


@on_each_device
@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("shape", [(12, 20, 24), (3, 100, 2), (40, 11, 33)])
def test_any_axis_of_any_arrangement(device: str, shape: tuple[int, ...]):
    x = complexes(7, *shape)
    there = px.asarray(x)
    for axis in range(3):
        assert_near(px.fft.fft(there, axis=axis), np.fft.fft(x.astype(np.complex128), axis=axis), shape[axis])
    turned = px.permute_dims(there, (2, 0, 1))[::-1, :, ::2]
    want = x.transpose(2, 0, 1)[::-1, :, ::2].astype(np.complex128)
    for axis in range(3):
        assert_near(px.fft.ifft(turned, axis=axis), np.fft.ifft(want, axis=axis), want.shape[axis])
    assert_near(px.fft.fftn(there), np.fft.fftn(x.astype(np.complex128)), math.prod(shape))


@on_each_device
@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("length", [16, 509, 1000])
def test_a_line_alone_has_the_bits_it_has_among_others(device: str, length: int):
    x = complexes(length, 70, length)
    for axis, there in ((1, px.asarray(x)), (0, px.asarray(x.T.copy()))):
        together = np.asarray(px.fft.fft(there, axis=axis))
        together = np.ascontiguousarray(together if axis else together.T)
        for line in (0, 33, 69):
            alone = np.asarray(px.fft.fft(px.asarray(x[line : line + 1])))[0]
            np.testing.assert_array_equal(together[line].view(np.uint32), alone.view(np.uint32))


@on_each_device
@pytest.mark.usefixtures("forced")
def test_double_precision_stays(device: str):
    x = complexes(9, 2, 509).astype(np.complex128)
    for length in (500, 509):
        got = np.asarray(px.fft.fft(px.asarray(x), n=length))
        np.testing.assert_allclose(got, np.fft.fft(x, n=length), rtol=0, atol=1e-12)
