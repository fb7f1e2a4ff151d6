"""Runs the ONNX project's own backend tests (`onnx.backend.test`) on perfxapi, and keeps what it found.

    python scripts/onnx_tests.py --device cpu

The suite computes some of its expected results with onnx.reference, so it is recorded in a process of its own: models,
inputs and expected outputs. Here they are run by `perfxapi.onnx.Backend`, and neither onnx.reference nor onnxruntime is
imported (the script checks it at the end). Whatever is not run to the end with the right outputs has failed. Counts by
operator go to docs/onnx.json, and from there (with `--table`, only from there) to docs/onnx.md.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "docs/onnx.json", ROOT / "docs/onnx.md"
SECONDS = 120
"""A test that takes longer has failed."""


@dataclass
class Recorded:
    """One test of the suite: the model's bytes, and for each set of data the inputs, what is expected, and bounds."""

    name: str
    kind: str
    model: bytes = b""
    inputs: list[Any] = field(default_factory=list)
    expected: list[tuple[Any, float, float]] = field(default_factory=list)


# ---- recording (imports onnx.reference, for the suite does)


def record(path: Path) -> None:
    """Writes all CPU tests of the suite to a file."""
    from onnx.backend.base import Backend, BackendRep
    from onnx.backend.test.runner import Runner

    current: list[Recorded] = []

    class Recorder(Backend, BackendRep):
        """Takes note of models and inputs, and computes nothing."""

        @classmethod
        def prepare(cls, model: Any, *_: Any, **__: Any) -> Any:
            current[-1].model = model.SerializeToString()
            return cls()

        @classmethod
        def supports_device(cls, device: str) -> bool:
            return device == "CPU"

        def run(self, inputs: Any, **_: Any) -> tuple[Any, ...]:
            current[-1].inputs.append(list(inputs))
            return ()

    class RecordingRunner(Runner):
        """Takes note of what is expected instead of comparing."""

        @classmethod
        def assert_similar_outputs(cls, ref_outputs: Any, outputs: Any, rtol: float, atol: float, **_: Any) -> None:  # noqa: ARG003
            current[-1].expected.append((list(ref_outputs), rtol, atol))

    tests = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ONNX_HOME"] = folder
        for case in RecordingRunner(Recorder).test_cases.values():
            for name in sorted(vars(case)):
                if not name.startswith("test_") or not name.endswith("_cpu"):
                    continue
                current.append(Recorded(name.removesuffix("_cpu"), case.__name__))
                getattr(case(name), name)()
                tests.append(current.pop())
    path.write_bytes(pickle.dumps(tests))


def recorded(keep: Path | None) -> list[Recorded]:
    """The tests of the suite, from a process of their own, or from the file where they were kept."""
    with tempfile.TemporaryDirectory() as folder:
        path = keep or Path(folder) / "tests"
        if not path.exists():
            command = [sys.executable, "-W", "ignore", __file__, "--record", str(path)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        tests: list[Recorded] = pickle.loads(path.read_bytes())
        return tests


# ---- comparing, as the suite does


def compare(outputs: Sequence[Any], expected: Sequence[Any], rtol: float, atol: float) -> None:
    """Raises AssertionError where outputs are not what the suite expects: number, shapes, dtypes, values."""
    assert len(outputs) == len(expected), f"{len(outputs)} outputs instead of {len(expected)}"
    for mine, theirs in zip(outputs, expected, strict=True):
        if theirs is None:
            assert mine is None, "an empty optional was expected"
        elif isinstance(theirs, list | tuple):
            assert isinstance(mine, list), "a sequence was expected"
            compare(mine, theirs, rtol, atol)
        else:
            _compare_tensors(mine, np.asarray(theirs), rtol, atol)


def _compare_tensors(mine: Any, theirs: Any, rtol: float, atol: float) -> None:
    assert isinstance(mine, np.ndarray), f"a tensor was expected, not {type(mine).__name__}"
    assert mine.shape == theirs.shape, f"shape {mine.shape} instead of {theirs.shape}"
    if theirs.dtype == object:
        np.testing.assert_array_equal(mine, theirs)
        return
    assert mine.dtype == theirs.dtype, f"dtype {mine.dtype} instead of {theirs.dtype}"
    if mine.dtype.kind not in "biufc":  # ml_dtypes
        rtol = max(rtol, 2**-6) if mine.dtype.name == "bfloat16" else rtol
        mine, theirs = mine.astype(np.float32), theirs.astype(np.float32)
    np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=atol)


# ---- running


def run(test: Recorded, device: str) -> tuple[str, Counter[str]]:
    """What went wrong with a test ("" if nothing), and how many calls of ops ran on which backend."""
    import onnx

    import perfxapi as px
    from perfxapi.onnx import Backend

    px.reset_explain()
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS)
    try:
        model = Backend.prepare(onnx.ModelProto.FromString(test.model), device)
        for inputs, (expected, rtol, atol) in zip(test.inputs, test.expected, strict=True):
            compare(model.run(inputs), expected, rtol, atol)
        problem = ""
    except Exception as error:
        text = " ".join(str(error).split())
        problem = f"{type(error).__name__}: {text}"
    finally:
        signal.alarm(0)
    where: Counter[str] = Counter()
    for row in px.explain().rows:
        where[row.ran_on.partition(":")[0]] += row.count
    return problem, where


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"took more than {SECONDS} s")


def subject(test: Recorded, operators: dict[str, str]) -> str:
    """The operator that a test is about; for tests of whole models, their kind."""
    if not test.kind.startswith("OnnxBackendNode"):
        return re.sub("OnnxBackend(.*)ModelTest", r"models: \1", test.kind)
    name = re.sub(r"_expanded.*", "", test.name)
    return operators.get(name) or operators.get(test.name) or "several"


def only_operator(test: Recorded) -> str:
    """The operator of a model with a single node, or of the first that is no constant; "" for a function's body."""
    import onnx

    nodes = onnx.ModelProto.FromString(test.model).graph.node
    real = [node for node in nodes if node.op_type != "Constant"] or list(nodes)
    if "_expanded" in test.name or not real:
        return ""
    node = real[-1] if test.name.startswith("test_sequence") else real[0]
    return f"{node.domain}.{node.op_type}" if node.domain else str(node.op_type)


def run_all(tests: Sequence[Recorded], device: str, verbose: bool) -> dict[str, Any]:
    """Runs the tests; counts by operator, with what failed and how many ops ran natively."""
    operators = {test.name: found for test in tests if (found := only_operator(test))}
    table: dict[str, dict[str, Any]] = defaultdict(lambda: {"passed": 0, "total": 0, "calls": {}, "failed": {}})
    started = time.monotonic()
    for number, test in enumerate(tests, 1):
        problem, where = run(test, device)
        row = table[subject(test, operators)]
        row["total"] += 1
        row["passed"] += not problem
        row["calls"] = dict(Counter(row["calls"]) + where)
        if problem:
            row["failed"][test.name] = problem[:200]
            if verbose:
                print(f"{test.name}: {problem[:300]}", flush=True)
        if sys.stderr.isatty():
            print(f"\r{number}/{len(tests)} {time.monotonic() - started:.0f} s", end="", file=sys.stderr)
    return dict(sorted(table.items()))


# ---- the page

TEXT = """# ONNX

`perfxapi.onnx` runs ONNX files as plans on any device, and saves what is traced as such files. It needs the extra
`perfxapi[onnx]`.

```python
import perfxapi as px
import perfxapi.onnx

model = perfxapi.onnx.load("model.onnx", device="auto")
outputs = model(image)  # by position or name; outputs are Arrays by name

perfxapi.onnx.save(lambda x: px.tanh(x @ weights), "made.onnx", {"x": px.TensorSpec((px.Dim("n"), 64), px.float32)})
```

`perfxapi onnx run FILE` runs a file, `perfxapi onnx show FILE` says where each op would run, why not on the device that
was asked for, and how much memory a plan takes. How files become plans:
[adr/0011](adr/0011-onnx-in-segments.md). A plugin brings operators of its own by `perfxapi.onnx.operator`.

This is what the ONNX project's own tests say, all %(total)s CPU tests of `onnx.backend.test` (onnx %(version)s), on the
device `%(device)s`: **%(passed)s passed**. A test passes only where it ran to the end and its outputs were right;
neither onnx.reference nor onnxruntime is imported. "Native" is the share of calls of ops that ran on kernels of the
device; the others ran on the reference, except what happens on the host by itself (strings, 8- and 4-bit types, random
draws). To run it again: `make test-onnx`.
"""


def write(passed: int, total: int, device: str, table: dict[str, Any]) -> None:
    """Writes docs/onnx.json."""
    import onnx

    version = onnx.__version__
    found = {"device": device, "version": version, "passed": passed, "total": total, "operators": table}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def page() -> str:
    """The text of docs/onnx.md, from docs/onnx.json."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    rows = ["| operator | passed | of | native |", "| --- | --- | --- | --- |"]
    failures = ["| test | reason |", "| --- | --- |"]
    for name, row in found["operators"].items():
        rows.append(f"| {name} | {row['passed']} | {row['total']} | {_share(row['calls'], found['device'])} |")
        failures += [f"| `{test}` | {problem.replace('|', '/')} |" for test, problem in row["failed"].items()]
    parts = [TEXT % found, "## By operator\n", "\n".join(rows) + "\n"]
    return "\n".join([*parts, "## What fails\n", "\n".join(failures)]) + "\n"


def _share(calls: dict[str, int], device: str) -> str:
    total = sum(calls.values())
    return f"{100 * calls.get(device, 0) / total:.0f}%" if total else "on the host"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 1 where fewer than `--least` tests passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="a regular expression that a test's name must match")
    parser.add_argument("--least", type=int, default=0, help="how many tests must pass")
    parser.add_argument("--write", action="store_true", help="write docs/onnx.json and docs/onnx.md")
    parser.add_argument("--table", action="store_true", help="only write docs/onnx.md anew")
    parser.add_argument("--quiet", action="store_true", help="do not print what fails")
    parser.add_argument("--tests", type=Path, help="keep the recorded tests in this file, and take them from it")
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.record:
        record(arguments.record)
        return 0
    if arguments.table:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    warnings.simplefilter("ignore")
    tests = [test for test in recorded(arguments.tests) if re.search(arguments.only, test.name)]
    table = run_all(tests, arguments.device, not arguments.quiet)
    forbidden = [name for name in ("onnx.reference", "onnxruntime") if name in sys.modules]
    assert not forbidden, f"imported: {forbidden}"
    passed = sum(row["passed"] for row in table.values())
    print(f"\n{passed} of {len(tests)} passed on {arguments.device}")
    if arguments.write:
        write(passed, len(tests), arguments.device, table)
        PAGE.write_text(page(), encoding="utf-8")
    return 0 if passed >= arguments.least else 1


if __name__ == "__main__":
    sys.exit(main())
