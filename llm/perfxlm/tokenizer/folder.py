"""Tokenizers out of HuggingFace folders: tokenizer.json, or tokenizer.model, and what is said beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from perfxapi.errors import FileFormatError
from perfxlm.tokenizer.base import SpecialTokens, Tokenizer
from perfxlm.tokenizer.control import ControlToken
from perfxlm.tokenizer.sentencepiece_model import PieceType

_ROLES = ("bos", "eos", "unk", "pad")
_MAX_JSON_BYTES = 1 << 28


def load_from_folder(path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a HuggingFace folder: tokenizer.json, else tokenizer.model.

    Roles of tokens come from tokenizer_config.json and special_tokens_map.json, ids that end a text from
    generation_config.json and config.json too, the chat template from chat_template.jinja, chat_template.json or
    tokenizer_config.json. Raises FileNotFoundError if there is no vocabulary, FileFormatError if a file is malformed.
    """
    folder = Path(path)
    if (folder / "tokenizer.json").is_file():
        return _from_tokenizer_json(folder)
    if (folder / "tokenizer.model").is_file():
        return _from_tokenizer_model(folder)
    raise FileNotFoundError(f"{folder}: no tokenizer.json or tokenizer.model; a model folder needs one of them")


def _from_tokenizer_json(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer as Pipeline

    from perfxlm.tokenizer.huggingface import HuggingFaceTokenizer

    path = folder / "tokenizer.json"
    try:
        pipeline = Pipeline.from_file(str(path))
    except Exception as error:  # the library raises nothing more exact
        raise FileFormatError(path, "whole file", f"no tokenizer: {error}") from None
    config = _read_json(folder / "tokenizer_config.json")
    control = {
        index: ControlToken(index, token.content, token.lstrip, token.rstrip)
        for index, token in pipeline.get_added_tokens_decoder().items()
        if token.special
    }
    for index, text, kind in _declared_tokens(folder, config):
        if kind == PieceType.CONTROL and pipeline.id_to_token(index) == text:
            control.setdefault(index, ControlToken(index, text))
    roles = {role: pipeline.token_to_id(text) for role, text in _role_texts(folder, config).items()}
    return HuggingFaceTokenizer(
        pipeline, control.values(), _special(folder, roles, {}), _chat_templates(folder, config)
    )


def _from_tokenizer_model(folder: Path) -> Tokenizer:
    from perfxlm.tokenizer.spm import from_model_file

    config = _read_json(folder / "tokenizer_config.json")
    added = {index: (text, kind) for index, text, kind in _declared_tokens(folder, config)}
    tokenizer = from_model_file(folder / "tokenizer.model", added, SpecialTokens(), _chat_templates(folder, config))
    texts = {"bos": "<s>", "eos": "</s>", "unk": "<unk>"} | _role_texts(folder, config)
    roles = {role: tokenizer.piece_to_id(text) for role, text in texts.items()}
    tokenizer.special = _special(folder, roles, config)
    return tokenizer


def _special(folder: Path, roles: Mapping[str, int | None], config: Mapping[str, Any]) -> SpecialTokens:
    ends = {roles.get("eos"), *_end_ids(folder / "config.json"), *_end_ids(folder / "generation_config.json")}
    return SpecialTokens(
        bos=roles.get("bos"),
        eos=roles.get("eos"),
        unk=roles.get("unk"),
        pad=roles.get("pad"),
        end=frozenset(index for index in ends if index is not None),
        add_bos=config.get("add_bos_token", True) is True,
        add_eos=config.get("add_eos_token", False) is True,
    )


def _end_ids(path: Path) -> list[int]:
    value = _read_json(path).get("eos_token_id")
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(index, int) and not isinstance(index, bool) for index in ids):
        raise FileFormatError(path, "eos_token_id", f"expected an id or a list of ids, got {value!r}")
    return ids


def _role_texts(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Text of the tokens with a role, from special_tokens_map.json and, above it, tokenizer_config.json."""
    texts: dict[str, str] = {}
    for source in (_read_json(folder / "special_tokens_map.json"), config):
        for role in _ROLES:
            value = source.get(f"{role}_token")
            value = value.get("content") if isinstance(value, dict) else value
            if isinstance(value, str):
                texts[role] = value
    return texts


def _declared_tokens(folder: Path, config: Mapping[str, Any]) -> Iterable[tuple[int, str, PieceType]]:
    """(id, text, type) of tokens added to a vocabulary; the later ones take precedence."""
    path = folder / "added_tokens.json"
    for text, index in _read_json(path).items():
        yield _declared_id(path, index), text, PieceType.USER_DEFINED
    path = folder / "tokenizer_config.json"
    declared = config.get("added_tokens_decoder", {})
    if not isinstance(declared, dict):
        raise FileFormatError(path, "added_tokens_decoder", "expected an object")
    for key, token in declared.items():
        if not isinstance(token, dict) or not isinstance(token.get("content"), str):
            raise FileFormatError(path, f"added_tokens_decoder.{key}", "expected an object with a text as content")
        special = token.get("special") is True
        kind = PieceType.CONTROL if special else PieceType.USER_DEFINED
        yield _declared_id(path, int(key) if key.isdecimal() else key), token["content"], kind


def _declared_id(path: Path, index: object) -> int:
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise FileFormatError(path, "added tokens", f"expected a token id, got {index!r}")
    return index


def _chat_templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    templates: dict[str, str] = {}
    for source in (config, _read_json(folder / "chat_template.json")):
        value = source.get("chat_template")
        if isinstance(value, str):
            templates["default"] = value
        elif isinstance(value, list):
            named = [(entry.get("name"), entry.get("template")) for entry in value if isinstance(entry, dict)]
            templates.update({name: text for name, text in named if isinstance(name, str) and isinstance(text, str)})
    if (folder / "chat_template.jinja").is_file():
        templates["default"] = _read_text(folder / "chat_template.jinja")
    for file in sorted(folder.glob("additional_chat_templates/*.jinja")):
        templates[file.stem] = _read_text(file)
    return templates


def _read_text(path: Path) -> str:
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise FileFormatError(path, "whole file", f"larger than {_MAX_JSON_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(path, f"byte {error.start}", "invalid UTF-8") from None


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(path, "whole file", f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise FileFormatError(path, "whole file", f"expected an object, got {type(value).__name__}")
    return value
