"""A bounded reader of safetensors files ("Format" of the safetensors project), whole or sharded with an index.

The file is mapped, not read. Its JSON header is checked completely: each byte of data belongs to exactly one tensor.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from perfxapi import dtypes
from perfxapi.dtypes import DType
from perfxapi.errors import FileFormatError
from perfxlm.weights.tensor import MappedFile, WeightTensor, is_pickle, pickle_error

SINGLE_NAME: Final = "model.safetensors"
INDEX_NAME: Final = "model.safetensors.index.json"

_DTYPES: Final = {
    "BOOL": dtypes.bool_, "U8": dtypes.uint8, "I8": dtypes.int8, "U16": dtypes.uint16, "I16": dtypes.int16,
    "U32": dtypes.uint32, "I32": dtypes.int32, "U64": dtypes.uint64, "I64": dtypes.int64, "F16": dtypes.float16,
    "BF16": dtypes.bfloat16, "F32": dtypes.float32, "F64": dtypes.float64,
}  # fmt: skip
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
_MAX_JSON_VALUES = 1 << 19  # about 50,000 tensors
_MAX_NDIM = 32
_MAX_SIZE = 1 << 63
_SHARD_NAME = re.compile(r"[^/\\\0:]+\.safetensors")  # a plain name: no folder, no drive, no stream
_TENSOR_KEYS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """An open checkpoint: the strings of its `metadata`, and `tensors` by name. A sharded one is one of these."""

    path: Path
    metadata: dict[str, str] = field(repr=False)
    tensors: dict[str, WeightTensor] = field(repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SafetensorsFile:
        """Opens a .safetensors file, a model.safetensors.index.json, or a folder that holds either.

        Of a sharded checkpoint the tensors are those that the index lists. Shards lie beside the index; they may be
        links, as in HuggingFace's cache. Raises OSError if a file cannot be opened, and FileFormatError, naming the
        field, if one is malformed or a Torch pickle.
        """
        path = Path(path)
        if path.is_dir():
            path = _find_in_folder(path)
        if is_pickle(path):
            raise pickle_error(path)
        return _open_shards(path) if path.suffix == ".json" else _open_single(path)


def _find_in_folder(folder: Path) -> Path:
    """The checkpoint in a folder: an index, a single file, or a pickle, in this order."""
    candidates = [folder / INDEX_NAME, folder / SINGLE_NAME, *sorted(filter(is_pickle, folder.iterdir()))]
    for path in candidates:
        if path.exists():
            return path
    raise FileFormatError(folder, "folder", f"it holds neither {SINGLE_NAME} nor {INDEX_NAME}")


def _open_single(path: Path) -> SafetensorsFile:
    file = MappedFile(path)
    length = int.from_bytes(file.data[:_LENGTH_BYTES].tobytes(), "little")
    data_start = _LENGTH_BYTES + length
    if file.size < _LENGTH_BYTES or data_start > file.size or length > _MAX_HEADER_BYTES:
        problem = f"a header of {length} bytes in a file of {file.size} (at most {_MAX_HEADER_BYTES} are supported)"
        raise FileFormatError(path, "byte 0, header length", problem)
    header = _parse_json(path, file.data[_LENGTH_BYTES:data_start].tobytes())
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FileFormatError(path, "header, __metadata__", "expected an object of strings")
    tensors = {name: _tensor(file, name, entry, data_start) for name, entry in header.items()}
    _check_coverage(file, data_start, tensors)
    return SafetensorsFile(path, metadata, tensors)


def _open_shards(path: Path) -> SafetensorsFile:
    file = MappedFile(path)
    if file.size > _MAX_HEADER_BYTES:
        raise FileFormatError(path, "file", f"an index of {file.size} bytes (at most {_MAX_HEADER_BYTES})")
    weight_map = _parse_json(path, file.data.tobytes()).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FileFormatError(path, "weight_map", "expected an object that maps tensors to files")
    shards: dict[str, SafetensorsFile] = {}
    tensors: dict[str, WeightTensor] = {}
    for name, shard_name in weight_map.items():
        if not isinstance(shard_name, str) or not _SHARD_NAME.fullmatch(shard_name):
            problem = f"expected the plain name of a .safetensors file beside the index, got {_shown(shard_name)}"
            raise FileFormatError(path, f"weight_map, {_shown(name)}", problem)
        if shard_name not in shards:
            shards[shard_name] = _open_shard(path, shard_name)
        if name not in shards[shard_name].tensors:
            raise FileFormatError(path, f"weight_map, {_shown(name)}", f"{shard_name} has no such tensor")
        tensors[name] = shards[shard_name].tensors[name]
    metadata = {key: value for shard in shards.values() for key, value in shard.metadata.items()}
    return SafetensorsFile(path, metadata, tensors)


def _open_shard(index: Path, name: str) -> SafetensorsFile:
    try:
        return _open_single(index.with_name(name))
    except FileNotFoundError:
        raise FileFormatError(index, "weight_map", f"the file {name} of the model is missing") from None


def _parse_json(path: Path, text: bytes) -> dict[str, Any]:
    """A JSON object without repeated keys, from text whose number of values is bounded before it is parsed."""
    if text.count(b",") + text.count(b"[") + text.count(b"{") > _MAX_JSON_VALUES:  # each value but one follows these
        raise FileFormatError(path, "header", f"more than {_MAX_JSON_VALUES} JSON values")
    try:
        header = _DECODER.decode(text.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, an endless number, too deep, a repeated key
        raise FileFormatError(path, "header", f"expected a JSON object: {error}") from None
    if not isinstance(header, dict):
        raise FileFormatError(path, "header", f"expected a JSON object, got {type(header).__name__}")
    return header


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        [(repeated, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"duplicate key {_shown(repeated)}")
    return result


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object_without_duplicates, parse_constant=_refuse_constant)


def _tensor(file: MappedFile, name: str, entry: object, data_start: int) -> WeightTensor:
    where = f"header, tensor {_shown(name)}"
    if not isinstance(entry, dict) or entry.keys() != _TENSOR_KEYS:
        raise FileFormatError(file.path, where, f"expected an object with the keys {sorted(_TENSOR_KEYS)}")
    dtype = _dtype(file, where, entry["dtype"])
    shape = _sizes(file, f"{where}, shape", entry["shape"])
    offsets = _sizes(file, f"{where}, data_offsets", entry["data_offsets"])
    if len(shape) > _MAX_NDIM:
        raise FileFormatError(file.path, f"{where}, shape", f"{len(shape)} dimensions (at most {_MAX_NDIM})")
    if len(offsets) != 2 or not offsets[0] <= offsets[1] <= file.size - data_start:
        problem = f"expected a range within the {file.size - data_start} bytes of data, got {_shown(offsets)}"
        raise FileFormatError(file.path, f"{where}, data_offsets", problem)
    begin, end = (data_start + offset for offset in offsets)
    if end - begin != math.prod(shape) * dtype.itemsize:
        problem = f"{end - begin} bytes do not hold shape {list(shape)} of {dtype.name}"
        raise FileFormatError(file.path, f"{where}, data_offsets", problem)
    return WeightTensor(name, shape, dtype, file.data[begin:end], begin, file)


def _dtype(file: MappedFile, where: str, name: object) -> DType:
    if not isinstance(name, str) or name not in _DTYPES:
        raise FileFormatError(file.path, f"{where}, dtype", f"{_shown(name)} is not one of {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _sizes(file: MappedFile, where: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(size) is int and 0 <= size < _MAX_SIZE for size in value):
        raise FileFormatError(file.path, where, f"expected a list of sizes from 0 to 2^63 - 1, got {_shown(value)}")
    return tuple(value)


def _check_coverage(file: MappedFile, data_start: int, tensors: dict[str, WeightTensor]) -> None:
    """Each byte of data belongs to one tensor: a gap could hide something, an overlap is always a mistake."""
    ordered = sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.num_bytes))
    ends = [data_start, *(tensor.offset + tensor.num_bytes for tensor in ordered)]
    starts = [*(tensor.offset for tensor in ordered), file.size]
    for index, (end, start) in enumerate(zip(ends, starts, strict=True)):
        if end != start:
            place = f"tensor {_shown(ordered[index].name)}" if index < len(ordered) else "end of the data"
            kind = (
                f"{end - start} bytes overlap with" if end > start else f"{start - end} bytes belong to nothing after"
            )
            raise FileFormatError(file.path, f"byte {start}, {place}", f"{kind} what comes before")


def _shown(value: object) -> str:
    """A value from the file, fit for a message."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
