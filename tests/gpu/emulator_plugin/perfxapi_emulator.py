"""Registers the emulator as `emulator:0` where this folder is on the path.

PYTHONPATH=tests/gpu/emulator_plugin perfxapi verify emulator --op rms_norm
"""

from __future__ import annotations

from collections.abc import Callable

from perfxapi.backend import Backend, BackendManifest
from perfxapi.hookspecs import hookimpl


def load() -> Backend:
    from perfxapi_gpu_kernels.emulator import EmulatorBackend

    return EmulatorBackend()


@hookimpl
def register_backends(register: Callable[[BackendManifest], None]) -> None:
    register(BackendManifest("emulator", load, ("emulator",), priority=-50, own_memory=True))
