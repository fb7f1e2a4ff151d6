"""What the makers' libraries do, through CuPy: products by cuBLAS or rocBLAS, Fourier transforms by cuFFT or rocFFT.

They are offered beside our own kernels to eager calls, which take what was measured to be quicker. Plans take ours: a
library promises no bits that are the same for any number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from perfxapi.backend import OpCall
from perfxapi.memory import View
from perfxapi_gpu_kernels.cupy_driver import CupyDriver
from perfxapi_gpu_kernels.runtime import Runtime

_MULTIPLIED = ("float16", "float32", "float64", "complex64", "complex128")
"""What CuPy multiplies by a library, in the precision of the operands or a higher one."""


class LibraryKernel:
    """One op on one device by arrays of CuPy over its operands, in order with our own launches."""

    def __init__(
        self, op: str, label: str, runtime: Runtime, compute: Callable[[Any, OpCall, list[Any]], None]
    ) -> None:
        """`compute` is given the module `cupy`, the call, and arrays of its inputs and its output."""
        self.op, self.label, self._runtime, self._compute = op, label, runtime, compute

    def accepts(self, call: OpCall) -> str | None:
        """None, or what the library does not take."""
        names = {view.dtype.name for view in call.inputs}
        if self.op == "matmul" and (len(names) > 1 or not names <= set(_MULTIPLIED)):
            return f"{self.label} does not multiply {' by '.join(sorted(names))}"
        sizes = [size for view in (*call.inputs, *call.outputs) for size in view.shape]
        return f"{self.label} takes no empty operands" if 0 in sizes else None

    def workspace_bytes(self, call: OpCall) -> int:
        """None: the library's own memory comes from CuPy's pool."""
        return 0

    def launch(self, call: OpCall) -> None:
        """Adds the library's kernels to the stream."""
        import cupy

        driver = self._driver
        driver.call(lambda: self._compute(cupy, call, [self._array(cupy, v) for v in (*call.inputs, *call.outputs)]))

    @property
    def _driver(self) -> CupyDriver:
        driver = self._runtime.driver
        assert isinstance(driver, CupyDriver)
        return driver

    def _array(self, cupy: Any, view: View) -> Any:
        """An array over an operand's memory."""
        region = self._runtime.region_of(view)
        start = cupy.cuda.MemoryPointer(region.memory, region.offset)
        return cupy.ndarray(view.shape, view.dtype.name, start, view.strides)


def library_kernels(runtime: Runtime) -> Iterator[LibraryKernel]:
    """The kernels of a device."""
    is_hip = runtime.properties.dialect == "hip"
    yield LibraryKernel("matmul", "rocblas" if is_hip else "cublas", runtime, _multiply)
    for op in ("fft", "rfft", "irfft"):
        yield LibraryKernel(op, "rocfft" if is_hip else "cufft", runtime, _transform)


def _multiply(cupy: Any, call: OpCall, arrays: list[Any]) -> None:
    a, b, out = arrays
    cupy.matmul(a, b, out=out)


def _transform(cupy: Any, call: OpCall, arrays: list[Any]) -> None:
    x, out = arrays
    options = {"axis": int(call.attributes["axis"]), "norm": call.attributes["norm"]}
    if call.op == "irfft":
        options["n"] = int(call.attributes["n"])
    name = "ifft" if call.attributes.get("inverse") else call.op
    out[...] = getattr(cupy.fft, name)(x, **options)
