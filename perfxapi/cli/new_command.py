"""Writes a working backend, or a plugin with a custom op, to begin with: two files and their test."""

from __future__ import annotations

import argparse
import json
import shlex

from perfxapi.skeletons import KINDS, write_skeleton


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """KIND, NAME, --directory."""
    parser.add_argument("kind", choices=KINDS, help="a device with kernels, or an op with a kernel")
    parser.add_argument("name", metavar="NAME", help="what it is called: letters, digits, underscores")
    parser.add_argument("--directory", default=".", metavar="D", help="where its folder is made (default: here)")


def run(arguments: argparse.Namespace) -> int:
    """Prints the files and what to do next."""
    files = write_skeleton(arguments.kind, arguments.name, arguments.directory)
    folder = files[0].parent
    place = str(folder) if folder.is_absolute() else f"./{folder}"
    steps = [f"pip install {shlex.quote(place)}", f"perfxapi verify {arguments.name}"]
    if arguments.json:
        names = [str(path) for path in files]
        print(json.dumps({"kind": arguments.kind, "name": arguments.name, "files": names, "next": steps}, indent=2))
        return 0
    print("\n".join(map(str, files)))
    print("\nnext:", *steps, sep="\n  ")
    return 0
