"""A bounded reader of GGUF files, versions 2 and 3 ("GGUF" specification, ggml project, docs/gguf.md).

The file is mapped, not read: tensors and string arrays are views. Nothing is allocated by a count from the file before
the count is known to fit in the bytes that remain, and each malformed field is a FileFormatError that names its offset.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from perfxapi import dtypes
from perfxapi.dtypes import DType
from perfxapi.errors import FileFormatError
from perfxlm.weights.metadata import HEADER_BYTES, Metadata, StringArray, string_ends
from perfxlm.weights.tensor import MappedFile, WeightTensor, is_pickle, pickle_error

MAGIC: Final = b"GGUF"

_SUPPORTED_TYPES: Final = {
    0: dtypes.float32, 1: dtypes.float16, 2: dtypes.q4_0, 3: dtypes.q4_1, 6: dtypes.q5_0, 7: dtypes.q5_1,
    8: dtypes.q8_0, 10: dtypes.q2_k, 11: dtypes.q3_k, 12: dtypes.q4_k, 13: dtypes.q5_k, 14: dtypes.q6_k,
    15: dtypes.q8_k, 20: dtypes.iq4_nl, 23: dtypes.iq4_xs, 24: dtypes.int8, 25: dtypes.int16, 26: dtypes.int32,
    27: dtypes.int64, 28: dtypes.float64, 30: dtypes.bfloat16, 39: dtypes.mxfp4,
}  # fmt: skip
_OTHER_TYPES: Final = {
    9: "q8_1", 16: "iq2_xxs", 17: "iq2_xs", 18: "iq3_xxs", 19: "iq1_s", 21: "iq3_s", 22: "iq2_s", 29: "iq1_m",
    34: "tq1_0", 35: "tq2_0",
}  # fmt: skip
_SCALARS: Final[dict[int, np.dtype[Any]]] = {
    0: np.dtype("u1"), 1: np.dtype("i1"), 2: np.dtype("<u2"), 3: np.dtype("<i2"), 4: np.dtype("<u4"),
    5: np.dtype("<i4"), 6: np.dtype("<f4"), 7: np.dtype("u1"), 10: np.dtype("<u8"),
    11: np.dtype("<i8"), 12: np.dtype("<f8"),
}  # fmt: skip
_BOOL, _STRING, _ARRAY = 7, 8, 9

# Limits far above any real file's, so that a hostile one is refused at once.
_MAX_PAIRS, _MAX_TENSORS = 1 << 12, 1 << 14
_MAX_STRINGS, _MAX_NESTED = 1 << 20, 1 << 12  # strings in arrays, and arrays in arrays, of the whole file
_MAX_DEPTH = 4
_MAX_NAME_BYTES = 65535
_MAX_STRING_BYTES = 1 << 26
_MAX_ALIGNMENT = 1 << 20
_MAX_SHARDS = 4096
_DEFAULT_ALIGNMENT = 32
_MAX_NDIM = 4

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_SHARD_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True, slots=True)
class GGUFFile:
    """An open GGUF model: `metadata`, and `tensors` by name in file order. A split model is one GGUFFile."""

    path: Path
    metadata: Metadata = field(repr=False)
    tensors: dict[str, WeightTensor] = field(repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> GGUFFile:
        """Opens a GGUF file, or a split model by the name of any of its files.

        Raises OSError if a file cannot be opened, and FileFormatError, with the byte offset, if it is malformed or
        uses a tensor type that is not supported.
        """
        file = _Parser(path).parse()
        return file if file.metadata.integer("split.count", 1) <= 1 else _join_shards(file)


class _Parser:
    """Walks one file from its first byte; `position` is the next byte to read."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = MappedFile(path)
        self.view = self.file.data.data
        self.position = 0
        self.num_strings = self.num_nested = 0

    def parse(self) -> GGUFFile:
        """The whole file."""
        num_tensors, num_pairs = self._header()
        values: dict[str, Any] = {}
        offsets: dict[str, int] = {}
        for index in range(num_pairs):
            start = self.position
            key = self._name(f"metadata key {index}")
            if key in values:
                raise self._error(start, f"metadata key {index}", f"duplicate key {_shown(key)}")
            offsets[key] = self.position
            values[key] = self._value(self._u32(f"type of {_shown(key)}"), key, 0)
        metadata = Metadata(self.file.path, values, offsets, partial(self.file.release, 0, self.position))
        return GGUFFile(self.file.path, metadata, self._tensors(num_tensors, self._alignment(metadata)))

    def _header(self) -> tuple[int, int]:
        """Number of tensors and of metadata pairs."""
        magic = bytes(self._take(4, "magic"))
        if magic != MAGIC and is_pickle(self.file.path):
            raise pickle_error(self.file.path)
        if magic != MAGIC:
            raise self._error(0, "magic", f"expected {MAGIC!r}, got {magic!r}: not a GGUF file")
        version = self._u32("version")
        if version and not version & 0xFFFF:
            raise self._error(4, "version", "the file is big-endian; convert it to little-endian")
        if version not in (2, 3):
            raise self._error(
                4, "version", f"version {version} is not supported (2 and 3 are); convert the model again"
            )
        num_tensors = self._count("tensor count", 24, _MAX_TENSORS)  # name, ndim, type and offset take that much
        return num_tensors, self._count("metadata count", 13, _MAX_PAIRS)

    def _alignment(self, metadata: Metadata) -> int:
        alignment = metadata.integer("general.alignment", _DEFAULT_ALIGNMENT)
        if not 8 <= alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
            problem = f"expected a power of two from 8 to {_MAX_ALIGNMENT}, got {alignment}"
            raise self._error(metadata.offsets["general.alignment"], "general.alignment", problem)
        return alignment

    # Metadata

    def _value(self, kind: int, key: str, depth: int) -> Any:
        """A value of GGUF type `kind` at the present position."""
        if kind in _SCALARS:
            return self._numbers(kind, 1, key)[0].item()
        if kind == _STRING:
            return self._string(_shown(key), _MAX_STRING_BYTES)
        if kind == _ARRAY:
            return self._array(key, depth)
        raise self._error(self.position - 4, f"type of {_shown(key)}", f"unknown value type {kind}; GGUF has 0 to 12")

    def _array(self, key: str, depth: int) -> Any:
        if depth == _MAX_DEPTH:
            raise self._error(self.position, _shown(key), f"arrays are nested more than {_MAX_DEPTH} deep")
        start = self.position
        kind = self._u32(f"element type of {_shown(key)}")
        where = f"length of {_shown(key)}"
        if kind in _SCALARS:
            return self._numbers(kind, self._count(where, _SCALARS[kind].itemsize), key)
        if kind == _STRING:
            return self._strings(self._count(where, HEADER_BYTES), key)
        if kind == _ARRAY:
            count = self._count(where, 12)
            self.num_nested += count
            self._check_total(self.num_nested, _MAX_NESTED, "nested arrays", key)
            return [self._array(key, depth + 1) for _ in range(count)]
        raise self._error(start, f"element type of {_shown(key)}", f"unknown value type {kind}; GGUF has 0 to 12")

    def _numbers(self, kind: int, count: int, key: str) -> np.ndarray[Any, np.dtype[Any]]:
        """A read-only, aligned copy of `count` numbers or bools."""
        start = self.position
        numbers: np.ndarray[Any, np.dtype[Any]] = np.frombuffer(
            self._take(count * _SCALARS[kind].itemsize, _shown(key)), _SCALARS[kind]
        ).copy()
        if kind == _BOOL:
            if (numbers > 1).any():
                offset = start + int((numbers > 1).argmax())
                raise self._error(offset, _shown(key), f"a bool is 0 or 1, got {self.file.data[offset]}")
            numbers = numbers.view(np.bool_)
        numbers.flags.writeable = False
        return numbers

    def _strings(self, count: int, key: str) -> StringArray:
        self.num_strings += count
        self._check_total(self.num_strings, _MAX_STRINGS, "strings in arrays", key)
        first = self.position
        ends = string_ends(self.file.data, first, count)
        if isinstance(ends, int):
            raise self._error(ends, _shown(key), "a string reaches past the end of the file")
        self.position = int(ends[-1]) if count else first
        return StringArray(self.file.path, key, self.file.data, ends, first)

    def _check_total(self, total: int, limit: int, what: str, key: str) -> None:
        if total > limit:
            raise self._error(self.position, _shown(key), f"more than {limit} {what} in the file's metadata")

    # Tensors

    def _tensors(self, count: int, alignment: int) -> dict[str, WeightTensor]:
        """Reads the tensor table, then places the tensors after it and checks that they fit and do not overlap."""
        table: dict[str, tuple[int, tuple[int, ...], DType, int]] = {}
        for index in range(count):
            start = self.position
            name = self._name(f"name of tensor {index}")
            if name in table:
                raise self._error(start, f"name of tensor {index}", f"duplicate tensor {_shown(name)}")
            table[name] = (start, self._shape(name), self._type(name), self._u64(f"offset of {_shown(name)}"))
        data_start = (self.position + alignment - 1) // alignment * alignment
        tensors = {
            name: self._tensor(name, shape, dtype, data_start, offset, alignment, start)
            for name, (start, shape, dtype, offset) in table.items()
        }
        self._check_overlap(list(tensors.values()), {name: entry[0] for name, entry in table.items()})
        return tensors

    def _shape(self, name: str) -> tuple[int, ...]:
        """The shape, outermost axis first (the file has the innermost first)."""
        field_name = f"shape of {_shown(name)}"
        start = self.position
        ndim = self._u32(field_name)
        if not 1 <= ndim <= _MAX_NDIM:
            raise self._error(start, field_name, f"expected 1 to {_MAX_NDIM} dimensions, got {ndim}")
        shape = tuple(self._u64(field_name) for _ in range(ndim))[::-1]
        if 0 in shape:
            raise self._error(start, field_name, f"a dimension of {list(shape)} is 0")
        return shape

    def _type(self, name: str) -> DType:
        start = self.position
        kind = self._u32(f"type of {_shown(name)}")
        if kind not in _SUPPORTED_TYPES:
            known = ", ".join(dtype.name for dtype in _SUPPORTED_TYPES.values())
            shown = f"type {_OTHER_TYPES[kind]}" if kind in _OTHER_TYPES else f"unknown type {kind}"
            problem = f"{shown} is not supported (supported: {known}); quantize the model again"
            raise self._error(start, f"type of {_shown(name)}", problem)
        return _SUPPORTED_TYPES[kind]

    def _tensor(
        self, name: str, shape: tuple[int, ...], dtype: DType, data_start: int, offset: int, alignment: int, start: int
    ) -> WeightTensor:
        """`start` is where the tensor's table entry begins, for errors."""
        field_name = f"tensor {_shown(name)}"
        if shape[-1] % dtype.block_size:
            problem = f"rows of {shape[-1]} columns are not whole {dtype.name} blocks of {dtype.block_size}"
            raise self._error(start, field_name, problem)
        if offset % alignment:
            raise self._error(start, field_name, f"offset {offset} is not a multiple of the alignment {alignment}")
        num_bytes = dtype.row_bytes(shape[-1])
        for size in shape[:-1]:
            num_bytes *= size
        begin = data_start + offset
        if begin + num_bytes > self.file.size:
            problem = f"its {num_bytes} bytes from byte {begin} on reach past the end of the {self.file.size} byte file"
            raise self._error(start, field_name, problem)
        return WeightTensor(name, shape, dtype, self.file.data[begin : begin + num_bytes], begin, self.file)

    def _check_overlap(self, tensors: list[WeightTensor], starts: dict[str, int]) -> None:
        tensors.sort(key=lambda tensor: tensor.offset)
        for before, after in pairwise(tensors):
            if before.offset + before.num_bytes > after.offset:
                problem = f"its bytes overlap those of tensor {_shown(before.name)}"
                raise self._error(starts[after.name], f"tensor {_shown(after.name)}", problem)

    # Primitives

    def _take(self, num_bytes: int, field_name: str) -> memoryview:
        start, end = self.position, self.position + num_bytes
        if end > self.file.size:
            left = self.file.size - start
            raise self._error(start, field_name, f"truncated: needs {num_bytes} bytes, {left} are left in the file")
        self.position = end
        return self.view[start:end]

    def _u32(self, field_name: str) -> int:
        (value,) = _U32.unpack(self._take(4, field_name))
        return int(value)

    def _u64(self, field_name: str) -> int:
        (value,) = _U64.unpack(self._take(8, field_name))
        return int(value)

    def _count(self, field_name: str, item_bytes: int, limit: int | None = None) -> int:
        """A count of items that take at least `item_bytes` each, checked against the bytes that remain."""
        start = self.position
        count = self._u64(field_name)
        left = self.file.size - self.position
        if count * item_bytes > left:
            problem = f"{count} items of at least {item_bytes} bytes do not fit in the {left} bytes that are left"
            raise self._error(start, field_name, problem)
        if limit is not None and count > limit:
            raise self._error(start, field_name, f"{count} is more than the {limit} that are supported")
        return count

    def _string(self, field_name: str, limit: int) -> str:
        length = self._count(f"length of {field_name}", 1, limit)
        start = self.position
        try:
            return str(self._take(length, field_name), "utf-8")
        except UnicodeDecodeError as error:
            raise self._error(start + error.start, field_name, "invalid UTF-8") from None

    def _name(self, field_name: str) -> str:
        start = self.position
        name = self._string(field_name, _MAX_NAME_BYTES)
        if not name:
            raise self._error(start, field_name, "an empty name")
        return name

    def _error(self, offset: int, field_name: str, problem: str) -> FileFormatError:
        return FileFormatError(self.file.path, f"byte {offset}, {field_name}", problem)


def _shown(name: str) -> str:
    """A name from the file, fit for a message."""
    return ascii(name if len(name) <= 80 else name[:77] + "...")


def _join_shards(opened: GGUFFile) -> GGUFFile:
    """All files of a split model, found by the name of one: <stem>-00001-of-00003.gguf and so on."""
    count = opened.metadata.integer("split.count")
    match = _SHARD_NAME.fullmatch(opened.path.name)
    if match is None or int(match["count"]) != count or not 1 <= count <= _MAX_SHARDS:
        problem = f"a split model of {count} files, whose names must end in -00001-of-{count:05}.gguf and so on"
        raise FileFormatError(opened.path, "metadata key 'split.count'", problem)
    tensors: dict[str, WeightTensor] = {}
    first: GGUFFile | None = None
    for number in range(count):
        path = opened.path.with_name(f"{match['stem']}-{number + 1:05}-of-{count:05}.gguf")
        if not path.exists():
            raise FileFormatError(
                opened.path, "metadata key 'split.count'", f"the file {path.name} of the model is missing"
            )
        shard = _Parser(path).parse()
        place = (shard.metadata.integer("split.no"), shard.metadata.integer("split.count"))
        if place != (number, count):
            raise FileFormatError(path, "metadata key 'split.no'", f"expected part {number} of {count}, got {place}")
        if repeated := tensors.keys() & shard.tensors.keys():
            raise FileFormatError(path, f"tensor {_shown(min(repeated))}", "also in an earlier file of the model")
        tensors |= shard.tensors
        first = first or shard
    metadata = (first or opened).metadata
    total = metadata.integer("split.tensors.count", len(tensors))
    if total != len(tensors):
        raise FileFormatError(
            opened.path, "metadata key 'split.tensors.count'", f"{total}, but {len(tensors)} were found"
        )
    return GGUFFile(opened.path, metadata, tensors)
