"""The hooks of the entry-point group `perfxapi`. They exist for discovery only; nothing in a hot path calls a hook."""

from __future__ import annotations

from collections.abc import Callable

import pluggy

from perfxapi.backend import BackendManifest
from perfxapi.ops.spec import OpSpec

GROUP = "perfxapi"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def register_backends(register: Callable[[BackendManifest], None]) -> None:
    """Call `register` with the manifest of each backend."""


@hookspec
def register_ops(register: Callable[[OpSpec], None]) -> None:
    """Call `register` with the spec of each custom op."""
