"""Small vocabularies, trained on the spot, as GGUF files and HuggingFace folders."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf_builder as build
import sentencepiece
from tokenizer_strings import tokenizer_strings
from tokenizers import Tokenizer as Pipeline
from tokenizers import decoders, models, pre_tokenizers, trainers

from perfxlm.tokenizer import Tokenizer, load_from_gguf
from perfxlm.weights.gguf import GGUFFile

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
SPM_CONTROL = ("<start_of_turn>", "<end_of_turn>")
SPM_USER_DEFINED = ("\n", "\n\n", "▁▁", "▁▁▁", "<div>")
BPE_CONTROL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
BPE_USER_DEFINED = ("<tool_call>",)


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says about its tokens."""

    kind: str
    tokens: Sequence[str | bytes]
    types: Sequence[int]
    scores: Sequence[float] = ()
    merges: Sequence[str] = ()

    def write(self, path: Path, *extra: bytes) -> Path:
        """Writes a GGUF file without tensors. `extra`: more metadata pairs, as `gguf_builder.pair` makes them."""
        pairs = [
            build.pair("tokenizer.ggml.model", build.STRING, self.kind),
            build.pair("tokenizer.ggml.tokens", build.ARRAY, build.array(build.STRING, self.tokens)),
            build.pair("tokenizer.ggml.token_type", build.ARRAY, build.array(build.I32, self.types)),
        ]
        if self.scores:
            pairs.append(build.pair("tokenizer.ggml.scores", build.ARRAY, build.array(build.F32, self.scores)))
        if self.merges:
            pairs.append(build.pair("tokenizer.ggml.merges", build.ARRAY, build.array(build.STRING, self.merges)))
        path.write_bytes(build.build([*pairs, *extra]))
        return path

    def load(self, path: Path, *extra: bytes) -> Tokenizer:
        """The tokenizer of such a file."""
        return load_from_gguf(GGUFFile.open(self.write(path, *extra)))

    def id_of(self, token: str) -> int:
        """Id of a token."""
        return list(self.tokens).index(token)


def train_sentencepiece(*, add_dummy_prefix: bool = False) -> bytes:
    """A SentencePiece model of the BPE kind with control and user-defined pieces, like Gemma's but small."""
    model = io.BytesIO()
    sentences = [text for text in tokenizer_strings(4000, 11) if "\0" not in text]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="bpe",
        vocab_size=3600,
        byte_fallback=True,
        character_coverage=0.98,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        control_symbols=list(SPM_CONTROL),
        user_defined_symbols=list(SPM_USER_DEFINED),
        normalization_rule_name="identity",
        add_dummy_prefix=add_dummy_prefix,
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def sentencepiece_vocabulary(model: bytes) -> Vocabulary:
    """The same vocabulary as converters put it into GGUF: user-defined pieces with plain spaces."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    tokens: list[str | bytes] = []
    types: list[int] = []
    for index in range(len(processor)):
        piece = processor.id_to_piece(index)
        kind = NORMAL
        if processor.is_control(index) or processor.is_unknown(index):
            kind = CONTROL
        elif processor.is_byte(index):
            kind = BYTE
        elif piece in SPM_USER_DEFINED:
            piece, kind = piece.replace("▁", " "), USER_DEFINED
        tokens.append(piece)
        types.append(kind)
    scores = [processor.get_score(index) for index in range(len(processor))]
    return Vocabulary("llama", tokens, types, scores)


def special_ids(**ids: int) -> list[bytes]:
    """Metadata pairs: special_ids(bos=2) is tokenizer.ggml.bos_token_id."""
    return [build.pair(f"tokenizer.ggml.{role}_token_id", build.U32, index) for role, index in ids.items()]


def flag(name: str, value: bool) -> bytes:
    """A metadata pair: tokenizer.ggml.<name>."""
    return build.pair(f"tokenizer.ggml.{name}", build.BOOL, value)


def text(key: str, value: str) -> bytes:
    """A metadata pair."""
    return build.pair(key, build.STRING, value)


def train_byte_level_bpe(vocab_size: int = 700) -> Pipeline:
    """A byte-level BPE pipeline with GPT-2's pre-tokenizer and no special tokens."""
    pipeline = Pipeline(models.BPE())
    pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pipeline.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    pipeline.train_from_iterator(tokenizer_strings(4000, 7, BPE_CONTROL), trainer)
    return pipeline


def bpe_vocabulary(pipeline: Pipeline) -> Vocabulary:
    """Its vocabulary, with control and user-defined tokens and a filler at the end."""
    model = json.loads(pipeline.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    types = [NORMAL] * len(tokens) + [CONTROL] * len(BPE_CONTROL) + [USER_DEFINED, UNUSED]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return Vocabulary("gpt2", [*tokens, *BPE_CONTROL, *BPE_USER_DEFINED, "[PAD]"], types, merges=merges)
