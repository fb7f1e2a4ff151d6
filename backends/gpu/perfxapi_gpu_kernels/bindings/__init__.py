"""How ops run by the kernels of `kernels/`: which calls are taken, which launches they become."""

from perfxapi_gpu_kernels.bindings import (
    activation,
    attention,
    chain,
    elementwise,
    fourier,
    gather,
    linear,
    matmul,
    norm,
    position,
    reduction,
    rope,
    rows,
    sampling,
    scan,
    sort,
    vocabulary,
)
from perfxapi_gpu_kernels.launches import BINDINGS

__all__ = [
    "BINDINGS",
    "activation",
    "attention",
    "chain",
    "elementwise",
    "fourier",
    "gather",
    "linear",
    "matmul",
    "norm",
    "position",
    "reduction",
    "rope",
    "rows",
    "sampling",
    "scan",
    "sort",
    "vocabulary",
]
