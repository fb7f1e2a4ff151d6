"""Ready calls: what a small eager call needs that was made before, found by one dict lookup.

A call is only ready where it runs on the very device that its operands are on, so no fallback policy has a say in it.
All else (operands on other devices, a copy that is not valid on the host, a kernel that fails) is left to dispatch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perfxapi.backend import REGISTRY, Block, Launcher, OpCall, SmallKernel
from perfxapi.device import Device
from perfxapi.dispatch import Choice, cached_choice
from perfxapi.memory import HOST, View, layout_of
from perfxapi.ops.spec import OpSpec
from perfxapi.settings import settings

_MAX_KNOWN = 4096
NO_ATTRIBUTES: Mapping[str, Any] = {}


class ReadyCall:
    """How calls of one signature on `device` are launched, and what their result looks like.

    `launch` is None where such calls are known to be dispatch's. It all holds while the registry's generation and the
    settings are those of when it was made.
    """

    __slots__ = ("device", "generation", "kernel", "launch", "layout", "row", "settings")

    def __init__(self, device: Device, choice: Choice, launch: Launcher | None, result: View) -> None:
        self.device, self.kernel, self.row = device, choice.kernel, choice.row
        self.layout = layout_of(result)
        self.launch: Any = launch
        self.generation, self.settings = REGISTRY.generation, settings()

    def run(self, inputs: Sequence[View]) -> Block | None:
        """Launches and counts, as `launch` does for pointers; None where dispatch must run the call."""
        if self.launch is None:
            return None
        pointers = [_pointer(view, self.kernel) for view in inputs]
        block = None if any(pointer is None for pointer in pointers) else self.launch(*pointers)
        self.row.count += block is not None
        return block


def _pointer(view: View, kernel: Any) -> Any:
    """Where the view begins on the host, if it is there and may be read there."""
    buffer = view.buffer
    if buffer.pointer is None:
        if buffer.home is not None or HOST not in buffer.valid_spaces:
            return None
        buffer.pointer = kernel.pointer(buffer.readable(HOST)[0])
    return buffer.pointer + view.offset if view.offset else buffer.pointer


class Known:
    """The ready calls of one op with one set of attributes.

    `quick`, by the layouts of the operands (by the layout, where there is one), holds those whose operands begin where
    their buffers do: the buffers' pointers are theirs.
    """

    def __init__(self) -> None:
        self.quick: dict[Any, ReadyCall] = {}
        self._all: dict[Any, ReadyCall] = {}

    def find(self, inputs: Sequence[View], device: Device) -> ReadyCall | None:
        """What is known of calls with operands on that device, if it holds here and now."""
        ready = self._all.get(tuple(map(layout_of, inputs)))
        holds = ready is not None and ready.device is device and ready.generation == REGISTRY.generation
        return ready if ready is not None and holds and ready.settings is settings() else None

    def add(
        self,
        spec: OpSpec,
        inputs: Sequence[View],
        result: View,
        device: Device,
        attributes: Mapping[str, Any] = NO_ATTRIBUTES,
    ) -> None:
        """After dispatch ran a call: makes the next ones of its kind ready, or notes that they cannot be.

        `attributes` are all of the op's, checked.
        """
        call = OpCall(spec.name, tuple(inputs), (result,), dict(attributes))
        choice = cached_choice(call, device)
        launch: Launcher | None = None
        if not choice.reason and choice.device == device and isinstance(choice.kernel, SmallKernel):
            launch = choice.kernel.launcher(call)
        if len(self._all) >= _MAX_KNOWN:
            self._all.clear()
            self.quick.clear()
        layouts = tuple(map(layout_of, inputs))
        self._all[layouts] = ready = ReadyCall(device, choice, launch, result)
        if launch is not None and not any(layout.has_offset for layout in layouts):
            self.quick[layouts if len(layouts) > 1 else layouts[0]] = ready
