"""Conversations as text: chat templates in Jinja, rendered in a sandbox, with the origin of every character kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Any

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError, TemplateSyntaxError

from perfxapi.errors import InvalidArgumentError
from perfxlm.tokenizer.budget import BUDGET, Budget, spend
from perfxlm.tokenizer.errors import ChatTemplateError
from perfxlm.tokenizer.origin import FINAL_MESSAGE, MESSAGE, join, mark_values, origins_of
from perfxlm.tokenizer.sandbox import TemplateEnvironment

MAX_SOURCE_CHARACTERS = 1 << 16
MAX_OUTPUT_CHARACTERS = 1 << 22
"""Of what a template adds; text of messages may come several times on top."""

_MAX_NODES = 8192
_WORK = 1 << 27
_WORK_PER_CHARACTER = 128
_SECONDS = 0.25
_SECONDS_PER_CHARACTER = 2e-6
_ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function", "model", "ipython", "observation"))
"""Roles that a template may make a control token of, as in `'<|' + message.role + '|>'`."""


@dataclass(frozen=True, slots=True)
class RenderedChat:
    """A conversation as text; `origins` has one byte for each character, 0 where the template wrote it."""

    text: str
    origins: bytes = field(repr=False)

    def template_spans(self) -> list[tuple[int, int]]:
        """(start, end) of the stretches that the template wrote: only there may control tokens be."""
        return [match.span() for match in re.finditer(rb"\0+", self.origins)]


class ChatTemplate:
    """A compiled template. Safe to share between threads."""

    def __init__(self, source: str) -> None:
        """source: Jinja source text. Raises ChatTemplateError with the line of a mistake."""
        if len(source) > MAX_SOURCE_CHARACTERS:
            problem = f"{len(source)} characters long, and at most {MAX_SOURCE_CHARACTERS} are allowed"
            raise ChatTemplateError(f"the chat template is {problem}")
        environment = _environment()
        with _errors_of(None), _budget(0):
            tree = environment.parse(source)
            if (count := sum(1 for _ in tree.find_all(nodes.Node))) > _MAX_NODES:
                raise TemplateError(f"it has {count} parts, and at most {_MAX_NODES} are allowed")
            if (modifier := tree.find(nodes.EvalContextModifier)) is not None:
                raise TemplateSyntaxError("autoescape is of no use in a chat template", modifier.lineno)
            self.takes_content_parts = _takes_content_parts(tree)
            self.takes_tools = any(name.name == "tools" for name in tree.find_all(nodes.Name))
            code = environment.compile(environment.instrument(tree))
            self._template = Template.from_code(environment, code, dict(environment.globals))

    def render(self, variables: Mapping[str, Any], num_characters: int) -> RenderedChat:
        """The text for these variables; num_characters: how long their strings are in all, for the limits."""
        parts: list[str] = []
        left = MAX_OUTPUT_CHARACTERS + 8 * num_characters
        with _errors_of(self._template), _budget(num_characters):
            for part in self._template.root_render_func(self._template.new_context(dict(variables))):
                spend(len(part))
                parts.append(part)
                left -= len(part)
                if left < 0:
                    raise TemplateError(f"the output is longer than {MAX_OUTPUT_CHARACTERS} characters")
            text = join("", parts)
        return RenderedChat(str.__str__(text), origins_of(text))


def render_chat(
    messages: Sequence[Mapping[str, Any]],
    template: ChatTemplate | str,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
    *,
    special_tokens: Mapping[str, str] | None = None,
    **kwargs: Any,
) -> RenderedChat:
    """Renders a conversation.

    messages: dicts with "role" and "content" (text, or a list of parts of type "text"). add_generation_prompt: end
    with the opening of the assistant's turn. continue_final_message: end within the last message, so that the model
    goes on with it. tools: JSON schemas of functions. special_tokens: `bos_token` and `eos_token` as text. kwargs:
    more variables for the template. Raises InvalidArgumentError for malformed messages, ChatTemplateError for what
    the template does or refuses.
    """
    template = template if isinstance(template, ChatTemplate) else ChatTemplate(template)
    if add_generation_prompt and continue_final_message:
        raise InvalidArgumentError("add_generation_prompt and continue_final_message exclude each other")
    if tools and not template.takes_tools:
        raise ChatTemplateError("the chat template does not use tools; give a chat_template that does, or no tools")
    variables = {
        "messages": _marked_messages(messages, template.takes_content_parts),
        "tools": _marked("tools", list(tools)) if tools else None,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
        **(special_tokens or {}),
    }
    if taken := variables.keys() & kwargs.keys() - {"documents"}:
        raise InvalidArgumentError(f"chat_template_kwargs must not hold {min(taken)!r}, which has a meaning of its own")
    variables |= {name: _marked(name, value) for name, value in kwargs.items()}
    chat = template.render(variables, _num_characters(variables))
    return _cut_after_final_message(chat) if continue_final_message else chat


def _cut_after_final_message(chat: RenderedChat) -> RenderedChat:
    end = chat.origins.rfind(FINAL_MESSAGE) + 1
    if end == 0:
        raise ChatTemplateError("the last message's text is not in the output, so that it cannot be continued")
    return RenderedChat(chat.text[:end], chat.origins[:end])


def _marked_messages(messages: Sequence[Mapping[str, Any]], takes_parts: bool) -> list[dict[str, Any]]:
    """Copies with origins, contents in the form that the template takes, arguments of tool calls as objects."""
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence) or not messages:
        raise InvalidArgumentError("messages must be a list with at least one message")
    marked = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InvalidArgumentError(f"{where} must be a dict with a role, a string")
        copied: dict[str, Any] = _marked(where, {**message, "content": None})
        if message["role"] in _ROLES:
            copied["role"] = str.__str__(message["role"])
        content = _checked_content(f"{where}.content", message.get("content"), takes_parts)
        copied["content"] = _marked(where, content, FINAL_MESSAGE if index == len(messages) - 1 else MESSAGE)
        _parse_tool_arguments(copied)
        marked.append(copied)
    return marked


def _checked_content(where: str, content: Any, takes_parts: bool) -> Any:
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidArgumentError(f"{where} must be a string or a list of parts; got {type(content).__name__}")
    texts: list[str] = []
    for index, part in enumerate(content):
        part = {"type": "text", "text": part} if isinstance(part, str) else part
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise InvalidArgumentError(f"{where}[{index}] is of type {kind!r}; only parts of type 'text' are supported")
        texts.append(part["text"])
    return [{"type": "text", "text": text} for text in texts] if takes_parts else "\n".join(texts)


def _parse_tool_arguments(message: dict[str, Any]) -> None:
    """Clients send a tool call's arguments as JSON text; templates expect the object."""
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            try:
                function["arguments"] = mark_values(json.loads(function["arguments"] or "{}"), MESSAGE)
            except (ValueError, RecursionError):
                raise InvalidArgumentError("tool_calls: a function's arguments must be JSON") from None


def _marked(where: str, value: Any, origin: int = MESSAGE) -> Any:
    try:
        return mark_values(value, origin)
    except TypeError as error:
        raise InvalidArgumentError(f"{where} must be made of JSON values: {error}") from None
    except RecursionError:
        raise InvalidArgumentError(f"{where} is nested too deeply") from None


def _num_characters(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(_num_characters(key) + _num_characters(item) for key, item in value.items())
    if isinstance(value, list):
        return sum(map(_num_characters, value))
    return len(value) if isinstance(value, str) else 1


def _takes_content_parts(tree: nodes.Template) -> bool:
    """Whether a template loops over a message's content, or only prints it."""
    names = {"content"}
    for assignment in tree.find_all(nodes.Assign):
        if isinstance(assignment.target, nodes.Name) and _is_content(assignment.node, names):
            names.add(assignment.target.name)
    return any(_is_content(loop.iter, names) for loop in tree.find_all(nodes.For))


def _is_content(node: nodes.Node, names: set[str]) -> bool:
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == "content"
    if isinstance(node, nodes.Getattr):
        return node.attr == "content"
    return isinstance(node, nodes.Name) and node.name in names


@cache
def _environment() -> TemplateEnvironment:
    return TemplateEnvironment()


@contextmanager
def _budget(num_characters: int) -> Iterator[None]:
    work = _WORK + _WORK_PER_CHARACTER * num_characters
    token = BUDGET.set(Budget(work, _SECONDS + _SECONDS_PER_CHARACTER * num_characters))
    try:
        yield
    finally:
        BUDGET.reset(token)


@contextmanager
def _errors_of(template: Template | None) -> Iterator[None]:
    """Turns whatever a template raises into ChatTemplateError with the line."""
    try:
        yield
    except TemplateSyntaxError as error:
        raise ChatTemplateError(str(error.message), error.lineno) from None
    except SyntaxError as error:  # of the Python code that Jinja made: more nested loops than Python allows
        raise ChatTemplateError(error.msg) from None
    except RecursionError:
        raise ChatTemplateError("nested too deeply") from None
    except MemoryError:
        raise ChatTemplateError("out of memory") from None
    except Exception as error:  # a template can call anything that its values offer, so anything may be raised
        problem = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        raise ChatTemplateError(problem, _line_of(error.__traceback__, template)) from None


def _line_of(traceback: TracebackType | None, template: Template | None) -> int | None:
    """Line of the template in which an error was raised: that of the innermost frame of its compiled code."""
    line = None
    while traceback is not None and template is not None:
        if traceback.tb_frame.f_code.co_filename == "<template>":
            line = template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return line
