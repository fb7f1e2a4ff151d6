"""What `perfxapi new` writes installs, serves its op and passes; what it must not write it refuses."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plugin_files import install, run

from perfxapi.cli import main
from perfxapi.errors import InvalidArgumentError
from perfxapi.skeletons import KINDS, write_skeleton

CHECKS = {
    "backend": """
import json, numpy as np, perfxapi as px
with px.use_device("demo_chip", fallback="allow"):
    x = px.asarray(np.array([[0.0, 1.0], [2.0, 2.0]], np.float32))
    y = px.nn.softmax(x)
    z = y + x
print(json.dumps({"y": np.asarray(y).tolist(), "ran_on": {row.op: row.ran_on for row in px.explain().rows}}))
""",
    "plugin": """
import json, numpy as np, perfxapi as px
y = px.nn.demo_chip(px.asarray(np.array([-2.0, 3.0], np.float32)))
print(json.dumps({"y": np.asarray(y).tolist(), "ran_on": {row.op: row.ran_on for row in px.explain().rows}}))
""",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed what was written; backend and plugin have names of their own."""
    folder = tmp_path_factory.mktemp("new")
    written = [write_skeleton(kind, f"demo_{kind}", folder / "source")[0].parent for kind in KINDS]
    options = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(folder / "site"),
    ]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *map(str, written)], check=True, timeout=120)
    return folder


def python(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(site / "site"), "PERFXAPI_KERNEL_FOLDER": str(site / "kernels")}
    return subprocess.run(
        [sys.executable, *arguments], env=variables, capture_output=True, text=True, timeout=120, check=False
    )


def verified(site: Path, name: str, *options: str) -> dict[str, Any]:
    code = f"import sys; from perfxapi.cli import main; sys.exit(main({['verify', name, '--json', *options]!r}))"
    done = python(site, "-c", code)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def result(site: Path, kind: str) -> dict[str, Any]:
    done = python(site, "-c", CHECKS[kind].replace("demo_chip", f"demo_{kind}"))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_backend_of_two_files_is_verified_and_serves_its_op(site: Path) -> None:
    report = verified(site, "demo_backend", "--op", "softmax", "--profile", "minimal")
    assert report["passed"]
    assert (report["num_failures"], report["native_ops"][0], report["device"]) == (0, 1, "demo_backend:0")
    found = result(site, "backend")
    assert found["ran_on"]["softmax"] == "demo_backend:0"
    assert found["ran_on"]["add"] != "demo_backend:0"
    first = 1 / (1 + 2.718281828459045)
    assert found["y"] == [pytest.approx([first, 1 - first], rel=1e-6), pytest.approx([0.5, 0.5])]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")
def test_a_plugin_of_two_files_is_verified_and_its_kernel_runs(site: Path) -> None:
    report = verified(site, "demo_plugin", "--op", "demo_plugin")
    assert (report["num_failures"], report["share"]) == (0, 1.0)
    found = result(site, "plugin")
    assert found["y"] == [0.0, 9.0]
    assert found["ran_on"]["demo_plugin"].startswith("demo_plugin on ")


def test_their_own_tests_pass(site: Path) -> None:
    files = [str(path) for path in (site / "source").rglob("test_*.py")]
    assert len(files) == 2
    done = python(
        site,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(site),
        *files,
        "-k",
        "softmax or demo_plugin",
    )
    assert "3 passed" in done.stdout, done.stdout


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")
def test_the_test_of_a_plugin_whose_kernel_takes_nothing_fails(tmp_path: Path) -> None:
    source = write_skeleton("plugin", "demo_plugin", tmp_path)[1]
    source.write_text(source.read_text().replace("perfx_accept_dense(call, 1, 1,", "perfx_accept_dense(call, 2, 1,"))
    install(tmp_path, "perfxapi-plugin-demo", "perfxapi_plugin_demo_plugin", source.read_text())
    options = ["-q", "-rA", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = run(tmp_path, "-m", "pytest", *options, str(source.parent), KERNEL_FOLDER=str(tmp_path / "kernels"))
    assert "1 failed, 1 skipped" in done.stdout, done.stdout
    assert "of demo_plugin none of its own kernels ran a sample" in done.stdout


# ---- what is refused


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["", "Chip", "1chip", "my-chip", "chip_", "_chip", "a__b", "class", "../chip", "chip\n", "é", "a" * 41]
)
def test_bad_names(kind: Any, name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="lower-case letters"):
        write_skeleton(kind, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "name"), [("backend", "numpy"), ("backend", "auto"), ("plugin", "exp")])
def test_names_that_are_taken(kind: Any, name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=f"name '{name}' is taken"):
        write_skeleton(kind, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_or_written_in_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "perfxapi-backend-mine"
    folder.mkdir()
    (folder / "precious").write_text("1")
    assert main(["new", "backend", "mine", "--directory", str(tmp_path)]) == 1
    assert "is there already: nothing is overwritten" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["precious"]
    with pytest.raises(InvalidArgumentError, match="cannot be written"):
        write_skeleton("backend", "other", folder / "precious")
    assert [path.name for path in tmp_path.iterdir()] == ["perfxapi-backend-mine"]


def test_the_command_says_what_it_wrote_and_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "plugin", "my_skeleton", "--directory", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    folder = tmp_path / "perfxapi-plugin-my-skeleton"
    names = ["pyproject.toml", "perfxapi_plugin_my_skeleton.py", "test_perfxapi_plugin_my_skeleton.py"]
    assert said["files"] == [str(folder / name) for name in names]
    assert said["next"] == [f"pip install {folder}", "perfxapi verify my_skeleton"]
    assert all(
        "skeleton" not in path.read_text().replace("my_skeleton", "").replace("my-skeleton", "")
        for path in folder.iterdir()
    )
    assert folder.stat().st_mode & 0o777 == 0o755


def test_the_command_that_comes_next_can_be_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "plugin", "mine", "--directory", str(tmp_path / "my work; x"), "--json"]) == 0
    step = json.loads(capsys.readouterr().out)["next"][0]
    assert shlex.split(step) == ["pip", "install", str(tmp_path / "my work; x" / "perfxapi-plugin-mine")]
