"""The command line: text for people, JSON for programs, exit statuses for both."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from simulated import SimulatedBackend

import perfxapi as px
from perfxapi.cli import COMMANDS, main, make_parser
from perfxapi.settings_model import Settings, variable_of

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_(*arguments: str) -> tuple[int, str, str]:
        try:
            status = main(arguments)
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_


def document(run: Run, *arguments: str) -> Any:
    status, out, _ = run(*arguments, "--json")
    assert status == 0
    return json.loads(out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_says_what_it_does(run: Run, command: str) -> None:
    status, out, _ = run(command, "--help")
    assert status == 0
    assert out.startswith(f"usage: perfxapi {command}")
    assert "--json" in out


def test_wrong_usage_is_2_and_names_the_commands(run: Run) -> None:
    for arguments in ((), ("nonsense",), ("devices", "--nonsense"), ("verify",)):
        status, out, error = run(*arguments)
        assert (status, out) == (2, "")
        assert "usage: perfxapi" in error
    assert make_parser().prog == "perfxapi"
    assert run("--version") == (0, f"perfxapi {px.__version__}\n", "")


def test_devices(run: Run, sim: SimulatedBackend) -> None:
    found = document(run, "devices")
    assert [row["device"] for row in found] == [str(device) for device in px.all_devices()]
    assert [row["device"] for row in found if row["is_default"]] == [str(px.get_device())]
    assert {"device": "sim:0", "backend": "sim", "memory_space": "sim"}.items() <= found[-2].items()
    _, out, _ = run("devices")
    assert out.splitlines()[2].startswith(f"*  {px.get_device()}")
    assert "simulated device" in out


def test_devices_show_how_threads_are_placed(run: Run, set_setting: Callable[[str, str], None]) -> None:
    rows = {row["device"]: row["threads"] for row in document(run, "devices")}
    assert rows["numpy:0"] is None
    assert rows["cpu:0"]["num_threads"] == px.num_threads()
    set_setting("AFFINITY", "spread")
    placed = {row["device"]: row["threads"] for row in document(run, "devices")}["cpu:0"]
    assert (placed["affinity"], placed["decided_by"]) == ("spread", "PERFXAPI_AFFINITY")
    assert len(placed["processors"]) == px.num_threads()
    assert set(placed["processors"]) <= {number for cluster in placed["clusters"] for number in cluster}
    status, out, _ = run("devices", "--verbose")
    assert status == 0
    assert f"\ncpu:0: threads {px.num_threads()}, affinity spread on processors " in out
    assert "\nclusters: " in out


def test_backends(run: Run) -> None:
    found = {row["backend"]: row for row in document(run, "backends")}
    assert found["numpy"]["state"] == "usable"
    assert found["numpy"]["num_kernels"] == len(px.ops.all_ops())
    status, out, error = run("backends", "--verbose")
    assert (status, error) == (0, "")
    assert out.splitlines()[0].split() == ["backend", "state", "priority", "kernels", "devices", "plugin", "from"]


def test_explain_shows_who_would_run_each_op_and_why(run: Run, sim: SimulatedBackend) -> None:
    del sim.table["exp"]
    sim.kernel("rms_norm").refusal = "sim: rms_norm declines odd rows"
    found = document(run, "explain", "--device", "sim")
    assert found["device"] == "sim:0"
    rows = {(row["op"], row["dtype"]): row for row in found["placements"]}
    assert {op for op, _ in rows} == {spec.name for spec in px.ops.all_ops()}
    assert rows["add", "float32"] | {"op": 0, "dtype": 0} == {
        "op": 0, "dtype": 0, "backend": "sim", "runs_on": "sim:0", "reason": ""
    }  # fmt: skip
    assert rows["exp", "float32"]["reason"] == "sim has no kernel for exp"
    assert rows["rms_norm", "float32"]["reason"] == "sim: rms_norm declines odd rows"
    assert rows["rms_norm", "float32"]["runs_on"] != "sim:0"
    assert ("linear", "q4_k") in rows
    status, out, _ = run("explain", "exp", "--device", "sim")
    assert status == 0
    assert out.splitlines()[-1] == "sim:0: 4 placements, 4 of them fallbacks"
    assert sim.kernel("add").num_launches == 0


def test_env_is_made_from_the_settings_themselves(run: Run, set_setting: Callable[[str, str], None]) -> None:
    set_setting("DISABLE_KERNELS", "cpu:exp")
    found = document(run, "env")
    rows = {row["variable"]: row for row in found["settings"]}
    assert list(rows) == [variable_of(name) for name in Settings.model_fields]
    assert rows["PERFXAPI_DISABLE_KERNELS"]["value"] == ["cpu:exp"]
    assert rows["PERFXAPI_DISABLE_KERNELS"]["default"] == []
    assert all(row["description"] for row in rows.values())
    assert found["versions"]["perfxapi"] == px.__version__
    _, out, _ = run("env")
    assert "cpu:exp" in out
    libraries = {row["backend"]: row for row in found["libraries"]}
    if "cpu" in libraries:
        assert libraries["cpu"]["variant"] in libraries["cpu"]["supported"]
        assert "scalar" in libraries["cpu"]["supported"]


def test_verify_prints_the_matrix(run: Run) -> None:
    status, out, error = run("verify", "numpy", "--op", "exp", "--op", "kv_write")
    assert (status, error) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["op", "float32", "float16", "float64", "complex64", "own", "kernels"]
    assert lines[2].split() == ["exp", "yes", "yes", "yes", "yes", "100%"]
    assert lines[3].split() == ["kv_write", "yes", "yes", "100%"]
    assert lines[-2].startswith("numpy on numpy:0: ")
    assert lines[-2].endswith(" cases, 0 declined, 0 failed")
    assert lines[-1] == "own kernels: 2 of 2 ops, 33 of 33 samples (100%)"
    found = document(run, "verify", "numpy", "--op", "exp")
    assert (found["num_failures"], found["share"]) == (0, 1)


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("verify", "absent"), "no backend for 'absent' is installed; to mend it: pip install perfxapi-backend-absent"),
        (("verify", "riscvv"), "unknown device 'riscvv'. Did you mean 'riscv'?"),
        (("verify", "numpy", "--op", "expp"), "unknown op 'expp'. Did you mean 'exp'?"),
        (("explain", "expp"), "unknown op 'expp'. Did you mean 'exp'?"),
        (("explain", "--device", "Cpu"), "device must look like"),
    ],
)
def test_what_went_wrong_is_one_line_without_a_traceback(run: Run, arguments: tuple[str, ...], problem: str) -> None:
    status, out, error = run(*arguments)
    assert (status, out) == (1, "")
    assert error.startswith("perfxapi: error: ")
    assert problem in error
    assert len(error.splitlines()) == 1


def test_a_device_that_is_not_there_is_a_warning_for_explain(run: Run, absent: str) -> None:
    status, _, error = run("explain", "exp", "--device", absent)
    assert status == 0
    assert error.startswith("perfxapi: warning: device 'absent': no backend for 'absent' is installed")


def test_a_wrong_setting_is_an_error_of_one_line(run: Run, set_setting: Callable[[str, str], None]) -> None:
    set_setting("NUM_THREADS", "many")
    status, _, error = run("env")
    assert status == 1
    assert error.startswith("perfxapi: error: PERFXAPI_NUM_THREADS='many'")


def test_the_program_is_installed_and_a_closed_pipe_is_no_error() -> None:
    code = "import sys; from perfxapi.cli import main; sys.exit(main(['explain']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()
