"""Tables that other modules of `bench` measure: each has `measure`, which returns rows of plain values."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from bench.parts.settings import Settings, SkippedPartError


def table_of(module_name: str) -> Callable[[Settings], dict[str, Any]]:
    """The part that runs `bench.<module_name>.measure`, which may take the number of threads."""

    def measure(settings: Settings) -> dict[str, Any]:
        try:
            module = importlib.import_module(f"bench.{module_name}")
        except ImportError as error:
            raise SkippedPartError(f"it cannot be imported: {error}") from None
        settings.log(module_name)
        given = {"threads": settings.model.threads}
        wanted = inspect.signature(module.measure).parameters
        return {"rows": module.measure(**{name: value for name, value in given.items() if name in wanted})}

    return measure
