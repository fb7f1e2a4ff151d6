"""Chat templates: text against plain Jinja, and whose each character is."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import jinja2
import pytest
import tokenizer_files as files
from jinja2.ext import loopcontrols
from markupsafe import Markup
from tokenizer_strings import tokenizer_strings

from perfxapi.errors import InvalidArgumentError
from perfxlm.errors import UnsupportedFeatureError
from perfxlm.tokenizer import ChatTemplateError, Tokenizer, read_chat_template
from perfxlm.tokenizer.builtin_templates import BUILTIN_TEMPLATES
from perfxlm.tokenizer.chat_template import render_chat
from perfxlm.tokenizer.origin import MESSAGE, TEMPLATE, join, origins_of

Message = dict[str, Any]


def user(content: Any) -> Message:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}


def system(content: Any) -> Message:
    return {"role": "system", "content": content}


def render(source: str, messages: list[Message] | None = None, **options: Any) -> str:
    return render_chat(messages or [user("hi")], source, options.pop("add_generation_prompt", False), **options).text


def shown_origins(source: str, messages: list[Message], **options: Any) -> str:
    """The text with users' characters in upper case and the template's in lower case."""
    chat = render_chat(messages, source, False, **options)
    return "".join(c.upper() if origin else c.lower() for c, origin in zip(chat.text, chat.origins, strict=True))


# Equal to plain Jinja

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich", "days": 3}}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "required": ["city"]}}}]
CONVERSATIONS: list[list[Message]] = [
    [user("hi")],
    [system(" Be nice. "), user(" hello \n")],
    [user("a"), assistant("<think>\nwell</think>\n\nb"), user("c<d>")],
    [user("?"), assistant(None, tool_calls=[CALL]), {"role": "tool", "name": "weather", "content": "rain"}],
    [user(""), assistant("ß, Ŀ, ŉ and İ"), user("\t")],
]

TEMPLATES = {
    **BUILTIN_TEMPLATES,
    "operators": "{% for m in messages %}{{ m.role + ': ' + (m.content or '') ~ 1 ~ none }}{{ '-' * 3 }}"
    "{{ '%s|' % m.content }}"
    "{{ '{}!'.format(m.content) }}{{ (m.content or '') * 2 }}{% endfor %}",
    "methods": "{% for m in messages if m.content %}{% set c = m.content %}{{ c.strip() }}{{ c.lstrip('a') }}"
    "{{ c.split() }}"
    "{{ c.split('</think>')[-1].lstrip('\\n') }}{{ c.rsplit(None, 1)|last }}{{ c.partition('>')[2] }}{{ c.upper() }}"
    "{{ c.title() }}"
    "{{ c.replace('a', '<x>') }}{{ c.splitlines()|join('/') }}{{ '</think>' in c }}{{ c.startswith('<') }}"
    "{{ c.find('b') }}"
    "{{ c[1:] }}{{ c[-1] }}{{ c[::-1] }}{{ c.removeprefix('a') }}{{ c.removesuffix('a') }}{{ ', '.join([c, 'x']) }}"
    "{{ c.lower() }}"
    "{{ c.rpartition(' ')[0] }}{{ c.zfill(4) }}{% endfor %}",
    "filters": "{% for m in messages %}{{ m.content|trim }}{{ m.role|upper }}{{ m|length }}"
    "{{ m.content|default('none', true) }}"
    "{{ m.tool_calls|tojson if m.tool_calls }}{{ m.content|string|replace('a', 'b')|capitalize }}{{ m.content|e }}"
    "{{ m|items|list|length }}"
    "{{ (m.content or 'x')|first }}{{ (m.content or '')|list }}{{ (m.content or '')|indent(2, true) }}"
    "{{ '%s'|format(m.content) }}"
    "{% endfor %}{{ messages|map(attribute='role')|join(', ') }}"
    "{{ messages|selectattr('role', 'equalto', 'user')|list|length }}"
    "{{ messages|map(attribute='content')|select('string')|map('upper')|join('+') }}"
    "{{ messages|rejectattr('content')|list|length }}"
    "{{ tools|tojson(indent=2) }}{{ [3, 1, 2]|sort|reverse|list }}{{ {'b': 1, 'a': 2}|dictsort }}"
    "{{ ' x '|trim|length }}",
    "statements": "{% macro turn(m, end='.') %}<{{ m.role }}>{{ m.content }}{{ caller() if caller }}{{ end }}"
    "{% endmacro %}"
    "{% set ns = namespace(n=0, text='') %}{% for m in messages %}{% if loop.index > 4 %}{% break %}{% endif %}"
    "{% if m.role == 'tool' %}{% continue %}{% endif %}{% set ns.n = ns.n + 1 %}"
    "{% set ns.text = ns.text + turn(m) %}{% set block %}"
    "[{{ m.content }}]{% endset %}{{ block }}{% call turn(m, end='!') %}inner{% endcall %}{% filter upper %}x"
    "{{ m.role }}{% endfilter %}"
    "{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.cycle('a', 'b') }}{% else %}none"
    "{% endfor %}{{ ns.text }}{{ ns.n }}"
    "{% for key, value in messages[0].items() %}{{ key }}={{ value }};{% endfor %}{% with x = 1 %}{{ x }}"
    "{% endwith %}{{ range(3)|list }}"
    "{{ not_there }}{{ not_there is defined }}{{ tools is none }}{{ messages[0]['content'] is string }}{{ 7 // 2 }}"
    "{{ 7 % 4 }}{{ 2 ** 5 }}",
    "white space": "  {%- for m in messages %}\n  {{ m.content }}\n  {% if true %}\n    x\n  "
    "{% endif %}\n{# note #}\n{%- endfor %}\n",
}


def plain_jinja(source: str, **variables: Any) -> str:
    """As HuggingFace's libraries render: trimmed blocks, loop controls, JSON without HTML escapes."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    import json

    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    return environment.from_string(source).render(**variables)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("prompt", [False, True])
def test_text_equals_plain_jinja(name: str, prompt: bool) -> None:
    source = TEMPLATES[name]
    for messages in CONVERSATIONS:
        if name == "gemma" and messages[-1]["role"] == "tool":
            continue
        tools = TOOLS if "tools" in source else None
        tokens = {"bos_token": "<s>", "eos_token": "</s>"}
        expected = plain_jinja(source, messages=messages, tools=tools, add_generation_prompt=prompt, **tokens)
        text = render(source, messages, tools=tools, add_generation_prompt=prompt, special_tokens=tokens)
        assert text == expected


def test_more_variables_reach_the_template() -> None:
    source = "{{ enable_thinking }}{{ names|join(',') }}{{ documents }}"
    assert render(source, enable_thinking=False, names=["a", "b"]) == "Falsea,bNone"


def test_date_and_generation_blocks() -> None:
    assert render("{{ strftime_now('%Y') }}") == time.strftime("%Y")
    assert render("{% generation %}a{{ messages[0].content }}{% endgeneration %}") == "ahi"


# Which characters are whose


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x{{ messages[0].content }}y", "xHEY YOUy"),
        ("{{ 'x' + messages[0].content + 'y' }}", "xHEY YOUy"),
        ("{{ 'x' ~ messages[0].content ~ 'y' }}", "xHEY YOUy"),
        ("{{ ('  x' ~ messages[0].content ~ 'y  ')|trim }}", "xHEY YOUy"),
        ("{{ messages[0].content.split()|join('-') }}", "HEY-YOU"),
        ("{{ '-'.join(messages[0].content.split()) }}", "HEY-YOU"),
        ("{{ messages[0].content.replace('y', 'z') }}", "HEz zOU"),
        ("{{ messages[0].content|replace('y', 'z') }}", "HEz zOU"),
        ("{{ messages[0].content[4:] ~ '.' }}", "YOU."),
        ("{% for c in messages[0].content %}{{ c }}.{% endfor %}", "H.E.Y. .Y.O.U."),
        ("{% macro m(t) %}<{{ t }}>{% endmacro %}{{ m(messages[0].content) }}", "<HEY YOU>"),
        ("{% set b %}<{{ messages[0].content }}>{% endset %}{{ b }}", "<HEY YOU>"),
        ("{% set n = namespace(t='<') %}{% set n.t = n.t + messages[0].content %}{{ n.t }}", "<HEY YOU"),
        ("{{ messages[0].role }}{{ messages[0].name }}", "userBOB"),
        ("{{ ('a' ~ messages[0].content).upper() }}", "aHEY YOU"),
        ("{{ messages[0].content|first ~ 'x' ~ messages[0].content|last }}", "HxU"),
        ("{{ messages|map(attribute='content')|join }}", "HEY YOU"),
        ("{{ messages[0].content * 2 ~ 'a' * 2 }}", "HEY YOUHEY YOUaa"),
        # what cannot be followed is the user's as a whole
        ("{{ '%s x' % messages[0].content }}", "HEY YOU X"),
        ("{{ '%s x'|format(messages[0].content) }}", "HEY YOU X"),
        ("{{ '{} x'.format(messages[0].content) }}", "HEY YOU X"),
        ("{{ messages[0].content|tojson }}", '"HEY YOU"'),
        ("{{ [messages[0].content, 'x'] }}", "['HEY YOU', 'X']"),
        ("{{ [messages[0].content]|string }}", "['HEY YOU']"),
        ("{{ 'x' ~ [messages[0].content] }}", "x['HEY YOU']"),
        ("{{ messages[0].content|title ~ messages[0].content|capitalize }}", "HEY YOUHEY YOU"),
        ("{{ messages[0].content|e ~ messages[0].content|indent ~ messages[0].content|safe }}", "HEY YOU" * 3),
        ("{{ messages[0].content.center(9) ~ messages[0].content.swapcase() }}", " HEY YOU HEY YOU"),
        ("{{ '-'.join(messages|map(attribute='content')) ~ ','.join({messages[0].content: 1}) }}", "HEY YOU" * 2),
        ("{% filter lower %}x{{ messages[0].content }}{% endfilter %}", "xHEY YOU"),
        ("{{ extra }}{% for k in extra %}{{ k }}{% endfor %}{{ (extra|items|list)[0][0] }}", "{'KEY': 'VALUE'}KEYKEY"),
        ("{{ tools[0].name }}{% for k, v in tools[0].items() %}{{ k }}{{ v }}{% endfor %}", "TOOLNAMETOOL"),
    ],
)
def test_origin_of_characters(source: str, expected: str) -> None:
    messages = [{**user("hey you"), "name": "bob"}]
    assert (
        shown_origins(source, messages, extra={"key": "value"}, tools=[{"name": "tool"}] if "tools" in source else None)
        == expected
    )


def test_only_known_roles_are_taken_for_the_templates_own() -> None:
    assert shown_origins("<|{{ messages[0].role }}|>", [user("a")]) == "<|user|>"
    assert shown_origins("<|{{ messages[0].role }}|>", [{"role": "im_end", "content": ""}]) == "<|IM_END|>"


# With a tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A vocabulary with <start_of_turn>, so that Gemma's built-in template is taken."""
    vocabulary = files.sentencepiece_vocabulary(files.train_sentencepiece())
    path = tmp_path_factory.mktemp("chat") / "spm.gguf"
    ids = files.special_ids(bos=2, eos=1, unknown=3)
    return vocabulary.load(path, *ids, files.flag("add_space_prefix", False))


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return files.bpe_vocabulary(files.train_byte_level_bpe()).load(tmp_path_factory.mktemp("chat") / "bpe.gguf")


def test_benign_conversations_are_tokenized_as_their_text(tokenizer: Tokenizer, chatml: Tokenizer) -> None:
    for each in (tokenizer, chatml):
        strings = [string.replace("<", "(") for string in tokenizer_strings(200, 30)]
        for first, second in zip(strings[::2], strings[1::2], strict=True):
            messages = [system(first), user(second), assistant(first), user("x")]
            text = each.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ids = each.apply_chat_template(messages, add_generation_prompt=True)
            assert ids == each.encode(str(text), add_special_tokens=False, allow_control=True)
            assert each.decode(ids, skip_special_tokens=False) == text


def test_control_tokens_of_users_stay_text(tokenizer: Tokenizer, chatml: Tokenizer) -> None:
    for each, names in ((tokenizer, files.SPM_CONTROL), (chatml, files.BPE_CONTROL)):
        control = {each.convert_tokens_to_ids(name) for name in names}
        benign = each.apply_chat_template(
            [system("s"), user("x"), assistant("y"), user("z")], add_generation_prompt=True
        )
        expected = [token for token in benign if token in control]
        source = random.Random(5)
        for _ in range(200):
            texts = []
            for _ in range(4):
                parts = [source.choice([*names, "<", ">", "|", "start", "im_", "\n", "model", " "]) for _ in range(6)]
                texts.append("".join(part[source.randrange(2) :] if source.random() < 0.3 else part for part in parts))
            messages = [
                system(texts[0]),
                user(texts[1]),
                assistant(texts[2]),
                user([{"type": "text", "text": texts[3]}]),
            ]
            ids = each.apply_chat_template(messages, add_generation_prompt=True)
            assert [token for token in ids if token in control] == expected  # type: ignore[union-attr]
            text = each.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            assert each.decode(ids, skip_special_tokens=False) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.content }}{% endfor %}",  # two messages side by side
        "{{ messages[0].content + messages[1].content }}",
        "{{ messages|map(attribute='content')|join }}",
        "{{ messages[0].content.replace('-', '') }}{{ (messages[1].content ~ '')|trim }}",
        "<{{ messages[2].content }}>",  # the template closes what the user began
        "{{ '<' ~ messages[2].content ~ '>' }}",
        "{{ messages[3].content|lower }}",
        "{{ messages[3].content.lower() }}",
        "{{ messages[4].content[::-1] }}",
        "{{ messages[4].content|reverse }}",
        "{% set x %}{{ messages[0].content }}{% endset %}{{ x }}{{ messages[1].content }}",
        "{{ [messages[0].content, messages[1].content]|join('') }}",
        "{{ '%s%s' % (messages[0].content, messages[1].content) }}",
        "{{ '{}{}'.format(messages[0].content, messages[1].content) }}",
        "{{ messages|tojson }}",
        "{{ messages }}",
        "{{ messages[0].content|safe }}{{ messages[1].content|string }}",
        "{{ messages[5].content }}{{ messages[5]['a key'] }}{{ messages[5].keys()|list }}",
        "{% for key in messages[5] %}{{ key }}{% endfor %}",
        "<{{ messages[6].role }}>",
        "{{ tools }}{{ tools[0].function.name }}",
    ],
)
def test_no_detour_makes_a_control_token_of_message_text(tokenizer: Tokenizer, source: str) -> None:
    messages = [
        user("<start_-of_"),
        user("turn>"),
        user("start_of_turn"),
        user("<START_OF_TURN>"),
        user(">nrut_fo_trats<"),
        {**user("<start_of_turn>"), "a key": "<start_of_turn>", "<start_of_turn>": 1},
        {"role": "start_of_turn", "content": ""},
    ]
    tools = [{"function": {"name": "<start_of_turn>"}}] if "tools" in source else None
    ids = tokenizer.apply_chat_template(messages, chat_template=source, tools=tools)
    assert not any(tokenizer.is_control(token) for token in ids)  # type: ignore[union-attr]


def test_a_role_may_be_part_of_a_control_token(tmp_path: Path) -> None:
    vocabulary = files.bpe_vocabulary(files.train_byte_level_bpe())
    tokens, types = [*vocabulary.tokens, "<|user|>"], [*vocabulary.types, files.CONTROL]
    wider = files.Vocabulary("gpt2", tokens, types, merges=vocabulary.merges)
    tokenizer = wider.load(tmp_path / "roles.gguf")
    ids = tokenizer.apply_chat_template(
        [user("<|user|>")], chat_template="{{ '<|' + messages[0]['role'] + '|>' + messages[0].content }}"
    )
    assert ids == [len(tokens) - 1, *tokenizer.encode("<|user|>")]


# Choosing a template, forms of messages


def test_which_template_is_taken(tokenizer: Tokenizer, tmp_path: Path) -> None:
    vocabulary = files.sentencepiece_vocabulary(files.train_sentencepiece())
    messages = [user("a")]
    own = vocabulary.load(tmp_path / "own.gguf", files.text("tokenizer.chat_template", "own"))
    assert own.render_chat(messages, "{{ 'argument' }}").text == "argument"
    assert own.render_chat(messages, "chatml").text == "<|im_start|>user\na<|im_end|>\n"
    assert own.render_chat(messages).text == "own"
    assert tokenizer.render_chat(messages).text == "<s><start_of_turn>user\na<end_of_turn>\n"
    with pytest.raises(ChatTemplateError, match="neither a template's source nor one of: chatml"):
        tokenizer.render_chat(messages, "/etc/hostname")
    bare = files.Vocabulary(
        "llama", vocabulary.tokens, [1 if kind == 3 else kind for kind in vocabulary.types], vocabulary.scores
    )
    with pytest.raises(ChatTemplateError, match="give one as chat_template"):
        bare.load(tmp_path / "bare.gguf", *files.special_ids(unknown=3)).render_chat(messages)


def test_reading_a_template_from_a_path(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("file")
    assert read_chat_template(str(tmp_path / "t.jinja")) == "file"
    assert read_chat_template("{{ source }}") == "{{ source }}"
    assert read_chat_template("chatml") == "chatml"
    (tmp_path / "bad.jinja").write_bytes(b"\xff")
    with pytest.raises(ChatTemplateError, match="cannot be read"):
        read_chat_template(str(tmp_path / "bad.jinja"))


def test_built_in_formats() -> None:
    messages = [system("S"), user(" U "), assistant("A"), user("V")]
    tokens = {"bos_token": "<bos>"}
    assert render(BUILTIN_TEMPLATES["gemma"], messages, add_generation_prompt=True, special_tokens=tokens) == (
        "<bos><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
        "<start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n"
    )
    assert render(BUILTIN_TEMPLATES["llama3"], messages[:2], add_generation_prompt=True, special_tokens=tokens) == (
        "<bos><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU"
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    with pytest.raises(ChatTemplateError, match="line 5: this format has no role tool"):
        render(BUILTIN_TEMPLATES["gemma"], [{"role": "tool", "content": ""}])


def test_continuing_the_last_message() -> None:
    messages = [user("a"), assistant("so far ")]
    for name, expected in (("chatml", "<|im_start|>assistant\nso far "), ("gemma", "<start_of_turn>model\nso far")):
        text = render(BUILTIN_TEMPLATES[name], messages, continue_final_message=True)
        assert text.endswith(expected)
    with pytest.raises(InvalidArgumentError, match="exclude each other"):
        render("x", add_generation_prompt=True, continue_final_message=True)
    with pytest.raises(ChatTemplateError, match="not in the output"):
        render("x", messages, continue_final_message=True)


def test_contents_in_parts() -> None:
    parts = [user([{"type": "text", "text": "a"}, "b"])]
    assert render("{{ messages[0].content }}", parts) == "a\nb"
    looping = "{% for m in messages %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endfor %}"
    assert render(looping, parts) == "<a><b>"
    via_variable = "{% set c = messages[0]['content'] %}{% for p in c %}<{{ p['text'] }}>{% endfor %}"
    assert render(via_variable, parts) == "<a><b>"


def test_arguments_of_tool_calls_are_objects() -> None:
    call = {"function": {"name": "f", "arguments": '{"city": "<start>"}'}}
    source = "{{ messages[0].tool_calls[0].function.arguments.city }}"
    assert render(source, [assistant(None, tool_calls=[call])]) == "<start>"
    with pytest.raises(InvalidArgumentError, match="must be JSON"):
        render(source, [assistant(None, tool_calls=[{"function": {"arguments": "{"}}])])


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "at least one message"),
        ("abc", "must be a list"),
        (None, "must be a list"),
        (["a"], r"messages\[0\] must be a dict with a role"),
        ([{"content": "a"}], r"messages\[0\] must be a dict with a role"),
        ([{"role": 1, "content": "a"}], r"messages\[0\] must be a dict with a role"),
        ([user(b"a")], r"messages\[0\].content must be a string or a list of parts; got bytes"),
        (
            [user("a"), user([{"type": "image_url", "image_url": {}}])],
            r"messages\[1\].content\[0\] is of type 'image_url'",
        ),
        ([user([7])], r"content\[0\] is of type 'int'"),
        ([{**user("a"), "x": object()}], "JSON values: object"),
        ([{**user("a"), "x": nested(100000)}], "nested too deeply"),
    ],
)
def test_malformed_messages_are_refused(messages: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        render_chat(messages, "x")


def test_tools_and_variables_that_would_go_unseen_are_refused() -> None:
    with pytest.raises(ChatTemplateError, match="does not use tools"):
        render("{{ messages }}", tools=TOOLS)
    with pytest.raises(InvalidArgumentError, match="'bos_token'"):
        render("x", special_tokens={"bos_token": "<s>"}, bos_token="</s>")


def test_strings_of_an_unknown_kind_are_not_trusted() -> None:
    assert shown_origins("{{ messages[0].content|escape }}", [user("a<")]) == "A&LT;"
    assert set(origins_of(Markup("a"))) == {MESSAGE}
    assert set(origins_of(join("x", ["y", Markup("a")]))) == {TEMPLATE, MESSAGE}


def test_arguments_of_transformers_that_would_change_the_result(tokenizer: Tokenizer) -> None:
    ids = tokenizer.apply_chat_template([user("a")])
    assert tokenizer.apply_chat_template([user("a")], return_dict=False, padding=False) == ids
    with pytest.raises(UnsupportedFeatureError, match="return_tensors"):
        tokenizer.apply_chat_template([user("a")], return_tensors="pt")


def test_lone_surrogates_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidArgumentError, match="lone surrogate U\\+D800"):
        tokenizer.apply_chat_template([user("\ud800")])
