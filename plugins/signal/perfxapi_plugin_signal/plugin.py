"""What the plugin registers: its ops, and the kernels of its native library, which join the host's memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from perfxapi.backend import Backend, BackendManifest
from perfxapi.custom import OpSpec
from perfxapi.errors import PluginError
from perfxapi.hookspecs import hookimpl
from perfxapi.memory import HOST
from perfxapi_plugin_signal.ops import SPECS

LIBRARY = Path(__file__).with_name("_native.so")
PRIORITY = 200
"""Above the host backends: they have no kernels for these ops."""


def load(variant: str = "") -> Backend:
    """Opens the native library; `variant` names an instruction set other than the best one. Raises PluginError."""
    from perfxapi.native import JoinedKernels, NativeLibrary

    if not LIBRARY.exists():
        raise PluginError("it was installed without its native library; its ops run by their references")
    return JoinedKernels("signal", NativeLibrary(LIBRARY, variant))


@hookimpl
def register_ops(register: Callable[[OpSpec], None]) -> None:
    """Makes the ops known."""
    for spec in SPECS:
        register(spec)


@hookimpl
def register_backends(register: Callable[[BackendManifest], None]) -> None:
    """Gives them kernels, on every device that works on the host's memory."""
    mend = "install a C++ compiler, then pip install --force-reinstall --no-deps perfxapi-plugin-signal"
    register(BackendManifest("signal", load, priority=PRIORITY, joins=HOST, mend=mend))
