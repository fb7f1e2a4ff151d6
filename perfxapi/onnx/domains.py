"""Which domain of ONNX an op of ours stands in, and which op a node of such a domain is."""

from __future__ import annotations

from typing import Any

from perfxapi.array import apply
from perfxapi.errors import UnknownNameError
from perfxapi.onnx.registry import OperatorNode, Registration
from perfxapi.ops.spec import op_spec
from perfxapi.plugins import STATUSES

CORE = "perfxapi"


def domain_of(op: str) -> str:
    """The domain of an op: the distribution that brought it, in the form of its import name."""
    op_spec(op)  # plugins are found when an op is asked for
    for status in STATUSES.values():
        if op in status.ops and status.distribution != CORE:
            return status.distribution.replace("-", "_")
    return CORE


def own_operator(domain: str, op_type: str) -> Registration | None:
    """The translation of a node in a domain of ours: the op of that name; None where it is none."""
    try:
        found = domain_of(op_type) == domain
    except UnknownNameError:
        return None
    return Registration(_apply_own) if found else None


def _apply_own(node: OperatorNode, *operands: Any) -> Any:
    attributes = {name: tuple(v) if isinstance(v, list) else v for name, v in node.attributes.items()}
    for attribute in op_spec(node.op_type).attributes:
        if attribute.kind is tuple:
            attributes.setdefault(attribute.name, ())
    return apply(node.op_type, *operands, **attributes)
