"""Where arrays live and how they are shared: devices, what the namespace says of them, DLPack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from simulated import SimulatedBackend
from standard_table import sample

import perfxapi as px
from perfxapi.errors import ExchangeError, FallbackWarning, InvalidArgumentError, PerfXError, TraceError

Values = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def _on_numpy() -> Any:
    with px.use_device("numpy"):
        yield


def test_results_stay_where_the_operands_are(sim: SimulatedBackend) -> None:
    x = px.asarray(sample(3, 4), device="sim")
    results = [px.sum(x), px.sort(x), px.where(x > 2, x, 0.0), x[x > 2], px.concat([x, x]), px.linalg.svd(x).S,
               px.unique_values(x), px.tril(x), px.repeat(x, 2), px.fft.rfft(x), px.zeros_like(x), px.matmul(x, x.T),
               px.astype(x, px.int32), px.var(x), x[px.asarray([0], device="sim")], px.isin(x, x)]  # fmt: skip
    assert {str(result.device) for result in results} == {"sim:0"}
    assert np.asarray(results[3]).tolist() == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    x[1:, ::2] = 0.0
    x += 1
    assert np.asarray(x).tolist() == [[1, 2, 3, 4], [1, 6, 1, 8], [1, 10, 1, 12]]
    assert str(px.zeros(2, device="sim").device) == "sim:0"
    assert str(x.to_device("numpy").device) == "numpy:0"
    assert str(px.astype(x, px.int32, device="numpy").device) == "numpy:0"


@pytest.mark.parametrize(
    "mix",
    [
        lambda a, b: a + b, lambda a, b: px.concat([a, b]), lambda a, b: px.where(a > 0, b, b), lambda a, b: a @ b,
        lambda a, b: px.isin(a, b), lambda a, b: a.__setitem__(0, b[0]), lambda a, b: a.__iadd__(b),
        lambda a, b: px.take(a, px.astype(b, px.int64)), lambda a, b: a[px.astype(b - 1, px.int64)],
    ],
)  # fmt: skip
def test_devices_do_not_mix(sim: SimulatedBackend, mix: Callable[[Any, Any], Any]) -> None:
    there, here = px.asarray(np.ones(1, np.float32), device="sim"), px.asarray(np.ones(1, np.float32), device="numpy")
    with pytest.raises(InvalidArgumentError, match=r"operands live on different devices \(numpy:0, sim:0\)"):
        mix(there, here)


def test_what_the_namespace_can_do() -> None:
    info = px.ones(1).__array_namespace__(api_version="2025.12").__array_namespace_info__()
    assert info.capabilities() == {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}
    assert px.get_device("numpy") in info.devices()
    assert str(info.default_device()) == "numpy:0"
    assert info.default_dtypes(device="numpy")["real floating"] is px.float64
    assert list(info.dtypes(kind=("bool", "unsigned integer"))) == ["bool", "uint8", "uint16", "uint32", "uint64"]
    assert len(info.dtypes()) == 13
    with pytest.raises(InvalidArgumentError, match="kind must be one of"):
        info.dtypes(kind="whole")


def test_a_fallback_of_a_forced_device_warns_once() -> None:
    with px.use_device("cpu", fallback="warn"), pytest.warns(FallbackWarning, match="has no kernel for conj"):
        px.conj(px.ones(3, dtype="complex64"))


# ---- DLPack


class Foreign:
    """An array of another library, on a device of its own."""

    def __init__(self, device: tuple[int, int], values: Any = None) -> None:
        self.device, self.values = device, values

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, **named: Any) -> Any:
        if self.values is None or named.get("dl_device") not in (None, (1, 0)):
            raise BufferError("this memory stays here")
        return self.values.__dlpack__()


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int8, np.uint64, np.bool_, np.complex64])
def test_memory_is_shared_both_ways(kind: Any) -> None:
    array = px.asarray(sample(2, 3, kind=kind), copy=True)
    out = np.from_dlpack(array[:, ::2])
    assert out.dtype == kind
    assert np.array_equal(out, np.asarray(array)[:, ::2])
    array[0, 0] = px.astype(px.asarray(1), array.dtype)
    assert out[0, 0] == 1
    assert array.__dlpack_device__() == (1, 0)
    source = sample(4, kind=kind)
    back = px.from_dlpack(source)
    source[0] = 1
    assert np.asarray(back)[0] == 1
    copied = px.from_dlpack(source, copy=True)
    source[1] = 0
    assert np.asarray(copied)[1] == sample(4, kind=kind)[1]
    assert px.from_dlpack(array) is array


def test_versions_and_copies_of_capsules() -> None:
    x = px.asarray(np.ones(3), copy=True)
    for named in ({}, {"max_version": (1, 0)}, {"max_version": (0, 8)}, {"dl_device": (1, 0)}, {"copy": True}):
        assert "dltensor" in repr(x.__dlpack__(**named))


def test_memory_that_must_not_be_written() -> None:
    weight = px.constant(np.ones(3, np.float32))
    with pytest.raises(ExchangeError, match="copy=True"):
        weight.__dlpack__()
    assert "dltensor" in repr(weight.__dlpack__(copy=True))
    shared = np.from_dlpack(weight)
    assert not shared.flags.writeable
    frozen = np.ones(3)
    frozen.flags.writeable = False
    received = px.from_dlpack(frozen)
    with pytest.raises(InvalidArgumentError, match="read-only memory of another library"):
        received[0] = 2
    assert np.asarray(received + 1).tolist() == [2, 2, 2]
    writable = px.from_dlpack(frozen, copy=True)
    writable[0] = 2
    assert frozen[0] == 1


@pytest.mark.parametrize(
    ("attempt", "problem"),
    [
        (lambda: px.from_dlpack([1, 2]), "list has no __dlpack__"),
        (lambda: px.from_dlpack(Foreign((2, 0))), r"Foreign of the DLPack device \(2, 0\) cannot be had: BufferError"),
        (lambda: px.from_dlpack(Foreign((2, 0)), copy=False), "copy=False, but Foreign is in memory"),
        (lambda: px.from_dlpack(Foreign((1, 0))), "BufferError: this memory stays here"),
        (lambda: px.from_dlpack(np.ones((4, 4))[::2, ::2], copy=False), "copy=False, but strides"),
        (lambda: px.ones(2).__dlpack__(stream=1), "stream must be None"),
        (lambda: px.ones(2).__dlpack__(dl_device=(2, 0)), r"cannot be handed over to the device \(2, 0\)"),
        (lambda: px.ones(2, dtype="bfloat16").__dlpack__(), "no bfloat16: convert it"),
        (lambda: px.constant(np.zeros(34, np.uint8), "q8_0", (32,)).__dlpack__(), "no q8_0"),
    ],
)
def test_what_cannot_be_exchanged(attempt: Callable[[], Any], problem: str) -> None:
    with pytest.raises(ExchangeError, match=problem) as caught:
        attempt()
    assert isinstance(caught.value, PerfXError)


def test_memory_of_another_device(sim: SimulatedBackend) -> None:
    there = px.asarray(sample(3), device="sim")
    for wrong in (there.__dlpack_device__, there.__dlpack__, lambda: there.__dlpack__(dl_device=(1, 0), copy=False)):
        with pytest.raises(ExchangeError, match=r"memory of sim:0 cannot be shared; copy it by to_device\('cpu'\)"):
            wrong()
    assert "dltensor" in repr(there.__dlpack__(dl_device=(1, 0)))
    assert np.from_dlpack(there.to_device("numpy")).tolist() == [0, 1, 2]


def test_traced_arrays_are_not_exchanged() -> None:
    with pytest.raises(TraceError, match="only known when its graph runs"):
        px.graph.trace(lambda x: px.from_dlpack(np.from_dlpack(x)), {"x": px.TensorSpec((3,), px.float32)})
