"""A Jinja environment for templates that come with model files or requests: nobody vouches for them.

On top of Jinja's immutable sandbox: filters, methods and functions are those that chat templates use; names that begin
with an underscore are refused; operations are paid for from a budget; and text keeps its origin (see `origin`).
"""

from __future__ import annotations

from typing import Any, cast

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from perfxlm.tokenizer import filters
from perfxlm.tokenizer.budget import pay, pay_deep, size_of, spend
from perfxlm.tokenizer.origin import join, settle

_MAX_INTEGER_BITS = 256
_MAX_WIDTH = 1000
_GLOBALS = ("dict", "namespace", "range", "cycler", "joiner")
_PADDING_METHODS = frozenset(("center", "ljust", "rjust", "zfill"))
_STRING_METHODS = _PADDING_METHODS | {
    "capitalize", "casefold", "count", "endswith", "find", "format", "index", "isalnum", "isalpha", "isascii",
    "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower", "lstrip",
    "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip",
    "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper",
}  # fmt: skip
_WEIGHED, _TICKED, _JOINED = "_weighed", "_ticked", "_joined"


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox. Rendering needs `BUDGET` to be set in the current context."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # folding constants would run the template's operations while it is compiled
            finalize=filters.to_text,
            extensions=[LoopControlExtension, GenerationTag],
        )
        own = {_WEIGHED: filters.weighed, _TICKED: filters.ticked, _JOINED: lambda parts: filters.join_parts("", parts)}
        self.filters = {**filters.FILTERS, **own}
        self.tests = dict(filters.TESTS)
        self.globals = {name: self.globals[name] for name in _GLOBALS}
        self.globals |= {"raise_exception": filters.raise_exception, "strftime_now": filters.strftime_now}

    @staticmethod
    def concat(parts: Any) -> str:
        """Joins the output of a macro or block; Jinja calls it."""
        parts = list(parts)
        spend(sum(map(len, parts)))
        return join("", parts)

    def instrument(self, tree: nodes.Template) -> nodes.Template:
        """Puts the checks that Jinja has no hook for into a parsed template."""
        return _Instrument(self).visit(tree)  # type: ignore[no-any-return]

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Strings offer the methods that templates use; beginning underscores and changes are refused everywhere."""
        if isinstance(obj, str) and attr not in _STRING_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """Raises SecurityError at once; Jinja would print nothing and go on."""
        raise SecurityError(f"access to attribute {attribute!r} of {type(obj).__name__} is refused")

    def getitem(self, obj: Any, argument: Any) -> Any:
        """As in Jinja; a slice is a copy and paid for."""
        found = super().getitem(obj, argument)
        if isinstance(argument, slice):
            pay(found)
        return found

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """As in Jinja; methods are paid for, and what they make of a user's text remains a user's."""
        spend()
        method = getattr(__obj, "__wrapped__", __obj)
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, list | tuple) and args:
            pay_deep([owner, *args])
        if not isinstance(owner, str):
            return super().call(__context, __obj, *args, **kwargs)
        if name == "replace" and not kwargs:
            return filters.replace(owner, *args)
        if name == "join" and len(args) == 1 and not kwargs:
            return filters.join_parts(owner, args[0])
        _check_method(owner, name, args, kwargs)
        result = super().call(__context, __obj, *args, **kwargs)
        pay(result)
        return settle(result, owner, *args, *kwargs.values())

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """As in Jinja; the result is paid for before it is made."""
        if operator == "+":
            pay(left, right)
        elif operator == "*":
            _check_product(left, right)
        elif operator == "**":
            _check_power(left, right)
        elif isinstance(left, str):
            filters.check_field_widths(left)
            pay_deep([left, right])
        result = super().call_binop(context, operator, left, right)
        return settle(result, left, right) if isinstance(result, str) else result


def _check_method(owner: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    pay(owner)
    pay_deep([args, kwargs])
    if name in ("format", "format_map"):
        filters.check_field_widths(owner)
    if name in _PADDING_METHODS and not (args and isinstance(args[0], int) and args[0] <= _MAX_WIDTH):
        raise SecurityError(f"str.{name} to more than {_MAX_WIDTH} characters is refused")


def _check_product(left: Any, right: Any) -> None:
    for value, count in ((left, right), (right, left)):
        if isinstance(value, str | list | tuple) and isinstance(count, int):
            spend(size_of(value) * max(0, count))
            return
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())


def _check_power(base: Any, exponent: Any) -> None:
    if isinstance(base, int) and isinstance(exponent, int):
        _check_bits(base.bit_length() * abs(exponent))


def _check_bits(bits: int) -> None:
    if bits > _MAX_INTEGER_BITS:
        raise SecurityError(f"an integer of more than {_MAX_INTEGER_BITS} bits is refused")


class _Instrument(NodeTransformer):
    """Counts the turns of loops, joins with `~` so that origins survive, and weighs what is compared."""

    def __init__(self, environment: TemplateEnvironment) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        """A loop pays for each turn."""
        self.generic_visit(node)
        node.iter = self._filtered(cast(nodes.Expr, node.iter), _TICKED)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802
        """`a ~ b`: Jinja would join with str.join, which forgets origins."""
        self.generic_visit(node)
        return self._filtered(nodes.List(node.nodes, lineno=node.lineno, environment=self._environment), _JOINED)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802
        """Comparing walks through both sides."""
        self.generic_visit(node)
        node.expr = self._weighed(node.expr)
        for operand in node.ops:
            operand.expr = self._weighed(operand.expr)
        return node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:  # noqa: N802
        """A tuple may become a key, and hashing walks through it."""
        self.generic_visit(node)
        return self._weighed(node) if node.ctx == "load" else node

    def _weighed(self, node: nodes.Expr) -> nodes.Expr:
        return node if isinstance(node, nodes.Const) else self._filtered(node, _WEIGHED)

    def _filtered(self, node: nodes.Expr, name: str) -> nodes.Filter:
        where = {"lineno": node.lineno, "environment": self._environment}
        return nodes.Filter(node, name, [], [], None, None, **where)


class GenerationTag(Extension):
    """`{% generation %}...{% endgeneration %}` marks what training learns from; here it is only its content."""

    tags = {"generation"}  # noqa: RUF012  # as the base class declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
