"""Checks a backend: every op's samples against the reference, each in a child process, between guarded memory.

The exit status is 1 where a kernel gives a wrong result, writes out of range, fails, crashes or hangs, where an op
that the profile requires is declined, and where no kernel of the backend ran at all, or none of an op that was named;
another op that is declined is no failure.
"""

from __future__ import annotations

import argparse
import json
import sys

from perfxapi.conformance import PROFILES, verify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """BACKEND, --op, --profile, --seconds."""
    parser.add_argument(
        "backend", metavar="BACKEND[:INDEX]", help='what to check: "cpu", "opencl:1", a plugin\'s backend'
    )
    parser.add_argument("--op", action="append", metavar="OP", help="check this op only; may be given several times")
    meanings = "; ".join(f"{name}: {profile.summary}" for name, profile in PROFILES.items())
    parser.add_argument(
        "--profile",
        choices=list(PROFILES),
        help=f"what the backend must run with its own kernels ({meanings}; default: minimal, none with --op)",
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="how long one case may take (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Prints the support matrix, and each failure on standard error."""
    profile = arguments.profile or (None if arguments.op else "minimal")
    report = verify(arguments.backend, arguments.op, profile=profile, seconds=arguments.seconds)
    print(json.dumps(report.to_json(), indent=2) if arguments.json else report)
    for outcome in (*report.failures, *report.missing):
        print(outcome, file=sys.stderr)
    return 0 if report.passed else 1
