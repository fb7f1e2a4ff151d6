"""Chat templates that loop, allocate, or reach for what they must not: each ends soon, in a ChatTemplateError."""

from __future__ import annotations

import pytest
from costs import at_most

from perfxlm.tokenizer import ChatTemplateError
from perfxlm.tokenizer.builtin_templates import BUILTIN_TEMPLATES
from perfxlm.tokenizer.chat_template import MAX_SOURCE_CHARACTERS, ChatTemplate, render_chat

MESSAGES = [{"role": "user", "content": "hi"}]

BOMB = "{% set n = namespace(x='x', y=['x'], z=['x']) %}{% for i in range(100) %}"
HARMFUL = {
    "nested loops": "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "huge range": "{{ range(10**9)|list }}",
    "wider than any integer": "{% for i in range(10000000000000000000000) %}{% endfor %}",
    "recursive macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "branching macro": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "recursive block": "{% block a %}{{ self.a() }}{% endblock %}",
    "recursive loop": "{% for i in range(100000) recursive %}{{ loop(range(100000)) }}{% endfor %}",
    "multiplication": "{{ 'x' * 10**9 }}",
    "list multiplication": "{{ [1] * 10**9 }}",
    "product of lists": "{{ ([[1] * 1000] * 100000)|string|length }}",
    "doubling by +": BOMB + "{% set n.x = n.x + n.x %}{% endfor %}",
    "doubling by ~": BOMB + "{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling a list": BOMB + "{% set n.y = n.y + n.y %}{% endfor %}",
    "doubling by a block": BOMB + "{% set b %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = b %}{% endfor %}",
    "doubling by join": BOMB + "{% set n.x = [n.x, n.x]|join %}{% endfor %}",
    "doubling by replace": BOMB + "{% set n.x = n.x.replace('x', 'xx') %}{% endfor %}",
    "doubling by format": BOMB + "{% set n.x = '%s%s' % (n.x, n.x) %}{% endfor %}",
    "list of itself, printed": BOMB + "{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.y }}",
    "list of itself, as JSON": BOMB + "{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.y|tojson }}",
    "lists of themselves, compared": BOMB
    + "{% set n.y = [n.y, n.y] %}{% set n.z = [n.z, n.z] %}{% endfor %}{{ n.y == n.z }}",
    "tuple of itself, hashed": BOMB + "{% set n.y = (n.y, n.y) %}{% endfor %}{{ {n.y: 1} }}",
    "power": "{{ 10**10**10 }}",
    "integers": "{{ ('9' * 4000)|int * ('9' * 4000)|int }}",
    "replace": "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "replace nothing": "{{ ('a' * 100000)|replace('', 'b' * 100000) }}",
    "join": "{{ ('b' * 100000).join('a' * 100000) }}",
    "width by %": "{{ '%1000000000d' % 1 }}",
    "width by %*": "{{ '%*d' % (1000000000, 1) }}",
    "width by a filter": "{{ '%1000000000d'|format(1) }}",
    "width by format": "{{ '{:1000000000}'.format(1) }}",
    "width by a nested field": "{{ '{:{}}'.format(1, 1000000000) }}",
    "width by center": "{{ 'a'.center(10**9) }}",
    "indentation": "{{ 'a'|indent(10**9, true) }}",
    "indentation of JSON": "{{ messages|tojson(indent=10**9) }}",
    "long output": "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    "class": "{{ ''.__class__ }}",
    "class of a list": "{{ messages.__class__.__mro__ }}",
    "class by a filter": "{{ ''|attr('__class__') }}",
    "class by map": "{{ messages|map(attribute='__class__')|list }}",
    "class by sort": "{{ messages|sort(attribute='__class__') }}",
    "class by join": "{{ messages|join(attribute='__class__') }}",
    "class by format": "{{ '{0.__class__}'.format(messages) }}",
    "class by format_map": "{{ '{x.__class__}'.format_map({'x': messages}) }}",
    "class of a message": "{{ messages[0].content.__class__ }}",
    "private attribute": "{{ messages[0].content._origins }}",
    "globals": "{{ raise_exception.__globals__ }}",
    "globals of a class": "{{ cycler.__init__.__globals__ }}",
    "code of a macro": "{% macro f() %}{% endmacro %}{{ f._func.__code__ }}",
    "template": "{{ self._TemplateReference__context }}",
    "address of a function": "{{ raise_exception }}",
    "address of a method": "{{ messages[0].get }}",
    "change of a list": "{{ messages.append(1) }}",
    "change of a dict": "{{ messages[0].update({}) }}",
    "encode": "{{ 'x'.encode() }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "extends": "{% extends 'x' %}",
    "debug": "{% debug %}",
    "autoescape": "{% autoescape true %}{{ messages[0].content }}{% endautoescape %}",
    "unknown filter": "{{ 'a'|center(10**9) }}",
    "deep parentheses": "{{ " + "(" * 30000 + ")" * 30000 + " }}",
    "deep lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "deep conditions": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "deep loops": "{% for i in [1] %}" * 30 + "{% endfor %}" * 30,
    "long chain": "{{ " + "+".join("1" * 3000) + " }}",
    "many parts": "{{ " + "~".join("1" * 20000) + " }}",
    "long source": "x" * (MAX_SOURCE_CHARACTERS + 1),
    "division by zero": "{{ 1 / 0 }}",
    "call of nothing": "{{ foo() }}",
    "syntax": "{% if %}",
}


@pytest.mark.parametrize("name", HARMFUL)
def test_harmful_templates_are_stopped(name: str) -> None:
    with at_most(1), pytest.raises(ChatTemplateError):
        render_chat(MESSAGES, HARMFUL[name])


def test_errors_name_the_line() -> None:
    for source, line in (
        ("a\n{{ 1 +\n}}", 3),
        ("a\n\n{% if true %}\n{{ 1 / 0 }}{% endif %}", 4),
        ("a\n{% macro f() %}\n\n{{ ''.__class__ }}{% endmacro %}\n{{ f() }}", 4),
        ("\n{{ raise_exception('roles must alternate') }}", 2),
    ):
        with pytest.raises(ChatTemplateError, match=f"line {line}: ") as caught:
            render_chat(MESSAGES, source)
        assert caught.value.line == line
    with pytest.raises(ChatTemplateError, match="roles must alternate"):
        render_chat(MESSAGES, "{{ raise_exception('roles must alternate') }}")


def test_long_conversations_are_within_the_limits() -> None:
    turns = [{"role": "user", "content": "abc <b> " * 25}, {"role": "assistant", "content": "yes. " * 40}] * 1000
    template = ChatTemplate(BUILTIN_TEMPLATES["chatml"])
    chat = render_chat(turns, template)
    assert len(chat.text) > 400_000
    assert render_chat([{"role": "user", "content": "x" * 5_000_000}], template).text.count("x") == 5_000_000
