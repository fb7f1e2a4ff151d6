"""Prompts: text, token ids, or a dict of either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypeAlias, TypedDict

from perfxapi.errors import InvalidArgumentError
from perfxlm.errors import UnsupportedFeatureError
from perfxlm.validation import check_token_ids, shown

MAX_PROMPT_TOKENS = 1 << 24


class TextPrompt(TypedDict):
    """A prompt to be tokenized."""

    prompt: str
    cache_salt: NotRequired[str]


class TokensPrompt(TypedDict):
    """A prompt of token ids, used as it is: nothing is added."""

    prompt_token_ids: list[int]
    prompt: NotRequired[str]
    cache_salt: NotRequired[str]


PromptType: TypeAlias = "str | list[int] | TextPrompt | TokensPrompt"

_KNOWN_KEYS = {"prompt", "prompt_token_ids", "cache_salt"}


@dataclass(frozen=True, slots=True)
class ParsedPrompt:
    """A prompt as text, as token ids, or both; at least one is not None."""

    text: str | None
    token_ids: list[int] | None


def parse_prompts(prompts: Any) -> list[ParsedPrompt]:
    """One prompt or a sequence of prompts; a list of ints is one prompt. Raises InvalidArgumentError."""
    if isinstance(prompts, str | dict) or (prompts and _is_token_list(prompts)):
        return [parse_prompt(prompts)]
    if isinstance(prompts, bytes) or not isinstance(prompts, Sequence):
        raise InvalidArgumentError(f"prompts must be a prompt or a list of prompts; got {shown(prompts)}")
    return [parse_prompt(prompt) for prompt in prompts]


def parse_prompt(prompt: Any) -> ParsedPrompt:
    """One prompt. Raises InvalidArgumentError, or UnsupportedFeatureError for images and embeddings."""
    if isinstance(prompt, str):
        return ParsedPrompt(prompt, None)
    if _is_token_list(prompt):
        return ParsedPrompt(None, check_token_ids("prompt_token_ids", prompt, MAX_PROMPT_TOKENS))
    if not isinstance(prompt, dict):
        raise InvalidArgumentError(f"a prompt must be a string, token ids or a dict; got {shown(prompt)}")
    unknown = set(prompt) - _KNOWN_KEYS
    if unknown:
        raise UnsupportedFeatureError(f"prompts cannot hold {shown(min(unknown, key=str))}: only text and token ids")
    text, ids = prompt.get("prompt"), prompt.get("prompt_token_ids")
    if text is not None and not isinstance(text, str):
        raise InvalidArgumentError(f"prompt must be a string; got {shown(text)}")
    if text is None and ids is None:
        raise InvalidArgumentError("a prompt given as a dict needs prompt or prompt_token_ids")
    return ParsedPrompt(text, None if ids is None else check_token_ids("prompt_token_ids", ids, MAX_PROMPT_TOKENS))


def _is_token_list(prompt: Any) -> bool:
    return isinstance(prompt, list | tuple) and (not prompt or isinstance(prompt[0], int))
