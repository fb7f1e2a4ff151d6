"""Text to token ids and back: vocabularies of GGUF files and HuggingFace folders, detokenization, chat templates."""

from perfxlm.tokenizer.base import SpecialTokens, Tokenizer
from perfxlm.tokenizer.builtin_templates import read_chat_template
from perfxlm.tokenizer.detokenize import IncrementalDetokenizer
from perfxlm.tokenizer.errors import ChatTemplateError
from perfxlm.tokenizer.folder import load_from_folder
from perfxlm.tokenizer.gguf import load_from_gguf

__all__ = [
    "ChatTemplateError",
    "IncrementalDetokenizer",
    "SpecialTokens",
    "Tokenizer",
    "load_from_folder",
    "load_from_gguf",
    "read_chat_template",
]
