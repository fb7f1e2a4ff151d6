"""ONNX: files of that format run as plans on any device (`load`), and what is traced is saved (`save`).

Needs the extra `perfxapi[onnx]` (onnx and onnx_ir), which `import perfxapi` alone does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perfxapi.errors import PluginError
from perfxapi.onnx.registry import (
    OperatorNode,
    UnsupportedOperatorError,
    from_host,
    known,
    known_ints,
    operator,
    to_host,
)

if TYPE_CHECKING:
    from perfxapi.onnx.backend import Backend
    from perfxapi.onnx.model import Model, load
    from perfxapi.onnx.writing import save, to_model

_LAZY = {"Backend": "backend", "Model": "model", "load": "model", "save": "writing", "to_model": "writing"}


def __getattr__(name: str) -> Any:
    """What needs the onnx package is imported when it is first asked for."""
    from importlib import import_module

    if name not in _LAZY:
        raise AttributeError(f"module 'perfxapi.onnx' has no attribute {name!r}")
    try:
        return getattr(import_module(f"perfxapi.onnx.{_LAZY[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in ("onnx", "onnx_ir", "ml_dtypes"):
            raise
        raise PluginError(f"perfxapi.onnx needs {error.name}: pip install 'perfxapi[onnx]'") from error


__all__ = [
    "Backend",
    "Model",
    "OperatorNode",
    "UnsupportedOperatorError",
    "from_host",
    "known",
    "known_ints",
    "load",
    "operator",
    "save",
    "to_host",
    "to_model",
]
