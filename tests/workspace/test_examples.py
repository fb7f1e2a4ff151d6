"""The examples run as they stand, those in the pages too."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def output_of(arguments: list[str], folder: Path = ROOT, **environment: str) -> str:
    command = [sys.executable, *arguments]
    variables = {**os.environ, **environment}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ops_example_shows_the_fallback() -> None:
    text = output_of(["examples/ops.py"])
    assert "[1.+0.j 1.+0.j 1.+0.j 1.+0.j]" in text
    assert "cpu has no kernel for fft" in text


def test_graph_example_runs_every_size_and_fuses() -> None:
    text = output_of(["examples/graph.py"])
    assert "7 (7, 64)" in text
    assert "gated_linear" in text


def test_onnx_example_hears_when_a_voice_begins() -> None:
    text = output_of(["examples/onnx_models.py"])
    assert "classify.onnx" in text
    speech = [float(found) for found in re.findall(r"speech: (\S+)", text)]
    assert len(speech) == 8
    assert max(speech[:4]) < 0.1 < 0.4 < min(speech[5:])
    assert re.search(r"one plan of \d+ ops for 4 nodes", text)


def test_array_api_example_tells_the_machines_apart() -> None:
    text = output_of(["examples/array_api.py"])
    assert "points (400, 2) on cpu:0, groups on cpu:0" in text
    assert "told apart: 100.0%" in text
    assert re.search(r"on cpu:0: .*\bmatmul x \d+", text)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")
def test_custom_op_example_is_verified_and_part_of_the_plan(tmp_path: Path) -> None:
    check_custom_op(output_of(["examples/custom_op.py"], PERFXAPI_KERNEL_FOLDER=str(tmp_path)))


@pytest.mark.skipif(shutil.which("rustc") is None, reason="no compiler of Rust is installed")
def test_custom_op_example_in_rust(tmp_path: Path) -> None:
    library, source = tmp_path / "libsmooth.so", ROOT / "examples/smooth.rs"
    options = ["--edition", "2021", "-O", "--crate-type", "cdylib", "-C", "panic=abort", "-o", str(library)]
    subprocess.run(["rustc", *options, str(source)], cwd=tmp_path, check=True, timeout=120)
    program = (ROOT / "examples/custom_op.py").read_text(encoding="utf-8").replace("SourceKernels", "LibraryKernels")
    (tmp_path / "program.py").write_text(program.replace('("smooth",), SOURCE', '("smooth",), "libsmooth.so"'))
    check_custom_op(output_of([str(tmp_path / "program.py")], folder=tmp_path))


def check_custom_op(text: str) -> None:
    assert "own kernels: 1 of 1 ops, 5 of 5 samples (100%)" in text
    (difference,) = re.findall(r"largest difference to NumPy: (\S+)", text)
    assert float(difference) < 1e-5
    assert re.search(r"smooth +(\S+) +smooth on \1 +\d+ +0\n", text)


def test_the_page_on_ops_shows_what_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs/adding-an-op.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    said = output_of([str(tmp_path / "program.py")])
    assert said.count("Array([3. 6.]") == 2
    assert re.search(r"scaled +(\S+) +mine on \1 +1 +0\n", said)


@pytest.mark.model
def test_generate_example_completes_the_prompt() -> None:
    assert "The capital of France is the capital of" in output_of(["examples/generate.py"])
