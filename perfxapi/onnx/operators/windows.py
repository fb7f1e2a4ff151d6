"""Windows that slide over images: attributes that convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.registry import OperatorNode

MAX_SPATIAL = 3


def padding_mode(node: OperatorNode) -> str:
    """`auto_pad`. Raises InvalidArgumentError for what ONNX does not know."""
    return choice(node, "auto_pad", ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"), "NOTSET")


def geometry(node: OperatorNode, sizes: Sequence[int], kernel: Sequence[int]) -> dict[str, Any]:
    """Strides, dilations and pads (at the beginnings, then at the ends) for spatial sizes and a kernel's.

    Raises UnsupportedOperatorError for more than three spatial axes, and for pads that are negative.
    """
    rank = len(kernel)
    if not 1 <= rank <= MAX_SPATIAL:
        raise node.unsupported(f"a window of {rank} axes")
    strides = list(node.attribute("strides") or [1] * rank)
    dilations = list(node.attribute("dilations") or [1] * rank)
    pads = list(node.attribute("pads") or [0] * 2 * rank)
    mode = padding_mode(node)
    if mode == "VALID":
        pads = [0] * 2 * rank
    elif mode.startswith("SAME"):
        spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
        totals = [
            max((-(-size // stride) - 1) * stride + span - size, 0)
            for size, stride, span in zip(sizes, strides, spans, strict=True)
        ]
        pads = divided(totals, more_at_end=mode == "SAME_UPPER")
    if min(pads) < 0:
        raise node.unsupported(f"a negative pad ({pads})")
    return {"strides": tuple(strides), "dilations": tuple(dilations), "pads": tuple(pads)}


def divided(totals: Sequence[int], *, more_at_end: bool) -> list[int]:
    """Pads shared out between beginnings and ends; of an odd number one side gets one more."""
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return [*small, *large] if more_at_end else [*large, *small]
