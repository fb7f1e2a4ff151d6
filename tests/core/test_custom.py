"""Custom ops and their kernels: Python functions, sources compiled here, prebuilt libraries, and what goes wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from axpy import SOURCE, compiled
from simulated import SimulatedBackend

import perfxapi as px
from perfxapi import nn
from perfxapi.backend import REGISTRY
from perfxapi.conformance import verify
from perfxapi.custom import (
    Attribute,
    LibraryKernels,
    OpSpec,
    PythonKernel,
    Sample,
    SourceKernels,
    add_kernels,
    check_signature,
    compile_library,
    kernels_manifest,
    register_op,
    remove_kernels,
)
from perfxapi.errors import (
    CompileError,
    FallbackError,
    FallbackWarning,
    InvalidArgumentError,
    PluginError,
    UnknownNameError,
)
from perfxapi.ops import spec as specs

pytestmark = pytest.mark.usefixtures("own_kernel_folder")
Floats = npt.NDArray[np.float32]


def reference(x: Any, y: Any, factor: float) -> Any:
    return (factor * x + y).astype(np.float32)


def samples() -> Iterator[Sample]:
    rng = np.random.default_rng(0)
    for shape in ((3,), (0, 4), (5, 7), (2, 3, 65)):
        x, y = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        yield Sample((x, y), {"factor": 2.5}, f"shape {shape}")


def make_spec(name: str = "axpy", function: Callable[..., Any] = reference) -> OpSpec:
    rule: Any = lambda inputs, attributes: (inputs[0],)  # noqa: E731
    return OpSpec(name, ("x", "y"), rule, function, samples, attributes=(Attribute("factor", float, 2.0),))


@pytest.fixture(scope="module", autouse=True)
def _axpy() -> Iterator[None]:
    """The op, for this module alone."""
    register_op(make_spec())
    yield
    del specs._REGISTRY["axpy"]
    nn._function.cache_clear()


@pytest.fixture
def remove() -> Iterator[None]:
    """Takes back kernels named "axpy"."""
    yield
    if any(entry.manifest.name == "axpy" for entry in REGISTRY.entries()):
        REGISTRY.unregister("axpy")


def operands(rows: int = 7) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(rows)
    return rng.standard_normal((rows, 33)).astype(np.float32), rng.standard_normal((rows, 33)).astype(np.float32)


def run_eagerly() -> None:
    x, y = operands()
    got = np.asarray(px.nn.axpy(px.asarray(x), px.asarray(y), factor=3.0))
    np.testing.assert_allclose(got, 3.0 * x.astype(float) + y, rtol=1e-5, atol=1e-6)


def planned() -> px.graph.Executable:
    spec = px.TensorSpec((px.Dim("rows"), 33), px.float32)
    graph = px.graph.trace(lambda x, y: px.tanh(px.nn.axpy(px.exp(x), y, factor=-0.5)), {"x": spec, "y": spec})
    return px.graph.compile(graph, bounds={"rows": 16})


def run_planned(plan: px.graph.Executable, rows: int = 7) -> None:
    x, y = operands(rows)
    expected = np.tanh(-0.5 * np.exp(x.astype(float)) + y)
    np.testing.assert_allclose(np.asarray(plan(x=x, y=y)["output"]), expected, rtol=1e-5, atol=1e-6)


def ran_on() -> dict[str, tuple[str, int, str]]:
    return {row.op: (row.ran_on, row.count, row.reason) for row in px.explain().rows}


def host() -> str:
    return str(px.get_device("auto"))


def parts(tmp_path: Path) -> dict[str, Any]:
    return {
        "function": PythonKernel("axpy", lambda x, y, factor: factor * x + y),
        "C": SourceKernels(("axpy",), SOURCE),
        "C++": SourceKernels(("axpy",), SOURCE, "c++"),
        "file": SourceKernels(("axpy",), tmp_path / "axpy.c"),
    }


@compiled
@pytest.mark.parametrize("kind", ["function", "C", "C++", "file"])
def test_kernels_run_eagerly_and_in_plans_and_conform(kind: str, tmp_path: Path, remove: None) -> None:
    (tmp_path / "axpy.c").write_text(SOURCE)
    add_kernels("axpy", parts(tmp_path)[kind])
    run_eagerly()
    run_planned(planned())
    assert ran_on()["axpy"] == (f"axpy on {host()}", 2, "")
    report = verify("axpy", ["axpy"], profile="minimal", isolated=False)
    assert report.passed, report.failures
    assert report.native_samples() == (4, 4)


@compiled
def test_a_native_kernel_stands_in_the_command_list(remove: None) -> None:
    add_kernels("axpy", SourceKernels(("axpy",), SOURCE))
    plan = planned()
    segment = plan._runs[0].segment
    assert segment is not None
    assert segment._foreign == [False, False, False]  # type: ignore[attr-defined]
    for rows in (16, 1, 7):
        run_planned(plan, rows)
    assert px.explain().fallbacks == []


@compiled
def test_what_a_kernel_declines_runs_by_the_reference_and_is_counted(remove: None) -> None:
    add_kernels("axpy", SourceKernels(("axpy",), SOURCE))
    x, y = operands()
    got = np.asarray(px.nn.axpy(px.asarray(x)[:, ::2], px.asarray(y)[:, ::2]))
    np.testing.assert_allclose(got, 2.0 * x[:, ::2] + y[:, ::2], rtol=1e-5)
    assert ran_on()["axpy"][0] == "numpy:0"


def test_without_kernels_the_reference_runs() -> None:
    run_eagerly()
    run_planned(planned())
    assert ran_on()["axpy"][0] == "numpy:0"


# ---- prebuilt libraries


@compiled
def test_a_library_that_was_built_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remove: None) -> None:
    shutil.copy(compile_library("axpy", SOURCE), tmp_path / "libaxpy.so")
    monkeypatch.chdir(tmp_path)
    add_kernels("axpy", LibraryKernels(("axpy",), "libaxpy.so"))
    run_planned(planned())
    assert ran_on()["axpy"] == (f"axpy on {host()}", 1, "")


@compiled
def test_a_library_without_the_kernel(tmp_path: Path) -> None:
    path = shutil.copy(compile_library("other", SOURCE.replace('{"axpy"', '{"exp"')), tmp_path / "libother.so")
    with pytest.raises(PluginError, match=r"libother.so: it has no kernel for axpy; it has: exp"):
        add_kernels("axpy", LibraryKernels(("axpy",), path))
    with pytest.raises(PluginError, match=r"nowhere.so: cannot be loaded as a native library"):
        add_kernels("axpy", LibraryKernels(("axpy",), tmp_path / "nowhere.so"))
    assert "axpy" not in {entry.manifest.name for entry in REGISTRY.entries()}


# ---- sources that do not compile

BROKEN = SOURCE.replace("return PX_OK;", "return PX_OK")


@compiled
@pytest.mark.parametrize(
    ("language", "source", "said"),
    [
        ("c", BROKEN, r"axpy: its source does not compile: axpy.c:\d+:\d+: error: expected .;. .*return PX_OK"),
        ("c++", BROKEN, r"axpy.cpp:\d+:\d+: error: expected .;."),
        ("c", SOURCE.replace(", const PxThread* thread)", ")").replace("thread)", "0)"), r"axpy.c:\d+:\d+: .*incompat"),
        ("c", SOURCE.replace("#include <perfx/kernel.h>", "#include <nowhere.h>"), r"nowhere.h"),
        ("c", SOURCE, r"axpy: it cannot be linked: .*no-such-library"),
    ],
)
def test_a_source_that_does_not_compile_shows_the_line(language: str, source: str, said: str) -> None:
    flags = ("-lno-such-library",) if "link" in said else ()
    with pytest.raises(CompileError, match=said) as raised:
        add_kernels("axpy", SourceKernels(("axpy",), source, language, flags))
    assert "error:" in raised.value.output
    assert "perfxapi/include" in raised.value.command
    assert "axpy" not in {entry.manifest.name for entry in REGISTRY.entries()}


@compiled
def test_in_a_plugin_it_is_a_fallback_that_says_so(remove: None) -> None:
    REGISTRY.entries()
    REGISTRY.register(kernels_manifest("axpy", SourceKernels(("axpy",), BROKEN)), "tests")
    with pytest.warns(FallbackWarning, match=r"axpy.c:\d+:\d+: error: expected"):
        run_eagerly()
    run_planned(planned())
    place, count, reason = ran_on()["axpy"]
    assert (place, count) == ("numpy:0", 2)
    assert "error: expected ';' before '}' token" in reason
    with px.use_device(fallback="error"), pytest.raises(FallbackError, match="its source does not compile"):
        run_eagerly()
    report = verify("axpy", ["axpy"], isolated=False)
    assert {outcome.status for outcome in report.failures} == {"error"}


def test_a_plugin_whose_library_is_not_there_is_a_fallback_too(tmp_path: Path, remove: None) -> None:
    REGISTRY.entries()
    parts = LibraryKernels(("axpy",), tmp_path / "nowhere.so")
    REGISTRY.register(kernels_manifest("axpy", parts), "tests")
    with pytest.warns(FallbackWarning, match=r"nowhere.so: cannot be loaded as a native library"):
        run_planned(planned())
    assert ran_on()["axpy"][:2] == ("numpy:0", 1)


def test_a_compiler_that_is_not_there(monkeypatch: pytest.MonkeyPatch, remove: None) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with pytest.raises(CompileError, match=r"tried CC=no-such-compiler\); to mend it: install one"):
        add_kernels("axpy", SourceKernels(("axpy",), SOURCE))
    monkeypatch.setenv("CC", "cc '")
    with pytest.raises(CompileError, match="CC is no command: No closing quotation"):
        add_kernels("axpy", SourceKernels(("axpy",), SOURCE))
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompileError, match=r"no compiler for c\+\+ is found \(tried c\+\+, g\+\+, clang\+\+\)"):
        add_kernels("axpy", SourceKernels(("axpy",), SOURCE, "c++"))
    REGISTRY.register(kernels_manifest("axpy", SourceKernels(("axpy",), SOURCE)), "tests")
    with pytest.warns(FallbackWarning, match="no compiler for c is found"):
        run_eagerly()


@compiled
def test_a_folder_may_be_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_setting: Callable[[str, str], None], remove: None
) -> None:
    monkeypatch.chdir(tmp_path)
    set_setting("KERNEL_FOLDER", ".")
    add_kernels("axpy", SourceKernels(("axpy",), SOURCE))
    run_eagerly()
    assert ran_on()["axpy"][0] == f"axpy on {host()}"
    assert [file.suffix for file in tmp_path.iterdir()] == [".so"]


# ---- what the user gives


def test_a_function_of_the_wrong_number_of_arguments() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"axpy: .*test_custom.py:\d+: .*\(x\) cannot be called with \(x, y, "
    ):
        add_kernels("axpy", PythonKernel("axpy", lambda x: x))
    with pytest.raises(InvalidArgumentError, match="unexpected keyword argument 'factor'"):
        check_signature(lambda x, y: x, make_spec())
    check_signature(reference, make_spec())


def test_an_op_called_with_the_wrong_number_of_arguments() -> None:
    x = px.asarray(np.ones((2, 33), np.float32))
    with pytest.raises(InvalidArgumentError, match=r"axpy takes 2 inputs \(x, y\); got 1"):
        px.nn.axpy(x)


def test_a_function_that_declines_or_gives_the_wrong_shape(remove: None) -> None:
    narrow = lambda call: None if call.inputs[0].shape[0] == 2 else "two rows only"  # noqa: E731
    add_kernels("axpy", PythonKernel("axpy", lambda x, y, factor: x[:1, :3], narrow))
    run_eagerly()
    assert ran_on()["axpy"][0] == "numpy:0"
    x = np.ones((2, 33), np.float32)
    with pytest.warns(FallbackWarning, match=r"it returned shape \(1, 3\) where \(2, 33\) is expected"):
        got = px.nn.axpy(px.asarray(x), px.asarray(x))
    assert np.array_equal(np.asarray(got), 3 * x)


def test_a_result_is_not_broadcast(remove: None) -> None:
    add_kernels("axpy", PythonKernel("axpy", lambda x, y, factor: np.float32(7)))
    with pytest.warns(FallbackWarning, match=r"test_custom.py:\d+: it returned shape \(\) where \(7, 33\) is expected"):
        run_eagerly()
    report = verify("axpy", ["axpy"], isolated=False)
    assert {outcome.status for outcome in report.failures} == {"error"}


def test_a_predicate_that_raises_has_refused(remove: None) -> None:
    add_kernels("axpy", PythonKernel("axpy", reference, lambda call: call.inputs[9]))
    run_eagerly()
    assert ran_on()["axpy"][0] == "numpy:0"
    report = verify("axpy", ["axpy"], isolated=False)
    assert (report.passed, report.idle) == (False, ["axpy"])
    assert re.search(r"accepts raised IndexError: tuple index out of range", report.outcomes[0].detail)


@pytest.mark.parametrize("answer", [True, False, 0])
def test_a_predicate_that_does_not_say_what_it_means(answer: Any, remove: None) -> None:
    add_kernels("axpy", PythonKernel("axpy", reference, lambda call: answer))
    with pytest.raises(InvalidArgumentError, match=rf"accepts returned {answer}: it must return None for a call that"):
        run_eagerly()


def test_the_refusal_of_a_joined_kernel_is_a_reason_of_the_fallback(sim: SimulatedBackend, remove: None) -> None:
    add_kernels("axpy", PythonKernel("axpy", reference, lambda call: "axpy wants more rows"))
    sim.table["axpy"].clear()
    x, y = map(px.asarray, operands())
    with px.use_device("sim", fallback="allow"):
        px.nn.axpy(x, y)
        px.tanh(x)
    reason = ran_on()["axpy"][2]
    assert "sim has no kernel for axpy" in reason
    assert "axpy wants more rows" in reason
    assert "axpy has no kernel" not in ran_on()["tanh"][2]


def test_a_reference_may_refuse_in_any_words(remove: None) -> None:
    def pick(x: Any, index: Any) -> Any:
        return x[index]

    def picked() -> Iterator[Sample]:
        yield Sample((np.arange(5, dtype=np.float32), np.array([1, 3, 0], np.int32)))

    rule: Any = lambda inputs, attributes: (specs.TensorSpec(inputs[1].shape, inputs[0].dtype),)  # noqa: E731
    register_op(OpSpec("pick", ("x", "index"), rule, pick, picked))
    try:
        report = verify("numpy", ["pick"], isolated=False)
        add_kernels("axpy", PythonKernel("pick", lambda x, index: np.take(x, index, mode="clip")))
        clipped = verify("axpy", ["pick"], isolated=False)
    finally:
        del specs._REGISTRY["pick"]
    assert report.passed, report.failures
    hostile = [outcome for outcome in clipped.outcomes if outcome.arrangement == "hostile indices"]
    assert {outcome.detail for outcome in hostile} == {"it computes with operands that the reference refuses"}


def test_only_kernels_of_this_program_are_taken_back(remove: None) -> None:
    add_kernels("axpy", PythonKernel("axpy", reference))
    for name in ("cpu", "numpy", "axpyy"):
        with pytest.raises(UnknownNameError, match=rf"unknown kernels of this program '{name}'.* Known: axpy\."):
            remove_kernels(name)
    remove_kernels("axpy")
    assert "axpy" not in {entry.manifest.name for entry in REGISTRY.entries()}
    assert "numpy" in {entry.manifest.name for entry in REGISTRY.entries()}


def test_an_op_of_this_program_alone_is_not_verified_in_another() -> None:
    with pytest.raises(InvalidArgumentError, match="op 'axpy' was added by this program: verify it with isolated=Fal"):
        verify("numpy", ["exp", "axpy"])
    report = verify("numpy", ["axpy"], isolated=False)
    assert report.passed, report.failures


def test_an_op_whose_samples_are_declined_has_not_passed(remove: None) -> None:
    add_kernels("axpy", PythonKernel("axpy", reference, lambda call: "not today"))
    report = verify("axpy", ["axpy"], isolated=False)
    assert (report.failures, report.missing, report.passed, report.idle) == ([], [], False, ["axpy"])
    assert report.summary().endswith("not passed: of axpy none of its own kernels ran a sample")


def test_an_op_without_samples_is_said_to_have_none() -> None:
    register_op(replace(make_spec("bare"), samples=lambda: iter(())))
    try:
        report = verify("numpy", ["bare"], isolated=False)
        both = verify("numpy", ["axpy", "bare"], isolated=False)
    finally:
        del specs._REGISTRY["bare"]
    assert (report.outcomes, report.passed, report.unsampled) == ([], False, ("bare",))
    assert "no samples: bare" in str(report)
    assert (both.unsampled, both.idle) == (("bare",), ["bare"])
    assert {(outcome.op, outcome.status) for outcome in both.outcomes} == {("axpy", "ok")}


@pytest.mark.parametrize("name", ["", "Axpy", "../axpy", "a b", "axpy\n"])
def test_names_that_cannot_be_used(name: str) -> None:
    for use in (add_kernels, kernels_manifest):
        with pytest.raises(InvalidArgumentError, match="the name must be lower-case letters"):
            use(name, PythonKernel("axpy", reference))
    with pytest.raises(InvalidArgumentError, match="the name must be lower-case letters"):
        compile_library(name, SOURCE)


def test_names(remove: None) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown op 'axpyy'\. Did you mean 'axpy'"):
        add_kernels("axpy", PythonKernel("axpyy", reference))
    with pytest.raises(UnknownNameError, match=r"unknown language 'cuda'\. Known: c, c\+\+"):
        add_kernels("axpy", SourceKernels(("axpy",), SOURCE, "cuda"))
    with pytest.raises(InvalidArgumentError, match=r"ops must be a tuple of names; got 'axpy': write \('axpy',\)"):
        add_kernels("axpy", SourceKernels("axpy", SOURCE))  # type: ignore[arg-type]
    add_kernels("axpy", PythonKernel("axpy", reference))
    with pytest.raises(PluginError, match="'axpy' is registered by two distributions"):
        add_kernels("axpy", PythonKernel("axpy", reference))
    with pytest.raises(InvalidArgumentError, match="'axpy' was added by this program: verify it with isolated=False"):
        verify("axpy")
    with pytest.raises(InvalidArgumentError, match="an op named 'axpy' is registered already"):
        register_op(make_spec())
