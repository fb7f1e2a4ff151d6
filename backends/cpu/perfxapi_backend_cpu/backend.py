"""The backend: the native library's kernels, and for `matmul` NumPy's BLAS beside them."""

from __future__ import annotations

from collections.abc import Sequence

from perfxapi.backend import Kernel
from perfxapi.native import NativeBackend, NativeLibrary
from perfxapi_backend_cpu.blas import BlasMatmul


class CpuBackend(NativeBackend):
    """`cpu:0`. Where it offers two kernels, the core measures which one a size class gets."""

    def __init__(self, library: NativeLibrary, description: str) -> None:
        super().__init__("cpu", library, description)
        self._blas = BlasMatmul(lambda: self.num_threads)

    def kernels(self, op: str) -> Sequence[Kernel]:
        """The chosen variant's kernel, then NumPy's BLAS for matmul."""
        own = super().kernels(op)
        return (*own, self._blas) if op == self._blas.op else own
