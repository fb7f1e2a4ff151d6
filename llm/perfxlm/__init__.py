"""PerfXLM: a language-model engine written on PerfXAPI's op API, with the names, arguments and outputs of vLLM.

from perfxlm import LLM, SamplingParams
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfxlm.engine_args import EngineArgs
    from perfxlm.inputs import PromptType, TextPrompt, TokensPrompt
    from perfxlm.llm import LLM
    from perfxlm.outputs import CompletionOutput, Logprob, RequestOutput
    from perfxlm.sampling_params import SamplingParams

__version__ = "0.1.0"

_MODULES = {
    "LLM": "perfxlm.llm",
    "CompletionOutput": "perfxlm.outputs",
    "EngineArgs": "perfxlm.engine_args",
    "Logprob": "perfxlm.outputs",
    "PromptType": "perfxlm.inputs",
    "RequestOutput": "perfxlm.outputs",
    "SamplingParams": "perfxlm.sampling_params",
    "TextPrompt": "perfxlm.inputs",
    "TokensPrompt": "perfxlm.inputs",
}

__all__ = [
    "LLM",
    "CompletionOutput",
    "EngineArgs",
    "Logprob",
    "PromptType",
    "RequestOutput",
    "SamplingParams",
    "TextPrompt",
    "TokensPrompt",
]


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used, so that `import perfxlm` is quick."""
    if name not in _MODULES:
        raise AttributeError(f"module 'perfxlm' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
