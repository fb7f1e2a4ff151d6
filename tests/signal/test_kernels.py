"""The plugin's native kernels: on the samples of their ops, in every instruction set, and without the library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from parity import REAL_DTYPES, assert_near, signal, wide

import perfxapi as px
import perfxapi_plugin_signal as ours
from perfxapi.backend import OpCall
from perfxapi.errors import InvalidArgumentError, InvalidDTypeError, PluginError
from perfxapi.memory import Buffer, View
from perfxapi.native import JoinedKernels, NativeLibrary
from perfxapi.testing import conformance_tests
from perfxapi_plugin_signal import plugin
from perfxapi_plugin_signal.ops import SPECS

OPS = (*(spec.name for spec in SPECS), "rfft", "irfft")
test_kernels = conformance_tests("signal", ops=OPS)
VARIANTS = NativeLibrary(plugin.LIBRARY).supported_variants()


def run(kernels: JoinedKernels, spec: px.ops.OpSpec, sample: px.ops.Sample) -> list[bytes]:
    views = [px.asarray(value).view for value in sample.inputs]
    attributes = spec.check_attributes(sample.attributes)
    results = spec.infer([px.TensorSpec(view.shape, view.dtype) for view in views], attributes)
    outputs = [View(None, result.dtype, result.shape) for result in results]
    for view in outputs:
        view.buffer = Buffer.from_host(np.zeros(view.nbytes, np.uint8))
    (kernel,) = kernels.kernels(spec.name)
    call = OpCall(spec.name, tuple(views), tuple(outputs), attributes)
    assert kernel.accepts(call) is None
    kernel.launch(call)
    return [view.host().tobytes() for view in outputs]


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_all_instruction_sets_compute_the_same_bits(variant: str) -> None:
    best, other = (JoinedKernels(f"signal_{name}", NativeLibrary(plugin.LIBRARY, name)) for name in ("", variant))
    for spec in SPECS:
        for sample in spec.samples():
            assert run(best, spec, sample) == run(other, spec, sample), (spec.name, sample.label)
    for size in (2, 8, 256):
        for name, x in (("rfft", signal((19, size))), ("irfft", signal((19, size // 2 + 1), "complex64"))):
            sample = px.ops.Sample((x,), {"axis": 1, **({"n": size} if name == "irfft" else {})})
            assert run(best, px.ops.op_spec(name), sample) == run(other, px.ops.op_spec(name), sample), (name, size)


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("dtype", REAL_DTYPES)
def test_transforms_of_powers_of_two(dtype: str, norm: Literal["backward", "ortho", "forward"]) -> None:
    for size in (2, 4, 8, 16, 32, 512, 1024, 4096):
        for rows in (1, 5, 37):
            x = signal((rows, size), dtype)
            got = px.fft.rfft(px.asarray(x, device="cpu"), norm=norm)
            expected = np.fft.rfft(wide(x), norm=norm)
            assert_near(got, expected, {"float32": 3e-7, "float64": 1e-15}[dtype] * np.log2(size))
            assert_near(px.fft.irfft(got, norm=norm), x, {"float32": 5e-7, "float64": 1e-15}[dtype] * np.log2(size))
    assert {row.ran_on for row in px.explain().rows if row.op in ("rfft", "irfft")} == {"signal on cpu:0"}


def test_the_inverse_leaves_the_imaginary_part_of_real_bins_out() -> None:
    x = signal((3, 33), "complex64")
    assert_near(px.fft.irfft(px.asarray(x, device="cpu")), np.fft.irfft(wide(x)), 1e-6)


def test_a_transforms_bits_do_not_depend_on_the_rows_beside_it() -> None:
    x = signal((37, 512), "float32")
    whole = np.asarray(px.fft.rfft(px.asarray(x, device="cpu")))
    for row in (0, 15, 36):
        np.testing.assert_array_equal(np.asarray(px.fft.rfft(px.asarray(x[row], device="cpu"))), whole[row])


def test_kernels_run_on_the_cpu_without_fallback() -> None:
    x = px.asarray(signal((3, 50), "float32"), device="cpu")
    ours.sosfilt([[1, 0.5, 0.2, 1, -0.3, 0.1]], x)
    ours.lfilter([1, 0.5], [1, -0.3], x)
    ours.resample_poly(x, 3, 2, axis=1)
    rows = {row.op: row for row in px.explain().rows if row.op in ("sosfilt", "lfilter", "upfirdn")}
    assert {row.ran_on for row in rows.values()} == {"signal on cpu:0"}
    assert len(rows) == 3
    assert not any(row.reason for row in rows.values())


def test_without_kernels_the_references_compute_the_same(set_setting: Callable[[str, str], None]) -> None:
    x = signal((3, 50), "float32")
    calls = [
        lambda: ours.sosfilt([[1, 0.5, 0.2, 1, -0.3, 0.1]], x),
        lambda: ours.lfilter([1, 0.5], [1, -0.3], x),
        lambda: ours.resample_poly(x, 3, 2, axis=1),
    ]
    native = [np.asarray(call()) for call in calls]
    set_setting("PERFXAPI_DISABLE_KERNELS", "signal:*")
    for call, expected in zip(calls, native, strict=True):
        np.testing.assert_allclose(np.asarray(call()), expected, rtol=1e-5, atol=1e-6)
    assert not any(row.ran_on.startswith("signal") for row in px.explain().rows if row.count > 3)


def test_a_plugin_without_its_library_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plugin, "LIBRARY", tmp_path / "_native.so")
    with pytest.raises(PluginError, match="without its native library"):
        plugin.load()


def test_ops_can_be_traced() -> None:
    x = signal((4, 64), "float32")
    graph = px.graph.trace(lambda x: ours.resample_poly(x, 1, 2, axis=1), {"x": px.TensorSpec((4, 64), px.float32)})
    result = px.graph.compile(graph, bounds={})(x=x)["output"]
    np.testing.assert_array_equal(np.asarray(result), np.asarray(ours.resample_poly(x, 1, 2, axis=1)))


@pytest.mark.parametrize(
    ("op", "operands", "attributes", "error", "words"),
    [
        ("upfirdn", (np.ones(4), np.ones(2, np.float32)), {}, InvalidDTypeError, "h must be float64"),
        ("upfirdn", (np.ones(4), np.ones((2, 2))), {}, InvalidArgumentError, "one dimension"),
        ("upfirdn", (np.ones(0), np.ones(2)), {}, InvalidArgumentError, "at least 1"),
        ("upfirdn", (np.ones(4), np.ones(2)), {"up": 0}, InvalidArgumentError, "up and down"),
        ("upfirdn", (np.ones(4, np.int32), np.ones(2)), {}, InvalidDTypeError, "int32"),
        ("sosfilt", (np.ones(4), np.ones((1, 5)), np.ones((1, 2))), {}, InvalidArgumentError, r"\[sections, 6\]"),
        ("sosfilt", (np.ones(4), np.ones((1, 6)), np.ones((2, 2))), {}, InvalidArgumentError, "zi must have"),
        ("lfilter", (np.ones(4), np.ones(2), np.ones(2), np.ones(2)), {}, InvalidArgumentError, "zi must have"),
        ("lfilter", (np.ones(4), np.ones(2), np.ones(0), np.ones(1)), {}, InvalidArgumentError, "an item"),
    ],
)
def test_ops_refuse(op: str, operands: object, attributes: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        px.apply(op, *map(px.asarray, operands), **attributes)  # type: ignore[call-overload,arg-type]
