"""The HIP backend: the GPUs in HIP's order."""

from __future__ import annotations

from typing import Any

from perfxapi_gpu_kernels import Properties
from perfxapi_gpu_kernels.cupy_backend import CupyBackend, common_properties
from perfxapi_gpu_kernels.cupy_driver import HIP_OPTIONS

_HAVE_DOT4 = ("gfx906", "gfx908", "gfx90a", "gfx94", "gfx95", "gfx1011", "gfx1012", "gfx103", "gfx11", "gfx12")
"""Beginnings of the names of the processors with v_dot4 (LLVM's AMDGPU guide, features dot1-insts and dot8-insts)."""


class HipBackend(CupyBackend):
    """`hip:0`, `hip:1` ..."""

    name = "hip"

    def __init__(self) -> None:
        super().__init__(properties_of, HIP_OPTIONS)


def properties_of(facts: dict[str, Any]) -> Properties:
    """What kernels want to know, from hipDeviceProp as CuPy gives it."""
    processor = facts["gcnArchName"].decode().partition(":")[0]
    return common_properties("hip", facts, processor, has_dot4=processor.startswith(_HAVE_DOT4))
