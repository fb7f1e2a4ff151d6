"""Native backends: command lists that stop and go on, kernels that fail, packed weights, libraries that do not fit."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated import SimulatedBackend

import perfxapi as px
from perfxapi.backend import REGISTRY, BackendManifest
from perfxapi.errors import FallbackError, FallbackWarning, InvalidArgumentError, PluginError, UnknownNameError
from perfxapi.native import JoinedKernels, NativeBackend, NativeLibrary, declarations
from perfxapi.native.library import shared_ffi
from perfxapi.ops.attention import paged_case
from perfxapi.quantization import quantize

SetSetting = Callable[[str, str], None]
Floats = np.ndarray[Any, Any]
TOKENS = px.Dim("num_tokens")
COLUMNS = 64


@pytest.fixture(scope="module")
def backend() -> NativeBackend:
    found = REGISTRY.of_device(px.get_device("cpu")).backend
    assert isinstance(found, NativeBackend)
    return found


@pytest.fixture(autouse=True)
def _on_cpu() -> Iterator[None]:
    with px.use_device("cpu", fallback="allow"):
        yield


def chain() -> Callable[..., px.Array]:
    """Six ops, each of which has a kernel on the cpu backend."""
    values = (np.random.default_rng(0).standard_normal((48, COLUMNS)) / 8).astype(np.float32)
    weight = px.constant(quantize(values, px.q8_0), "q8_0", (48, COLUMNS))
    norm = px.constant(np.linspace(0.5, 1.5, COLUMNS, dtype=np.float32))

    def model(x: px.Array) -> px.Array:
        x = px.nn.tanh(x)
        x = px.nn.exp(x)
        x = px.nn.rms_norm(x, norm, eps=1e-6)
        x = px.nn.linear(x, weight, activation_format="int16")
        return px.nn.silu(px.nn.sigmoid(x))

    return model


def compiled(model: Callable[..., px.Array]) -> px.graph.Executable:
    graph = px.graph.trace(model, {"x": px.TensorSpec((TOKENS, COLUMNS), px.float32)})
    return px.graph.compile(graph, bounds={"num_tokens": 16})


def rows_of(num_tokens: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).standard_normal((num_tokens, COLUMNS)).astype(np.float32)


def result(plan: px.graph.Executable, x: Floats) -> Floats:
    return np.array(plan(x=x)["output"])


def close(got: Floats, expected: Floats) -> bool:
    """Within what a code of the 16-bit activation format may flip where float32 rounds differently."""
    return bool(np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max())


# ---- a list that stops and goes on


@pytest.mark.parametrize(
    "disabled",
    ["rms_norm", "tanh", "silu", "tanh,rms_norm,silu", "exp,rms_norm", "tanh,exp,rms_norm,linear,sigmoid,silu"],
)
def test_a_node_disabled_in_the_middle_runs_on_the_reference_and_the_list_goes_on(
    set_setting: SetSetting, disabled: str
) -> None:
    model = chain()
    whole = compiled(model)
    expected = {n: result(whole, rows_of(n)) for n in (1, 5, 16)}
    assert px.explain().fallbacks == []
    # without the chains that several of them would be steps of
    set_setting("DISABLE_KERNELS", ",".join(f"cpu:{op}" for op in ("elementwise_chain", *disabled.split(","))))
    stopping = compiled(model)
    px.reset_explain()
    for num_tokens, values in expected.items():
        assert close(result(stopping, rows_of(num_tokens)), values)
    found = {row.op: (row.ran_on, row.count, row.reason) for row in px.explain().fallbacks}
    assert found == {
        op: ("numpy:0", 3, f"cpu:{op} is disabled by PERFXAPI_DISABLE_KERNELS") for op in disabled.split(",")
    }
    counts = {row.op: row.count for row in px.explain().rows}
    assert counts == dict.fromkeys(("tanh", "exp", "rms_norm", "linear", "sigmoid", "silu"), 3)


def test_with_error_a_disabled_kernel_raises(set_setting: SetSetting) -> None:
    set_setting("DISABLE_KERNELS", "cpu:rms_norm")
    with px.use_device(fallback="error"), pytest.raises(FallbackError, match="cpu:rms_norm is disabled"):
        compiled(chain())


def test_everything_of_a_backend_can_be_disabled(set_setting: SetSetting) -> None:
    expected = result(compiled(chain()), rows_of(4))
    set_setting("DISABLE_KERNELS", "cpu:*")
    assert close(result(compiled(chain()), rows_of(4)), expected)


def test_attention_disabled_in_the_middle(set_setting: SetSetting) -> None:
    """The cache is written natively, read by the reference, and the list goes on."""
    case = paged_case(np.random.default_rng(3), [(1, 21), (4, 4)], (4, 2), 32)
    names = ("query_start", "kv_len", "block_table")
    specs = {name: px.TensorSpec(value.shape, px.int32) for name, value in zip(names, case[3:], strict=True)}
    specs["q"] = px.TensorSpec((TOKENS, 4, 32), px.float32)
    specs["slot_mapping"] = px.TensorSpec((TOKENS,), px.int32)

    def run() -> Floats:
        caches = [px.state(cache.shape, "float32") for cache in case[1:3]]
        for cache, contents in zip(caches, case[1:3], strict=True):
            cache.view.buffer.store(np.ascontiguousarray(contents).reshape(-1).view(np.uint8), [(0, contents.nbytes)])

        def model(q: px.Array, slot_mapping: px.Array, **tables: px.Array) -> px.Array:
            keys = px.nn.tanh(q)[:, 0:2]
            px.nn.kv_write(keys, keys, slot_mapping, *caches)
            attended = px.nn.paged_attention(q, *caches, *(tables[name] for name in names), scale=0.2, window=0)
            return px.nn.exp(attended)

        plan = px.graph.compile(px.graph.trace(model, specs), bounds={"num_tokens": 8})
        slots = np.array([case[5][0, 1] * 16 + 4, *(case[5][1, 0] * 16 + np.arange(4))], np.int32)
        return np.array(plan(q=case[0], slot_mapping=slots, **dict(zip(names, case[3:], strict=True)))["output"])

    expected = run()
    px.reset_explain()
    set_setting("DISABLE_KERNELS", "cpu:paged_attention")
    assert close(run(), expected)
    assert [(row.op, row.count) for row in px.explain().fallbacks] == [("paged_attention", 1)]


def test_a_node_of_a_list_that_runs_in_another_memory(set_setting: SetSetting, sim: SimulatedBackend) -> None:
    """Its operand goes there and its result comes back, in each run anew."""
    model = chain()
    whole = compiled(model)
    set_setting("DISABLE_KERNELS", "cpu:rms_norm")
    mixed = compiled(model)
    for run, num_tokens in enumerate((3, 1, 9, 3)):
        px.reset_explain()
        x = rows_of(num_tokens, run)
        assert close(result(mixed, x), result(whole, x))
        (row,) = [row for row in px.explain().fallbacks if row.count]
        weight_bytes = COLUMNS * 4 if run == 0 else 0
        assert (row.op, row.ran_on, row.count) == ("rms_norm", "sim:0", 1)
        assert row.bytes_moved == 2 * num_tokens * COLUMNS * 4 + weight_bytes


# ---- kernels that fail

FAULTY = """
#include "perfx/abi.h"

static int32_t accepts(const PxCall* call) {
  return call->operands[0].dtype == PX_FLOAT32 && call->operands[0].ndim == 2 ? PX_OK : PX_UNSUPPORTED;
}

/* Fails with the status that stands in the first element, if that is a status; else copies. */
static int32_t run(const PxCall* call, const PxThread* thread) {
  const float* in = (const float*)call->operands[0].data;
  float* out = (float*)call->operands[call->num_operands - 1].data;
  const int64_t count = call->operands[0].shape[0] * call->operands[0].shape[1];
  if (count > 0 && in[0] >= 1 && in[0] <= 5) return (int32_t)in[0];
  if (thread->index == 0)
    for (int64_t i = 0; i < count; ++i) out[i] = in[i];
  return PX_OK;
}

static int32_t supported(void) { return 1; }
static const PxKernel kernels[] = {{"rms_norm", accepts, 0, run}};
static const PxVariant variants[] = {{"plain", supported, 1, 0, kernels}};
static const PxLibrary library = {PERFX_ABI_VERSION, sizeof(PxTensor), sizeof(PxCall), sizeof(PxThread),
                                  sizeof(PxKernel), sizeof(PxVariant), "faulty", 1, 0, variants};
const PxLibrary* perfx_library(void) { return &library; }
"""


@pytest.fixture(scope="module")
def faulty_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "faulty.c").write_text(FAULTY)
    compiler = shutil.which("cc") or "gcc"
    command = [compiler, "-shared", "-fPIC", f"-I{px.get_include()}", "faulty.c", "-o", "faulty.so"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    return folder / "faulty.so"


@pytest.fixture
def faulty(faulty_library: Path) -> Iterator[JoinedKernels]:
    """A kernel of RMS norm that copies its input, or fails with the status that stands in front."""
    joined = JoinedKernels("faulty", NativeLibrary(faulty_library))
    REGISTRY.entries()
    REGISTRY.register(BackendManifest("faulty", lambda: joined, priority=500, joins="host"), "tests")
    yield joined
    REGISTRY.unregister("faulty")


def norm_in_the_middle() -> px.graph.Executable:
    ones = px.constant(np.ones(COLUMNS, np.float32))
    return compiled(lambda x: px.nn.sigmoid(px.nn.rms_norm(px.nn.maximum(x, x), ones, eps=1e-6)))


def with_first(value: float) -> Floats:
    x = rows_of(3)
    x[0, 0] = value
    return x


@pytest.mark.parametrize(
    ("status", "said"),
    [(1, "unsupported"), (2, "invalid argument"), (3, "out of memory"), (4, "kernel error")],
)
def test_a_kernel_that_fails_in_mid_run_is_replaced_for_that_run(faulty: JoinedKernels, status: int, said: str) -> None:
    plan = norm_in_the_middle()
    assert close(result(plan, with_first(0)), 1 / (1 + np.exp(-with_first(0)))), "the kernel copies"
    assert px.explain().fallbacks == []
    x = with_first(status)
    normalized = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-6)
    with px.use_device("cpu", fallback="warn"), pytest.warns(FallbackWarning, match=f"rms_norm: {said}"):
        got = result(plan, x)
    assert close(got, 1 / (1 + np.exp(-normalized)))
    (row,) = px.explain().fallbacks
    assert (row.op, row.ran_on, row.count, row.bytes_moved) == ("rms_norm", "cpu:0", 1, 0)
    assert row.reason == f"faulty: rms_norm: {said}"
    px.reset_explain()
    result(plan, with_first(0))
    assert px.explain().fallbacks == [], "the next run tries the kernel again"


def test_it_fails_outside_of_plans_as_well(faulty: JoinedKernels) -> None:
    ones = px.constant(np.ones(COLUMNS, np.float32))
    x = with_first(4)
    got = np.asarray(px.nn.rms_norm(px.asarray(x), ones, eps=1e-6))
    assert close(got, x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-6))
    assert [row.reason for row in px.explain().fallbacks] == ["faulty: rms_norm: kernel error"]


def test_with_error_a_failure_in_mid_run_raises(faulty: JoinedKernels) -> None:
    plan = norm_in_the_middle()
    with px.use_device(fallback="error"):
        with pytest.raises(FallbackError, match="faulty: rms_norm: kernel error"):
            plan(x=with_first(4))
        plan(x=with_first(0))


def test_with_error_a_device_lost_in_mid_run_reaches_the_caller(faulty: JoinedKernels) -> None:
    with px.use_device(fallback="error"), pytest.raises(px.errors.DeviceLostError, match="rms_norm"):
        norm_in_the_middle()(x=with_first(5))


@pytest.mark.parametrize("planned", [True, False])
def test_an_operand_that_is_out_of_range_is_a_typed_error_that_names_the_op(planned: bool) -> None:
    table = px.constant(rows_of(8))
    tokens = np.array([1, 8], np.int32)

    def run() -> Any:
        if not planned:
            return px.nn.embedding(px.asarray(tokens), table)
        graph = px.graph.trace(lambda t: px.nn.embedding(t, table), {"t": px.TensorSpec((TOKENS,), px.int32)})
        return px.graph.compile(graph, bounds={"num_tokens": 4})(t=tokens)

    with pytest.raises(InvalidArgumentError, match="embedding: a token id lies outside the table"):
        run()
    assert px.explain().fallbacks == []


# ---- weights


def test_a_weight_made_on_demand_is_made_once_for_packing() -> None:
    made: list[bool] = []
    values = np.random.default_rng(4).standard_normal((40, 256)).astype(np.float32)

    def make() -> np.ndarray:
        made.append(True)
        return quantize(values, px.int4_g128)

    weight = px.constant(make, "int4_g128", (40, 256))
    x = px.asarray(np.random.default_rng(5).standard_normal((2, 256)).astype(np.float32))
    for _ in range(3):
        y = px.nn.linear(x, weight, activation_format="int16")
    assert made == [True]
    exact = np.asarray(x, np.float64) @ np.asarray(weight, np.float64).T
    assert np.abs(np.asarray(y) - exact).max() < 1e-4 * np.abs(exact).max()


def test_weights_are_packed_once_and_their_pages_released() -> None:
    released: list[bool] = []
    values = np.random.default_rng(4).standard_normal((40, 256)).astype(np.float32)
    raw = quantize(values, px.q4_k)
    head = px.constant(raw, "q4_k", (40, 256), release=lambda: released.append(True))
    x = px.asarray(np.random.default_rng(5).standard_normal((2, 256)).astype(np.float32))
    for _ in range(3):
        y = px.nn.linear(x, head, activation_format="int16")
    assert released == [True]
    exact = np.asarray(x, np.float64) @ np.asarray(head, np.float64).T
    assert np.abs(np.asarray(y) - exact).max() < 1e-4 * np.abs(exact).max()
    # the packed form serves lookups in the same table
    picked = px.nn.embedding(px.asarray(np.array([39, 0], np.int32)), head)
    assert np.allclose(np.asarray(picked), np.asarray(head)[[39, 0]], atol=1e-6)
    assert px.explain().fallbacks == []


def test_a_weight_that_is_not_a_constant_is_not_packed() -> None:
    weight = px.asarray(np.random.default_rng(4).standard_normal((8, COLUMNS)).astype(np.float32))
    first = np.asarray(px.nn.linear(px.asarray(rows_of(2)), weight))
    weight.view.buffer.writable()[0][:] = 0
    assert not np.asarray(px.nn.linear(px.asarray(rows_of(2)), weight)).any()
    assert first.any()


# ---- libraries and pools


def test_the_headers_are_what_cffi_reads(backend: NativeBackend) -> None:
    text = declarations("perfx/abi.h", "perfx/host.h")
    assert "#" not in text
    assert "PERFX_" not in re.sub(r"perfx_", "", text)
    table = backend.library.lib.perfx_library()
    assert table.sizeof_tensor == shared_ffi().sizeof("PxTensor") == 120
    assert backend.library.name == "cpu"


def test_a_file_that_is_no_library(tmp_path: Path, backend: NativeBackend) -> None:
    (tmp_path / "text.so").write_text("not a library")
    for path in (tmp_path / "text.so", tmp_path / "missing.so"):
        with pytest.raises(PluginError, match="cannot be loaded as a native library"):
            NativeLibrary(path)
    with pytest.raises(UnknownNameError, match="PERFXAPI_CPU_VARIANT"):
        NativeLibrary(backend.library.path, "avx1024")


def test_every_variant_that_runs_here_gives_the_same_product(backend: NativeBackend) -> None:
    """Bit for bit: the order of operations is part of the op's numerics."""
    x, norms = rows_of(5), []
    weight = np.random.default_rng(6).standard_normal((48, COLUMNS)).astype(np.float32)
    raw = quantize(weight, px.q8_0)
    for variant in backend.library.supported_variants():
        one = NativeBackend(f"cpu_{variant}", NativeLibrary(backend.library.path, variant), variant)
        kernel = one.kernels("linear")[0]
        call = _linear_call(x, raw)
        assert kernel.accepts(call) is None
        kernel.launch(call)
        norms.append(call.outputs[0].host().tobytes())
    assert len(set(norms)) == 1


def _linear_call(x: Floats, raw: Any) -> Any:
    from perfxapi.backend import OpCall
    from perfxapi.memory import Buffer, View

    weight = px.constant(raw, "q8_0", (48, COLUMNS)).view
    output = View(Buffer(x.shape[0] * 48 * 4), px.float32, (x.shape[0], 48))
    output.buffer.overwrite()
    return OpCall("linear", (px.asarray(x).view, weight), (output,), {"activation_format": "int16"})


def test_threads_that_ask_first_at_the_same_time_get_one_pool(
    backend: NativeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = NativeBackend("cpu_shared", backend.library, "shared")
    make, made, all_there = one._make_pool, [], threading.Barrier(6)

    def make_slowly() -> Any:
        made.append(make())
        time.sleep(0.05)  # until the others have asked
        return made[-1]

    def ask(_: int) -> Any:
        all_there.wait()
        return one.pool

    monkeypatch.setattr(one, "_make_pool", make_slowly)
    with ThreadPoolExecutor(6) as threads:
        pools = list(threads.map(ask, range(6)))
    assert len(made) == 1 and set(pools) == set(made)


def test_the_number_of_threads_is_fixed_by_the_first_kernel(backend: NativeBackend) -> None:
    px.nn.exp(px.asarray(rows_of(1)))
    with pytest.raises(InvalidArgumentError, match="before the first native kernel"):
        px.set_num_threads(backend.num_threads + 1)
    px.set_num_threads(backend.num_threads)
    with pytest.raises(InvalidArgumentError, match="at least 1; got 0"):
        px.set_num_threads(0)


def test_time_in_native_code_is_counted() -> None:
    before = px.native_seconds()
    result(compiled(chain()), rows_of(16))
    assert px.native_seconds() > before


def test_plans_of_several_threads_take_turns() -> None:
    model = chain()
    plans = [compiled(model) for _ in range(3)]
    expected = result(compiled(model), rows_of(7))
    right = [0, 0, 0]

    def work(index: int) -> None:
        with px.use_device("cpu", fallback="allow"):
            for _ in range(20):
                right[index] += np.array_equal(result(plans[index], rows_of(7)), expected)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [20, 20, 20]


def test_profiling_names_each_node() -> None:
    plan = compiled(chain())
    plan.profile(True)
    result(plan, rows_of(16))
    times = plan.profile(False)
    assert [op for op, _ in times] == ["elementwise_chain", "rms_norm", "linear", "elementwise_chain"]
    assert all(nanoseconds > 0 for _, nanoseconds in times)
