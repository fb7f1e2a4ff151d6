"""The command line: `perfxlm run | chat | bench | eval | tune | show`, one module for each command."""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from collections.abc import Sequence

from perfxapi.errors import PerfXError, PerfXWarning
from perfxlm import __version__

COMMANDS = ("run", "chat", "bench", "eval", "tune", "show")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands.

    Each module describes itself: its docstring, `add_arguments(parser)`, `run(arguments)`.
    """
    parser = argparse.ArgumentParser(prog="perfxlm", description="Run language models on whatever this machine has.")
    parser.add_argument("--version", action="version", version=f"perfxlm {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"perfxlm.cli.{name}_command")
        summary = (module.__doc__ or "").strip()
        command = commands.add_parser(name, help=summary.splitlines()[0], description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status. Errors that a user can mend are one line on standard error."""
    arguments = make_parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status: int = arguments.run(arguments)
    except (PerfXError, OSError) as error:
        print(f"perfxlm: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return status


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Warnings of ours are for the user; others keep the name of their category."""
    kind = "" if issubclass(category, PerfXWarning) else f"{category.__name__}: "
    print(f"perfxlm: warning: {kind}{message}", file=sys.stderr)
