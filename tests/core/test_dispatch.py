"""Choosing a kernel, falling back, and what is moved for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from simulated import SPACE, SimulatedBackend, SimulatedKernel

import perfxapi as px
from perfxapi import dispatch
from perfxapi.backend import REGISTRY, Backend, BackendManifest, OpCall
from perfxapi.errors import DeviceLostError, FallbackError, FallbackWarning, InvalidArgumentError, OutOfMemoryError
from perfxapi.ops.attention import paged_case
from perfxapi.reference_backend import ReferenceKernel

ATTENTION = {"scale": 0.25, "window": 0, "softcap": 0.0}


def on_sim(values: object) -> px.Array:
    return px.asarray(np.asarray(values, np.float32), device="sim")


def fallbacks() -> list[tuple[str, str, str, int]]:
    return [(row.op, row.ran_on, row.reason, row.bytes_moved) for row in px.explain().fallbacks]


def test_an_op_runs_on_the_device_of_its_operands(sim: SimulatedBackend) -> None:
    total = on_sim([1, 2]) + on_sim([3, 4])
    assert str(total.device) == "sim:0"
    assert total.view.buffer.valid_spaces == {SPACE}
    assert np.asarray(total).tolist() == [4, 6]
    (row,) = px.explain().rows
    assert (row.op, row.device, row.ran_on, row.count, row.bytes_moved, row.reason) == (
        "add",
        "sim:0",
        "sim:0",
        1,
        16,
        "",
    )


def test_a_known_call_asks_no_kernel_again(sim: SimulatedBackend) -> None:
    kernel = sim.kernel("add")
    for _ in range(3):
        on_sim([1, 2]) + on_sim([3, 4])
    assert (kernel.num_accepts, kernel.num_launches) == (1, 3)
    on_sim([1, 2, 3]) + on_sim([3, 4, 5])
    assert (kernel.num_accepts, kernel.num_launches) == (2, 4)


def test_a_missing_operator_runs_elsewhere_and_its_result_returns(sim: SimulatedBackend) -> None:
    del sim.table["exp"]
    x = on_sim([0, 1, 2]) + 0.0
    with px.use_device(fallback="allow"):
        y = px.nn.exp(x)
    assert str(y.device) == "sim:0"
    assert y.view.buffer.valid_spaces == {"host", SPACE}
    assert np.allclose(np.asarray(y), np.exp([0, 1, 2]))
    # 12 bytes there and 12 bytes back
    assert fallbacks() == [("exp", str(px.get_device("auto")), "sim has no kernel for exp", 24)]


def test_a_fallback_warns_once_for_each_cause(sim: SimulatedBackend) -> None:
    sim.kernel("exp").refusal = "sim: exp declines float32[3]"
    with pytest.warns(FallbackWarning, match=r"device 'sim:0': exp: sim: exp declines float32\[3\]. The work runs on"):
        px.nn.exp(on_sim([1, 2, 3]))
    sim.kernel("exp").refusal = "sim: exp declines float32[4]"
    px.nn.exp(
        on_sim([1, 2, 3, 4])
    )  # another size is not another cause: no second warning, which would be an error here
    assert len(fallbacks()) == 2


def test_with_error_a_missing_operator_raises(sim: SimulatedBackend) -> None:
    del sim.table["exp"]
    with (
        px.use_device("sim", fallback="error"),
        pytest.raises(FallbackError, match="device 'sim:0': exp: sim has no kernel"),
    ):
        px.nn.exp(px.asarray(np.ones(3, np.float32)))


def test_a_second_kernel_of_the_same_backend_is_no_fallback(sim: SimulatedBackend) -> None:
    second = SimulatedKernel(sim, "exp")
    sim.kernel("exp").refusal = "too small"
    sim.table["exp"].append(second)
    with px.use_device("sim", fallback="error"):
        px.nn.exp(on_sim([1]))
    assert second.num_launches == 1
    assert fallbacks() == []


def test_a_disabled_kernel_is_never_chosen(sim: SimulatedBackend, set_setting: Callable[[str, str], None]) -> None:
    set_setting("DISABLE_KERNELS", "sim:exp, sim:tanh")
    with px.use_device("sim", fallback="allow"):
        px.nn.exp(on_sim([1]))
        px.nn.silu(on_sim([1]))
    assert sim.kernel("exp").num_launches == 0
    assert sim.kernel("silu").num_launches == 1
    assert [row[2] for row in fallbacks()] == ["sim:exp is disabled by PERFXAPI_DISABLE_KERNELS"]


@pytest.mark.parametrize(
    "error", [px.errors.KernelError("status 4"), ZeroDivisionError("oops"), OutOfMemoryError("full")]
)
def test_a_kernel_that_fails_is_replaced_by_the_next(sim: SimulatedBackend, error: Exception) -> None:
    sim.kernel("exp").raises = error
    with pytest.warns(FallbackWarning, match=f"exp: .*{error}"):
        y = px.nn.exp(on_sim([0, 1]))
    assert np.allclose(np.asarray(y), [1, np.e])
    ((op, ran_on, reason, moved),) = fallbacks()
    assert (op, ran_on) == ("exp", str(px.get_device("auto")))
    assert str(error) in reason
    assert moved == 8  # the operand was on the host still; the result returned


def test_with_error_a_kernel_that_fails_raises(sim: SimulatedBackend) -> None:
    sim.kernel("exp").raises = px.errors.KernelError("status 4")
    with px.use_device("sim", fallback="error"), pytest.raises(FallbackError, match="exp: status 4"):
        px.nn.exp(on_sim([0, 1]))


def test_wrong_operands_are_the_callers_fault_and_no_fallback(sim: SimulatedBackend) -> None:
    with pytest.raises(InvalidArgumentError, match="an index lies outside x"):
        px.nn.take_rows(on_sim([[1], [2]]), px.asarray(np.array([2], np.int32), device="sim"))
    assert fallbacks() == []


def test_several_kernels_fail_one_after_the_other(sim: SimulatedBackend) -> None:
    """Two ops of one chain fail, one on every call: each is replaced, and the result is as without failures."""
    sim.kernel("exp").raises = px.errors.KernelError("exp broke")
    sim.table["exp"].append(SimulatedKernel(sim, "exp"))
    sim.table["exp"][1].raises = px.errors.KernelError("exp broke again")
    sim.kernel("multiply").raises = RuntimeError("multiply broke")
    x = np.array([0.5, 1.5], np.float32)
    with px.use_device("sim", fallback="allow"):
        y = px.nn.tanh(px.nn.exp(on_sim(x)) * on_sim(x))
    assert np.allclose(np.asarray(y), np.tanh(np.exp(x) * x))
    reasons = {row[0]: row[2] for row in fallbacks()}
    assert reasons["exp"] == "exp broke; exp broke again"
    assert reasons["multiply"] == "RuntimeError: multiply broke"
    assert "tanh" not in reasons


def test_a_failed_writer_leaves_operands_as_they_were(sim: SimulatedBackend) -> None:
    sim.kernel("adjust_logits").raises = px.errors.KernelError("broke")
    logits = on_sim(np.zeros((1, 4)))
    none = px.asarray(np.zeros(0, np.int32), device="sim")
    ones = on_sim([1.0])
    starts = px.asarray(np.zeros(2, np.int32), device="sim")
    bias_rows, bias_ids = (px.asarray(np.array([i], np.int32), device="sim") for i in (0, 2))
    with px.use_device("sim", fallback="allow"):
        px.nn.adjust_logits(logits, none, starts, none, ones, ones, ones, bias_rows, bias_ids, on_sim([5.0]))
    assert np.asarray(logits).tolist() == [[0, 0, 5, 0]]


# ---- lost devices


def test_after_a_loss_work_moves_on_and_the_device_is_not_tried_again(sim: SimulatedBackend) -> None:
    x = on_sim([0, 1])
    sim.kernel("exp").raises = DeviceLostError("the bus is gone")
    with pytest.warns(FallbackWarning, match=r"exp: sim:0 was lost \(the bus is gone\)"):
        y = px.nn.exp(x)
    assert str(y.device) == str(px.get_device("auto"))
    assert np.allclose(np.asarray(y), [1, np.e])
    with px.use_device(fallback="allow"):
        z = px.nn.tanh(x)
    assert np.allclose(np.asarray(z), np.tanh([0, 1]))
    assert sim.kernel("tanh").num_launches == 0
    assert ("tanh", str(z.device), "sim:0 was lost (the bus is gone)", 0) in fallbacks()


def test_asking_for_a_lost_device_follows_the_policy(sim: SimulatedBackend) -> None:
    REGISTRY.mark_lost(sim.device, "unplugged")
    with pytest.warns(FallbackWarning, match=r"device 'sim:0': sim:0 was lost \(unplugged\)"):
        assert px.get_device("sim") == px.get_device("auto")
    with pytest.raises(px.errors.DeviceUnavailableError), px.use_device("sim", fallback="error"):
        pass


def test_operands_that_were_only_on_the_lost_device_raise_device_lost(sim: SimulatedBackend) -> None:
    only_there = on_sim([1, 2]) + 1.0
    sim.kernel("exp").raises = DeviceLostError("the bus is gone")
    with px.use_device("sim", fallback="allow"), pytest.raises(DeviceLostError, match="sim:0 does not answer"):
        px.nn.exp(only_there)


# ---- state


def caches(sim: SimulatedBackend, case: tuple[np.ndarray, ...]) -> tuple[px.Array, px.Array]:
    """Caches that live on the simulated device, with the contents of a sample case."""
    arrays = []
    for contents in case[1:3]:
        state = px.state(contents.shape, "float32", device="sim", name="cache")
        raw = np.ascontiguousarray(contents).reshape(-1).view(np.uint8)
        state.view.buffer.store(raw, [(0, raw.nbytes)])
        arrays.append(state)
    return arrays[0], arrays[1]


def test_a_fallback_of_attention_moves_the_blocks_it_reads_and_no_more(sim: SimulatedBackend) -> None:
    case = paged_case(np.random.default_rng(0), [(1, 40), (3, 17)], (4, 2), 64)
    k_cache, v_cache = caches(sim, case)
    block_bytes = 2 * 64 * 16 * 4
    read = (case[5][0, :3], case[5][1, :2])  # 40 keys are 3 blocks, 17 are 2
    del sim.table["paged_attention"]
    sim.memory.forget()
    others = [px.asarray(case[index], device="sim") for index in (0, 3, 4, 5)]
    with px.use_device("sim", fallback="allow"):
        got = px.nn.paged_attention(others[0], k_cache, v_cache, *others[1:], **ATTENTION)
    expected = ReferenceKernel(px.ops.op_spec("paged_attention")).spec.reference(*case, **ATTENTION)
    assert np.allclose(np.asarray(got), expected, atol=1e-6)
    blocks = sorted({int(block) for part in read for block in part})
    touched = {offset // block_bytes + i for offset, length in sim.memory.reads for i in range(length // block_bytes)}
    assert sorted(touched) == blocks
    assert sim.memory.bytes_read == 2 * 5 * block_bytes
    assert k_cache.view.buffer.nbytes == 7 * block_bytes, "the case leaves blocks that nobody reads"
    (row,) = px.explain().fallbacks
    # the blocks, and the result that returns; query and tables were on the host
    assert row.bytes_moved == 2 * 5 * block_bytes + got.view.nbytes
    assert sim.memory.bytes_written == got.view.nbytes


def test_a_window_moves_only_what_it_sees(sim: SimulatedBackend) -> None:
    case = paged_case(np.random.default_rng(1), [(1, 100)], (2, 1), 32)
    k_cache, v_cache = caches(sim, case)
    del sim.table["paged_attention"]
    sim.memory.forget()
    others = [px.asarray(case[index], device="sim") for index in (0, 3, 4, 5)]
    with px.use_device("sim", fallback="allow"):
        attributes = {**ATTENTION, "window": 10}
        px.nn.paged_attention(others[0], k_cache, v_cache, *others[1:], **attributes)
    # positions 90..99 are in blocks 5 and 6
    assert sim.memory.bytes_read == 2 * 2 * (32 * 16 * 4)


def test_a_fallback_of_kv_write_writes_back_what_it_wrote(sim: SimulatedBackend) -> None:
    k_cache, v_cache = (px.state(shape, "float32", device="sim") for shape in ((6, 2, 8, 16), (6, 2, 16, 8)))
    del sim.table["kv_write"]
    sim.memory.forget()
    k = np.random.default_rng(2).standard_normal((3, 2, 8)).astype(np.float32)
    slots = px.asarray(np.array([16, 17, -1], np.int32), device="sim")
    with px.use_device("sim", fallback="allow"):
        px.nn.kv_write(on_sim(k), on_sim(2 * k), slots, k_cache, v_cache)
    block_bytes = 2 * 8 * 16 * 4
    assert sim.memory.writes == [(block_bytes, block_bytes)] * 2
    assert sim.memory.reads == [(block_bytes, block_bytes)] * 2
    assert px.explain().fallbacks[0].bytes_moved == 4 * block_bytes
    written = np.asarray(v_cache)
    assert np.array_equal(written[1, :, :2], 2 * k[:2].swapaxes(0, 1))
    assert np.count_nonzero(written) == np.count_nonzero(k[:2])


def test_an_op_that_says_nothing_of_ranges_moves_what_its_view_covers(sim: SimulatedBackend) -> None:
    state = px.state((8, 4), "float32", device="sim")
    del sim.table["add"]
    sim.memory.forget()
    with px.use_device("sim", fallback="allow"):
        state[2:3] + 1.0
    assert sim.memory.reads == [(32, 16)]


def test_a_device_cannot_take_part_in_anothers_state(sim: SimulatedBackend) -> None:
    """State of the host stays there: a call on it from the simulated device runs on the host."""
    state = px.state((2, 4), "float32", device="numpy")
    with px.use_device("sim", fallback="allow"):
        total = px.apply("add", px.Array(state.view, sim.device), on_sim(np.ones(4)))
    assert np.asarray(total).tolist() == [[1] * 4] * 2
    assert fallbacks()[0][2].startswith("state of add lives in host")


def test_state_on_a_lost_device_raises_device_lost(sim: SimulatedBackend) -> None:
    state = px.state((2, 4), "float32", device="sim")
    REGISTRY.mark_lost(sim.device, "unplugged")
    sim.memory.lost = True
    with px.use_device(fallback="allow"), pytest.raises(DeviceLostError):
        state + 1.0


# ---- kernels without a device


class Joined(Backend):
    """One kernel for the host's memory, no device."""

    name = "joined"

    def __init__(self) -> None:
        self.kernel = ReferenceKernel(px.ops.op_spec("exp"))

    def kernels(self, op: str) -> tuple[ReferenceKernel, ...]:
        return (self.kernel,) if op == "exp" else ()


@pytest.fixture
def joined() -> Iterator[Joined]:
    backend = Joined()
    REGISTRY.entries()
    REGISTRY.register(BackendManifest("joined", lambda: backend, priority=500, joins="host"), "tests")
    yield backend
    REGISTRY.unregister("joined")


def test_kernels_that_join_a_device_come_first_by_priority(joined: Joined) -> None:
    with px.use_device("numpy", fallback="error"):
        px.nn.exp(px.asarray(np.ones(2, np.float32)))
        px.nn.tanh(px.asarray(np.ones(2, np.float32)))
    assert {(row.op, row.device, row.ran_on) for row in px.explain().rows} == {
        ("exp", "numpy:0", "joined on numpy:0"),
        ("tanh", "numpy:0", "numpy:0"),
    }
    assert "joined" not in {device.kind for device in px.all_devices()}


def test_joined_kernels_that_fail_are_replaced_by_the_devices_own(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(call: OpCall) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(joined.kernel, "launch", broken)
    with pytest.warns(FallbackWarning, match="exp: RuntimeError: no. The work runs on numpy:0"), px.use_device("numpy"):
        assert np.allclose(np.asarray(px.nn.exp(px.asarray(np.zeros(2, np.float32)))), 1)


def test_joined_kernels_serve_fallbacks_from_other_devices(joined: Joined, sim: SimulatedBackend) -> None:
    del sim.table["exp"]
    with px.use_device("sim", fallback="allow"):
        px.nn.exp(on_sim([0]))
    assert fallbacks()[0][1].startswith("joined on ")


def test_the_cache_of_choices_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_MAX_CACHED", 4)
    for length in range(1, 20):
        px.nn.exp(px.asarray(np.ones(length, np.float32), device="numpy"))
    assert len(dispatch._choices) <= 5
