"""Native code: shared libraries that meet `perfx/abi.h`, opened with cffi, become backends.

A library with a pool (`perfx/host.h`) is a host backend: the cpu and riscv backends are `NativeBackend` over theirs.
One with kernels alone joins it: a plugin is `JoinedKernels` over its library.
"""

from perfxapi.native.backend import NativeBackend, num_threads, set_num_threads
from perfxapi.native.calls import NativeKernel, native_seconds
from perfxapi.native.joined import JoinedKernels
from perfxapi.native.library import NativeLibrary, declarations, include_dir

__all__ = [
    "JoinedKernels",
    "NativeBackend",
    "NativeKernel",
    "NativeLibrary",
    "declarations",
    "include_dir",
    "native_seconds",
    "num_threads",
    "set_num_threads",
]
