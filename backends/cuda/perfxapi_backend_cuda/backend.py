"""The CUDA backend: the GPUs in CUDA's order."""

from __future__ import annotations

from typing import Any

from perfxapi_gpu_kernels import Properties
from perfxapi_gpu_kernels.cupy_backend import CupyBackend, common_properties
from perfxapi_gpu_kernels.cupy_driver import CUDA_OPTIONS


class CudaBackend(CupyBackend):
    """`cuda:0`, `cuda:1` ..."""

    name = "cuda"

    def __init__(self) -> None:
        super().__init__(properties_of, CUDA_OPTIONS)


def properties_of(facts: dict[str, Any]) -> Properties:
    """What kernels want to know, from cudaDeviceProp as CuPy gives it."""
    capability = (facts["major"], facts["minor"])
    processor = f"compute capability {capability[0]}.{capability[1]}"
    return common_properties("cuda", facts, processor, has_dot4=capability >= (6, 1))
