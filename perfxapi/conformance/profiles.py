"""What a backend must run with kernels of its own to be called good for something: the one list of it.

A profile names ops and dtypes. A backend that has it declines no sample of these, as the sample stands in memory:
another arrangement (rows with gaps, column order) and everything else may be declined, and falls back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perfxapi.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Profile:
    """`required` gives, for each op, the dtypes of the samples that may not be declined.

    Whatever is required, at least one sample must run by the backend's own kernels.
    """

    name: str
    summary: str
    required: Mapping[str, tuple[str, ...]]

    def requires(self, op: str, dtype: str) -> bool:
        """Whether samples of this op and dtype may not be declined."""
        return dtype in self.required.get(op, ())


_FLOAT32 = ("float32",)
_CACHES = ("float32", "float16")
_WEIGHTS = ("float32", "float16", "bfloat16", "q8_0", "q4_0", "q4_k", "q6_k")
"""What weights of published models are stored in most often."""

_ARRAY = (
    *("add", "subtract", "multiply", "divide", "floor_divide", "remainder", "pow", "maximum", "minimum"),
    *("equal", "less", "less_equal", "copysign", "hypot", "atan2", "logaddexp"),
    *("abs", "sign", "ceil", "floor", "round", "trunc", "sqrt", "exp", "expm1", "log", "log2", "log10", "log1p"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    *("sum", "prod", "max", "min", "argmax", "argmin", "cumulative_sum", "cumulative_prod"),
    *("concat", "assign", "take", "take_along_axis", "put_rows", "argsort", "searchsorted", "matmul"),
)
_MODEL = (
    "add",
    "multiply",
    "gated_activation",
    "softcap",
    "rms_norm",
    "rope",
    "rope_table",
    "take_rows",
    "softmax",
    "log_softmax",
    "logsumexp",
    "topk",
    "adjust_logits",
    "sample",
)
PROFILES = {
    profile.name: profile
    for profile in (
        Profile("minimal", "a device and one kernel; everything else falls back", {}),
        Profile(
            "array",
            "arithmetic, functions, reductions and selections on arrays of float32",
            {**dict.fromkeys(_ARRAY, _FLOAT32), "where": ("bool",)},
        ),
        Profile(
            "language-model",
            "every step of a decoder with weights as published and a paged cache; fused ops may be lacking",
            {
                **dict.fromkeys(_MODEL, _FLOAT32),
                **dict.fromkeys(("linear", "embedding"), _WEIGHTS),
                **dict.fromkeys(("kv_write", "paged_attention"), _CACHES),
            },
        ),
    )
}


def profile_named(name: str) -> Profile:
    """The profile of that name. Raises UnknownNameError."""
    try:
        return PROFILES[name]
    except KeyError:
        raise UnknownNameError("profile", name, list(PROFILES)) from None
