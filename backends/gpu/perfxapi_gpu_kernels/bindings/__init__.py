"""How ops run by the kernels of `kernels/`: which calls are taken, which launches they become."""

from perfxapi_gpu_kernels.bindings import (
    elementwise,
    gather,
    matmul,
    norm,
    position,
    reduction,
    scan,
    sort,
)
from perfxapi_gpu_kernels.launches import BINDINGS

__all__ = [
    "BINDINGS",
    "elementwise",
    "gather",
    "matmul",
    "norm",
    "position",
    "reduction",
    "scan",
    "sort",
]
