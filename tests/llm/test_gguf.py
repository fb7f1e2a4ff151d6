"""The GGUF reader against the gguf package's writer, and against every kind of malformed file."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from costs import at_most
from gguf_builder import (
    ARRAY,
    BOOL,
    F32,
    I32,
    STRING,
    TENSOR_Q8_0,
    U8,
    U32,
    U64,
    array,
    build,
    pair,
    string,
    tensor,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st

from perfxapi import dtypes
from perfxapi.errors import FileFormatError, InvalidArgumentError
from perfxlm.weights.gguf import GGUFFile
from perfxlm.weights.metadata import StringArray, string_ends
from perfxlm.weights.tensor import MappedFile

FUZZER = Path(__file__).parents[1] / "fuzz" / "fuzz_gguf.py"


def save(folder: Path, content: bytes, name: str = "model.gguf") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_reads_what_the_gguf_package_writes(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "gemma3")
    writer.add_uint8("u8", 200)
    writer.add_int8("i8", -100)
    writer.add_uint16("u16", 60000)
    writer.add_int16("i16", -30000)
    writer.add_uint32("u32", 2**32 - 1)
    writer.add_int32("i32", -(2**31))
    writer.add_uint64("u64", 2**64 - 1)
    writer.add_int64("i64", -(2**63))
    writer.add_float32("f32", 0.1)
    writer.add_float64("f64", 0.1)
    writer.add_bool("yes", True)
    writer.add_string("text", "héllo ▁")
    writer.add_array("strings", ["a", "", "▁b"])
    writer.add_array("integers", [1, -2, 3])
    writer.add_array("floats", [0.5, 1.5])
    writer.add_array("bools", [True, False])
    arrays = {
        "f32.weight": random.standard_normal((3, 4)).astype(np.float32),
        "f16.weight": random.standard_normal((2, 3, 4)).astype(np.float16),
        "f64.weight": random.standard_normal(5),
        "i8.weight": random.integers(-100, 100, (2, 2)).astype(np.int8),
        "i64.weight": random.integers(-100, 100, 3),
    }
    for name, values in arrays.items():
        writer.add_tensor(name, values)
    quantized = random.integers(0, 64, (4, 2 * 144), dtype=np.uint8)
    writer.add_tensor("q4_k.weight", quantized, raw_dtype=gguf.GGMLQuantizationType.Q4_K)
    brain = np.array([[0x3F80, 0xC000]], np.uint16)
    writer.add_tensor("bf16.weight", brain.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    file = GGUFFile.open(tmp_path / "a.gguf")
    metadata = file.metadata
    assert metadata.text("general.architecture") == "gemma3"
    expected = {"u8": 200, "i8": -100, "u16": 60000, "i16": -30000, "u32": 2**32 - 1, "i32": -(2**31)}
    expected |= {"u64": 2**64 - 1, "i64": -(2**63)}
    assert {key: metadata.integer(key) for key in expected} == expected
    assert metadata.number("f32") == np.float32(0.1)
    assert metadata.number("f64") == 0.1
    assert metadata.number("u8") == 200.0
    assert metadata.flag("yes") is True
    assert metadata.text("text") == "héllo ▁"
    assert metadata.strings("strings").to_list() == ["a", "", "▁b"]
    assert metadata.numbers("integers").tolist() == [1, -2, 3]
    assert metadata.numbers("floats").tolist() == [0.5, 1.5]
    assert metadata.numbers("bools").tolist() == [True, False]
    assert list(file.tensors) == [*arrays, "q4_k.weight", "bf16.weight"]
    for name, values in arrays.items():
        stored = file.tensors[name]
        assert (stored.shape, stored.dtype) == (values.shape, dtypes.dtype_of(values.dtype))
        np.testing.assert_array_equal(stored.to_numpy(), values)
    weight = file.tensors["q4_k.weight"]
    assert (weight.shape, weight.dtype) == ((4, 512), dtypes.q4_k)
    np.testing.assert_array_equal(weight.raw_rows, quantized)
    np.testing.assert_array_equal(
        weight.to_float32(), gguf.quants.dequantize(quantized, gguf.GGMLQuantizationType.Q4_K)
    )
    with pytest.raises(InvalidArgumentError, match="q4_k"):
        weight.to_numpy()
    assert file.tensors["bf16.weight"].to_float32().tolist() == [[1.0, -2.0]]


def test_tensors_are_read_only_views(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.float32)
    file = GGUFFile.open(save(tmp_path, build(tensors=[tensor("w", [4, 2])], data=values.tobytes())))
    weight = file.tensors["w"]
    assert weight.shape == (2, 4)
    assert not weight.data.flags.writeable
    assert not weight.data.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        weight.data[0] = 1
    del file
    assert weight.to_numpy().tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def resident_mapped_bytes() -> int:
    return int(Path("/proc/self/status").read_text().split("RssFile:")[1].split()[0]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_release_gives_memory_back(tmp_path: Path) -> None:
    values = np.arange(4 << 20, dtype=np.float32)
    weight = GGUFFile.open(save(tmp_path, build(tensors=[tensor("w", [4 << 20])], data=values.tobytes()))).tensors["w"]
    assert weight.to_float32().sum() == values.sum()
    before = resident_mapped_bytes()
    weight.release()
    assert before - resident_mapped_bytes() > 0.9 * values.nbytes
    np.testing.assert_array_equal(weight.to_numpy(), values)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_vocabulary_gives_its_memory_back_and_can_be_read_again(gemma_path: Path) -> None:
    file = GGUFFile.open(gemma_path)
    tokens = file.metadata.strings("tokenizer.ggml.tokens")
    first = list(tokens)
    before = resident_mapped_bytes()
    file.metadata.release()
    assert before - resident_mapped_bytes() > sum(map(len, first))
    assert list(tokens) == first


def test_metadata_accessors_name_the_key(tmp_path: Path) -> None:
    pairs = [pair("n", U32, 5), pair("t", STRING, "x"), pair("b", BOOL, 1), pair("f", F32, 0.5)]
    pairs += [pair("s", ARRAY, array(STRING, ["x"])), pair("a", ARRAY, array(I32, [1]))]
    metadata = GGUFFile.open(save(tmp_path, build(pairs))).metadata
    assert list(metadata) == ["n", "t", "b", "f", "s", "a"]
    assert (metadata.integer("none", 7), metadata.text("none", "y"), metadata.flag("none", False)) == (7, "y", False)
    for wrong in (
        lambda: metadata.integer("t"), lambda: metadata.integer("b"), lambda: metadata.integer("f"),
        lambda: metadata.number("b"), lambda: metadata.flag("n"), lambda: metadata.text("s"),
        lambda: metadata.strings("a"), lambda: metadata.numbers("s"), lambda: metadata.numbers("n"),
    ):  # fmt: skip
        with pytest.raises(FileFormatError, match=r"byte \d+, metadata key '.': expected an? .*, got "):
            wrong()
    with pytest.raises(FileFormatError, match=r"metadata key 'none'.*missing"):
        metadata.integer("none")


def test_nested_arrays(tmp_path: Path) -> None:
    inner = [array(I32, [1, 2]), array(STRING, ["x", "y"]), array(ARRAY, [array(U8, [])])]
    value = GGUFFile.open(save(tmp_path, build([pair("k", ARRAY, array(ARRAY, inner))]))).metadata["k"]
    assert value[0].tolist() == [1, 2]
    assert value[1].to_list() == ["x", "y"]
    assert value[2][0].tolist() == []


def nested(depth: int) -> bytes:
    value = array(U8, [1])
    for _ in range(depth - 1):
        value = array(ARRAY, [value])
    return value


MANY = 1 << 62
WEIGHT = tensor("w", [8])
FOUR_FLOATS = bytes(16)
BAD_FILES = {
    "empty": (b"", "byte 0.*empty"),
    "three bytes": (b"GGU", "byte 0, magic.*truncated"),
    "not GGUF": (build(magic=b"ggjt"), "byte 0, magic.*not a GGUF"),
    "header cut": (build()[:20], "byte 16, metadata count.*truncated"),
    "version 1": (build(version=1), "byte 4, version.*version 1 is not supported"),
    "version 0": (build(version=0), "byte 4, version"),
    "version 4": (build(version=4), "byte 4, version"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "byte 4, version.*big-endian"),
    "tensor count": (build(num_tensors=2**63), "byte 8, tensor count.*do not fit"),
    "tensor count of all ones": (build(num_tensors=2**64 - 1), "byte 8, tensor count.*do not fit"),
    "metadata count": (build(num_pairs=2**63), "byte 16, metadata count.*do not fit"),
    "metadata count too small a file": (build([pair("a", U8, 1)], num_pairs=3), "byte 16, metadata count.*do not fit"),
    "too many tensors": (build(data=bytes(24 * 70_000), num_tensors=70_000), "byte 8, tensor count.*more than"),
    "too many pairs": (build(data=bytes(13 * 5_000), num_pairs=5_000), "byte 16, metadata count.*more than"),
    "key past the end": (build([string("a", 2**63) + bytes(20)]), "byte 24, length of metadata key 0.*do not fit"),
    "key too long": (build([string("a" * 70_000) + bytes(5)]), "byte 24, length of metadata key 0.*more than"),
    "empty key": (build([pair("", U8, 1)]), "byte 24, metadata key 0.*empty"),
    "key not UTF-8": (build([pair(b"ab\xff", U8, 1)]), "byte 34, metadata key 0.*UTF-8"),
    "duplicate key": (build([pair("a", U8, 1), pair("a", U8, 2)]), "byte 38, metadata key 1.*duplicate key 'a'"),
    "value type": (
        build([string("a") + struct.pack("<I", 13) + bytes(8)]), "byte 33, type of 'a'.*unknown value type 13",
    ),
    "value cut": (build([string("abcdefgh") + struct.pack("<I", U64) + bytes(3)]), "byte 44, 'abcdefgh'.*truncated"),
    "bool of 2": (build([pair("a", BOOL, 2)]), "byte 37, 'a'.*0 or 1"),
    "string past the end": (
        build([string("a") + struct.pack("<I", STRING) + string("x", 9)]), "length of 'a'.*do not fit",
    ),
    "string of 2^63": (
        build([string("a") + struct.pack("<I", STRING) + string("x", 2**63)]), "length of 'a'.*do not fit",
    ),
    "string not UTF-8": (build([pair("a", STRING, b"ok\xc3(")]), "byte 47, 'a'.*UTF-8"),
    "array of 2^63": (build([pair("a", ARRAY, array(U64, [1], 2**63))]), "byte 41, length of 'a'.*do not fit"),
    "array of 2^62": (build([pair("a", ARRAY, array(U32, [1], MANY))]), "byte 41, length of 'a'.*do not fit"),
    "string array of 2^63": (build([pair("a", ARRAY, array(STRING, ["x"], 2**63))]), "length of 'a'.*do not fit"),
    "string array cut": (
        build([pair("a", ARRAY, array(STRING, ["x", "yyyyyyyyyyy"])[:-4])]), "byte 58, 'a'.*past the end",
    ),
    "string in array of 2^63": (
        build([pair("a", ARRAY, struct.pack("<IQ", STRING, 2) + string("x") + string("y", 2**63))]),
        "byte 58.*past the end",
    ),
    "string array count": (
        build([pair("a", ARRAY, array(STRING, ["x" * 30], 4))]), "byte 87, 'a'.*past the end",
    ),
    "array type": (build([pair("a", ARRAY, struct.pack("<IQ", 77, 1))]), "byte 37, element type of 'a'.*type 77"),
    "bool array": (build([pair("a", ARRAY, array(BOOL, [0, 1, 5]))]), "byte 51, 'a'.*0 or 1"),
    "array of arrays of 2^63": (build([pair("a", ARRAY, array(ARRAY, [], 2**63))]), "length of 'a'.*do not fit"),
    "nested 5 deep": (build([pair("a", ARRAY, nested(5))]), "'a'.*nested"),
    "nested 10000 deep": (build([pair("a", ARRAY, nested(10_000))]), "'a'.*nested"),
    "alignment 0": (build([pair("general.alignment", U32, 0)]), "general.alignment.*power of two"),
    "alignment 4": (build([pair("general.alignment", U32, 4)]), "general.alignment.*power of two"),
    "alignment 24": (build([pair("general.alignment", U32, 24)]), "general.alignment.*power of two"),
    "huge alignment": (build([pair("general.alignment", U32, 1 << 31)]), "general.alignment.*power of two"),
    "alignment as text": (build([pair("general.alignment", STRING, "32")]), "general.alignment.*integer"),
    "tensor table cut": (build(tensors=[WEIGHT[:-1], b""], num_tensors=1), "byte 49, offset of 'w'.*truncated"),
    "duplicate tensor": (build(tensors=[WEIGHT, WEIGHT], data=bytes(64)), "byte 57, name of tensor 1.*duplicate"),
    "empty name": (build(tensors=[tensor("", [1])], data=FOUR_FLOATS), "byte 24, name of tensor 0.*empty"),
    "name not UTF-8": (build(tensors=[tensor(b"\xff", [1])], data=FOUR_FLOATS), "byte 32, name of tensor 0.*UTF-8"),
    "no dimensions": (build(tensors=[tensor("w", [])], data=FOUR_FLOATS), "byte 33, shape of 'w'.*1 to 4"),
    "5 dimensions": (build(tensors=[tensor("w", [1] * 5)], data=FOUR_FLOATS), "byte 33, shape of 'w'.*1 to 4"),
    "2^32 - 1 dimensions": (build(tensors=[tensor("w", [1], ndim=2**32 - 1)], data=FOUR_FLOATS), "byte 33.*1 to 4"),
    "dimension 0": (build(tensors=[tensor("w", [4, 0])], data=FOUR_FLOATS), "byte 33, shape of 'w'.*is 0"),
    "dimension 2^63": (build(tensors=[tensor("w", [2**63])], data=FOUR_FLOATS), "byte 24, tensor 'w'.*past the end"),
    "product overflows": (build(tensors=[tensor("w", [2**32, 2**32])], data=FOUR_FLOATS), "byte 24.*past the end"),
    "product overflows to 16": (
        build(tensors=[tensor("w", [4, 2**62 + 1])], data=FOUR_FLOATS), "byte 24.*past the end",
    ),
    "offset 2^64 - 32": (
        build(tensors=[tensor("w", [1], offset=2**64 - 32)], data=FOUR_FLOATS), "byte 24.*past the end",
    ),
    "offset not aligned": (build(tensors=[tensor("w", [1], offset=4)], data=FOUR_FLOATS), "byte 24.*not a multiple"),
    "tensor past the end": (build(tensors=[tensor("w", [5])], data=FOUR_FLOATS), "byte 24, tensor 'w'.*past the end"),
    "no data": (build(tensors=[tensor("w", [5])]), "byte 24, tensor 'w'.*past the end"),
    "overlap": (
        build(tensors=[tensor("v", [16]), tensor("w", [8], offset=32)], data=bytes(64)),
        "byte 57, tensor 'w'.*overlap.*'v'",
    ),
    "same place": (
        build(tensors=[tensor("v", [4]), tensor("w", [4])], data=FOUR_FLOATS), "byte 57, tensor 'w'.*overlap",
    ),
    "partial block": (build(tensors=[tensor("w", [33], TENSOR_Q8_0)], data=bytes(68)), "byte 24.*blocks of 32"),
    "type 99": (
        build(tensors=[tensor("w", [8], 99)], data=bytes(32)), "byte 45.*unknown type 99.*supported: float32.*q4_k",
    ),
    "type iq2_xs": (build(tensors=[tensor("w", [256], 17)], data=bytes(74)), "byte 45.*iq2_xs.*supported: float32"),
    "removed type": (build(tensors=[tensor("w", [32], 4)], data=bytes(32)), "byte 45.*unknown type 4"),
    "control characters": (build([pair("\x1b[2J\n", U8, 1)] * 2), r"duplicate key '\\x1b\[2J\\n'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_refused_at_their_place(tmp_path: Path, case: str) -> None:
    content, message = BAD_FILES[case]
    path = save(tmp_path, content)
    with at_most(1), pytest.raises(FileFormatError, match=message) as caught:
        GGUFFile.open(path)
    assert str(path) in str(caught.value)
    assert len(caught.value.problem) < 500


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    pairs = [pair("general.name", STRING, "x" * 20), pair("t", ARRAY, array(STRING, ["a", "bb"])), pair("n", U32, 1)]
    content = build(pairs, [tensor("v", [8, 2]), tensor("w", [8], offset=64)], bytes(96))
    GGUFFile.open(save(tmp_path, content))
    for cut in range(len(content)):
        with pytest.raises(FileFormatError):
            GGUFFile.open(save(tmp_path, content[:cut], "cut.gguf"))


def test_too_many_strings_in_all_arrays_together(tmp_path: Path) -> None:
    strings = struct.pack("<IQ", STRING, 600_000) + string("ab") * 600_000
    path = save(tmp_path, build([pair("a", ARRAY, strings), pair("b", ARRAY, strings)]))
    with pytest.raises(FileFormatError, match=r"'b'.*more than 1048576 strings"):
        GGUFFile.open(path)


def test_too_many_nested_arrays(tmp_path: Path) -> None:
    arrays = array(ARRAY, [array(U8, [])] * 3000)
    path = save(tmp_path, build([pair("a", ARRAY, arrays), pair("b", ARRAY, arrays)]))
    with pytest.raises(FileFormatError, match=r"'b'.*more than 4096 nested arrays"):
        GGUFFile.open(path)


def test_files_that_are_no_regular_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        GGUFFile.open(tmp_path / "none.gguf")
    with pytest.raises(FileFormatError, match=r"regular file"):
        GGUFFile.open(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileFormatError, match=r"regular file"):
            GGUFFile.open(tmp_path / "pipe")


def test_well_formed_oddities(tmp_path: Path) -> None:
    assert len(GGUFFile.open(save(tmp_path, build())).metadata) == 0
    old = GGUFFile.open(save(tmp_path, build([pair("a", U8, 1)], version=2), "old.gguf"))
    assert old.metadata.integer("a") == 1
    wide = build([pair("general.alignment", U32, 64)], [WEIGHT], bytes(range(32)), alignment=64)
    assert GGUFFile.open(save(tmp_path, wide, "wide.gguf")).tensors["w"].data.tobytes() == bytes(range(32))
    empty = build([pair("a", ARRAY, array(STRING, [])), pair("b", ARRAY, array(F32, [])), pair("c", STRING, "")])
    metadata = GGUFFile.open(save(tmp_path, empty, "empty.gguf")).metadata
    assert metadata.strings("a").to_list() == metadata.numbers("b").tolist() == []
    assert metadata.text("c") == ""


# Split models


def write_split(folder: Path, count: int = 3, numbers: list[int] | None = None, total: int | None = None) -> list[Path]:
    paths = []
    for index in range(count):
        number = index if numbers is None else numbers[index]
        pairs = [pair("split.no", U32, number), pair("split.count", U32, count)]
        pairs.append(pair("split.tensors.count", I32, count if total is None else total))
        pairs += [pair("general.name", STRING, "whole")] if index == 0 else []
        name = f"model-{index + 1:05}-of-{count:05}.gguf"
        paths.append(save(folder, build(pairs, [tensor(f"t{index}", [1])], struct.pack("<f", index)), name))
    return paths


def test_split_model_opens_by_any_of_its_files(tmp_path: Path) -> None:
    for path in write_split(tmp_path):
        file = GGUFFile.open(path)
        assert file.metadata.text("general.name") == "whole"
        assert {name: float(weight.to_float32()[0]) for name, weight in file.tensors.items()} == {
            "t0": 0,
            "t1": 1,
            "t2": 2,
        }


def test_bad_split_models(tmp_path: Path) -> None:
    paths = write_split(tmp_path, numbers=[0, 1, 1])
    with pytest.raises(FileFormatError, match=r"split.no.*expected part 2 of 3"):
        GGUFFile.open(paths[0])
    with pytest.raises(FileFormatError, match=r"split.tensors.count.*9, but 3"):
        GGUFFile.open(write_split(tmp_path, total=9)[0])
    paths = write_split(tmp_path)
    paths[1].unlink()
    with pytest.raises(FileFormatError, match=r"model-00002-of-00003.gguf of the model is missing"):
        GGUFFile.open(paths[0])
    renamed = paths[0].rename(tmp_path / "renamed.gguf")
    with pytest.raises(FileFormatError, match=r"whose names must end in"):
        GGUFFile.open(renamed)
    again = build([pair("split.no", U32, 1), pair("split.count", U32, 3)], [tensor("t0", [1])], bytes(4))
    renamed.rename(paths[0])
    paths[1].write_bytes(again)
    with pytest.raises(FileFormatError, match=r"'t0'.*also in an earlier"):
        GGUFFile.open(paths[0])


@pytest.mark.parametrize("count", [2**31, 5000, 70_000])
def test_split_of_absurdly_many_files(tmp_path: Path, count: int) -> None:
    content = build([pair("split.no", U32, 0), pair("split.count", U32, count)])
    with pytest.raises(FileFormatError, match=r"split.count"):
        GGUFFile.open(save(tmp_path, content, f"model-00001-of-{count:05}.gguf"))


# Arrays of strings


def string_array(folder: Path, texts: list[bytes]) -> StringArray:
    data = b"".join(string(text) for text in texts)
    file = MappedFile(save(folder, b"head" + data + b"tail", "strings"))
    ends = string_ends(file.data, 4, len(texts))
    assert isinstance(ends, np.ndarray)
    return StringArray(file.path, "k", file.data, ends, 4)


awkward_bytes = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"", b"a", b"\0" * 7, b"\0" * 8, b"\1" + b"\0" * 7 + b"x", b"x" * 255, b"x" * 256, b"y" * 3000]),
)


@settings(deadline=None)
@given(st.lists(awkward_bytes, max_size=60), st.integers(0, 3))
def test_string_arrays_of_any_bytes(tmp_path_factory: pytest.TempPathFactory, texts: list[bytes], repeat: int) -> None:
    texts = texts * (1 + 40 * repeat)
    strings = string_array(tmp_path_factory.mktemp("strings"), texts)
    assert strings.to_bytes_list() == texts
    text, offsets = strings.packed()
    assert text.tobytes() == b"".join(texts)
    assert offsets[-1] == len(text)


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(max_size=8), st.sampled_from(["", "▁the", "𝄞", "é" * 200])), max_size=80))
def test_string_arrays_decode(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    strings = string_array(tmp_path_factory.mktemp("strings"), [text.encode() for text in texts])
    assert strings.to_list() == list(strings) == texts
    assert [strings[index] for index in range(len(strings))] == texts


@pytest.mark.parametrize(
    ("texts", "index", "offset"),
    [([b"ok", b"\xff"], 1, 22), ([b"\xc3", b"\xa9"], 0, 12), ([b"a", b"", b"", b"\x80"], 3, 37)],
)
def test_string_arrays_that_are_not_utf8(tmp_path: Path, texts: list[bytes], index: int, offset: int) -> None:
    strings = string_array(tmp_path, texts)
    assert strings.to_bytes_list() == texts
    with pytest.raises(FileFormatError, match=rf"byte {offset}, k\[{index}\]: invalid UTF-8"):
        strings.to_list()


@pytest.mark.parametrize("text", [b"", b"\0" * 9, b"x" * 300], ids=["empty", "zeros", "long"])
def test_many_awkward_strings_take_less_than_a_second(tmp_path: Path, text: bytes) -> None:
    count = 200_000
    pairs = [pair("a", ARRAY, struct.pack("<IQ", STRING, count) + string(text) * count)]
    path = save(tmp_path, build(pairs))
    with at_most(1):
        strings = GGUFFile.open(path).metadata.strings("a")
    assert strings[count - 1].encode() == text


# The real model, and fuzzing


@pytest.mark.model
def test_real_model(gemma_path: Path) -> None:
    with at_most(0.06):
        file = GGUFFile.open(gemma_path)
    assert file.metadata.text("general.architecture") == "gemma3"
    assert file.metadata.integer("gemma3.embedding_length") == 640
    tokens = file.metadata.strings("tokenizer.ggml.tokens")
    texts = tokens.to_list()
    assert (len(texts), texts[2], texts[4]) == (262_144, "<bos>", "<mask>")
    assert [text.encode() for text in texts] == tokens.to_bytes_list()
    assert file.metadata.numbers("tokenizer.ggml.scores").shape == (262_144,)
    embedding = file.tensors["token_embd.weight"]
    assert (embedding.shape, embedding.dtype) == ((262_144, 640), dtypes.q8_0)
    assert len(file.tensors) == 236


@pytest.mark.model
def test_real_weights_dequantize_as_in_the_gguf_package(gemma_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    checked = set()
    for weight in GGUFFile.open(gemma_path).tensors.values():
        if weight.dtype.is_quantized and weight.name != "token_embd.weight":
            kind = gguf.GGMLQuantizationType[weight.dtype.name.upper()]
            np.testing.assert_array_equal(weight.to_float32(), gguf.quants.dequantize(weight.raw_rows, kind))
            checked.add(weight.dtype.name)
    assert len(checked) >= 3


@pytest.mark.skipif(sys.platform != "linux", reason="the fuzzer reads /proc")
def test_fuzz_for_some_seconds() -> None:
    command = [sys.executable, str(FUZZER), "--seconds", "5", "--seed", "1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "no failure" in result.stdout
