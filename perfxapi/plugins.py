"""Discovery of backends and custom ops, so that one broken plugin cannot take the rest down.

Entry points of the group `perfxapi` are loaded one by one. What goes wrong with one is kept, with its traceback, and
shown by `perfxapi backends` and whenever its device is asked for.
"""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points

import pluggy

from perfxapi import hookspecs, reference
from perfxapi.backend import REGISTRY, BackendManifest
from perfxapi.ops.spec import register_op
from perfxapi.settings import settings


@dataclass(slots=True)
class PluginStatus:
    """One entry point: who brought it and what became of it. `problem` is empty when it loaded."""

    name: str
    distribution: str
    version: str
    problem: str = ""
    traceback: str = ""


STATUSES: dict[str, PluginStatus] = {}
"""What discovery found in this process, by "distribution:entry point"."""


def discover() -> None:
    """Registers the built-in reference backend, then every allowed plugin."""
    STATUSES.clear()
    _register(_Builtin(), PluginStatus("numpy", "perfxapi", ""))
    allowed = settings().plugins
    for entry_point in sorted(entry_points(group=hookspecs.GROUP), key=lambda found: found.name):
        if allowed is None or entry_point.name in allowed:
            _load(entry_point)


class _Builtin:
    """The reference backend registers through the same hook as strangers do."""

    @hookspecs.hookimpl
    def register_backends(self, register: object) -> None:
        register(reference.MANIFEST)  # type: ignore[operator]


def _load(entry_point: EntryPoint) -> None:
    distribution = entry_point.dist
    status = PluginStatus(
        entry_point.name,
        distribution.name if distribution else entry_point.value,
        distribution.version if distribution else "",
    )
    STATUSES[f"{status.distribution}:{status.name}"] = status
    try:
        _register(entry_point.load(), status)
    except Exception as error:  # whatever a stranger's module raises, the others must load
        status.problem = f"{type(error).__name__}: {error}"
        status.traceback = traceback.format_exc()


def _register(plugin: object, status: PluginStatus) -> None:
    """Calls the hooks of one plugin alone. What was registered before an error stays."""
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, status.name)
    manager.check_pending()
    manager.hook.register_ops(register=register_op)
    manager.hook.register_backends(register=partial(REGISTRY.register, distribution=status.distribution))


@cache
def _probe_result(probe: str, seconds: float) -> str | None:
    """Runs "module:function" in a child process; None when it says the backend is usable, else the reason why not."""
    module, _, function = probe.partition(":")
    code = f"import json, {module} as m; print(json.dumps(m.{function}()))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return f"its probe {probe} did not answer within {seconds:g} s"
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return f"its probe {probe} failed: {lines[-1] if lines else f'exit status {done.returncode}'}"
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return f"its probe {probe} did not print JSON"
    return None if answer is None else str(answer)


def probe(manifest: BackendManifest) -> str | None:
    """Whether a backend can be used here:

    None, or the reason why not. The answer is kept for the life of the process.
    """
    return _probe_result(manifest.probe, manifest.probe_seconds) if manifest.probe else None


REGISTRY.discover = discover
REGISTRY.probe = probe
