"""The conformance kit in child processes, as a backend's author runs it: what crashes, hangs or writes out of range."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from plugin_files import install, run

from perfxapi.conformance import PROFILES, runner, verify
from perfxapi.conformance.report import Outcome, Report
from perfxapi.errors import DeviceUnavailableError, KernelError, UnknownNameError
from perfxapi.ops.spec import op_spec

FAULTY = """
from perfxapi.backend import Backend, BackendManifest
from perfxapi.device import Device
from perfxapi.hookspecs import hookimpl
from perfxapi.ops.spec import op_spec
from perfxapi.reference_backend import ReferenceKernel
import cffi, numpy as np, os, time

ffi = cffi.FFI()
ffi.cdef("void* memset(void* to, int value, size_t count);")
libc = ffi.dlopen(None)

def past(view, where):
    start = view.buffer.readable()[0].__array_interface__["data"][0]
    libc.memset(ffi.cast("void*", start + where), 0, 1)

class Past(ReferenceKernel):
    def launch(self, call):
        super().launch(call)
        past(call.outputs[0], call.outputs[0].nbytes)

class Before(ReferenceKernel):
    def launch(self, call):
        super().launch(call)
        past(call.outputs[0], -1)

class Hang(ReferenceKernel):
    def launch(self, call):
        time.sleep(100)

class Exit(ReferenceKernel):
    def launch(self, call):
        print("goodbye", flush=True)
        os._exit(7)

class Loud(ReferenceKernel):
    def launch(self, call):
        print("computing ...")
        super().launch(call)

class Faulty(Backend):
    def __init__(self):
        kinds = {"exp": Past, "tanh": Before, "silu": Hang, "softcap": Exit, "sigmoid": Loud}
        self.table = {op: kind(op_spec(op)) for op, kind in kinds.items()}
    def devices(self):
        return (Device("faulty", 0, "faulty"),)
    def kernels(self, op):
        return (self.table[op],) if op in self.table else ()

@hookimpl
def register_backends(register):
    register(BackendManifest("faulty", Faulty, ("faulty",), priority=-200))
"""


def verified(folder: Path, *ops: str, seconds: float = 20) -> tuple[int, Report, str]:
    install(folder, "perfxapi-backend-faulty", "faulty", FAULTY)
    options = [argument for op in ops for argument in ("--op", op)]
    arguments = ["verify", "faulty", "--json", "--seconds", str(seconds), *options]
    done = run(folder, "-c", f"import sys; from perfxapi.cli import main; sys.exit(main({arguments!r}))")
    found = json.loads(done.stdout)["outcomes"]
    return done.returncode, Report("faulty", "faulty:0", [Outcome(**outcome) for outcome in found]), done.stderr


def test_writing_past_an_end_is_found_and_the_rest_is_still_checked(tmp_path: Path) -> None:
    status, report, said = verified(tmp_path, "exp", "tanh", "sigmoid")
    assert status == 1
    # every other case has the inaccessible page at that end; the others have the zone
    found = [o.status for o in report.outcomes if o.op == "exp" and o.arrangement != "in a plan"]
    assert found[-5:] == ["crashed", "wrong", "crashed", "wrong", "crashed"], "then it is given up"
    assert len(found) <= 6
    ends = ("past its end", "before its start")
    far = {f"it writes out of range: output 0: {end}: 1 bytes, the nearest 1 away" for end in ends}
    assert {o.detail for o in report.failures} - {"SIGBUS"} == {"SIGSEGV", *far}
    assert {o.op for o in report.failures} == {"exp", "tanh"}
    assert {o.status for o in report.outcomes if o.op == "sigmoid"} == {"ok"}, "what it prints is not in the way"
    assert report.cell("exp", "float32") == "CRASHED"
    assert "exp float32 (" in said


def test_a_kernel_that_hangs_or_ends_the_process_is_found(tmp_path: Path) -> None:
    status, report, _ = verified(tmp_path, "softcap", seconds=10)
    assert status == 1
    assert [(o.status, o.detail) for o in report.failures] == [("crashed", "exit status 7: goodbye")] * 2
    source = FAULTY.replace('"silu": Hang', '"softcap": Hang').replace('"softcap": Exit, ', "")
    folder = tmp_path / "hang"
    folder.mkdir()
    install(folder, "perfxapi-backend-faulty", "faulty", source)
    arguments = ["verify", "faulty", "--json", "--seconds", "2", "--op", "softcap"]
    done = run(folder, "-c", f"import sys; from perfxapi.cli import main; sys.exit(main({arguments!r}))")
    found = [(outcome["status"], outcome["detail"]) for outcome in json.loads(done.stdout)["outcomes"]]
    assert found == [("hung", "no answer within 2 s")] * 2, "eagerly and in a plan"
    assert done.returncode == 1


SLOW = """
import time
from perfxapi.custom import PythonKernel, kernels_manifest
from perfxapi.hookspecs import hookimpl
from perfxapi.ops.spec import op_spec

class Slow:
    ops = ("silu",)
    def make(self, name):
        time.sleep(7)
        return PythonKernel("silu", op_spec("silu").reference).make(name)

@hookimpl
def register_backends(register):
    register(kernels_manifest("slow", Slow()))
"""


def test_making_the_kernels_may_take_longer_than_a_case(tmp_path: Path) -> None:
    install(tmp_path, "perfxapi-plugin-slow", "slow", SLOW)
    arguments = ["verify", "slow", "--json", "--seconds", "5", "--op", "silu"]
    done = run(tmp_path, "-c", f"import sys; from perfxapi.cli import main; sys.exit(main({arguments!r}))")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_failures"] == 0


def test_the_reference_passes_its_own_samples() -> None:
    report = verify("numpy", ["add", "exp", "rms_norm", "embedding", "topk", "sample", "kv_write"])
    assert report.failures == []
    assert report.share() == 1


def test_a_process_that_takes_too_long_to_start_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_START_SECONDS", 0.01)
    with pytest.raises(KernelError, match=r"gave no answer within 0.02 s; allow more"):
        verify("numpy", ["add"], seconds=0.02)


def test_what_is_not_there_is_not_verified(absent: str) -> None:
    with pytest.raises(DeviceUnavailableError, match="pip install perfxapi-backend-absent"):
        verify(absent)
    with pytest.raises(UnknownNameError, match="unknown device 'riscvv'"):
        verify("riscvv")
    with pytest.raises(UnknownNameError, match="unknown op 'expp'"):
        verify("numpy", ["expp"])


@pytest.fixture(scope="module")
def cpu_report() -> Report:
    return verify("cpu")


@pytest.mark.parametrize("profile", ["array", "language-model"])
def test_the_cpu_backend_conforms(profile: str, cpu_report: Report) -> None:
    report = Report("cpu", cpu_report.device, cpu_report.outcomes, PROFILES[profile])
    assert [str(outcome) for outcome in (*report.failures, *report.missing)] == []
    models = [outcome for outcome in cpu_report.outcomes if op_spec(outcome.op).domain == "model"]
    assert Report("cpu", cpu_report.device, models).share() > 0.85


# ---- a native plugin with planted faults

PLANTED = """
import os
from perfxapi.custom import SourceKernels, kernels_manifest
from perfxapi.hookspecs import hookimpl

SOURCE = r'''
#include <math.h>
#include <perfx/kernel.h>

static int32_t accepts(const PxCall* call) { return perfx_accept_dense(call, 1, 1, PX_FLOAT32); }

#define KERNEL(NAME, VALUE, FAULT)                                      \\
  static int32_t NAME(const PxCall* call, const PxThread* thread) {     \\
    const float* x = (const float*)call->operands[0].data;              \\
    float* y = (float*)call->operands[1].data;                          \\
    const int64_t count = perfx_num_elements(&call->operands[0]);       \\
    if (thread->index != 0) return PX_OK;                               \\
    for (int64_t i = 0; i < count; ++i) y[i] = (float)(VALUE);          \\
    FAULT;                                                              \\
    return PX_OK;                                                       \\
  }
KERNEL(run_silu, x[i] / (1 + exp(-(double)x[i])), (void)0)
KERNEL(run_exp, exp((double)x[i]), if (count > 16) y[count / 2] *= 1.1f)
KERNEL(run_tanh, tanh((double)x[i]), if (count == 15 || count == 16) y[3] = NAN)
KERNEL(run_sigmoid, 1 / (1 + exp(-(double)x[i])), if (count == 15 || count == 16) y[count] = 0)

PERFX_LIBRARY("planted", {"silu", accepts, 0, run_silu}, {"exp", accepts, 0, run_exp}, {"tanh", accepts, 0, run_tanh},
              {"sigmoid", accepts, 0, run_sigmoid})
'''

@hookimpl
def register_backends(register):
    flags = tuple(os.environ.get("PLANTED_FLAGS", "").split())
    register(kernels_manifest("planted", SourceKernels(("silu", "exp", "tanh", "sigmoid"), SOURCE, flags=flags)))
"""
TESTS = """
from perfxapi.testing import conformance_tests
test_planted = conformance_tests("planted")
"""


@pytest.fixture(scope="module")
def planted_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin, and a file of the one line that tests it."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler is installed")
    folder = tmp_path_factory.mktemp("planted") / "site"
    folder.mkdir()
    install(folder, "perfxapi-plugin-planted", "planted", PLANTED)
    (folder / "test_planted.py").write_text(TESTS)
    return folder


def test_each_fault_of_a_native_plugin_is_found_and_nothing_else(planted_site: Path) -> None:
    ops = [argument for op in ("silu", "exp", "tanh", "sigmoid") for argument in ("--op", op)]
    code = f"import sys; from perfxapi.cli import main; sys.exit(main({['verify', 'planted', '--json', *ops]!r}))"
    done = run(planted_site, "-c", code, KERNEL_FOLDER=str(planted_site / "kernels"))
    assert done.returncode == 1, done.stderr
    found = [Outcome(**outcome) for outcome in json.loads(done.stdout)["outcomes"]]
    failures = [(o.op, o.status, o.detail) for o in found if o.status not in ("ok", "declined")]
    assert {op for op, _, _ in failures} == {"exp", "tanh", "sigmoid"}
    assert all("output 0: off by" in detail for op, _, detail in failures if op == "exp")
    assert all("NaN or infinity differs at [" in detail for op, _, detail in failures if op == "tanh")
    far = {status: detail for op, status, detail in failures if op == "sigmoid"}
    assert far["crashed"] in ("SIGSEGV", "SIGBUS")
    assert far["wrong"] == "it writes out of range: output 0: past its end: 4 bytes, the nearest 1 away"


def test_the_sanitizer_build_stops_at_the_line_that_writes_out_of_range(
    planted_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugin compiled with AddressSanitizer, in a process that runs under it: each planted fault is still found."""
    library = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    if not Path(library.strip()).is_file():
        pytest.skip("the C compiler has no AddressSanitizer")
    ops = [argument for op in ("silu", "exp", "tanh", "sigmoid") for argument in ("--op", op)]
    code = f"import sys; from perfxapi.cli import main; sys.exit(main({['verify', 'planted', '--json', *ops]!r}))"
    monkeypatch.setenv("LD_PRELOAD", library.strip())
    monkeypatch.setenv("ASAN_OPTIONS", f"detect_leaks=0:abort_on_error=1:log_path={tmp_path}/report")
    monkeypatch.setenv("PLANTED_FLAGS", "-fsanitize=address -g")
    done = run(planted_site, "-c", code, KERNEL_FOLDER=str(planted_site / "kernels"))
    found = [Outcome(**outcome) for outcome in json.loads(done.stdout)["outcomes"]]
    failed = {(o.op, o.status) for o in found if o.status not in ("ok", "declined")}
    assert failed == {("exp", "wrong"), ("tanh", "wrong"), ("sigmoid", "crashed")}
    reports = "".join(path.read_text() for path in tmp_path.glob("report*"))
    assert "AddressSanitizer: use-after-poison" in reports
    assert re.search(r"#0 .* in run_sigmoid .*planted", reports)


def test_pytest_gets_one_test_for_each_op(planted_site: Path) -> None:
    options = ["-q", "-rA", "-p", "no:cacheprovider", "--rootdir", str(planted_site), "-k"]
    selection = ["silu or tanh or add] or profile", str(planted_site / "test_planted.py")]
    done = run(planted_site, "-m", "pytest", *options, *selection, KERNEL_FOLDER=str(planted_site / "kernels"))
    found = re.findall(r"^(PASSED|FAILED) \S+\[(.*?)\]", done.stdout, re.MULTILINE)
    assert sorted(found) == [("FAILED", "profile minimal"), ("FAILED", "tanh"), ("PASSED", "silu")], done.stdout
    assert "NaN or infinity differs at [" in done.stdout
    assert "planted has no kernel for add" in done.stdout
    assert done.returncode == 1
