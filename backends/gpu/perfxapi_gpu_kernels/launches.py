"""Launches: what a call becomes on a device, before anything is bound to memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from perfxapi.backend import OpCall
from perfxapi.memory import View
from perfxapi_gpu_kernels.driver import Properties, Region, Size
from perfxapi_gpu_kernels.sources import Program

Argument: TypeAlias = View | Region | np.generic | bytes
"""An operand, memory that is not an operand's (a workspace, packed weights), a number, or a structure."""


class Launch(NamedTuple):
    """One kernel, its work-groups and their size, and its arguments.

    A launch that `checks` passes the fault word and its code after the arguments (FAULT_PARAMETERS).
    """

    program: Program
    entry: str
    groups: Size
    local: Size
    arguments: tuple[Argument, ...]
    checks: bool = False


@dataclass(slots=True)
class Request:
    """What a binding is given to make launches from.

    `workspace` is scratch memory of the size that the binding asked for; `packed(view, key, make)` gives a constant in
    a form of the binding's own, made once on each device; `table(key, make)` gives constants that no operand holds.
    """

    call: OpCall
    properties: Properties
    workspace: Region | None
    packed: Callable[[View, Any, Callable[[], Sequence[Any]]], Any]
    table: Callable[[Any, Callable[[], npt.NDArray[Any]]], Region]


@dataclass(frozen=True, slots=True)
class Binding:
    """How one op runs: `accepts` gives None or why not, `launches` the kernels in order, `workspace` scratch bytes."""

    op: str
    accepts: Callable[[OpCall, Properties], str | None]
    launches: Callable[[Request], list[Launch]]
    workspace: Callable[[OpCall, Properties], int]


BINDINGS: dict[str, Binding] = {}
"""All bindings, by op."""


def _no_workspace(call: OpCall, properties: Properties) -> int:
    return 0


def bind_op(
    *ops: str,
    accepts: Callable[[OpCall, Properties], str | None],
    workspace: Callable[[OpCall, Properties], int] = _no_workspace,
) -> Callable[[Callable[[Request], list[Launch]]], Callable[[Request], list[Launch]]]:
    """Registers the decorated function as what launches ops."""

    def register(launches: Callable[[Request], list[Launch]]) -> Callable[[Request], list[Launch]]:
        for op in ops:
            BINDINGS[op] = Binding(op, accepts, launches, workspace)
        return launches

    return register


def row_group(columns: int, properties: Properties) -> int:
    """Work-items for a row of so many columns, where a work-group serves a row: a power of two."""
    most = 16 if properties.is_processor else min(256, properties.max_group_size)
    size = 1
    while size < columns and size < most:
        size *= 2
    return size
