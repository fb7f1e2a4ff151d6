"""PerfXAPI: one op API over many kinds of hardware. Backends are plugins; fallback is by operator and never silent."""

from perfxapi import errors, graph, nn, ops, random, standard
from perfxapi import plugins as plugins
from perfxapi.array import Array, apply
from perfxapi.creation import constant, state
from perfxapi.device import Device
from perfxapi.dims import Dim
from perfxapi.dtypes import (
    DType,
    bfloat16,
    bool_,
    complex64,
    complex128,
    dtype_of,
    float16,
    float32,
    float64,
    int4_g128,
    int8,
    int16,
    int32,
    int64,
    iq4_nl,
    iq4_xs,
    mxfp4,
    q2_k,
    q3_k,
    q4_0,
    q4_1,
    q4_k,
    q5_0,
    q5_1,
    q5_k,
    q6_k,
    q8_0,
    q8_k,
    uint8,
    uint16,
    uint32,
    uint64,
)
from perfxapi.dtypes import bool_ as bool
from perfxapi.ledger import LEDGER as _LEDGER
from perfxapi.ledger import Explanation
from perfxapi.native import include_dir, native_seconds, num_threads, set_num_threads
from perfxapi.ops.spec import TensorSpec
from perfxapi.policy import all_devices, get_device, requested_device, use_device
from perfxapi.settings import settings
from perfxapi.standard import *  # noqa: F403  the names of the standard stand in one list, there

__version__ = "0.1.0"
__array_api_version__ = "2025.12"


def explain() -> Explanation:
    """What ran where, why, and the bytes it moved, since the start (or `reset_explain`)."""
    return _LEDGER.explain()


def reset_explain() -> None:
    """Starts counting anew."""
    _LEDGER.clear()


def get_include() -> str:
    """The folder of the C headers (`perfx/abi.h`, ...) that native backends and plugins compile with."""
    return str(include_dir())


__all__ = [
    "Array",
    "DType",
    "Device",
    "Dim",
    "Explanation",
    "TensorSpec",
    "all_devices",
    "apply",
    "bfloat16",
    "bool",
    "bool_",
    "complex64",
    "complex128",
    "constant",
    "dtype_of",
    "errors",
    "explain",
    "float16",
    "float32",
    "float64",
    "get_device",
    "get_include",
    "graph",
    "include_dir",
    "int4_g128",
    "int8",
    "int16",
    "int32",
    "int64",
    "iq4_nl",
    "iq4_xs",
    "mxfp4",
    "native_seconds",
    "nn",
    "num_threads",
    "ops",
    "q2_k",
    "q3_k",
    "q4_0",
    "q4_1",
    "q4_k",
    "q5_0",
    "q5_1",
    "q5_k",
    "q6_k",
    "q8_0",
    "q8_k",
    "random",
    "requested_device",
    "reset_explain",
    "set_num_threads",
    "settings",
    "state",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "use_device",
]
__all__ += standard.__all__
