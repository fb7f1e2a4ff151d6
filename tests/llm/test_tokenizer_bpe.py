"""Vocabularies of the byte-level BPE kind and HuggingFace folders."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import gguf_builder as build
import pytest
import sentencepiece
import tokenizer_files as files
from costs import at_most
from tokenizer_strings import tokenizer_strings
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Pipeline

from perfxapi.errors import FileFormatError, InvalidArgumentError, UnknownNameError
from perfxlm.tokenizer import Tokenizer, load_from_folder

GOLDEN = json.loads((Path(__file__).parent.parent / "data" / "tokenizer" / "byte_level_bpe.json").read_text())
VOCABULARY = files.Vocabulary("gpt2", GOLDEN["tokens"], GOLDEN["types"], merges=GOLDEN["merges"])
START, END, TEXT_END, TOOL = (VOCABULARY.id_of(token) for token in (*files.BPE_CONTROL, *files.BPE_USER_DEFINED))


def load(tmp_path: Path, pre: str, *extra: bytes) -> Tokenizer:
    return VOCABULARY.load(tmp_path / f"{pre}.gguf", files.text("tokenizer.ggml.pre", pre), *extra)


@pytest.mark.parametrize("kind", ["plain", "control"])
@pytest.mark.parametrize("pre", ["default", "gpt-2", "llama-bpe", "qwen2", "smollm"])
def test_ids_equal_llama_cpp(pre: str, kind: str, tmp_path: Path) -> None:
    tokenizer = load(tmp_path, pre)
    for string, ids in zip(GOLDEN["strings"], GOLDEN[pre][kind], strict=True):
        assert tokenizer.encode(string, allow_control=kind == "control") == ids, ascii(string)
        assert tokenizer.decode(ids, skip_special_tokens=False) == string


def test_qwen_normalizes_to_nfc(tmp_path: Path) -> None:
    assert load(tmp_path, "qwen2").encode("e\u0301") == load(tmp_path, "gpt-2").encode("é")


def test_no_pre_tokenizer_is_the_default_one(tmp_path: Path) -> None:
    strings = GOLDEN["strings"]
    tokenizer = VOCABULARY.load(tmp_path / "none.gguf")
    assert [tokenizer.encode(string) for string in strings] == GOLDEN["default"]["plain"]


def test_special_tokens(tmp_path: Path) -> None:
    ids = files.special_ids(bos=TEXT_END, eos=END)
    assert load(tmp_path, "qwen2", *ids).encode("a")[0] != TEXT_END
    assert load(tmp_path, "llama-bpe", *ids).encode("a")[0] == TEXT_END  # llama.cpp's default for this kind
    both = load(tmp_path, "gpt-2", *ids, files.flag("add_bos_token", True), files.flag("add_eos_token", True))
    assert both.encode("") == [TEXT_END, END]
    assert both.encode("a", add_special_tokens=False) == both.encode("a")[1:-1]
    assert both.eos_token_ids == {END, TEXT_END}
    assert (both.bos_token, both.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert both.vocab_size == len(both) == len(GOLDEN["tokens"])
    assert both.get_vocab()["<|im_start|>"] == START
    assert both.convert_tokens_to_ids("<|im_start|>") == START
    assert both.convert_ids_to_tokens([TOOL]) == ["<tool_call>"]
    assert both.is_control(START)
    assert not both.is_control(TOOL)


def test_a_vocabulary_that_spells_out_control_tokens_is_kept_from_it(tmp_path: Path) -> None:
    """The word `pad` is in the vocabulary as a control token, and the pre-tokenizer takes whole words from there."""
    tokens, types = [*GOLDEN["tokens"], "pad"], [*GOLDEN["types"], files.CONTROL]
    broken = files.Vocabulary("gpt2", tokens, types, merges=GOLDEN["merges"])
    tokenizer = broken.load(tmp_path / "pad.gguf", files.text("tokenizer.ggml.pre", "llama-bpe"))
    assert len(tokens) - 1 not in tokenizer.encode("pad")
    assert tokenizer.decode(tokenizer.encode("pad")) == "pad"
    assert tokenizer.encode("pad", allow_control=True) == [len(tokens) - 1]


def test_malformed_vocabularies_are_refused(tmp_path: Path) -> None:
    tokens, types, merges = GOLDEN["tokens"], GOLDEN["types"], GOLDEN["merges"]
    cases: list[tuple[list[str], list[int], list[str], str]] = [
        ([*tokens[:-1], tokens[0]], types, merges, "tokens 0 and"),
        (["x0", *tokens[1:]], types, merges, "no token spells the byte 0x21"),
        (tokens, types[:-1], merges, "token_type"),
        (tokens, types, [*merges, "no such"], "merges"),
        (tokens, types, [*merges, "nospace"], "merges"),
        (tokens, types, [*merges, ""], "merges"),
    ]
    for number, (case_tokens, case_types, case_merges, message) in enumerate(cases):
        broken = files.Vocabulary("gpt2", case_tokens, case_types, merges=case_merges)
        with pytest.raises(FileFormatError, match=message):
            broken.load(tmp_path / f"{number}.gguf")
    with pytest.raises(UnknownNameError, match="llama-bpe"):
        load(tmp_path, "llama-bpee")
    with pytest.raises(FileFormatError, match=r"merges.*missing"):
        files.Vocabulary("gpt2", tokens, types).load(tmp_path / "none.gguf")


@pytest.mark.parametrize("character", ["a", " ", "😀"])
def test_a_megabyte_of_one_character(character: str, tmp_path: Path) -> None:
    tokenizer = load(tmp_path, "llama-bpe")
    text = character * ((1 << 20) // len(character.encode()))
    with at_most(5):
        ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text


def test_lone_surrogates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="U\\+D83D at character 1"):
        load(tmp_path, "gpt-2").encode("a\ud83d")


@pytest.mark.peer
@pytest.mark.parametrize("pre", ["default", "gpt-2", "llama-bpe", "qwen2", "smollm"])
def test_ids_equal_llama_cpp_on_10000_strings(pre: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "golden")
    make = pytest.importorskip("make_tokenizer_golden")
    path = make.write_gguf(tmp_path / "peer.gguf", VOCABULARY, pre)
    peer = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    tokenizer = load(tmp_path, pre)
    for string in filter(None, tokenizer_strings(10000, 98, [*files.BPE_CONTROL, "<tool_call>"])):
        string = unicodedata.normalize("NFC", string)
        assert tokenizer.encode(string) == peer.tokenize(string.encode(), add_bos=False, special=False), ascii(string)


# HuggingFace folders


def byte_level_pipeline() -> Pipeline:
    pipeline = files.train_byte_level_bpe()
    pipeline.add_special_tokens([AddedToken(text, special=True) for text in files.BPE_CONTROL])
    pipeline.add_special_tokens([AddedToken("<|user|>", special=True, rstrip=True)])
    pipeline.add_tokens([AddedToken("<tool_call>", normalized=False)])
    end = pipeline.token_to_id("<|endoftext|>")
    pipeline.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", end)]
    )
    return pipeline


def write_folder(folder: Path, pipeline: Pipeline | None = None, **jsons: Any) -> Path:
    folder.mkdir(exist_ok=True)
    if pipeline is not None:
        pipeline.save(str(folder / "tokenizer.json"))
    for name, content in jsons.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_folder_with_tokenizer_json(tmp_path: Path) -> None:
    pipeline = byte_level_pipeline()
    config = {"bos_token": "<|endoftext|>", "eos_token": {"content": "<|im_end|>"}, "chat_template": "x"}
    folder = write_folder(tmp_path, pipeline, tokenizer_config=config, generation_config={"eos_token_id": [1, 2]})
    tokenizer = load_from_folder(folder)
    reference = Pipeline.from_file(str(folder / "tokenizer.json"))
    plain = Pipeline.from_file(str(folder / "tokenizer.json"))
    plain.encode_special_tokens = True
    for string in tokenizer_strings(500, 5, [*files.BPE_CONTROL, "<|user|>", "<tool_call>"]):
        assert tokenizer.encode(string) == plain.encode(string).ids, ascii(string)
        assert tokenizer.encode(string, allow_control=True) == reference.encode(string).ids, ascii(string)
        assert tokenizer.decode(tokenizer.encode(string)) == string
    end = reference.token_to_id("<|im_end|>")
    assert (tokenizer.eos_token_id, tokenizer.eos_token_ids) == (end, {1, 2, end})
    assert tokenizer.vocab_size == reference.get_vocab_size()
    assert tokenizer.get_vocab() == reference.get_vocab()
    assert tokenizer.render_chat([{"role": "user", "content": "a"}]).text == "x"


def metaspace_pipeline() -> Pipeline:
    """As Llama 2's: U+2581 before the text and for spaces, byte fallback; only the first stretch gets the prefix."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "ab", "▁ab"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [("▁", "a"), ("a", "b"), ("▁", "ab"), ("▁a", "b")]
    pipeline = Pipeline(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    pipeline.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    pipeline.decoder = decoders.Sequence(steps)
    pipeline.add_special_tokens([AddedToken(text, special=True) for text in ("<unk>", "<s>", "</s>")])
    return pipeline


def test_only_the_beginning_of_the_text_gets_the_prefix(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, metaspace_pipeline(), special_tokens_map={"bos_token": "<s>", "unk_token": "<unk>"})
    tokenizer = load_from_folder(folder)
    reference = Pipeline.from_file(str(folder / "tokenizer.json"))
    for string in ("ab", "ab<s>ab", "<s>ab", "ab ab</s> a", "<s></s>", "é<s>é", ""):
        ids = reference.encode(string).ids
        assert tokenizer.encode(string, allow_control=True) == ids, string
        assert tokenizer.decode(ids) == reference.decode(ids)
        assert tokenizer.decode(ids, skip_special_tokens=False) == reference.decode(ids, skip_special_tokens=False)


def test_word_piece_is_decoded_by_its_own_rules(tmp_path: Path) -> None:
    vocabulary = {piece: index for index, piece in enumerate(["[UNK]", "[CLS]", "[SEP]", "un", "##happy", "cat", "."])}
    pipeline = Pipeline(models.WordPiece(vocabulary, unk_token="[UNK]"))
    pipeline.normalizer = normalizers.Lowercase()
    pipeline.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pipeline.decoder = decoders.WordPiece()
    pipeline.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    special = [("[CLS]", 1), ("[SEP]", 2)]
    pipeline.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    tokenizer = load_from_folder(write_folder(tmp_path, pipeline, tokenizer_config={"unk_token": "[UNK]"}))
    ids = tokenizer.encode("Unhappy cat [SEP] dog.")
    assert ids == [1, 3, 4, 5, 0, 0, 0, 0, 6, 2]  # "[", "sep", "]" and "dog" are unknown words
    assert tokenizer.decode([1, 3, 4, 5, 6, 2]) == "unhappy cat."


def test_folder_with_tokenizer_model(tmp_path: Path) -> None:
    model = files.train_sentencepiece(add_dummy_prefix=True)
    size = len(sentencepiece.SentencePieceProcessor(model_proto=model))
    (tmp_path / "tokenizer.model").write_bytes(model)
    declared = {
        str(size): {"content": "<|im_start|>", "special": True},
        str(size + 1): {"content": "<tool_call>", "special": False},
        "7": {"content": "\n", "special": False},
    }
    config = {"add_bos_token": False, "eos_token": "</s>", "added_tokens_decoder": declared}
    tokenizer = load_from_folder(write_folder(tmp_path, tokenizer_config=config))
    reference = sentencepiece.SentencePieceProcessor(model_proto=model)
    for string in tokenizer_strings(300, 6):
        assert tokenizer.encode(string) == reference.encode(string), ascii(string)
    assert tokenizer.vocab_size == size + 2
    assert size not in tokenizer.encode("<|im_start|>")
    assert tokenizer.encode("<|im_start|>", allow_control=True) == [size]
    assert size + 1 in tokenizer.encode("a<tool_call>b")
    assert (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (3, 2, 1)


def test_pieces_of_a_model_can_be_declared_special(tmp_path: Path) -> None:
    model = files.train_sentencepiece()
    index = sentencepiece.SentencePieceProcessor(model_proto=model).piece_to_id("<div>")
    (tmp_path / "tokenizer.model").write_bytes(model)
    config = {"added_tokens_decoder": {str(index): {"content": "<div>", "special": True}}}
    tokenizer = load_from_folder(write_folder(tmp_path, tokenizer_config=config))
    assert tokenizer.is_control(index)
    assert index not in tokenizer.encode("<div>")
    assert tokenizer.encode("<div>", add_special_tokens=False, allow_control=True) == [index]


def test_chat_templates_of_a_folder(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t{{ tools|length if tools }}"}]
    folder = write_folder(tmp_path, byte_level_pipeline(), tokenizer_config={"chat_template": named})
    messages = [{"role": "user", "content": "a"}]
    assert load_from_folder(folder).render_chat(messages).text == "d"
    assert load_from_folder(folder).render_chat(messages, tools=[{"type": "function"}]).text == "t1"
    assert load_from_folder(folder).render_chat(messages, "tool_use").text == "t"
    (folder / "chat_template.jinja").write_text("file")
    assert load_from_folder(folder).render_chat(messages).text == "file"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{}", "no tokenizer"),
        ("tokenizer.json", "[" * 100000, "no tokenizer"),
        ("tokenizer_config.json", "{", "no JSON"),
        ("tokenizer_config.json", "[]", "expected an object"),
        ("tokenizer_config.json", "[" * 100000, "no JSON"),
        ("generation_config.json", '{"eos_token_id": "2"}', "eos_token_id"),
        ("generation_config.json", '{"eos_token_id": [true]}', "eos_token_id"),
        ("tokenizer_config.json", '{"added_tokens_decoder": []}', "added_tokens_decoder"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {"content": "a"}}}', "token id"),
        ("added_tokens.json", '{"a": -1}', "token id"),
    ],
)
def test_malformed_folders_are_refused(name: str, content: str, message: str, tmp_path: Path) -> None:
    write_folder(tmp_path, byte_level_pipeline())
    (tmp_path / name).write_text(content)
    with pytest.raises(FileFormatError, match=message):
        load_from_folder(tmp_path)


def test_malformed_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tokenizer.json"):
        load_from_folder(tmp_path)
    model = files.train_sentencepiece()
    for content in (b"", b"\xff" * 100, model[: len(model) // 2]):
        (tmp_path / "tokenizer.model").write_bytes(content)
        with pytest.raises(FileFormatError, match=r"tokenizer.model"):
            load_from_folder(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(model)
    (tmp_path / "added_tokens.json").write_text('{"a": 99999}')
    with pytest.raises(FileFormatError, match="without a gap"):
        load_from_folder(tmp_path)


def test_chat_templates_of_gguf(tmp_path: Path) -> None:
    pairs = [
        files.text("tokenizer.chat_template", "d"),
        files.text("tokenizer.chat_template.tool_use", "{{ tools[0] }}"),
    ]
    names = build.pair("tokenizer.chat_templates", build.ARRAY, build.array(build.STRING, ["tool_use"]))
    tokenizer = load(tmp_path, "gpt-2", *pairs, names)
    assert tokenizer.render_chat([{"role": "user", "content": "a"}]).text == "d"
    assert tokenizer.chat_templates.keys() == {"default", "tool_use"}
