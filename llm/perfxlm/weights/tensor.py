"""What every weight format is read into: named tensors whose bytes are views of a memory-mapped file."""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from perfxapi import quantization
from perfxapi.dtypes import DType, bfloat16, bfloat16_to_float32
from perfxapi.errors import FileFormatError, InvalidArgumentError

Bytes = npt.NDArray[np.uint8]

_PICKLE_SUFFIXES: Final = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
_CONVERSION: Final = (
    "a Torch pickle, which can run any code when it is read, and so is refused. Where you trust it, convert it: "
    'safetensors.torch.save_file(torch.load(path, weights_only=True), "model.safetensors")'
)


def is_pickle(path: Path) -> bool:
    """Whether a file is, by its name, a Torch checkpoint."""
    return path.suffix in _PICKLE_SUFFIXES


def pickle_error(path: Path) -> FileFormatError:
    """The refusal of a Torch checkpoint; it names the conversion."""
    return FileFormatError(path, "file", _CONVERSION)


class MappedFile:
    """A regular file, mapped read-only. Its bytes stay valid for as long as any view of `data` is alive.

    Pages are read when they are touched. As with any mapped file, shortening it while it is in use ends the process.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Maps a file. Raises OSError if it cannot be opened, FileFormatError if it is empty or no regular file."""
        self.path = Path(path)
        if not stat.S_ISREG(os.stat(self.path).st_mode):  # before opening: a pipe would block, a device never ends
            raise FileFormatError(path, "file", "expected a regular file")
        with self.path.open("rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            if self.size == 0:
                raise FileFormatError(path, "byte 0", "the file is empty")
            self._mapping = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)
        self.data: Bytes = np.frombuffer(self._mapping, np.uint8)
        """The whole file, read-only: uint8 [size]."""

    def release(self, offset: int, num_bytes: int) -> None:
        """Tells the system that these bytes are not needed: their pages leave memory, and come back if touched."""
        if hasattr(mmap, "MADV_DONTNEED"):  # absent on Windows, where the system trims pages by itself
            start = offset // mmap.PAGESIZE * mmap.PAGESIZE
            self._mapping.madvise(mmap.MADV_DONTNEED, start, offset + num_bytes - start)


@dataclass(frozen=True, slots=True, eq=False)
class WeightTensor:
    """A tensor of a checkpoint.

    `shape` has the outermost axis first: [rows, columns] for a matrix. `data` is the raw bytes, uint8 [num_bytes], a
    read-only view of the file; `offset` is where they start in it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    data: Bytes = field(repr=False)
    offset: int
    file: MappedFile = field(repr=False)

    @property
    def num_bytes(self) -> int:
        """Size in the file."""
        return self.data.size

    @property
    def raw_rows(self) -> Bytes:
        """The bytes by rows, uint8 [*shape[:-1], row_bytes], without a copy: what `perfxapi.quantization` takes."""
        if not self.shape:
            return self.data
        return self.data.reshape(*self.shape[:-1], self.dtype.row_bytes(self.shape[-1]))

    def to_numpy(self) -> npt.NDArray[np.generic]:
        """The elements as stored: read-only, uint16 patterns for bfloat16; a copy only where the file misaligns them.

        Raises InvalidArgumentError for a quantized tensor, which has no elements outside its blocks.
        """
        if self.dtype.is_quantized:
            raise InvalidArgumentError(f"tensor {self.name!r} is {self.dtype.name}: take raw_rows or to_float32()")
        array = self.data.view(self.dtype.numpy.newbyteorder("<")).reshape(self.shape)
        if not array.flags.aligned:
            array = array.copy()
            array.flags.writeable = False
        return array

    def to_float32(self) -> npt.NDArray[np.float32]:
        """The values as float32, in memory of their own: dequantized, widened or converted."""
        if self.dtype.is_quantized:
            return quantization.dequantize(self.raw_rows, self.dtype)
        array = self.to_numpy()
        if self.dtype is bfloat16:
            return bfloat16_to_float32(array.view(np.uint16))
        return array.astype(np.float32)

    def release(self) -> None:
        """Drops the tensor's pages from memory, for instance once it has been repacked. `data` stays valid."""
        self.file.release(self.offset, self.num_bytes)
