"""Lists every plugin found, the backends that it brings, whether they can be used here, and if not, why."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from perfxapi.backend import REGISTRY, BackendEntry
from perfxapi.plugins import STATUSES, PluginStatus
from perfxapi.tables import text_table


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend, or one plugin that brings none.

    `state` is usable, unusable (its probe, its library or its devices say no), failed (the plugin did not load) or
    skipped (PERFXAPI_PLUGINS does not name it). `probe` is "none" where the backend has none.
    """

    plugin: str
    distribution: str
    version: str
    backend: str
    state: str
    priority: int
    devices: list[str]
    num_kernels: int
    probe: str
    problem: str
    mend: str
    traceback: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--verbose."""
    parser.add_argument("--verbose", action="store_true", help="print the traceback of what failed")


def rows() -> list[BackendRow]:
    """One row for each backend, best first, then one for each plugin that brings none or failed."""
    entries = REGISTRY.entries()
    owners = {name: status for status in STATUSES.values() for name in status.backends}
    loaded = [_backend_row(owners[entry.manifest.name], entry) for entry in entries]
    others = [_plugin_row(s) for s in STATUSES.values() if s.state != "loaded" or not (s.backends or s.ops)]
    return loaded + others


def _backend_row(status: PluginStatus, entry: BackendEntry) -> BackendRow:
    manifest, backend = entry.manifest, REGISTRY.load(entry)
    return BackendRow(
        status.name,
        status.distribution,
        status.version,
        manifest.name,
        "usable" if backend is not None else "unusable",
        manifest.priority,
        [str(device) for device in entry.device_list] or [f"joins {name}" for name in manifest.joined],
        len(list(backend.kernel_ops())) if backend is not None else 0,
        "none" if manifest.probe is None else REGISTRY.probe(manifest) or "ok",
        entry.problem or "",
        "" if backend is not None else manifest.mend,
        entry.traceback,
    )


def _plugin_row(status: PluginStatus) -> BackendRow:
    state = status.state if status.state != "loaded" else "unusable"
    problem = status.problem or "it registers no backend and no op"
    return BackendRow(
        status.name, status.distribution, status.version, "", state, 0, [], 0, "none", problem, "", status.traceback
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the backends; a broken plugin is a row, not an error."""
    found = rows()
    if arguments.json:
        print(json.dumps([asdict(row) for row in found], indent=2))
        return 0
    header = ["backend", "state", "priority", "kernels", "devices", "plugin", "from"]
    print(text_table(header, [_cells(row) for row in found]))
    for line in _problems(found, verbose=arguments.verbose):
        print(line)
    return 0


def _cells(row: BackendRow) -> list[str]:
    source = f"{row.distribution} {row.version}".strip()
    numbers = [str(row.priority), str(row.num_kernels)] if row.backend else ["", ""]
    return [row.backend or "-", row.state, *numbers, ", ".join(row.devices), row.plugin, source]


def _problems(found: list[BackendRow], *, verbose: bool) -> Iterator[str]:
    for row in found:
        if row.problem:
            mend = f" To mend it: {row.mend}" if row.mend else ""
            yield f"\n{row.backend or row.plugin} ({row.distribution}): {row.problem}{mend}"
        if row.traceback and verbose:
            yield row.traceback.rstrip()
