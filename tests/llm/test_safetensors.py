"""The safetensors reader against the safetensors package, and against malformed files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from costs import at_most
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perfxapi import dtypes
from perfxapi.errors import FileFormatError
from perfxlm.weights import GGUFFile, SafetensorsFile

safetensors_numpy = pytest.importorskip("safetensors.numpy", reason="the oracle")

NUMPY_TYPES = [
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float32",
    "float64",
]
Entry = dict[str, Any]


def write(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str, shape: list[Any], begin: Any, end: Any) -> Entry:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_reads_what_the_safetensors_package_writes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {name: random.integers(0, 100, (3, 5)).astype(name) for name in NUMPY_TYPES}
    arrays |= {"scalar": np.array(2.5, np.float32), "empty": np.zeros((0, 4), np.float16), "odd": np.array([True] * 3)}
    path = tmp_path / "model.safetensors"
    safetensors_numpy.save_file(arrays, path, metadata={"format": "np"})
    file = SafetensorsFile.open(path)
    assert file.metadata == {"format": "np"}
    assert file.tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        tensor = file.tensors[name]
        assert (tensor.name, tensor.shape, tensor.dtype) == (name, array.shape, dtypes.dtype_of(array.dtype))
        assert tensor.num_bytes == array.nbytes
        np.testing.assert_array_equal(tensor.to_numpy(), array)
        np.testing.assert_array_equal(tensor.to_float32(), array.astype(np.float32))
        assert not tensor.to_numpy().flags.writeable
        assert tensor.to_numpy().flags.aligned


def test_bfloat16(tmp_path: Path) -> None:
    values = np.array([[1.0, -2.5], [3.0e38, 0.0]], np.float32)
    bits = dtypes.float32_to_bfloat16(values)
    path = write(tmp_path / "a.safetensors", {"w": entry("BF16", [2, 2], 0, 8)}, bits.tobytes())
    tensor = SafetensorsFile.open(path).tensors["w"]
    assert tensor.dtype is dtypes.bfloat16
    np.testing.assert_array_equal(tensor.to_numpy(), bits)
    np.testing.assert_array_equal(tensor.to_float32(), dtypes.bfloat16_to_float32(bits))
    assert tensor.raw_rows.shape == (2, 4)


def test_release_keeps_the_bytes(tmp_path: Path) -> None:
    values = np.arange(50_000, dtype=np.float32)
    path = write(tmp_path / "a.safetensors", {"w": entry("F32", [50_000], 0, 200_000)}, values.tobytes())
    tensor = SafetensorsFile.open(path).tensors["w"]
    assert float(tensor.to_float32().sum()) == float(values.sum())
    tensor.release()
    np.testing.assert_array_equal(tensor.to_numpy(), values)


def sharded(folder: Path, weight_map: object, names: tuple[str, ...] = ("a", "b")) -> Path:
    for number, name in enumerate(names):
        data = np.full(2, number, np.float32).tobytes()
        header = {"__metadata__": {"part": name}, name: entry("F32", [2], 0, 8)}
        write(folder / f"model-{name}.safetensors", header, data)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 16}, "weight_map": weight_map}))
    return index


GOOD_MAP = {"a": "model-a.safetensors", "b": "model-b.safetensors"}


def test_sharded_checkpoint(tmp_path: Path) -> None:
    index = sharded(tmp_path, GOOD_MAP)
    for path in (index, tmp_path):
        opened = SafetensorsFile.open(path)
        assert list(opened.tensors) == ["a", "b"]
        assert opened.tensors["b"].to_float32().tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "../model-a.safetensors"}, "plain name"),
        ({"a": "/etc/model-a.safetensors"}, "plain name"),
        ({"a": "folder/model-a.safetensors"}, "plain name"),
        ({"a": "C:\\model-a.safetensors"}, "plain name"),
        ({"a": "model-a.safetensors\0"}, "plain name"),
        ({"a": "model-a.bin"}, "plain name"),
        ({"a": 3}, "plain name"),
        ({"a": None}, "plain name"),
        ({"c": "model-a.safetensors"}, "no such tensor"),
        ({"a": "model-c.safetensors"}, "missing"),
        ({}, "object that maps"),
        ([], "object that maps"),
        (None, "object that maps"),
    ],
)
def test_bad_index(tmp_path: Path, weight_map: object, message: str) -> None:
    (tmp_path / "inside").mkdir()
    index = sharded(tmp_path / "inside", weight_map)
    write(tmp_path / "model-a.safetensors", {"a": entry("F32", [2], 0, 8)}, bytes(8))
    with pytest.raises(FileFormatError, match=message):
        SafetensorsFile.open(index)


@pytest.mark.parametrize(
    ("header", "data_bytes", "message"),
    [
        ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, 12, "overlap"),
        ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 0, 8)}, 8, "overlap"),
        ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 12, 20)}, 20, "belong to nothing"),
        ({"a": entry("F32", [2], 4, 12)}, 12, "belong to nothing"),
        ({"a": entry("F32", [2], 0, 8)}, 12, "end of the data.*belong to nothing"),
        ({}, 1, "belong to nothing"),
        ({"a": entry("F32", [2], 0, 8)}, 7, "range within the 7 bytes"),
        ({"a": entry("F32", [2], 8, 0)}, 8, "range within"),
        ({"a": entry("F32", [2], 0, 2**63 - 1)}, 8, "range within"),
        ({"a": entry("F32", [3], 0, 8)}, 8, "do not hold"),
        ({"a": entry("F16", [2], 0, 8)}, 8, "do not hold"),
        ({"a": entry("F32", [2**62, 2**62], 0, 8)}, 8, "do not hold"),
        ({"a": entry("F32", [2**63], 0, 8)}, 8, "sizes"),
        ({"a": entry("F32", [-2], 0, 8)}, 8, "sizes"),
        ({"a": entry("F32", [2.0], 0, 8)}, 8, "sizes"),
        ({"a": entry("F32", [True], 0, 4)}, 4, "sizes"),
        ({"a": entry("F32", "2", 0, 8)}, 8, "sizes"),  # type: ignore[arg-type]
        ({"a": entry("F32", [1] * 33, 0, 4)}, 4, "33 dimensions"),
        ({"a": entry("F32", [2], 0, "8")}, 8, "data_offsets"),
        ({"a": entry("F32", [2], 0, None)}, 8, "data_offsets"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4, 8]}}, 8, "data_offsets"),
        ({"a": entry("F8_E4M3", [8], 0, 8)}, 8, "F8_E4M3.*not one of.*BF16"),
        ({"a": entry(["F32"], [8], 0, 8)}, 8, "not one of"),  # type: ignore[arg-type]
        ({"a": {"dtype": "F32", "shape": [2]}}, 8, "keys"),
        ({"a": [1]}, 8, "keys"),
        ({"a": None}, 0, "keys"),
        ({"__metadata__": {"format": 3}}, 0, "strings"),
        ({"__metadata__": ["format"]}, 0, "strings"),
        ([1], 0, "JSON object, got list"),
        (b"null", 0, "JSON object"),
        (b"", 0, "JSON object"),
        (b"{", 0, "JSON object"),
        (b"\xff{}", 0, "JSON object"),
        (b'{"a": NaN}', 0, "NaN"),
        (b"[" * 200_000, 0, "JSON object"),
        (b'{"a": ' + b"9" * 100_000 + b"}", 0, "JSON object"),
        (b'{"a": [' + b"1," * 600_000 + b"1]}", 0, "more than"),
        (b'{"a": 1, "b": 2, "a": 3}', 0, "duplicate key 'a'"),
        (b'{"a": {"dtype": "F32", "dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}', 4, "duplicate key 'dtype'"),
        (b'{"__metadata__": {"k": "1", "k": "2"}}', 0, "duplicate key 'k'"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_bad_header(tmp_path: Path, header: object, data_bytes: int, message: str) -> None:
    path = write(tmp_path / "a.safetensors", header, bytes(data_bytes))
    with at_most(1), pytest.raises(FileFormatError, match=message) as caught:
        SafetensorsFile.open(path)
    assert str(path) in str(caught.value)
    assert len(caught.value.problem) < 1000


@pytest.mark.parametrize("length", [100, 100_000_001, 2**63, 2**64 - 1])
def test_header_longer_than_the_file_or_the_limit(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "a.safetensors", b"{}", length=length)
    with pytest.raises(FileFormatError, match="header length"):
        SafetensorsFile.open(path)


def test_header_of_more_than_100_megabytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", b"{", length=100_000_001)
    with path.open("r+b") as file:
        file.truncate(100_000_100)  # sparse
    with pytest.raises(FileFormatError, match="at most 100000000"):
        SafetensorsFile.open(path)


@pytest.mark.parametrize("content", [b"", b"\x01", bytes(7)])
def test_files_too_short_for_a_header(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="byte 0"):
        SafetensorsFile.open(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SafetensorsFile.open(tmp_path / "none.safetensors")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "consolidated.ckpt"])
def test_pickles_are_refused_with_the_conversion(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x80\x02}q\x00.")
    for opener, target in ((SafetensorsFile.open, path), (SafetensorsFile.open, tmp_path), (GGUFFile.open, path)):
        with pytest.raises(FileFormatError, match="save_file") as caught:
            opener(target)
        assert name in str(caught.value)


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="neither"):
        SafetensorsFile.open(tmp_path)
    (tmp_path / "training_args.bin").write_bytes(b"\x80\x02}q\x00.")
    path = write(tmp_path / "model.safetensors", {})
    assert SafetensorsFile.open(tmp_path).path == path
    index = sharded(tmp_path, GOOD_MAP)
    assert SafetensorsFile.open(tmp_path).path == index


MUTATIONS: list[Callable[[bytearray, int, int], None]] = [
    lambda data, place, byte: data.__setitem__(place % len(data), byte),
    lambda data, place, byte: data.insert(place % len(data), byte),
    lambda data, place, byte: data.__delitem__(slice(place % len(data), None)),
]


@settings(deadline=1000, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(MUTATIONS), st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=6)
)
def test_mutated_files_open_or_raise(tmp_path: Path, mutations: list[tuple[Callable[..., None], int, int]]) -> None:
    header = {"__metadata__": {"k": "v"}, "a": entry("F32", [2, 3], 0, 24), "b": entry("BF16", [4], 24, 32)}
    path = write(tmp_path / "a.safetensors", header, bytes(range(32)))
    data = bytearray(path.read_bytes())
    for mutate, place, byte in mutations:
        if data:
            mutate(data, place, byte)
    path.write_bytes(data)
    try:
        tensors = SafetensorsFile.open(path).tensors
    except FileFormatError:
        return
    for tensor in tensors.values():
        assert tensor.to_numpy().shape == tensor.shape
