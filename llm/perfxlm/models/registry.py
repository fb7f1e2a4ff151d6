"""Which class computes which architecture.

A model module registers its class with `register_model`. Modules of this package are found by listing it; other
distributions add theirs through the entry-point group `perfxlm.models`, whose entries name a module or a class.
"""

from __future__ import annotations

import importlib
import pkgutil
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from importlib import metadata
from typing import TypeVar

from perfxapi.errors import InvalidArgumentError, PerfXWarning, UnknownNameError
from perfxlm.layers.decoder import Decoder

ENTRY_POINT_GROUP = "perfxlm.models"

_MODELS: dict[str, type[Decoder]] = {}
_Model = TypeVar("_Model", bound=type[Decoder])


def register_model(*names: str) -> Callable[[_Model], _Model]:
    """Class decorator: the class answers to `names` (GGUF architectures, HuggingFace `architectures` and model types).

    A name that another class has taken raises InvalidArgumentError.
    """

    def register(model: _Model) -> _Model:
        for name in names:
            taken = _MODELS.setdefault(name, model)
            if taken is not model:
                owners = f"{taken.__module__}.{taken.__qualname__} and {model.__module__}.{model.__qualname__}"
                raise InvalidArgumentError(f"model architecture {name!r} is claimed by {owners}")
        return model

    return register


def model_class(architecture: str) -> type[Decoder]:
    """The class for an architecture's name. Raises UnknownNameError."""
    _discover()
    try:
        return _MODELS[architecture]
    except KeyError:
        raise UnknownNameError("model architecture", architecture, sorted(_MODELS)) from None


def architectures() -> dict[str, type[Decoder]]:
    """Every known architecture's name and class."""
    _discover()
    return dict(_MODELS)


@cache
def _discover() -> None:
    """Imports the modules of this package, then entry points; a broken one is warned about and passed over."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{module.name}")
    for entry_point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry_point.load()
        except Exception:
            problem = traceback.format_exc(limit=-1)
            warnings.warn(
                f"model plugin {entry_point.name!r} ({entry_point.value}): {problem}", PerfXWarning, stacklevel=3
            )
