"""The conformance kit finds what is wrong with a kernel, and only that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from simulated import SimulatedBackend

import perfxapi as px
from perfxapi.backend import REGISTRY, Backend, BackendManifest, OpCall
from perfxapi.conformance import PROFILES, Case, all_cases, check_case, compare
from perfxapi.conformance.guard import GuardedMemory
from perfxapi.conformance.report import Outcome, Report
from perfxapi.memory import Buffer, View
from perfxapi.reference_backend import ReferenceKernel


def outcomes(backend: SimulatedBackend, *ops: str) -> Iterator[Outcome]:
    return (check_case(case, "sim", backend.device) for case in all_cases(ops))


def test_cases_come_in_an_order_that_never_changes() -> None:
    def named(case: Case) -> tuple[int, str, str, str]:
        return case.number, case.spec.name, case.sample.label, case.arrangement

    first = list(map(named, all_cases()))
    assert [number for number, *_ in first] == list(range(len(first)))
    assert {spec.name for spec in px.ops.all_ops()} == {op for _, op, *_ in first}
    some = ["paged_attention", "sample"]
    assert list(map(named, all_cases(some))) == list(map(named, all_cases(some)))


def test_every_storage_type_of_weights_is_covered() -> None:
    found = {case.dtype.name for case in all_cases(["linear"])}
    quantized = {dtype.name for dtype in px.dtypes.ALL if dtype.is_quantized}
    assert found == {"float32", "float16", "bfloat16"} | quantized


def test_state_lives_on_the_device_that_is_checked(sim: SimulatedBackend) -> None:
    found = list(outcomes(sim, "kv_write", "paged_attention", "rms_norm", "add", "linear"))
    assert {outcome.status for outcome in found} == {"ok"}
    assert sim.kernel("kv_write").num_launches > 0


# ---- planted faults


def planted(backend: SimulatedBackend, op: str, change: object) -> None:
    """Makes the kernel of an op change its first output after it was computed rightly."""
    kernel = backend.kernel(op)
    launch = kernel.launch

    def wrong(call: OpCall) -> None:
        launch(call)
        change(call)  # type: ignore[operator]

    kernel.launch = wrong  # type: ignore[method-assign]


def first_output(call: object) -> np.ndarray:
    view = call.outputs[0]  # type: ignore[attr-defined]
    return view.over(view.buffer.readable("sim")[0])


def test_a_result_that_is_a_little_wrong_is_found(sim: SimulatedBackend) -> None:
    def off(call: object) -> None:
        values = first_output(call)
        values *= np.float32(1 + 1e-4)

    planted(sim, "rms_norm", off)
    found = list(outcomes(sim, "rms_norm"))
    wrong = [outcome for outcome in found if outcome.status == "wrong"]
    assert wrong
    assert {o.status for o in found if o.sample not in ("shape (0, 8)", "zeros")} == {"wrong"}
    assert 0.5e-4 < wrong[0].error < 2e-4
    assert "output 0: off by" in wrong[0].detail
    assert str(wrong[0]).startswith("rms_norm float32 (shape (1, 640); contiguous): wrong: output 0: off by")


def test_a_nan_is_found(sim: SimulatedBackend) -> None:
    def spoil(call: object) -> None:
        values = first_output(call)
        if values.size > 4:
            values.reshape(-1)[3] = np.nan

    planted(sim, "add", spoil)
    found = [o for o in outcomes(sim, "add") if o.status != "ok"]
    assert "output 0: NaN or infinity differs at [3]: got nan, expected" in found[0].detail


def test_a_nan_that_is_swallowed_is_found(sim: SimulatedBackend) -> None:
    planted(sim, "exp", lambda call: np.nan_to_num(first_output(call), copy=False))
    assert {o.sample for o in outcomes(sim, "exp") if o.status == "wrong"} == {
        "NaN",
        "not finite",
        "float64, not finite",
        "near and far",
    }


def test_an_operand_that_is_written_is_found(sim: SimulatedBackend) -> None:
    def scribble(call: object) -> None:
        view = call.inputs[0]  # type: ignore[attr-defined]
        view.over(view.buffer.writable("sim")[0])[...] = 0

    planted(sim, "tanh", scribble)
    wrong = [o for o in outcomes(sim, "tanh") if o.status == "wrong"]
    assert "x (which the op does not write): off by" in wrong[0].detail


def test_a_wrong_write_to_the_cache_is_found(sim: SimulatedBackend) -> None:
    def off_by_one(call: object) -> None:
        view = call.inputs[4]  # type: ignore[attr-defined]
        cache = view.over(view.buffer.readable("sim")[0])
        cache[...] = np.roll(cache, 1, axis=2)

    planted(sim, "kv_write", off_by_one)
    wrong = [o for o in outcomes(sim, "kv_write") if o.status == "wrong"]
    assert wrong
    assert wrong[0].detail.startswith("v_cache: ")


def test_a_kernel_that_takes_what_the_reference_refuses_is_found(sim: SimulatedBackend) -> None:
    kernel = sim.kernel("take_rows")
    kernel.launch = lambda call: None  # type: ignore[method-assign]
    wrong = [o for o in outcomes(sim, "take_rows") if o.arrangement == "hostile indices"]
    assert {(o.status, o.detail) for o in wrong} == {("wrong", "it computes with operands that the reference refuses")}
    assert {o.sample for o in wrong} > {"indices holds -7", "indices holds 2147483647"}


def test_a_write_past_the_end_on_a_device_with_its_own_memory_is_found(sim: SimulatedBackend) -> None:
    def far(call: object) -> None:
        view = call.outputs[0]  # type: ignore[attr-defined]
        view.buffer.readable("sim")[0][view.nbytes + 2] = 0

    planted(sim, "silu", far)
    assert {o.detail for o in outcomes(sim, "silu") if o.arrangement != "in a plan"} == {
        "it writes out of range: output 0: past its end: 1 bytes, the nearest 3 away"
    }


def test_an_operand_that_is_written_on_the_device_alone_is_found(sim: SimulatedBackend) -> None:
    def scribble(call: object) -> None:
        view = call.inputs[0]  # type: ignore[attr-defined]
        view.over(view.buffer.readable("sim")[0])[...] = 0

    planted(sim, "silu", scribble)
    assert "x (which the op does not write): off by" in next(outcomes(sim, "silu")).detail


def test_a_result_that_is_not_written_is_found(sim: SimulatedBackend) -> None:
    sim.kernel("silu").launch = lambda call: None  # type: ignore[method-assign]
    assert {o.status for o in outcomes(sim, "silu") if "(0, 4)" not in o.sample} == {"wrong"}


class IdleSegment:
    """Says that it has run everything."""

    def run(self, sizes: Mapping[str, int], first: int) -> None:
        return None


def test_a_compiled_segment_that_does_not_do_its_work_is_found(sim: SimulatedBackend) -> None:
    sim.compile = lambda calls, bounds: IdleSegment()  # type: ignore[method-assign]
    found = list(outcomes(sim, "exp"))
    assert {o.arrangement for o in found if o.status != "ok"} == {"in a plan"}
    assert {o.status for o in found if o.arrangement == "in a plan" and "(0, 4)" not in o.sample} == {"wrong"}


def test_a_kernel_that_fails_in_a_plan_is_found_though_another_could_run(sim: SimulatedBackend) -> None:
    sim.kernel("exp").raises = px.errors.KernelError("no power")
    found = [o for o in outcomes(sim, "exp") if o.arrangement == "in a plan"]
    assert {o.status for o in found} == {"error"}
    assert "no power" in found[0].detail


# ---- profiles


def test_profiles_name_ops_and_dtypes_that_have_samples() -> None:
    there = {(case.spec.name, case.dtype.name) for case in all_cases()}
    for profile in PROFILES.values():
        assert {(op, dtype) for op, dtypes in profile.required.items() for dtype in dtypes} <= there


def test_what_a_profile_requires_may_not_be_declined(sim: SimulatedBackend) -> None:
    sim.kernel("tanh").refusal = "sim: tanh declines"
    ran = list(outcomes(sim, "exp", "tanh"))
    report = Report("sim", "sim:0", ran, PROFILES["array"])
    assert {(o.op, o.dtype) for o in report.missing} == {("tanh", "float32")}
    assert not report.passed
    assert report.failures == []
    assert Report("sim", "sim:0", ran, PROFILES["minimal"]).passed
    assert report.native_ops() == (1, 2)
    samples = len([case for case in all_cases(["exp"]) if case.arrangement == "contiguous"])
    assert report.native_samples() == (samples, 2 * samples)
    assert report.summary().splitlines()[1:] == [
        f"own kernels: 1 of 2 ops, {samples} of {2 * samples} samples (50%)",
        f"profile array: not passed, {len(report.missing)} samples missing",
    ]


def test_ops_without_a_kernel_are_listed_and_not_in_the_table(sim: SimulatedBackend) -> None:
    sim.table["tanh"].clear()
    lines = str(Report("sim", "sim:0", outcomes(sim, "exp", "tanh"))).splitlines()
    assert [line.split()[0] for line in lines[2:3]] == ["exp"]
    assert lines[4] == "no kernel: tanh"


def test_a_backend_that_runs_nothing_has_no_profile(sim: SimulatedBackend) -> None:
    sim.kernel("exp").refusal = "sim: exp declines"
    report = Report("sim", "sim:0", outcomes(sim, "exp"), PROFILES["minimal"])
    assert not report.passed
    assert report.summary().endswith("profile minimal: not passed, none of its own kernels ran")


class Late(ReferenceKernel):
    """Writes, then refuses."""

    def launch(self, call: OpCall) -> None:
        call.inputs[0].host()[0, 0] += 1
        raise px.errors.KernelError("invalid argument")


class LateBackend(Backend):
    """A host device with one bad kernel."""

    def devices(self) -> tuple[px.Device, ...]:
        return (px.Device("late"),)

    def kernels(self, op: str) -> tuple[Late, ...]:
        return (Late(px.ops.op_spec(op)),) if op == "adjust_logits" else ()


def test_a_kernel_that_refuses_too_late_is_found() -> None:
    REGISTRY.entries()
    REGISTRY.register(BackendManifest("late", LateBackend, ("late",), priority=-300), "tests")
    try:
        cases = [case for case in all_cases(["adjust_logits"]) if case.arrangement == "hostile indices"]
        found = [check_case(case, "late", px.get_device("late")) for case in cases]
    finally:
        REGISTRY.unregister("late")
    assert {o.detail for o in found if o.status == "wrong"} == {"it refuses, but has written to logits"}


def test_an_error_and_a_refusal_are_told_apart(sim: SimulatedBackend) -> None:
    sim.kernel("exp").raises = RuntimeError("no queue")
    sim.kernel("tanh").refusal = "sim: tanh declines"
    del sim.table["silu"]
    report = Report("sim", "sim:0", outcomes(sim, "exp", "tanh", "silu", "sigmoid"))
    assert {o.op: (o.status, o.detail.split(";")[0]) for o in report.outcomes} == {
        "exp": ("error", "RuntimeError: no queue"),
        "tanh": ("declined", "sim: tanh declines"),
        "silu": ("declined", "sim has no kernel for silu"),
        "sigmoid": ("ok", ""),
    }
    assert {o.op for o in report.failures} == {"exp"}
    assert [report.cell(op, "float32") for op in ("exp", "tanh", "sigmoid")] == ["ERROR", "no", "yes"]
    assert (report.share("tanh"), report.share("sigmoid"), report.share()) == (0, 1, 0.5)
    assert report.cell("exp", "q4_0") == ""


# ---- comparing


@pytest.mark.parametrize(
    ("got", "expected", "problem"),
    [
        ([1.0, 2.0], [1.0, 2.0], None),
        ([1.0, 2.0000001], [1.0, 2.0], None),
        ([1.0, 2.001], [1.0, 2.0], r"off by 0.001, 2e-06 is allowed, at \[1\]: got 2.001, expected 2.0"),
        ([np.nan], [np.nan], None),
        ([np.nan], [0.0], "NaN or infinity differs"),
        ([0.0], [np.nan], "NaN or infinity differs"),
        ([np.inf], [np.inf], None),
        ([np.inf], [-np.inf], "NaN or infinity differs"),
        ([1e-30], [0.0], "off by 1e-30, 0 is allowed"),
        ([[1.0]], [1.0], "wrong shape"),
    ],
)
def test_comparing(got: list[float], expected: list[float], problem: str | None) -> None:
    mismatch = compare(np.array(got), np.array(expected), 1e-6)
    if problem is None:
        assert mismatch is None
    else:
        with pytest.raises(AssertionError, match=problem):
            raise AssertionError(str(mismatch))


def test_integers_must_be_equal() -> None:
    assert compare(np.int32([1, 2]), np.int32([1, 2]), 1.0) is None
    assert str(compare(np.int32([1, 3]), np.int32([1, 2]), 1.0)) == "not equal at [1]: got 3, expected 2"


@pytest.mark.parametrize("nbytes", [0, 1, 100, 4096, 10_000])
@pytest.mark.parametrize("guard_after", [True, False])
def test_guarded_memory_is_memory(nbytes: int, guard_after: bool) -> None:
    memory = GuardedMemory(nbytes, guard_after=guard_after)
    memory.data[:] = 7
    assert memory.data.nbytes == nbytes
    edge = memory.data.__array_interface__["data"][0] + (nbytes if guard_after else 0)
    assert nbytes == 0 or edge % 4096 == 0
    assert memory.damage() is None


@pytest.mark.parametrize(
    ("guard_after", "distance", "said"),
    [
        (True, 1, "before its start: 1 bytes, the nearest 1 away"),
        (True, 200, "before its start: 1 bytes, the nearest 200 away"),
        (False, 1, "past its end: 1 bytes, the nearest 1 away"),
        (False, 256, "past its end: 1 bytes, the nearest 256 away"),
    ],
)
@pytest.mark.parametrize("nbytes", [0, 7, 4096])
def test_a_mark_in_the_zone_is_found(nbytes: int, guard_after: bool, distance: int, said: str) -> None:
    memory = GuardedMemory(nbytes, guard_after=guard_after)
    pages = memory.data.base  # all of its pages but the inaccessible one
    assert isinstance(pages, np.ndarray)
    start = memory.data.__array_interface__["data"][0] - pages.__array_interface__["data"][0]
    pages[start - distance if guard_after else start + nbytes + distance - 1] = 0
    assert memory.damage() == said


def test_what_lies_between_the_elements_is_watched() -> None:
    memory = GuardedMemory(2 * 8 * 4, guard_after=True)
    view = View(Buffer.from_host(memory.data), px.float32, (2, 5), (32, 4), 4)
    memory.watch_gaps(view)
    view.host()[...] = 1
    assert memory.damage() is None
    memory.data[26:34] = 0
    assert memory.damage() == "between its rows: 8 bytes"
