"""Chat templates for model files that carry none, and the rule by which a template is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from perfxlm.tokenizer.errors import ChatTemplateError

_GEMMA = """\
{{ bos_token }}
{%- set ns = namespace(prefix='') -%}
{%- for message in messages -%}
    {%- if message.role not in ('system', 'developer', 'user', 'assistant') -%}
        {{- raise_exception('this format has no role ' ~ message.role) -}}
    {%- elif message.role in ('system', 'developer') -%}
        {%- if not loop.first -%}{{ raise_exception('a system message must be the first one') }}{%- endif -%}
        {%- set ns.prefix = message.content ~ '\\n\\n' -%}
    {%- else -%}
        {{- '<start_of_turn>' ~ ('model' if message.role == 'assistant' else message.role) ~ '\\n' -}}
        {{- ns.prefix ~ (message.content | trim) ~ '<end_of_turn>\\n' -}}
        {%- set ns.prefix = '' -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""

_LLAMA3 = """\
{{ bos_token }}
{%- for message in messages -%}
    {{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' ~ (message.content | trim) ~ '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}
"""

_CHATML = """\
{%- for message in messages -%}
    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""

BUILTIN_TEMPLATES: dict[str, str] = {"gemma": _GEMMA, "llama3": _LLAMA3, "chatml": _CHATML}
"""By the name of the format."""

_TURN_TOKENS = {"gemma": "<start_of_turn>", "llama3": "<|start_header_id|>", "chatml": "<|im_start|>"}
"""The control token by which an architecture's format is recognized."""


def resolve_chat_template(
    argument: str | None, templates: Mapping[str, str], is_control_token: Callable[[str], bool], has_tools: bool
) -> str:
    """Source of the template to use. The first of these that there is:

    1. `argument`: source of a template, the name of one of `templates`, or the name of a built-in one;
    2. the model file's own: "tool_use" if there are tools, else "default";
    3. the built-in one for the model's architecture, known by its control tokens.

    Raises ChatTemplateError, which says how to give one, if there is none.
    """
    if argument is not None:
        return _from_argument(argument, templates)
    if has_tools and "tool_use" in templates:
        return templates["tool_use"]
    if "default" in templates:
        return templates["default"]
    for name, token in _TURN_TOKENS.items():
        if is_control_token(token):
            return BUILTIN_TEMPLATES[name]
    raise ChatTemplateError(
        "the model has no chat template, and no built-in one fits its control tokens; give one as chat_template: its "
        f"source, or one of {', '.join(BUILTIN_TEMPLATES)}"
    )


def read_chat_template(argument: str) -> str:
    """For an option of a program: the source in a file, if `argument` is a path, else `argument` itself.

    Never for what a request brings: it could name any file. Raises ChatTemplateError if the file cannot be read.
    """
    if _is_source(argument) or not Path(argument).exists():
        return argument
    try:
        return Path(argument).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ChatTemplateError(f"chat template {argument!r} cannot be read: {error}") from None


def _from_argument(argument: str, templates: Mapping[str, str]) -> str:
    if _is_source(argument):
        return argument
    named = templates.get(argument) or BUILTIN_TEMPLATES.get(argument)
    if named is None:
        known = ", ".join(sorted({*templates, *BUILTIN_TEMPLATES}))
        raise ChatTemplateError(f"chat_template {argument!r} is neither a template's source nor one of: {known}")
    return named


def _is_source(argument: str) -> bool:
    return any(character in argument for character in "{}\n")
