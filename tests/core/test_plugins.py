"""Plugins that are broken leave everything else working, and their cause is shown; one that works is chosen.

Each test installs a real tiny distribution and runs a process that discovers it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from plugin_files import install, run, wheel

import perfxapi as px

BACKEND = """
from perfxapi.backend import Backend, BackendManifest
from perfxapi.device import Device
from perfxapi.hookspecs import hookimpl

class Mine(Backend):
    name = "mine"
    def devices(self):
        return (Device("mine", 0, "a test"),)

def probe_ok():
    return None

def probe_missing():
    return "no driver of version 3"

def probe_raises():
    raise OSError("libmine.so.1: cannot open shared object file")

def probe_hangs():
    import time
    time.sleep(60)

def probe_dies():
    import os
    os.kill(os.getpid(), 11)

def probe_prints():
    print("loading driver ...")

@hookimpl
def register_backends(register):
    register(BackendManifest({manifest}))
"""
LOOK_AND_USE = """
import json, warnings, numpy as np, perfxapi as px
from perfxapi.cli import main
warnings.simplefilter("error")
main(["backends", "--json"])
x = px.asarray(np.ones((2, 3), np.float32), device="numpy")
assert np.allclose(np.asarray(px.nn.exp(x)), np.e)
"""


def backend_source(manifest: str = '"mine", Mine, ("mine",), priority=-200') -> str:
    return BACKEND.replace("{manifest}", manifest)


def backends(folder: Path, **settings: str) -> dict[str, dict[str, Any]]:
    """What `perfxapi backends --json` says, by plugin, in a process in which everything else must work."""
    done = run(folder, "-c", LOOK_AND_USE, **settings)
    assert done.returncode == 0, done.stderr
    return {row["plugin"]: row for row in json.loads(done.stdout)}


def test_a_plugin_that_works(tmp_path: Path) -> None:
    install(tmp_path, "perfxapi-backend-mine", "mine", backend_source(), version="2.5")
    row = backends(tmp_path)["mine"]
    assert (row["state"], row["devices"], row["distribution"], row["version"]) == (
        "usable",
        ["mine:0"],
        "perfxapi-backend-mine",
        "2.5",
    )


WRONG_VERSION = backend_source('"mine", Mine, ("mine",), api_version=99')
DUPLICATE = backend_source('"numpy", Mine, ("numpy",)')


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import nosuchmodule", "ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from perfxapi.backend import NoSuchThing", "ImportError"),
        (WRONG_VERSION, "was made for version 99 of the backend API; this perfxapi has version 1"),
        (DUPLICATE, "registered by two distributions, perfxapi and perfxapi-backend-mine"),
        (backend_source('"mine", Mine, "mine"'), "must be a BackendManifest with a tuple of kinds"),
        (backend_source('"mine", Mine'), "must give either `kinds` or `joins`"),
        (
            backend_source().replace("def register_backends(register)", "def register_backends(no)"),
            "PluginValidationError",
        ),
    ],
)
def test_a_plugin_that_does_not_load(tmp_path: Path, source: str, problem: str) -> None:
    install(tmp_path, "perfxapi-backend-mine", "mine", source)
    found = backends(tmp_path)
    assert found["mine"]["state"] == "failed"
    assert problem in found["mine"]["problem"]
    assert "Traceback" in found["mine"]["traceback"]
    assert found["numpy"]["state"] == "usable"


def test_two_distributions_that_register_one_name(tmp_path: Path) -> None:
    install(tmp_path, "perfxapi-backend-mine", "mine", backend_source())
    install(tmp_path, "another-mine", "mine_again", backend_source())
    found = backends(tmp_path)
    assert found["mine"]["state"] == "usable"
    expected = (
        "backend 'mine' is registered by two distributions, perfxapi-backend-mine and another-mine: uninstall one"
    )
    assert expected in found["mine_again"]["problem"]


@pytest.mark.parametrize(
    ("probe", "problem"),
    [
        ("probe_missing", "no driver of version 3"),
        ("probe_raises", "its probe mine:probe_raises failed: OSError: libmine.so.1: cannot open shared object file"),
        ("probe_dies", "its probe mine:probe_dies failed: exit status -11"),
        ("no_such_function", "its probe mine:no_such_function failed: AttributeError"),
    ],
)
def test_a_probe_that_says_no(tmp_path: Path, probe: str, problem: str) -> None:
    manifest = f'"mine", Mine, ("mine",), priority=900, probe="mine:{probe}", probe_seconds=20, mend="get a driver"'
    install(tmp_path, "perfxapi-backend-mine", "mine", backend_source(manifest))
    row = backends(tmp_path)["mine"]
    assert row["state"] == "unusable"
    assert problem in row["problem"]
    assert problem in row["probe"]
    code = "import warnings, perfxapi as px; warnings.simplefilter('error'); px.get_device('mine')"
    asked = run(tmp_path, "-c", code)
    assert problem in asked.stderr.splitlines()[-1]
    assert "to mend it: get a driver" in asked.stderr


def test_a_probe_that_says_yes_may_print(tmp_path: Path) -> None:
    manifest = '"mine", Mine, ("mine",), priority=-200, probe="mine:probe_prints", probe_seconds=20'
    install(tmp_path, "perfxapi-backend-mine", "mine", backend_source(manifest))
    assert backends(tmp_path)["mine"]["state"] == "usable"


def test_a_probe_that_hangs_is_given_one_second(tmp_path: Path) -> None:
    manifest = '"mine", Mine, ("mine",), priority=900, probe="mine:probe_hangs"'
    install(tmp_path, "perfxapi-backend-mine", "mine", backend_source(manifest))
    start = time.monotonic()
    row = backends(tmp_path)["mine"]
    assert row["problem"] == "its probe mine:probe_hangs did not answer within 1 s"
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("raise RuntimeError('no context')", "RuntimeError: no context"),
        ("return ()", "DeviceUnavailableError: backend 'mine' finds no device on this machine"),
        ('return (Device("numpy", 0),)', "has device numpy:0, a kind that it did not register"),
    ],
)
def test_a_backend_whose_devices_are_wrong(tmp_path: Path, body: str, problem: str) -> None:
    source = backend_source().replace('return (Device("mine", 0, "a test"),)', body)
    install(tmp_path, "perfxapi-backend-mine", "mine", source)
    row = backends(tmp_path)["mine"]
    assert row["state"] == "unusable"
    assert problem in row["problem"]
    assert "Traceback" in row["traceback"]


def test_two_backends_that_own_one_device(tmp_path: Path) -> None:
    install(tmp_path, "perfxapi-backend-mine", "mine", backend_source())
    other = backend_source('"other", Mine, ("mine",), priority=-300')
    install(tmp_path, "perfxapi-backend-other", "other", other)
    found = backends(tmp_path)
    assert found["mine"]["state"] == "usable"
    assert "has device mine:0, which backend 'mine' has too" in found["other"]["problem"]


def test_the_cause_is_shown_when_the_device_of_a_broken_plugin_is_asked_for(tmp_path: Path) -> None:
    install(tmp_path, "perfxapi-backend-riscv", "riscv", "import nosuchdriver")
    done = run(
        tmp_path, "-c", "import perfxapi as px; print(px.asarray([1.0], device='riscv').device)", PLUGINS="riscv"
    )
    assert done.stdout.strip() == "numpy:0"
    assert (
        "its plugin perfxapi-backend-riscv could not be loaded: ModuleNotFoundError: No module named 'nosuchdriver'"
        in done.stderr
    )


def test_the_allow_list(tmp_path: Path) -> None:
    install(tmp_path, "perfxapi-backend-mine", "mine", backend_source())
    install(tmp_path, "evil", "evil", "raise RuntimeError('must not be imported')")
    found = backends(tmp_path, PLUGINS="mine")
    assert (found["mine"]["state"], found["evil"]["state"]) == ("usable", "skipped")
    assert found["evil"]["problem"] == "PERFXAPI_PLUGINS does not name it"
    nothing = backends(tmp_path, PLUGINS="")
    assert {name: row["state"] for name, row in nothing.items()} == dict.fromkeys(nothing, "skipped") | {
        "numpy": "usable"
    }


def test_a_misspelled_op_in_the_list_of_disabled_kernels_is_reported(tmp_path: Path) -> None:
    settings = {"PLUGINS": "", "DISABLE_KERNELS": "numpy:exp,cpu:*,cpu:paged_atention"}
    done = run(tmp_path, "-c", "import perfxapi as px; px.get_device('numpy')", **settings)
    assert done.returncode == 0
    assert done.stderr.count("PerfXWarning") == 1
    expected = "PERFXAPI_DISABLE_KERNELS names 'cpu:paged_atention': unknown op 'paged_atention'. Did you mean "
    assert expected + "'paged_attention'?" in done.stderr


OPS = """
import numpy as np
from perfxapi.hookspecs import hookimpl
from perfxapi.ops.spec import OpSpec, Sample, same_as_first

CUBE = OpSpec("cube", ("x",), lambda inputs, attributes: (inputs[0],), lambda x: x**3,
              lambda: [Sample((np.arange(5, dtype=np.float32),), {}, "five")])

@hookimpl
def register_ops(register):
    register(CUBE)
    register({second})
""".replace(", same_as_first", "")


def test_a_plugin_brings_an_op(tmp_path: Path) -> None:
    install(tmp_path, "perfxapi-plugin-cube", "cube", OPS.replace("{second}", "CUBE"))
    code = "import perfxapi as px; px.get_device('numpy'); print(px.nn.cube(px.asarray([2.0], device='numpy')))"
    done = run(tmp_path, "-W", "error", "-c", code)
    assert done.stdout.startswith("Array([8.]"), done.stderr
    verified = run(tmp_path, "-c", "from perfxapi.cli import main; main(['verify', 'numpy', '--op', 'cube'])")
    assert "2 cases, 0 declined, 0 failed" in verified.stdout


def test_a_plugin_cannot_take_the_name_of_an_op(tmp_path: Path) -> None:
    second = 'OpSpec("add", ("x",), CUBE.infer, CUBE.reference, CUBE.samples)'
    install(tmp_path, "perfxapi-plugin-cube", "cube", OPS.replace("{second}", second))
    assert "an op named 'add' is registered already" in backends(tmp_path)["cube"]["problem"]


# ---- a second native backend, added by pip

KERNEL = """
#include <math.h>
#include "perfx/abi.h"

static int32_t accepts(const PxCall* call) {
  const PxTensor* x = call->operands;
  for (int32_t i = 0; i < call->num_operands; ++i)
    if (call->operands[i].dtype != PX_FLOAT32) return PX_UNSUPPORTED;
  return x->ndim == 2 && x->strides[1] == 4 ? PX_OK : PX_UNSUPPORTED;
}

static int32_t run(const PxCall* call, const PxThread* thread) {
  const PxTensor *x = call->operands, *weight = x + 1, *y = x + 2;
  const int64_t columns = x->shape[1];
  for (int64_t row = thread->index; row < x->shape[0]; row += thread->count) {
    const float* in = (const float*)((const char*)x->data + row * x->strides[0]);
    float* out = (float*)((char*)y->data + row * y->strides[0]);
    double sum = 0;
    for (int64_t i = 0; i < columns; ++i) sum += (double)in[i] * in[i];
    const double scale = 1 / sqrt(sum / (double)columns + call->attrs[0].f);
    for (int64_t i = 0; i < columns; ++i) out[i] = (float)(in[i] * scale * ((const float*)weight->data)[i]);
  }
  return PX_OK;
}

static int32_t supported(void) { return 1; }
static const PxKernel kernels[] = {{"rms_norm", accepts, 0, run}};
static const PxVariant variants[] = {{"plain", supported, 1, 0, kernels}};
static const PxLibrary library = {PERFX_ABI_VERSION, sizeof(PxTensor), sizeof(PxCall), sizeof(PxThread),
                                  sizeof(PxKernel), sizeof(PxVariant), "fastnorm", 1, 0, variants};
const PxLibrary* perfx_library(void) { return &library; }
"""
MODULE = '''
"""RMS norm, done well."""
from pathlib import Path
from perfxapi.backend import BackendManifest
from perfxapi.hookspecs import hookimpl

def load():
    from perfxapi.native import JoinedKernels, NativeLibrary
    return JoinedKernels("fastnorm", NativeLibrary(Path(__file__).with_name("fastnorm_kernels.so")))

@hookimpl
def register_backends(register):
    register(BackendManifest("fastnorm", load, priority=500, joins="host"))
'''
PROGRAM = """
import json, numpy as np, perfxapi as px
rng = np.random.default_rng(0)
x, weight = rng.standard_normal((7, 33)).astype(np.float32), rng.standard_normal(33).astype(np.float32)
w = px.constant(weight)
eager = np.asarray(px.nn.rms_norm(px.asarray(x), w, eps=1e-6))
def model(x):
    return px.nn.tanh(px.nn.rms_norm(px.nn.exp(x), w, eps=1e-6))
graph = px.graph.trace(model, {"x": px.TensorSpec((px.Dim("n"), 33), px.float32)})
plan = px.graph.compile(graph, bounds={"n": 16})
planned = np.asarray(plan(x=x)["output"])
norm = lambda x: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * weight
wide = x.astype(float)
expected = np.tanh(norm(np.exp(wide)))
print(json.dumps({
    "eager": float(abs(eager - norm(wide)).max()),
    "planned": float(abs(planned - expected).max()),
    "rows": [[r.op, r.device, r.ran_on, r.count, r.reason] for r in px.explain().rows],
    "devices": [str(device) for device in px.all_devices()],
    "native": px.native_seconds(),
}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed a wheel of two files, the native part compiled here."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler is not None, "a C compiler is needed"
    folder = tmp_path_factory.mktemp("fastnorm")
    (folder / "fastnorm.c").write_text(KERNEL)
    command = [
        compiler,
        "-O2",
        "-shared",
        "-fPIC",
        f"-I{px.get_include()}",
        "fastnorm.c",
        "-o",
        "fastnorm_kernels.so",
        "-lm",
    ]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    files = {"fastnorm.py": MODULE.encode(), "fastnorm_kernels.so": (folder / "fastnorm_kernels.so").read_bytes()}
    path = wheel(folder, "perfxapi-backend-fastnorm", files, "[perfxapi]\nfastnorm = fastnorm\n")
    target = folder / "site"
    install_it = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", str(target), str(path)]
    subprocess.run([*install_it, "--quiet", "--disable-pip-version-check"], check=True, timeout=120)
    return target


@pytest.mark.parametrize("plugins", ["fastnorm", "cpu,fastnorm"])
def test_a_second_native_backend_serves_one_op_and_is_chosen_for_it(site: Path, plugins: str) -> None:
    """On one thread where there is no native host backend; on its pool and in its command list where there is."""
    done = run(site, "-c", PROGRAM, PLUGINS=plugins)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    host = "cpu:0" if "cpu" in plugins else "numpy:0"
    assert found["eager"] < 1e-5
    assert found["planned"] < 1e-5
    assert ["rms_norm", host, f"fastnorm on {host}", 2, ""] in found["rows"]
    assert found["devices"][0] == host
    assert found["native"] > 0
    # nothing is a fallback (but "auto", where only the reference is left)
    assert [row for row in found["rows"] if row[4] and row[0] != "(device)"] == []


def test_it_is_verified_by_its_name(site: Path) -> None:
    done = run(
        site,
        "-c",
        "import sys; from perfxapi.cli import main; sys.exit(main(['verify', 'fastnorm', '--op', 'rms_norm']))",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fastnorm on " in done.stdout
    assert ", 0 failed" in done.stdout


def test_it_can_be_disabled(site: Path) -> None:
    done = run(site, "-c", PROGRAM, PLUGINS="fastnorm", DISABLE_KERNELS="fastnorm:rms_norm")
    assert ["rms_norm", "numpy:0", "numpy:0", 2, ""] in json.loads(done.stdout)["rows"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            ("{PERFX_ABI_VERSION,", "{99,"),
            "ABI version 99; this perfxapi has version 1. Rebuild it with these headers.",
        ),
        (("sizeof(PxCall),", "sizeof(PxCall) + 8,"), "its PxCall has"),
        (("return 1; }", "return 0; }"), "none of its variants runs on this machine"),
        (("perfx_library(void)", "another_name(void)"), "cannot be loaded as a native library"),
    ],
)
def test_a_library_that_does_not_fit(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    (tmp_path / "bad.c").write_text(KERNEL.replace(*change))
    command = ["cc", "-shared", "-fPIC", f"-I{px.get_include()}", "bad.c", "-o", "fastnorm_kernels.so", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    install(tmp_path, "perfxapi-backend-fastnorm", "fastnorm", MODULE)
    row = backends(tmp_path, PLUGINS="fastnorm")["fastnorm"]
    assert row["state"] == "unusable"
    assert problem in row["problem"]
