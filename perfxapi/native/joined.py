"""Kernels of a library that has no thread pool of its own (it meets `perfx/abi.h` alone)."""

from __future__ import annotations

import threading
import time
from typing import Any

from perfxapi.allocator import HostAllocator
from perfxapi.backend import OpCall
from perfxapi.native.backend import host_backend
from perfxapi.native.calls import NativeCalls, NativeKernel
from perfxapi.native.library import NativeLibrary, address, check


class JoinedKernels(NativeCalls):
    """Kernels that join the host's memory: they run on the native host backend's pool, enter its command lists, and
    run on one thread where there is no such backend.

    Its manifest has `joins="host"` and no kinds of device.
    """

    def __init__(self, name: str, library: NativeLibrary) -> None:
        super().__init__(name, library)
        self._lock = threading.Lock()
        self._single_thread_ns = 0
        ffi = library.ffi
        self._barrier = ffi.callback("void(const PxThread*)", lambda thread: None)
        self._counters = ffi.new("int64_t[]", 8 * 4)
        self._thread = ffi.new(
            "PxThread*", {"index": 0, "count": 1, "barrier": self._barrier, "counters": self._counters}
        )

    @property
    def num_threads(self) -> int:
        """The pool's threads; 1 where there is no pool."""
        host = host_backend()
        return host.num_threads if host is not None else 1

    def native_ns(self) -> int:
        """Nanoseconds on one thread; what ran on the pool, the pool counts."""
        return self._single_thread_ns

    def launch(self, kernel: NativeKernel, call: OpCall) -> None:
        """Runs one kernel. Raises KernelError or DeviceLostError."""
        host = host_backend()
        if host is not None:
            host.launch(kernel, call)
            return
        struct, keep = self.build_call(call, with_data=True)
        scratch: Any = HostAllocator().allocate(kernel.workspace_of(struct, 1))
        struct.workspace, struct.workspace_bytes = address(scratch), scratch.nbytes
        with self._lock:
            for counter in range(len(self._counters)):
                self._counters[counter] = 0
            start = time.perf_counter_ns()
            status = kernel.entry.run(struct, self._thread)
            self._single_thread_ns += time.perf_counter_ns() - start
        del keep
        check(status, f"{self.name}: {call.op}")
