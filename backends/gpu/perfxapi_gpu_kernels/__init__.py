"""Kernels for GPU-like devices, each written once in a dialect of C that OpenCL, CUDA and HIP share (docs/gpu.md)."""

from perfxapi_gpu_kernels.backend import GpuBackend, GpuKernel
from perfxapi_gpu_kernels.driver import Bytes, Driver, Properties, Region, Size

__all__ = ["Bytes", "Driver", "GpuBackend", "GpuKernel", "Properties", "Region", "Size"]
