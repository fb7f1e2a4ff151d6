"""CUDA emulated on a processor, thread by thread: for checking kernels, never for speed.

The very text that NVRTC compiles for a GPU is compiled by the C++ compiler at hand; each thread of a block is a fiber.
A barrier that some threads of a block miss, an address that is not aligned, an index past a local array, an argument of
another size than its parameter: each is an error that names its line. Local memory holds NaN at first.
"""

from perfxapi_gpu_kernels.emulator.backend import EmulatorBackend
from perfxapi_gpu_kernels.emulator.driver import EmulatorDriver

__all__ = ["EmulatorBackend", "EmulatorDriver"]
