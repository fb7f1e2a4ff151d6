"""AWQ checkpoints (Lin et al. 2023, "AWQ: Activation-aware weight quantization"), read as int4_g128 without loss.

In place of "X.weight" [rows, columns] stand "X.qweight" int32 [columns, rows / 8], "X.qzeros" int32 [columns / 128,
rows / 8] and "X.scales" float16 [columns / 128, rows] (the "gemm" layout of the AutoAWQ project): a weight is
(code - zero) * scale, and a word holds the codes of eight rows, in the order of `_ROWS_OF_NIBBLES` from its lowest
bits on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from perfxapi import dtypes
from perfxapi.dtypes import DType
from perfxlm.fields import ConfigError, Fields
from perfxlm.weights.tensor import Bytes, WeightTensor

GROUP: Final = 128
"""Columns that share a scale and a zero point."""

_ROWS_OF_NIBBLES: Final = (0, 2, 4, 6, 1, 3, 5, 7)
_ROWS_IN_WORD: Final = 8
_WORDS_AT_ONCE: Final = 32  # of each row of qweight: what is transposed together stays in the second-level cache
_HEADER_BYTES: Final = 3  # of an int4_g128 block: the scale and the zero point


@dataclass(frozen=True, slots=True, eq=False)
class AWQTensor:
    """A matrix [rows, columns] of an AWQ checkpoint, under the name that it would have unquantized."""

    name: str
    shape: tuple[int, int]
    codes: WeightTensor = field(repr=False)
    zeros: WeightTensor = field(repr=False)
    scales: WeightTensor = field(repr=False)

    @property
    def dtype(self) -> DType:
        """Always int4_g128."""
        return dtypes.int4_g128

    def raw_rows(self) -> Bytes:
        """The rows as int4_g128 blocks, uint8 [rows, row_bytes], in memory of their own."""
        rows, columns = self.shape
        blocks = np.empty((rows, columns // GROUP, self.dtype.block_bytes), np.uint8)
        scales = self.scales.to_numpy().T.astype("<f2", order="C")
        blocks[..., :2] = scales.view(np.uint8).reshape(rows, -1, 2)
        zeros = _bytes_of(self.zeros.to_numpy())
        for place, row in enumerate(_ROWS_OF_NIBBLES):
            blocks[row::_ROWS_IN_WORD, :, 2] = (zeros[..., place // 2] >> np.uint8(place % 2 * 4) & np.uint8(15)).T
        codes = self.codes.to_numpy()
        for word in range(0, rows // _ROWS_IN_WORD, _WORDS_AT_ONCE):
            first, last = word * _ROWS_IN_WORD, (word + _WORDS_AT_ONCE) * _ROWS_IN_WORD
            _transpose_codes(codes[:, word : word + _WORDS_AT_ONCE], blocks[first:last, :, _HEADER_BYTES:])
        return blocks.reshape(rows, -1)

    def release(self) -> None:
        """Drops the tensors' pages from memory."""
        for tensor in (self.codes, self.zeros, self.scales):
            tensor.release()


def _bytes_of(words: npt.NDArray[np.generic]) -> Bytes:
    """int32 [a, b] as the bytes uint8 [a, b, 4], the lowest first."""
    return np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 4)


def _transpose_codes(words: npt.NDArray[np.generic], out: Bytes) -> None:
    """Codes int32 [columns, words] to the nibbles of blocks, uint8 [8 * words, groups, 64].

    Byte j of a run of 32 columns holds column j in its low four bits, column 16 + j in the high ones.
    """
    num_words, four = words.shape[1], np.uint8(4)
    runs = _bytes_of(words).reshape(-1, 2, 16, num_words, 4)
    low, high = runs[:, 0], runs[:, 1]
    nibbles = ((low & np.uint8(15)) | high << four, low >> four | (high & np.uint8(0xF0)))
    for place, row in enumerate(_ROWS_OF_NIBBLES):
        rows = nibbles[place % 2][..., place // 2].reshape(-1, num_words).T
        out[row::_ROWS_IN_WORD] = rows.reshape(num_words, -1, GROUP // 2)


def check_awq(quantization: Fields) -> None:
    """Raises UnsupportedModelError unless `quantization_config` says what `awq_tensors` reads."""
    quantization.require_choice("quant_method", "", "awq")
    quantization.require_choice("version", "gemm", "gemm", "GEMM")
    for key, expected in (("bits", 4), ("group_size", GROUP)):
        if (found := quantization.integer(key, low=-1, high=1 << 20)) != expected:
            raise quantization.unsupported(key, f"{found} is not supported; supported: {expected}")
    if not quantization.flag("zero_point", True):
        raise quantization.unsupported("zero_point", "AWQ without zero points is not supported")


def awq_tensors(source: str, tensors: Mapping[str, WeightTensor]) -> dict[str, WeightTensor | AWQTensor]:
    """The tensors of an AWQ checkpoint, each triple joined to one matrix. Raises ConfigError where one does not fit."""
    joined: dict[str, WeightTensor | AWQTensor] = {}
    for name, tensor in tensors.items():
        stem, _, kind = name.rpartition(".")
        if kind == "qweight":
            joined[f"{stem}.weight"] = _join(source, stem, tensors)
        elif kind not in ("qzeros", "scales"):
            joined[name] = tensor
    return joined


def _join(source: str, stem: str, tensors: Mapping[str, WeightTensor]) -> AWQTensor:
    codes = tensors[f"{stem}.qweight"]
    if codes.dtype is not dtypes.int32 or len(codes.shape) != 2 or codes.shape[0] % GROUP:
        problem = (
            f"int32 [columns, rows / 8] with columns in {GROUP}s is expected; got {codes.dtype.name} {codes.shape}"
        )
        raise ConfigError(source, f"tensor {codes.name}", problem)
    columns, words = codes.shape
    groups, rows = columns // GROUP, words * _ROWS_IN_WORD
    zeros = _companion(source, tensors, f"{stem}.qzeros", dtypes.int32, (groups, words))
    scales = _companion(source, tensors, f"{stem}.scales", dtypes.float16, (groups, rows))
    return AWQTensor(f"{stem}.weight", (rows, columns), codes, zeros, scales)


def _companion(
    source: str, tensors: Mapping[str, WeightTensor], name: str, dtype: DType, shape: tuple[int, int]
) -> WeightTensor:
    tensor = tensors.get(name)
    if tensor is None:
        raise ConfigError(source, f"tensor {name}", "it is missing")
    if tensor.dtype is not dtype or tensor.shape != shape:
        problem = f"{dtype.name} {shape} is expected; got {tensor.dtype.name} {tensor.shape}"
        raise ConfigError(source, f"tensor {name}", problem)
    return tensor
