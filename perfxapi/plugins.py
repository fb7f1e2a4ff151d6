"""Discovery of backends and custom ops, so that one broken plugin cannot take the rest down.

Entry points of the group `perfxapi` are loaded one by one. What goes wrong with one is kept, with its traceback, and
shown by `perfxapi backends` and whenever its device is asked for.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING

from perfxapi.backend import REGISTRY, BackendManifest
from perfxapi.errors import PerfXWarning, UnknownNameError
from perfxapi.ops.spec import OpSpec, op_spec, register_op
from perfxapi.settings import settings

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(slots=True)
class PluginStatus:
    """One entry point: who brought it, what it registered, and what became of it.

    `state` is "loaded", "failed" (`problem` and `traceback` say why) or "skipped" (PERFXAPI_PLUGINS does not name it).
    """

    name: str
    distribution: str
    version: str
    state: str = "loaded"
    problem: str = ""
    traceback: str = ""
    backends: list[str] = field(default_factory=list)
    ops: list[str] = field(default_factory=list)


STATUSES: dict[str, PluginStatus] = {}
"""What discovery found in this process, by "distribution:entry point"."""


def discover() -> None:
    """Registers the built-in reference backend, then every allowed plugin."""
    from importlib.metadata import entry_points

    from perfxapi import __version__, builtin, hookspecs

    STATUSES.clear()
    _register(builtin, _add(PluginStatus("numpy", "perfxapi", __version__)))
    allowed = settings().plugins
    for entry_point in sorted(entry_points(group=hookspecs.GROUP), key=lambda found: found.name):
        status = _add(_status_of(entry_point))
        if allowed is not None and entry_point.name not in allowed:
            status.state, status.problem = "skipped", "PERFXAPI_PLUGINS does not name it"
            REGISTRY.note_failure(status.name, "PERFXAPI_PLUGINS does not name its plugin")
        else:
            _load(entry_point, status)
    _check_disabled_names()


def _check_disabled_names() -> None:
    """Warns of ops in PERFXAPI_DISABLE_KERNELS that do not exist: a misspelled name would disable nothing."""
    import warnings

    for name in settings().disable_kernels:
        op = name.partition(":")[2]
        try:
            if op != "*":
                op_spec(op)
        except UnknownNameError as error:
            warnings.warn(f"PERFXAPI_DISABLE_KERNELS names {name!r}: {error}", PerfXWarning, stacklevel=2)


def _status_of(entry_point: EntryPoint) -> PluginStatus:
    distribution = entry_point.dist
    if distribution is None:
        return PluginStatus(entry_point.name, entry_point.value, "")
    return PluginStatus(entry_point.name, distribution.name, distribution.version)


def _add(status: PluginStatus) -> PluginStatus:
    STATUSES[f"{status.distribution}:{status.name}"] = status
    return status


def _load(entry_point: EntryPoint, status: PluginStatus) -> None:
    from traceback import format_exc

    try:
        _register(entry_point.load(), status)
    except (Exception, SystemExit) as error:  # whatever a stranger's module raises, the others must load
        status.state, status.problem = "failed", f"{type(error).__name__}: {error}"
        status.traceback = format_exc()
        REGISTRY.note_failure(status.name, f"its plugin {status.distribution} could not be loaded: {status.problem}")


def _register(plugin: object, status: PluginStatus) -> None:
    """Calls the hooks of one plugin alone. What was registered before an error stays."""
    import pluggy

    from perfxapi import hookspecs

    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, status.name)
    manager.check_pending()
    manager.hook.register_ops(register=partial(_register_op, status))
    manager.hook.register_backends(register=partial(_register_backend, status))


def _register_op(status: PluginStatus, spec: OpSpec) -> None:
    from perfxapi.custom import check_signature

    check_signature(spec.reference, spec)
    register_op(spec)
    status.ops.append(spec.name)


def _register_backend(status: PluginStatus, manifest: BackendManifest) -> None:
    REGISTRY.register(manifest, distribution=status.distribution)
    status.backends.append(manifest.name)


@cache
def _probe_result(probe: str, seconds: float) -> str | None:
    """Runs "module:function" in a child process; None when it says the backend is usable, else the reason why not."""
    import json
    import subprocess

    module, _, function = probe.partition(":")
    code = f"import json, {module} as m; print(json.dumps(m.{function}()))"
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
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
    """Whether a backend can be used here: None, or the reason why not. The answer is kept for the process's life."""
    return _probe_result(manifest.probe, manifest.probe_seconds) if manifest.probe else None


REGISTRY.discover = discover
REGISTRY.probe = probe
