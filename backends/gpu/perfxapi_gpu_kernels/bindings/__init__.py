"""How ops run by the kernels of `kernels/`: which calls are taken, which launches they become."""

from perfxapi_gpu_kernels.bindings import (
    elementwise,
    norm,
    reduction,
)
from perfxapi_gpu_kernels.launches import BINDINGS

__all__ = [
    "BINDINGS",
    "elementwise",
    "norm",
    "reduction",
]
