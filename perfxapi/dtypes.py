"""Data types: the array API's, float16 and bfloat16, and the block-quantized storage types.

A quantized type packs `block_size` consecutive values of the last axis into `block_bytes` bytes, byte for byte as GGUF
does (ggml-common.h, "GGUF specification", ggml project). Only `int4_g128` is our own: asymmetric int4 with a scale
and a zero point for each 128 columns, which is what AWQ checkpoints hold (`perfx/packing.h`). A `code` is the C ABI's
(`perfx/abi.h`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from perfxapi.errors import InvalidDTypeError, UnknownNameError

_BITS_OF_BFLOAT16 = 16


@dataclass(frozen=True, slots=True)
class DType:
    """A data type.

    `kind` is one of bool, int, uint, float, complex, quantized. `numpy` is the NumPy type its elements have in host
    memory: uint16 bit patterns for bfloat16, uint8 bytes for quantized types.
    """

    name: str
    code: int
    kind: str
    numpy: np.dtype[np.generic]
    block_size: int = 1
    block_bytes: int = 0

    @property
    def itemsize(self) -> int:
        """Bytes of one element (of one block, for a quantized type)."""
        return self.block_bytes or self.numpy.itemsize

    @property
    def is_quantized(self) -> bool:
        """Whether values are stored in blocks with shared scales."""
        return self.kind == "quantized"

    def row_bytes(self, columns: int) -> int:
        """Bytes of a contiguous row of `columns` values; `columns` must be a multiple of `block_size`."""
        return columns // self.block_size * self.itemsize

    def __repr__(self) -> str:
        return f"perfxapi.{self.name}"

    def __hash__(self) -> int:
        return self.code


def _plain(name: str, code: int, kind: str, numpy_type: npt.DTypeLike | None = None) -> DType:
    return DType(name, code, kind, np.dtype(numpy_type if numpy_type is not None else name))


def _quantized(name: str, code: int, block_size: int, block_bytes: int) -> DType:
    return DType(name, code, "quantized", np.dtype(np.uint8), block_size, block_bytes)


bool_: Final = _plain("bool", 0, "bool")
int8: Final = _plain("int8", 1, "int")
int16: Final = _plain("int16", 2, "int")
int32: Final = _plain("int32", 3, "int")
int64: Final = _plain("int64", 4, "int")
uint8: Final = _plain("uint8", 5, "uint")
uint16: Final = _plain("uint16", 6, "uint")
uint32: Final = _plain("uint32", 7, "uint")
uint64: Final = _plain("uint64", 8, "uint")
float16: Final = _plain("float16", 9, "float")
bfloat16: Final = _plain("bfloat16", 10, "float", np.uint16)
float32: Final = _plain("float32", 11, "float")
float64: Final = _plain("float64", 12, "float")
complex64: Final = _plain("complex64", 13, "complex")
complex128: Final = _plain("complex128", 14, "complex")
q4_0: Final = _quantized("q4_0", 32, 32, 18)
q5_0: Final = _quantized("q5_0", 33, 32, 22)
q8_0: Final = _quantized("q8_0", 34, 32, 34)
q4_k: Final = _quantized("q4_k", 35, 256, 144)
q6_k: Final = _quantized("q6_k", 36, 256, 210)
int4_g128: Final = _quantized("int4_g128", 37, 128, 67)
q4_1: Final = _quantized("q4_1", 38, 32, 20)
q5_1: Final = _quantized("q5_1", 39, 32, 24)
q2_k: Final = _quantized("q2_k", 40, 256, 84)
q3_k: Final = _quantized("q3_k", 41, 256, 110)
q5_k: Final = _quantized("q5_k", 42, 256, 176)
q8_k: Final = _quantized("q8_k", 43, 256, 292)
iq4_nl: Final = _quantized("iq4_nl", 44, 32, 18)
iq4_xs: Final = _quantized("iq4_xs", 45, 256, 136)
mxfp4: Final = _quantized("mxfp4", 46, 32, 17)

ALL: Final = (
    bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, bfloat16, float32, float64, complex64,
    complex128, q4_0, q5_0, q8_0, q4_k, q6_k, int4_g128, q4_1, q5_1, q2_k, q3_k, q5_k, q8_k, iq4_nl, iq4_xs, mxfp4,
)  # fmt: skip
_BY_NAME = {dtype.name: dtype for dtype in ALL}
_BY_NUMPY = {dtype.numpy: dtype for dtype in ALL if not dtype.is_quantized and dtype is not bfloat16}


def dtype_of(value: DType | str | npt.DTypeLike) -> DType:
    """The DType that a DType, a name ("float32", "q4_k") or a NumPy type stands for. Raises UnknownNameError."""
    if isinstance(value, DType):
        return value
    if isinstance(value, str) and value in _BY_NAME:
        return _BY_NAME[value]
    try:
        return _BY_NUMPY[np.dtype(value)]
    except (TypeError, KeyError):
        raise UnknownNameError("dtype", str(value), sorted(_BY_NAME)) from None


def result_type(first: DType, second: DType) -> DType:
    """The dtype that two dtypes are promoted to (array API standard 2025.12, "Type promotion rules").

    Beyond the standard, float16 and bfloat16 are floats narrower than float32, which is what both together give.
    Raises InvalidDTypeError for kinds that do not mix, such as integers and floats.
    """
    if first is second:
        return first
    kinds = {first.kind, second.kind}
    if kinds <= {"float", "complex"} and bfloat16 in (first, second):
        other = second if first is bfloat16 else first
        return _BY_NUMPY[np.result_type(np.float32, other.numpy)]
    mixed = kinds == {"int", "uint"} and uint64 not in (first, second)
    if mixed or kinds <= {"float", "complex"} or kinds in ({"int"}, {"uint"}):
        return _BY_NUMPY[np.result_type(first.numpy, second.numpy)]
    raise InvalidDTypeError(f"{first.name} and {second.name} have no common dtype: convert one of them by astype")


def complex_of(dtype: DType) -> DType:
    """The complex dtype whose parts are as precise as a floating-point dtype (at least complex64)."""
    return complex128 if dtype in (float64, complex128) else complex64


def real_of(dtype: DType) -> DType:
    """The dtype of the real part: that of a complex dtype's parts, else the dtype itself."""
    return {complex64: float32, complex128: float64}.get(dtype, dtype)


def bfloat16_to_float32(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Widens bfloat16 bit patterns, exactly."""
    return (bits.astype(np.uint32) << _BITS_OF_BFLOAT16).view(np.float32)


def float32_to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Rounds to the nearest bfloat16 (ties to even); NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> _BITS_OF_BFLOAT16) & 1)) >> _BITS_OF_BFLOAT16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)
