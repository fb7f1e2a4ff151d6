"""The command line: `perfxapi devices | backends | explain | tune | verify | new | onnx | env`, a module for each."""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from collections.abc import Sequence

from perfxapi.errors import PerfXError, PerfXWarning

COMMANDS = ("devices", "backends", "explain", "tune", "verify", "new", "onnx", "env")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands.

    Each module describes itself: its docstring, `add_arguments(parser)`, `run(arguments)` with the exit status.
    """
    from perfxapi import __version__

    parser = argparse.ArgumentParser(prog="perfxapi", description="What this machine can compute on, and how well.")
    parser.add_argument("--version", action="version", version=f"perfxapi {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"perfxapi.cli.{name}_command")
        summary = (module.__doc__ or "").strip()
        command = commands.add_parser(name, help=summary.splitlines()[0], description=summary)
        command.add_argument("--json", action="store_true", help="print one JSON document instead of text")
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 1 for what went wrong (one line on standard error), 2 for usage."""
    arguments = make_parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", PerfXWarning)
            warnings.showwarning = _show_warning
            status: int = arguments.run(arguments)
            sys.stdout.flush()
    except PerfXError as error:
        print(f"perfxapi: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output (`| head`) has seen enough
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return status


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Warnings of ours are for the user; others keep the name of their category."""
    kind = "" if issubclass(category, PerfXWarning) else f"{category.__name__}: "
    print(f"perfxapi: warning: {kind}{message}", file=sys.stderr)
