"""Writes docs/generated from the code itself: command lines, settings, chips, ops; and counts the lines of code that an
architecture takes. `--check` only compares.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import architecture_lines
from pydantic.fields import FieldInfo

import perfxapi
import perfxapi_backend_cpu
from perfxapi.conformance import PROFILES, Profile
from perfxapi.native import NativeLibrary
from perfxapi.native.chips import CHIPS
from perfxapi.ops.spec import OpSpec, all_ops
from perfxapi.settings_model import Settings, variable_of

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs/generated"
NOTE = "Written by `make docs` from the code; do not edit."
PROGRAMS = ("perfxapi", "perfxlm")
OTHER_VARIABLES = {
    "PERFXLM_CACHE_DIR": "Folder for the files of model packages; empty: perfxlm in $XDG_CACHE_HOME or ~/.cache.",
}
"""Variables that are not fields of the core's settings."""


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def commands_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and those of all its commands, depth first."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                yield from commands_of(command)


def argument_row(action: argparse.Action) -> list[str]:
    """How an argument is spelled, and its help."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    value = action.metavar or choices or action.dest.upper()
    name = str(value) if isinstance(value, str) else " ".join(value)
    if action.option_strings:
        name = ", ".join(action.option_strings) + ("" if action.nargs == 0 else f" {name}")
    return [f"`{name}`", (action.help or "").replace("%(default)s", str(action.default))]


def command_section(parser: argparse.ArgumentParser) -> str:
    """One command: what it does and its arguments. The same for every version of Python, unlike `--help` itself."""
    actions = [a for a in parser._actions if not isinstance(a, argparse._SubParsersAction | argparse._HelpAction)]
    parts = [f"## {parser.prog}", parser.description or ""]
    if actions:
        parts.append(table(["argument", "meaning"], [argument_row(action) for action in actions]))
    return "\n\n".join(part for part in parts if part)


def cli() -> str:
    """docs/generated/cli.md."""
    parsers = [importlib.import_module(f"{program}.cli").make_parser() for program in PROGRAMS]
    sections = [command_section(command) for parser in parsers for command in commands_of(parser)]
    return "\n\n".join(["# Command lines", NOTE, *sections])


def variables_read() -> set[str]:
    """Every environment variable of ours that Python code names."""
    folders = (ROOT / "perfxapi", ROOT / "llm", *(ROOT / "backends").iterdir())
    sources = (path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py"))
    return {name for source in sources for name in re.findall(r"\bPERFX(?:API|LM)_[A-Z_]+[A-Z]\b", source)}


def setting_row(name: str, field: FieldInfo) -> list[str]:
    """One environment variable."""
    default = field.default
    shown = ",".join(default) if isinstance(default, tuple) else "" if default is None else str(default)
    return [f"`{variable_of(name)}`", f"`{shown}`" if shown else "not set", field.description or ""]


def settings() -> str:
    """docs/generated/settings.md."""
    rows = [setting_row(name, field) for name, field in Settings.model_fields.items()]
    rows += [[f"`{name}`", "not set", meaning] for name, meaning in OTHER_VARIABLES.items()]
    missing = variables_read() - {row[0].strip("`") for row in rows}
    if missing:
        raise SystemExit(f"docs/generate.py: describe {', '.join(sorted(missing))} in OTHER_VARIABLES")
    header = ["variable", "default", "meaning"]
    return "\n\n".join(["# Settings", NOTE, "Each is an environment variable.", table(header, rows)])


def chips() -> str:
    """docs/generated/chips.md."""
    rows = [[c.name, ", ".join(f"`{name}`" for name in c.identities), f"`{c.affinity}`", c.source] for c in CHIPS]
    meaning = "What `PERFXAPI_AFFINITY` is where it is not set ([threads](../threads.md)); `none` on any other chip."
    header = ["chip", "known by its device tree or its numbers", "affinity", "source"]
    return "\n\n".join(["# Chips", NOTE, meaning, table(header, rows)])


def native_kernels() -> dict[str, set[str]]:
    """For every variant that the library of the cpu backend was compiled with: the ops it has kernels for."""
    library = NativeLibrary(Path(perfxapi_backend_cpu.__file__).with_name("_native.so"))
    text: Callable[[object], str] = lambda pointer: library.ffi.string(pointer).decode()  # noqa: E731
    return {text(v.name): {text(v.kernels[i].op) for i in range(v.num_kernels)} for v in library.variants}


def functions_of_the_standard() -> list[str]:
    """The names of the functions of the namespace, those of its extensions included."""
    spaces = (perfxapi.standard, perfxapi.linalg, perfxapi.fft)
    found = {
        id(function): name for space in spaces for name in space.__all__ if callable(function := getattr(space, name))
    }
    return sorted(found.values())


def op_row(spec: OpSpec, kernels: dict[str, set[str]]) -> list[str]:
    """One op."""
    attributes = [a.name + (f" ({', '.join(a.choices)})" if a.choices else "") for a in spec.attributes]
    having = [variant for variant, ops in kernels.items() if spec.name in ops]
    native = "all" if len(having) == len(kernels) else ", ".join(having) or "no"
    source = spec.infer.__module__ if spec.infer.__module__ != "perfxapi.ops.spec" else spec.samples.__module__
    mutated = [spec.inputs[index] for index in spec.mutates]
    notes = {**dict.fromkeys(mutated, " (written)"), **{spec.inputs[index]: " (optional)" for index in spec.optional}}
    inputs = ", ".join(name + notes.get(name, "") for name in spec.inputs)
    required = ", ".join(profile.name for profile in PROFILES.values() if spec.name in profile.required)
    return [f"`{spec.name}`", inputs, ", ".join(attributes), native, required, f"`{source.replace('.', '/')}.py`"]


DOMAINS = {
    "array": f"primitives of the {len(functions_of_the_standard())} functions of the array API standard",
    "model": "ops of language models",
    "neural": "ops of vision and speech networks",
}


def ops() -> str:
    """docs/generated/ops.md."""
    kernels = native_kernels()
    header = ["op", "inputs", "attributes", "kernel in the cpu backend", "required by", "spec"]
    variants = f"Variants of the cpu backend on x86-64: {', '.join(kernels)}. Every op runs on the reference backend."
    parts = []
    for domain, meaning in DOMAINS.items():
        specs = sorted((spec for spec in all_ops() if spec.domain == domain), key=lambda spec: spec.name)
        parts += [f"## {len(specs)} {meaning}", table(header, [op_row(spec, kernels) for spec in specs])]
    return "\n\n".join(["# Ops", NOTE, variants, *parts, *profiles()])


def profiles() -> list[str]:
    """What the profiles of the conformance kit require."""
    rows = [[f"`{profile.name}`", profile.summary, _dtypes_required(profile)] for profile in PROFILES.values()]
    meaning = "`perfxapi verify BACKEND --profile NAME`: samples of these ops and dtypes may not be declined."
    return ["## Profiles", meaning, table(["profile", "for", "required"], rows)]


def _dtypes_required(profile: Profile) -> str:
    """Ops by the dtypes that they share."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for op, dtypes in profile.required.items():
        groups.setdefault(dtypes, []).append(f"`{op}`")
    return "; ".join(f"{', '.join(found)} in {', '.join(dtypes)}" for dtypes, found in groups.items()) or "any one op"


def adding_a_backend() -> str:
    """docs/adding-a-backend.md, with the lines that an architecture takes between its marks."""
    path = ROOT / "docs/adding-a-backend.md"
    begin, end = "<!-- architectures:begin -->", "<!-- architectures:end -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{path} has no marks {begin} and {end}")
    return f"{before}{begin}\n\n{architecture_lines.section()}\n\n{end}{after.rstrip()}"


PAGES = {
    "cli.md": cli,
    "settings.md": settings,
    "chips.md": chips,
    "ops.md": ops,
    "../adding-a-backend.md": adding_a_backend,
}


def main() -> int:
    """The command line; with --check the exit code is 1 where a page is not what the code says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; write nothing")
    check = parser.parse_args().check
    FOLDER.mkdir(exist_ok=True)
    stale = []
    for name, make in PAGES.items():
        path, text = FOLDER / name, make() + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if stale and check:
        print(f"docs/generated: {', '.join(stale)} not up to date; run: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
