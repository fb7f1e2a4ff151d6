"""The second kernel for `matmul`: the BLAS that NumPy carries (OpenBLAS in its own wheels)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi.backend import OpCall
from perfxapi.memory import HOST

_PREFIXES = ("scipy_openblas", "openblas")
_SUFFIXES = ("64_", "")


@cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """OpenBLAS's functions that get and set its number of threads; None where NumPy carries no OpenBLAS."""
    import cffi

    for path in sorted((Path(np.__file__).parent.parent / "numpy.libs").glob("*openblas*")):
        for name in (f"{prefix}_{{}}_num_threads{suffix}" for prefix in _PREFIXES for suffix in _SUFFIXES):
            ffi = cffi.FFI()
            ffi.cdef(f"int {name.format('get')}(void); void {name.format('set')}(int);")
            try:
                library: Any = ffi.dlopen(str(path))
                return getattr(library, name.format("get")), getattr(library, name.format("set"))
            except (OSError, AttributeError):
                continue
    return None


class BlasMatmul:
    """`numpy.matmul` into the result, with as many threads as the native pool has. `px.explain()` shows its label."""

    op = "matmul"
    label = "openblas"

    def __init__(self, num_threads: Callable[[], int]) -> None:
        self._num_threads = num_threads
        self._lock = threading.Lock()

    def accepts(self, call: OpCall) -> str | None:
        """Products of one floating-point dtype, where NumPy carries OpenBLAS."""
        kinds = {view.dtype for view in (*call.inputs, *call.outputs)}
        if kinds not in ({dtypes.float32}, {dtypes.float64}):
            return "openblas: matmul multiplies float32 by float32 or float64 by float64"
        return None if _openblas() else "openblas: this NumPy carries none"

    def workspace_bytes(self, call: OpCall) -> int:
        """None of ours."""
        return 0

    def launch(self, call: OpCall) -> None:
        """Multiplies host views."""
        a, b = (view.host() for view in call.inputs)
        result = call.outputs[0]
        with self._threads(), np.errstate(all="ignore"):
            np.matmul(a, b, out=result.over(result.buffer.readable(HOST)[0]))

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """OpenBLAS with the pool's number of threads; what the program had set is restored."""
        functions = _openblas()
        assert functions is not None
        get, set_ = functions
        with self._lock:
            before, wanted = get(), self._num_threads()
            if before != wanted:
                set_(wanted)
            try:
                yield
            finally:
                if before != wanted:
                    set_(before)
