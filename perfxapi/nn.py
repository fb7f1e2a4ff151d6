"""Neural and language-model ops. Each is an op of the registry by its name: `nn.rms_norm(x, weight, eps=1e-6)`.

The signature, shapes, reference and samples of an op stand in its OpSpec (`perfxapi.ops`); `help(nn.rms_norm)` shows
it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from perfxapi.array import apply
from perfxapi.errors import UnknownNameError
from perfxapi.ops.spec import all_ops, op_spec


@cache
def _function(name: str) -> Callable[..., Any]:
    spec = op_spec(name)

    def op(*operands: Any, **named: Any) -> Any:
        rest = [named.pop(name, None) for name in spec.inputs[len(operands) :] if name in named or spec.optional]
        return apply(spec, *operands, *rest, **named)

    described = [f"{a.name}={a.default!r}" if a.default is not None else a.name for a in spec.attributes]
    operands_described = [f"{name}=None" if index in spec.optional else name for index, name in enumerate(spec.inputs)]
    signature = ", ".join([*operands_described, *(["*", *described] if described else [])])
    op.__name__ = op.__qualname__ = name
    op.__doc__ = f"{name}({signature})\n\nSource: {spec.reference.__module__}."
    return op


def __getattr__(name: str) -> Callable[..., Any]:
    try:
        return _function(name)
    except UnknownNameError as error:
        raise AttributeError(str(error)) from None


def __dir__() -> list[str]:
    return [spec.name for spec in all_ops()]
