"""The ONNX project's own backend tests, all of them, and what the docs say of them."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_suite_passes_as_the_docs_say():
    """Every test that the committed record counts as passed; the page is made of the record."""
    record = json.loads((ROOT / "docs/onnx.json").read_text())
    command = [sys.executable, "scripts/onnx_tests.py", "--least", str(record["passed"])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    failed = set(re.findall(r"^(test_\w+): ", done.stdout, re.MULTILINE))
    assert failed <= {name for row in record["operators"].values() for name in row["failed"]}
    assert record["passed"] >= 1800
    assert record["total"] == 2033


def test_the_page_is_made_of_the_record():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import onnx_tests
    finally:
        sys.path.pop(0)
    assert onnx_tests.page() == onnx_tests.PAGE.read_text()
