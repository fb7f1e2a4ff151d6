"""Checks a backend: every op's samples against the reference, each in a child process between inaccessible pages.

The exit status is 1 where a kernel gives a wrong result, fails, crashes or hangs; an op that the backend declines is no
failure.
"""

from __future__ import annotations

import argparse
import json
import sys

from perfxapi.conformance import verify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """BACKEND, --op, --seconds."""
    parser.add_argument(
        "backend", metavar="BACKEND[:INDEX]", help='what to check: "cpu", "opencl:1", a plugin\'s backend'
    )
    parser.add_argument("--op", action="append", metavar="OP", help="check this op only; may be given several times")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long one case may take (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Prints the support matrix, and each failure on standard error."""
    report = verify(arguments.backend, arguments.op, seconds=arguments.seconds)
    print(json.dumps(report.to_json(), indent=2) if arguments.json else report)
    for outcome in report.failures:
        print(outcome, file=sys.stderr)
    return 1 if report.failures else 0
