"""Incremental detokenization and stop strings: against decoding the whole, and against str.find."""

from __future__ import annotations

import random

import pytest
import tokenizer_files as files
from costs import at_most
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_strings import tokenizer_strings

from perfxlm.tokenizer import IncrementalDetokenizer, Tokenizer
from perfxlm.tokenizer.detokenize import StopStrings


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> list[Tokenizer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    ids = files.special_ids(bos=2, eos=1, unknown=3)
    spm = files.sentencepiece_vocabulary(files.train_sentencepiece(add_dummy_prefix=True))
    bpe = files.bpe_vocabulary(files.train_byte_level_bpe())
    return [spm.load(folder / "spm.gguf", *ids), bpe.load(folder / "bpe.gguf")]


class Letters(Tokenizer):
    """Token i is the byte i; 256 and up are control tokens. No library, so that any bytes can be made."""

    def __init__(self) -> None:
        from perfxlm.tokenizer import SpecialTokens

        super().__init__(260, SpecialTokens(), {})

    def _encode_segments(self, segments):  # type: ignore[no-untyped-def]
        return list("".join(segments).encode())

    def _add_special_tokens(self, ids: list[int]) -> list[int]:
        return ids

    def control_tokens(self):  # type: ignore[no-untyped-def]
        return []

    def is_control(self, token_id: int) -> bool:
        return token_id >= 256

    def id_to_piece(self, token_id: int) -> str:
        return chr(token_id)

    def piece_to_id(self, piece: str) -> int | None:
        return None

    def id_to_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else b"<c>"


LETTERS = Letters()


def stream(detokenizer: IncrementalDetokenizer, ids: list[int]) -> list[str]:
    return [*(detokenizer.append([token_id]) for token_id in ids), detokenizer.finish()]


def test_pieces_join_to_the_full_text(tokenizers: list[Tokenizer]) -> None:
    source = random.Random(1)
    for tokenizer in tokenizers:
        for string in tokenizer_strings(300, 20):
            ids = tokenizer.encode(string)
            pieces = stream(IncrementalDetokenizer(tokenizer, at_text_start=True), ids)
            assert "".join(pieces) == tokenizer.decode(ids) == string
        for _ in range(300):
            ids = [source.randrange(tokenizer.vocab_size + 5) for _ in range(source.randrange(20))]
            for skip in (True, False):
                detokenizer = IncrementalDetokenizer(tokenizer, at_text_start=True, skip_special_tokens=skip)
                assert "".join(stream(detokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=skip)


def test_text_after_a_prompt_keeps_its_first_space(tokenizers: list[Tokenizer]) -> None:
    spm = tokenizers[0]
    prompt, rest = spm.encode("the fisherman", add_special_tokens=False), spm.encode("and", add_special_tokens=False)
    text = "".join(stream(IncrementalDetokenizer(spm), rest))
    assert text == spm.decode(prompt + rest)[len(spm.decode(prompt)) :] == " and"


def test_a_character_appears_when_it_is_complete() -> None:
    detokenizer = IncrementalDetokenizer(LETTERS)
    assert [detokenizer.append([byte]) for byte in "a😀é".encode()] == ["a", "", "", "", "😀", "", "é"]
    assert detokenizer.append(b"\xf0\x9f") == ""
    assert detokenizer.finish() == "\ufffd"


@given(st.lists(st.integers(0, 259), max_size=40), st.data())
@settings(max_examples=300, deadline=None)
def test_any_bytes_in_any_portions_equal_the_full_decode(ids: list[int], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=5)))
    detokenizer = IncrementalDetokenizer(LETTERS)
    portions = [ids[start:end] for start, end in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
    text = "".join([*(detokenizer.append(portion) for portion in portions), detokenizer.finish()])
    assert text == LETTERS.decode(ids) == bytes(i for i in ids if i < 256).decode("utf-8", "replace")
    assert detokenizer.num_tokens == len(ids)


def first_stop(text: str, stops: list[str]) -> tuple[int, str] | None:
    """By definition: the smallest end, and of those that end there the longest."""
    ends = [(end, -len(stop), stop) for stop in stops for end in range(len(text) + 1) if text[:end].endswith(stop)]
    return (min(ends)[0], min(ends)[2]) if ends else None


@given(
    st.text("ab.", max_size=12),
    st.lists(st.text("ab.", min_size=1, max_size=4), min_size=1, max_size=4),
    st.booleans(),
    st.integers(1, 4),
)
@settings(max_examples=400, deadline=None)
def test_stop_strings_by_definition(text: str, stops: list[str], include: bool, portion: int) -> None:
    detokenizer = IncrementalDetokenizer(LETTERS, stops, include_stop_str_in_output=include)
    ids = list(text.encode())
    released = ""
    for start in range(0, len(ids), portion):
        released += detokenizer.append(ids[start : start + portion])
        # nothing is shown that has to be taken back
        assert first_stop(released, stops) is None or detokenizer.stop_string is not None
    released += detokenizer.finish()
    expected = first_stop(text, stops)
    if expected is None:
        assert (released, detokenizer.stop_string) == (text, None)
    else:
        end, stop = expected
        assert detokenizer.stop_string == stop
        assert released == (text[:end] if include else text[: end - len(stop)])
        assert detokenizer.num_tokens == end


def test_text_is_held_back_only_while_a_stop_string_may_begin() -> None:
    detokenizer = IncrementalDetokenizer(LETTERS, ["</s>", "\nUser:"])
    assert detokenizer.append(b"hello </") == "hello "
    assert detokenizer.append(b"div") == "</div"
    assert detokenizer.append(b">\nUs") == ">"
    assert detokenizer.append(b"e\n") == "\nUse"
    assert detokenizer.append(b"User: more") == ""
    assert (detokenizer.stop_string, detokenizer.num_tokens) == ("\nUser:", 22)
    assert detokenizer.append(b"x") == ""
    assert detokenizer.finish() == ""


def test_what_was_held_back_comes_at_the_end() -> None:
    detokenizer = IncrementalDetokenizer(LETTERS, ["</s>"])
    assert (detokenizer.append(b"a</s"), detokenizer.finish()) == ("a", "</s")


def test_stop_string_inside_a_token_and_across_characters() -> None:
    detokenizer = IncrementalDetokenizer(LETTERS, ["é😀"], include_stop_str_in_output=True)
    assert "".join(stream(detokenizer, list("xé😀y".encode()))) == "xé😀"
    assert detokenizer.stop_string == "é😀"


def test_min_tokens() -> None:
    detokenizer = IncrementalDetokenizer(LETTERS, ["ab"], min_tokens=4)
    assert detokenizer.append(b"ababab") == "abab"
    assert (detokenizer.stop_string, detokenizer.num_tokens) == ("ab", 6)


def test_control_tokens_are_shown_on_demand() -> None:
    assert "".join(stream(IncrementalDetokenizer(LETTERS), [97, 256, 98])) == "ab"
    assert "".join(stream(IncrementalDetokenizer(LETTERS, skip_special_tokens=False), [97, 256, 98])) == "a<c>b"
    shown = IncrementalDetokenizer(LETTERS, ["<c>"], skip_special_tokens=False)
    assert "".join(stream(shown, [97, 256, 98])) == "a"


def append_all(detokenizer: IncrementalDetokenizer, ids: list[int]) -> None:
    for token_id in ids:
        detokenizer.append((token_id,))


def test_a_token_costs_little_however_long_the_text(tokenizers: list[Tokenizer]) -> None:
    for tokenizer in tokenizers:
        ids = tokenizer.encode(" ".join(tokenizer_strings(300, 4)), add_special_tokens=False)
        with at_most(20e-6 * len(ids)):
            append_all(IncrementalDetokenizer(tokenizer), ids)
        many = StopStrings([f"stop string number {number}" for number in range(1000)])
        with at_most(100e-6 * len(ids)):
            append_all(IncrementalDetokenizer(tokenizer, many), ids)
