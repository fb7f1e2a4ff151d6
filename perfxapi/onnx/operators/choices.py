"""Attributes that name one of a few ways."""

from __future__ import annotations

from collections.abc import Collection

from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.registry import OperatorNode


def choice(node: OperatorNode, name: str, allowed: Collection[str], default: str | None = None) -> str:
    """An attribute that must be one of the `allowed`; without a default the node must give it.

    Raises InvalidArgumentError, which names what is allowed.
    """
    value = node.required(name) if default is None else node.attribute(name, default)
    if value not in allowed:
        raise InvalidArgumentError(f"{node}: {name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")
    return str(value)
