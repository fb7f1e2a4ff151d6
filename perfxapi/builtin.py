"""The plugin that is always there: it registers the reference backend through the same hook as strangers do."""

from __future__ import annotations

from collections.abc import Callable

from perfxapi import reference_backend
from perfxapi.backend import BackendManifest
from perfxapi.hookspecs import hookimpl


@hookimpl
def register_backends(register: Callable[[BackendManifest], None]) -> None:
    """Registers `numpy`."""
    register(reference_backend.MANIFEST)
