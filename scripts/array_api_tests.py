"""Runs the array API standard's own test suite on `perfxapi`, device by device, and keeps what it found.

    python scripts/array_api_tests.py ../array-api-tests --examples 100

The suite is a checkout of data-apis/array-api-tests with its submodule; hypothesis, ndindex and pytest-json-report must
be installed beside perfxapi. Counts go to docs/array-api.json, and from there (with `--table`, only from there) to
docs/array-api.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "docs/array-api.json", ROOT / "docs/array-api.md"
VERSION = "2025.12"
KINDS = ("passed", "failed", "skipped")
Counts = dict[str, int]
TEXT = f"""# The array API standard

`import perfxapi as px` is a namespace of the [Python array API standard](https://data-apis.org/array-api/) {VERSION},
with the extensions `linalg` and `fft`. Its functions come down to few ops ([all of them](generated/ops.md),
[why](adr/0009-the-standard-in-few-ops.md)): a backend has all of the standard with the kernels that it cares to write.

```python
import perfxapi as px

x = px.linspace(0, 1, 5, dtype=px.float32)
px.linalg.vector_norm(px.fft.rfft(x))
x[x > 0.5] = 0.0
```

This is what the standard's own suite, [array-api-tests](https://github.com/data-apis/array-api-tests), says. To run it
again, give a checkout of it, submodule included: `make test-array-api SUITE=../array-api-tests`.
"""


def run_file(suite: Path, name: str, device: str, examples: int) -> Counts:
    """The counts of one file of the suite on one device. Prints what failed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        variables = {
            "ARRAY_API_TESTS_MODULE": "perfxapi",
            "ARRAY_API_TESTS_VERSION": VERSION,
            "PERFXAPI_DEVICE": device,
        }
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command += ["--disable-deadline", "--max-examples", str(examples), f"array_api_tests/test_{name}.py"]
        done = subprocess.run(
            command, cwd=suite, env={**os.environ, **variables}, capture_output=True, text=True, check=False
        )
        if not report.exists():
            raise SystemExit(f"{name} on {device}: the suite did not start\n{done.stdout}\n{done.stderr}")
        attributes = ElementTree.parse(report).getroot().find("testsuite")
    assert attributes is not None
    total, skipped = int(attributes.get("tests", 0)), int(attributes.get("skipped", 0))
    failed = int(attributes.get("failures", 0)) + int(attributes.get("errors", 0))
    if failed:
        print(done.stdout)
    return {"passed": total - skipped - failed, "failed": failed, "skipped": skipped}


def run(suite: Path, devices: Sequence[str], names: Sequence[str], examples: int) -> None:
    """Runs files of the suite and puts their counts among the results, one file at a time."""
    every = sorted(path.stem.removeprefix("test_") for path in (suite / "array_api_tests").glob("test_*.py"))
    for name in names or every:
        for device in devices:
            counts = run_file(suite, name, device, examples)
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            results.setdefault(name, {})[device] = {**counts, "examples": examples}
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
            print(f"{name} on {device}: {counts}", flush=True)


def page() -> str:
    """docs/array-api.md, from the results."""
    results = json.loads(RESULTS.read_text())
    devices = sorted({device for found in results.values() for device in found})
    header = ["part of the suite", *(f"{device}, {kind}" for device in devices for kind in KINDS)]
    rows = [[name.replace("_", " "), *_cells(found, devices)] for name, found in sorted(results.items())]
    sums = {
        device: {kind: sum(found.get(device, {}).get(kind, 0) for found in results.values()) for kind in KINDS}
        for device in devices
    }
    rows.append(["**all**", *_cells(sums, devices)])
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    examples = sorted({counts["examples"] for found in results.values() for counts in found.values()})
    note = f"Examples for each test: {', '.join(map(str, examples))}. What is skipped, the suite itself leaves out."
    return "\n".join([TEXT, note, "", *lines, "", _section_on_libraries()])


def _section_on_libraries() -> str:
    """What the page says of libraries, as it stands: tests/interop checks it."""
    _, heading, rest = PAGE.read_text(encoding="utf-8").partition("## Libraries on the standard")
    return heading + rest


def _cells(found: dict[str, Counts], devices: Sequence[str]) -> list[str]:
    return [str(found.get(device, {}).get(kind, "")) for device in devices for kind in KINDS]


def main() -> int:
    """The command line; the exit code is 1 where a test failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, nargs="?", help="the checkout of array-api-tests")
    parser.add_argument("--device", action="append", help="a device to run on (default: cpu and numpy)")
    parser.add_argument(
        "--only", action="append", default=[], help="a file of the suite, such as linalg (default: all)"
    )
    parser.add_argument("--examples", type=int, default=100, help="examples that hypothesis makes for each test")
    parser.add_argument("--table", action="store_true", help="run nothing; write the page from the results")
    options = parser.parse_args()
    if not options.table:
        if options.suite is None or not (options.suite / "array_api_tests").is_dir():
            parser.error("give the path of a checkout of data-apis/array-api-tests")
        run(options.suite.resolve(), options.device or ["cpu", "numpy"], options.only, options.examples)
    PAGE.write_text(page())
    return any(counts["failed"] for found in json.loads(RESULTS.read_text()).values() for counts in found.values())


if __name__ == "__main__":
    sys.exit(main())
