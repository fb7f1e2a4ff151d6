"""The element types of ONNX tensors (`TensorProto.DataType`) and where each is held.

Types that a device holds are `DType`s. Strings and the types of 8, 6, 4 and 2 bits that no device holds are NumPy
arrays on the host: of `str` objects, and of the dtypes of `ml_dtypes`.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from perfxapi import dtypes
from perfxapi.array import Array
from perfxapi.dtypes import DType
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.registry import Value

STRING = 8
FLOAT8E8M0 = 24

_ON_DEVICES: dict[int, DType] = {
    1: dtypes.float32,
    2: dtypes.uint8,
    3: dtypes.int8,
    4: dtypes.uint16,
    5: dtypes.int16,
    6: dtypes.int32,
    7: dtypes.int64,
    9: dtypes.bool_,
    10: dtypes.float16,
    11: dtypes.float64,
    12: dtypes.uint32,
    13: dtypes.uint64,
    14: dtypes.complex64,
    15: dtypes.complex128,
    16: dtypes.bfloat16,
}
_ON_HOST: dict[int, np.dtype[Any]] = {
    STRING: np.dtype(object),
    17: np.dtype(ml_dtypes.float8_e4m3fn),
    18: np.dtype(ml_dtypes.float8_e4m3fnuz),
    19: np.dtype(ml_dtypes.float8_e5m2),
    20: np.dtype(ml_dtypes.float8_e5m2fnuz),
    21: np.dtype(ml_dtypes.uint4),
    22: np.dtype(ml_dtypes.int4),
    23: np.dtype(ml_dtypes.float4_e2m1fn),
    FLOAT8E8M0: np.dtype(ml_dtypes.float8_e8m0fnu),
    25: np.dtype(ml_dtypes.uint2),
    26: np.dtype(ml_dtypes.int2),
    27: np.dtype(ml_dtypes.float6_e2m3fn),
    28: np.dtype(ml_dtypes.float6_e3m2fn),
}


def device_dtype(code: int) -> DType | None:
    """The dtype of the elements on devices; None for types that are held on the host."""
    return _ON_DEVICES.get(code)


def host_dtype(code: int) -> np.dtype[Any]:
    """The NumPy dtype of the elements on the host. Raises InvalidArgumentError for a code that ONNX does not have."""
    if code in _ON_HOST:
        return _ON_HOST[code]
    if code not in _ON_DEVICES:
        raise InvalidArgumentError(f"{code} is no element type of ONNX")
    dtype = _ON_DEVICES[code]
    return np.dtype(ml_dtypes.bfloat16) if dtype is dtypes.bfloat16 else dtype.numpy


def name_of(code: int) -> str:
    """What the elements are called in messages: "float32", "int4", "string"; "any" where no type is stated (0)."""
    if code == STRING:
        return "string"
    dtype = device_dtype(code)
    return dtype.name if dtype is not None else host_dtype(code).name if code else "any"


def code_of_name(name: str) -> int:
    """The element type of a name as the first versions of ONNX wrote it ("FLOAT"). Raises InvalidArgumentError."""
    codes = {name_of(code).upper(): code for code in (*_ON_DEVICES, *_ON_HOST)}
    codes.update({"FLOAT": 1, "DOUBLE": 11})
    if name.upper() not in codes:
        raise InvalidArgumentError(f"{name!r} is no element type of ONNX")
    return codes[name.upper()]


def code_of_dtype(dtype: DType) -> int:
    """The element type that a dtype of devices is. Raises InvalidArgumentError for those that ONNX lacks."""
    for code, held in _ON_DEVICES.items():
        if held is dtype:
            return code
    raise InvalidArgumentError(f"ONNX has no {dtype.name}: dequantize first")


def code_of(value: Value) -> int:
    """The element type of a tensor, as ONNX numbers it. Raises InvalidArgumentError for a sequence."""
    if isinstance(value, Array):
        return code_of_dtype(value.dtype)
    if isinstance(value, np.ndarray):
        return next((code for code, dtype in _ON_HOST.items() if dtype == value.dtype), STRING)
    raise InvalidArgumentError("a tensor is wanted; got a sequence or an empty optional")
