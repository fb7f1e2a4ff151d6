"""What every tokenizer does alike: control tokens, decoding, chat; a subclass adds how plain text becomes ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from perfxapi.errors import InvalidArgumentError
from perfxlm.errors import UnsupportedFeatureError
from perfxlm.tokenizer.builtin_templates import resolve_chat_template
from perfxlm.tokenizer.control import ControlMatcher, ControlToken, Segment

if TYPE_CHECKING:  # Jinja takes long to import, and plain completions need none
    from perfxlm.tokenizer.chat_template import ChatTemplate, RenderedChat

_ONLY_IN_TRANSFORMERS = ("padding", "truncation", "max_length", "return_tensors", "return_dict")


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids with a meaning; None where the model has none. `end` holds every id that ends a sequence or a turn."""

    bos: int | None = None
    eos: int | None = None
    unk: int | None = None
    pad: int | None = None
    end: frozenset[int] = frozenset()
    add_bos: bool = False
    add_eos: bool = False


class Tokenizer(ABC):
    """Text to token ids and back. Safe to share between threads.

    Text of a user never becomes a control token: `<end_of_turn>` in a message is encoded like any other text. Text of
    a chat template may (`allow_control=True`).
    """

    def __init__(self, vocab_size: int, special: SpecialTokens, chat_templates: Mapping[str, str]) -> None:
        """special: ids with a meaning; chat_templates: the model's own, by name ("default", "tool_use")."""
        self.vocab_size = vocab_size
        self.special = special
        self.chat_templates = dict(chat_templates)

    @abstractmethod
    def _encode_segments(self, segments: Sequence[Segment]) -> list[int]:
        """The ids of stretches of plain text and of control tokens, joined; nothing is added."""

    @abstractmethod
    def _add_special_tokens(self, ids: list[int]) -> list[int]:
        """Puts what belongs before and after a sequence (BOS, EOS) around the ids of plain text."""

    @abstractmethod
    def control_tokens(self) -> Iterable[ControlToken]:
        """Every control token of the vocabulary."""

    @abstractmethod
    def is_control(self, token_id: int) -> bool:
        """Whether an id is a control token: hidden by `skip_special_tokens`, never made from user text."""

    @abstractmethod
    def id_to_piece(self, token_id: int) -> str:
        """The token as the vocabulary spells it (`▁the`, `Ġthe`); empty for an id past the vocabulary."""

    @abstractmethod
    def piece_to_id(self, piece: str) -> int | None:
        """The id of a token spelled as in the vocabulary; None if there is none."""

    @abstractmethod
    def id_to_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes, perhaps half a character, that a token stands for in running text.

        Empty for an id past the vocabulary.
        """

    @property
    def strips_leading_space(self) -> bool:
        """Whether encoding puts a space before the text, which decoding takes away again."""
        return False

    @property
    def bos_token_id(self) -> int | None:
        """Id that begins a sequence."""
        return self.special.bos

    @property
    def eos_token_id(self) -> int | None:
        """Id that ends a sequence; see `eos_token_ids` for all of them."""
        return self.special.eos

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Every id at which generation stops: end of sequence, end of turn, end of message."""
        return self.special.end

    @property
    def pad_token_id(self) -> int | None:
        """Id that fills a batch."""
        return self.special.pad

    @property
    def unk_token_id(self) -> int | None:
        """Id for what cannot be spelled."""
        return self.special.unk

    @property
    def bos_token(self) -> str | None:
        """Text of `bos_token_id`."""
        return None if self.special.bos is None else self.id_to_piece(self.special.bos)

    @property
    def eos_token(self) -> str | None:
        """Text of `eos_token_id`."""
        return None if self.special.eos is None else self.id_to_piece(self.special.eos)

    def __len__(self) -> int:
        return self.vocab_size

    def encode(self, text: str, add_special_tokens: bool = True, allow_control: bool = False) -> list[int]:
        """Token ids of `text`.

        add_special_tokens: put BOS and EOS where the model expects them. allow_control: text that spells a control
        token becomes that token; leave it off for text that a user wrote. Raises InvalidArgumentError for text that is
        no valid Unicode (a lone surrogate).
        """
        check_text(text)
        segments: list[Segment] = self._matcher.split(text) if allow_control else [text] if text else []
        ids = self._encode_segments(segments)
        return self._add_special_tokens(ids) if add_special_tokens else ids

    def encode_chat(self, chat: RenderedChat, add_special_tokens: bool = False) -> list[int]:
        """Token ids of a rendered conversation: only text of the template's own becomes a control token.

        add_special_tokens is off by default: a chat template writes BOS itself.
        """
        check_text(chat.text)
        ids = self._encode_segments(self._matcher.split(chat.text, chat.template_spans()))
        return self._add_special_tokens(ids) if add_special_tokens else ids

    def decode(
        self, ids: int | Iterable[int], skip_special_tokens: bool = True, spaces_between_special_tokens: bool = True
    ) -> str:
        """Text of token ids; bytes that are no UTF-8 become U+FFFD.

        spaces_between_special_tokens: accepted for programs written for vLLM; as with its fast tokenizers no space is
        ever put between special tokens, so both values give the same text. An id past the vocabulary (models often
        have more logits than their tokenizer has tokens) is no text; a negative one raises InvalidArgumentError.
        """
        ids = [ids] if isinstance(ids, int) else list(ids)
        self._check_ids(ids)
        kept = [token_id for token_id in ids if not (skip_special_tokens and self.is_control(token_id))]
        text = b"".join(map(self.id_to_bytes, kept))
        if self.strips_leading_space and kept and not self.is_control(kept[0]):
            text = text.removeprefix(b" ")
        return text.decode("utf-8", "replace")

    def convert_ids_to_tokens(self, ids: int | Iterable[int]) -> str | list[str]:
        """Tokens as the vocabulary spells them: one for an int, else a list; empty for an id past the vocabulary."""
        if isinstance(ids, int):
            self._check_ids([ids])
            return self.id_to_piece(ids)
        ids = list(ids)
        self._check_ids(ids)
        return [self.id_to_piece(token_id) for token_id in ids]

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> int | list[int | None] | None:
        """Ids of tokens spelled as in the vocabulary; the unknown token's id (perhaps None) for those it lacks."""
        if isinstance(tokens, str):
            found = self.piece_to_id(tokens)
            return self.special.unk if found is None else found
        return [self.special.unk if (found := self.piece_to_id(token)) is None else found for token in tokens]

    def get_vocab(self) -> dict[str, int]:
        """Every token's id. Built anew on each call: a quarter of a million entries for a large vocabulary."""
        return {self.id_to_piece(token_id): token_id for token_id in range(self.vocab_size)}

    def apply_chat_template(
        self,
        conversation: Sequence[Mapping[str, Any]],
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tokenize: bool = True,
        **kwargs: Any,
    ) -> list[int] | str:
        """A conversation as token ids, or as text with `tokenize=False`. See `render_chat` for the arguments."""
        for name in _ONLY_IN_TRANSFORMERS:
            if kwargs.pop(name, None):
                raise UnsupportedFeatureError(f"{name}: apply_chat_template gives a list of ids or a string")
        chat = self.render_chat(
            conversation, chat_template, add_generation_prompt, continue_final_message, tools, **kwargs
        )
        return self.encode_chat(chat) if tokenize else chat.text

    def render_chat(
        self,
        conversation: Sequence[Mapping[str, Any]],
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> RenderedChat:
        """A conversation as text that knows which of its characters users wrote; feed it to `encode_chat`.

        The template is the argument (source, or a name), else the model file's, else a built-in one for the
        architecture: see `resolve_chat_template`. Raises ChatTemplateError, also where there is none of them.
        """
        from perfxlm.tokenizer.chat_template import render_chat

        template = self._chat_template(chat_template, bool(tools))
        special = {"bos_token": self.bos_token or "", "eos_token": self.eos_token or ""}
        return render_chat(
            conversation,
            template,
            add_generation_prompt,
            continue_final_message,
            tools,
            special_tokens=special,
            **kwargs,
        )

    @cached_property
    def _matcher(self) -> ControlMatcher:
        return ControlMatcher(self.control_tokens())

    @cached_property
    def _compiled_templates(self) -> dict[str, ChatTemplate]:
        return {}

    def _chat_template(self, argument: str | None, has_tools: bool) -> ChatTemplate:
        from perfxlm.tokenizer.chat_template import ChatTemplate

        source = resolve_chat_template(argument, self.chat_templates, self._is_control_text, has_tools)
        if argument is not None:
            return ChatTemplate(source)
        if source not in self._compiled_templates:
            self._compiled_templates[source] = ChatTemplate(source)
        return self._compiled_templates[source]

    def _is_control_text(self, text: str) -> bool:
        token_id = self.piece_to_id(text)
        return token_id is not None and self.is_control(token_id)

    def _check_ids(self, ids: Sequence[int]) -> None:
        if ids and min(ids) < 0:
            raise InvalidArgumentError(f"token ids must not be negative; got {min(ids)}")


def check_text(text: str) -> None:
    """Raises InvalidArgumentError if `text` is no string or holds a lone surrogate, which UTF-8 cannot express."""
    if not isinstance(text, str):
        raise InvalidArgumentError(f"text must be a string; got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"text is no valid Unicode: lone surrogate U+{ord(text[error.start]):04X} at character {error.start}"
        ) from None
