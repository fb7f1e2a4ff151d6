"""Vocabularies of the SentencePiece kind: against the trained model's processor, and llama.cpp's ids for Gemma 3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import gguf_builder as build
import numpy as np
import pytest
import sentencepiece
import tokenizer_files as files
from costs import at_most
from tokenizer_strings import tokenizer_strings

from perfxapi.errors import FileFormatError, InvalidArgumentError, UnknownNameError
from perfxlm.errors import UnsupportedFeatureError
from perfxlm.model_packages import find_model
from perfxlm.tokenizer import Tokenizer, load_from_folder, load_from_gguf
from perfxlm.tokenizer.sentencepiece_model import PieceTable, PieceType, model_message
from perfxlm.tokenizer.spm import SentencePieceTokenizer
from perfxlm.weights.gguf import GGUFFile

DATA = Path(__file__).parent.parent / "data" / "tokenizer"
IDS = files.special_ids(bos=2, eos=1, unknown=3, padding=0)


@pytest.fixture(scope="module")
def model() -> bytes:
    return files.train_sentencepiece()


@pytest.fixture(scope="module")
def vocabulary(model: bytes) -> files.Vocabulary:
    return files.sentencepiece_vocabulary(model)


@pytest.fixture(scope="module")
def tokenizer(vocabulary: files.Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("spm") / "spm.gguf"
    return vocabulary.load(path, *IDS, files.flag("add_space_prefix", False))


def test_ids_equal_those_of_the_original_model(model: bytes, tokenizer: Tokenizer) -> None:
    reference = sentencepiece.SentencePieceProcessor(model_proto=model)
    for string in tokenizer_strings(2000, 1, files.SPM_CONTROL):
        assert tokenizer.encode(string, add_special_tokens=False) == reference.encode(string), ascii(string)


def test_space_prefix_as_in_the_original_model(tmp_path: Path) -> None:
    model = files.train_sentencepiece(add_dummy_prefix=True)
    reference = sentencepiece.SentencePieceProcessor(model_proto=model)
    tokenizer = files.sentencepiece_vocabulary(model).load(tmp_path / "prefix.gguf", *IDS)  # the default is to add it
    for string in tokenizer_strings(500, 2):
        ids = tokenizer.encode(string, add_special_tokens=False)
        assert ids == reference.encode(string), ascii(string)
        assert tokenizer.decode(ids) == string


def test_decode_gives_the_text_back(tokenizer: Tokenizer) -> None:
    for string in tokenizer_strings(2000, 3, files.SPM_CONTROL):
        assert tokenizer.decode(tokenizer.encode(string)) == string


def test_control_tokens_only_where_allowed(tokenizer: Tokenizer, vocabulary: files.Vocabulary) -> None:
    start, end = (vocabulary.id_of(token) for token in files.SPM_CONTROL)
    text = "<start_of_turn>a<end_of_turn>"
    assert not {start, end, 1, 2} & set(tokenizer.encode(text, add_special_tokens=False))
    allowed = tokenizer.encode(text, add_special_tokens=False, allow_control=True)
    assert (allowed[0], allowed[-1]) == (start, end)
    assert tokenizer.decode(allowed[1:-1]) == "a"
    assert tokenizer.decode(allowed) == "a"
    assert tokenizer.decode(allowed, skip_special_tokens=False) == text


def test_user_defined_pieces_are_found_in_any_text(tokenizer: Tokenizer, vocabulary: files.Vocabulary) -> None:
    assert vocabulary.id_of("<div>") in tokenizer.encode("a<div>b")
    assert vocabulary.id_of("   ") in tokenizer.encode("a   b")
    assert tokenizer.decode(tokenizer.encode("a   b\n\n<div>")) == "a   b\n\n<div>"


def test_special_tokens_and_facts(tokenizer: Tokenizer, vocabulary: files.Vocabulary, tmp_path: Path) -> None:
    assert tokenizer.encode("")[:1] == [2]
    assert tokenizer.encode("", add_special_tokens=False) == []
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id) == (
        2,
        1,
        3,
        0,
    )
    assert (tokenizer.bos_token, tokenizer.eos_token) == (vocabulary.tokens[2], vocabulary.tokens[1])
    assert tokenizer.eos_token_ids == {1, vocabulary.id_of("<end_of_turn>")}
    assert len(tokenizer) == tokenizer.vocab_size == len(vocabulary.tokens)
    both = vocabulary.load(
        tmp_path / "both.gguf", *IDS, files.flag("add_bos_token", False), files.flag("add_eos_token", True)
    )
    assert both.encode("")[0] != 2
    assert both.encode("a")[-1] == 1


def test_pieces_and_ids(tokenizer: Tokenizer, vocabulary: files.Vocabulary) -> None:
    for index in (0, 3, vocabulary.id_of("<0x41>"), vocabulary.id_of("   "), len(vocabulary.tokens) - 1):
        piece = vocabulary.tokens[index]
        assert tokenizer.convert_ids_to_tokens(index) == piece
        assert tokenizer.convert_tokens_to_ids(piece) == index
    assert tokenizer.convert_tokens_to_ids(["no such piece", "<div>"]) == [3, vocabulary.id_of("<div>")]
    assert tokenizer.get_vocab() == {piece: index for index, piece in enumerate(vocabulary.tokens)}
    assert tokenizer.id_to_bytes(vocabulary.id_of("<0xE2>")) == b"\xe2"
    assert tokenizer.decode([vocabulary.id_of("<0xE2>")]) == "\ufffd"


def test_ids_past_the_vocabulary_are_no_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([5000, *tokenizer.encode("a", add_special_tokens=False), 10**9]) == "a"
    assert tokenizer.convert_ids_to_tokens([5000]) == [""]
    assert not tokenizer.is_control(5000)
    with pytest.raises(InvalidArgumentError, match="-1"):
        tokenizer.decode([1, -1])


@pytest.mark.parametrize("text", ["\ud800", "ab\udfffc", "a" * 10000 + "\udc80"])
def test_lone_surrogates_are_refused(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"at character {len(text.rstrip('c')) - 1}"):
        tokenizer.encode(text)


def test_text_must_be_a_string(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidArgumentError, match="bytes"):
        tokenizer.encode(b"a")  # type: ignore[arg-type]


def test_long_pieces_need_longer_lengths_in_the_message() -> None:
    texts = [b"<unk>", b"x", b"y" * 300, "é".encode() * 200]
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    types = np.array([PieceType.UNKNOWN, PieceType.NORMAL, PieceType.USER_DEFINED, PieceType.USER_DEFINED], np.int32)
    scores = np.array([0, -1.5, 0, 0], np.float32)
    table = PieceTable(np.frombuffer(b"".join(texts), np.uint8), offsets, scores, types)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model_message(table, add_space_prefix=False))
    assert [processor.id_to_piece(index) for index in range(4)] == [text.decode() for text in texts]
    assert processor.get_score(1) == -1.5
    assert processor.encode("x" + "y" * 300 + "é" * 200) == [1, 2, 3]


def _broken(vocabulary: files.Vocabulary, **changes: object) -> files.Vocabulary:
    return files.Vocabulary(**{**vars(vocabulary), **changes})  # type: ignore[arg-type]


def test_malformed_vocabularies_are_refused(vocabulary: files.Vocabulary, tmp_path: Path) -> None:
    tokens, types, scores = list(vocabulary.tokens), list(vocabulary.types), list(vocabulary.scores)
    byte = tokens.index("<0x41>")
    cases: list[tuple[files.Vocabulary, str]] = [
        (_broken(vocabulary, types=types[:-1]), "token_type.*entries"),
        (_broken(vocabulary, scores=scores[:-1]), "scores.*entries"),
        (_broken(vocabulary, types=[*types[:-1], 7]), f"token {len(types) - 1} has type 7"),
        (_broken(vocabulary, types=[*types[:-1], -1]), "has type -1"),
        (_broken(vocabulary, scores=[*scores[:-1], float("nan")]), "has score nan"),
        (_broken(vocabulary, tokens=[*tokens[:-1], tokens[-2]]), "already defined"),
        (_broken(vocabulary, tokens=[*tokens[:-1], ""]), "is empty"),
        (_broken(vocabulary, tokens=[*tokens[:byte], "<0xZZ>", *tokens[byte + 1 :]]), "tokenizer.ggml.tokens"),
        (_broken(vocabulary, tokens=[*tokens[:byte], "A", *tokens[byte + 1 :]]), f"byte token {byte}"),
        (_broken(vocabulary, tokens=[], types=[], scores=[]), "scores.*missing"),
    ]
    for number, (broken, message) in enumerate(cases):
        with at_most(1), pytest.raises(FileFormatError, match=message):
            broken.load(tmp_path / f"{number}.gguf", *IDS)


def test_malformed_metadata_is_refused(vocabulary: files.Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="bos_token_id: token id 1000000 is not among"):
        vocabulary.load(tmp_path / "bos.gguf", *files.special_ids(bos=1000000))
    with pytest.raises(FileFormatError, match=r"add_bos_token.*expected a bool"):
        vocabulary.load(tmp_path / "flag.gguf", files.text("tokenizer.ggml.add_bos_token", "yes"))
    with pytest.raises(UnknownNameError, match="unigram"):
        _broken(vocabulary, kind="unigram").load(tmp_path / "kind.gguf")
    none = vocabulary.load(tmp_path / "none.gguf", *files.special_ids(bos=2, eos=1, unknown=3, padding=0xFFFFFFFF))
    assert none.pad_token_id is None


# Without the sentencepiece library


@pytest.fixture
def without_sentencepiece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfxlm.tokenizer.spm.find_spec", lambda name: None)


@pytest.mark.usefixtures("without_sentencepiece")
@pytest.mark.parametrize("prefix", [False, True])
def test_the_same_ids_without_the_library(prefix: bool, tmp_path: Path) -> None:
    model = files.train_sentencepiece(add_dummy_prefix=prefix)
    reference = sentencepiece.SentencePieceProcessor(model_proto=model)
    vocabulary = files.sentencepiece_vocabulary(model)
    tokenizer = vocabulary.load(tmp_path / "merges.gguf", *IDS, files.flag("add_space_prefix", prefix))
    assert not isinstance(tokenizer, SentencePieceTokenizer)
    for string in tokenizer_strings(1000, 8, files.SPM_CONTROL):
        ids = tokenizer.encode(string, add_special_tokens=False)
        assert ids == reference.encode(string), ascii(string)
        assert tokenizer.decode(ids) == string
    assert tokenizer.encode("")[0] == 2
    assert tokenizer.eos_token_ids == {1, vocabulary.id_of("<end_of_turn>")}
    assert tokenizer.get_vocab() == {piece: index for index, piece in enumerate(vocabulary.tokens)}
    text = "<start_of_turn>a<end_of_turn>"
    start, end = (vocabulary.id_of(token) for token in files.SPM_CONTROL)
    expected = [start, *reference.encode("a"), end]
    assert tokenizer.encode(text, add_special_tokens=False, allow_control=True) == expected


@pytest.mark.usefixtures("without_sentencepiece")
def test_what_needs_the_library_says_so(vocabulary: files.Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="already defined"):
        _broken(vocabulary, tokens=[*vocabulary.tokens[:-1], vocabulary.tokens[-2]]).load(tmp_path / "twice.gguf", *IDS)
    with pytest.raises(FileFormatError, match="no UTF-8"):
        _broken(vocabulary, tokens=[*vocabulary.tokens[:-1], b"\xff"]).load(tmp_path / "bytes.gguf", *IDS)
    (tmp_path / "tokenizer.model").write_bytes(b"any")
    with pytest.raises(UnsupportedFeatureError, match="sentencepiece"):
        load_from_folder(tmp_path)


# Gemma 3


@pytest.fixture(scope="module")
def gemma() -> Tokenizer:
    return load_from_gguf(GGUFFile.open(find_model("gemma3-270m")))


@pytest.mark.model
@pytest.mark.parametrize("kind", ["plain", "control"])
def test_gemma_ids_equal_llama_cpp(gemma: Tokenizer, kind: str) -> None:
    golden = json.loads((DATA / "gemma3.json").read_text())
    for string, ids in zip(golden["strings"], golden[kind], strict=True):
        assert gemma.encode(string, add_special_tokens=False, allow_control=kind == "control") == ids, ascii(string)
        assert gemma.decode(ids, skip_special_tokens=False) == string


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.usefixtures("without_sentencepiece")
def test_gemma_ids_without_the_library(gemma: Tokenizer) -> None:
    tokenizer = load_from_gguf(GGUFFile.open(find_model("gemma3-270m")))
    assert not isinstance(tokenizer, SentencePieceTokenizer)
    for string in tokenizer_strings(10000, 97, ["<start_of_turn>", "<unused7>", "<table>"]):
        for allow_control in (False, True):
            expected = gemma.encode(string, allow_control=allow_control)
            assert tokenizer.encode(string, allow_control=allow_control) == expected, ascii(string)


@pytest.mark.model
def test_gemma_ends(gemma: Tokenizer) -> None:
    assert gemma.eos_token_ids == {1, 106}
    assert gemma.vocab_size == 262144


@pytest.mark.model
@pytest.mark.parametrize("character", ["a", " ", "\n", "😀", "\0"])
def test_a_megabyte_of_one_character(gemma: Tokenizer, character: str) -> None:
    text = character * ((1 << 20) // len(character.encode()))
    with at_most(2):
        ids = gemma.encode(text, add_special_tokens=False)
    assert gemma.decode(ids) == text


@pytest.mark.model
def test_gemma_takes_little_memory() -> None:
    """In a process of its own: at most 60 MB."""
    program = (
        "import sys, sentencepiece\n"
        "from perfxlm.tokenizer import load_from_gguf\n"
        "from perfxlm.weights.gguf import GGUFFile\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "file = GGUFFile.open(sys.argv[1])\n"
        "before = resident()\n"
        "tokenizer = load_from_gguf(file)\n"
        "print(resident() - before)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, str(find_model("gemma3-270m"))]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert int(output) <= 60e6


@pytest.mark.model
@pytest.mark.peer
@pytest.mark.parametrize("control", [False, True])
def test_gemma_ids_equal_llama_cpp_on_10000_strings(gemma: Tokenizer, control: bool) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    peer = llama_cpp.Llama(str(find_model("gemma3-270m")), vocab_only=True, verbose=False)
    texts = ["<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<unused7>", "<pad>", "<start_of_image>", "<mask>"]
    for string in filter(None, tokenizer_strings(10000, 99, texts)):
        expected = peer.tokenize(string.encode(), add_bos=False, special=control)
        assert gemma.encode(string, add_special_tokens=False, allow_control=control) == expected, ascii(string)


def test_empty_array_of_tokens_names_the_field(tmp_path: Path) -> None:
    path = tmp_path / "numbers.gguf"
    pairs = [
        build.pair("tokenizer.ggml.model", build.STRING, "llama"),
        build.pair("tokenizer.ggml.tokens", build.ARRAY, build.array(build.I32, [1, 2])),
    ]
    path.write_bytes(build.build(pairs))
    with pytest.raises(FileFormatError, match=r"tokenizer.ggml.tokens.*expected an array of strings"):
        load_from_gguf(GGUFFile.open(path))
