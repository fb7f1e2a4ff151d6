"""The emulator finds what is wrong with a kernel on some GPU, though a processor would run it."""

from __future__ import annotations

import numpy as np
import pytest

from perfxapi.errors import KernelError
from perfxapi_gpu_kernels import Region, Size
from perfxapi_gpu_kernels.emulator import EmulatorDriver
from perfxapi_gpu_kernels.sources import Program, source_text

pytestmark = pytest.mark.usefixtures("own_kernel_folder")
PARAMETERS = "CONST_OPERAND(float, x), OPERAND(float, y), int count"
OPENED = "OPEN_CONST(float, x); OPEN(float, y); int id = LOCAL_ID(0);"


@pytest.fixture(scope="module")
def driver() -> EmulatorDriver:
    return EmulatorDriver()


def run(
    driver: EmulatorDriver,
    body: str,
    x: np.ndarray,
    *,
    groups: Size = (1, 1, 1),
    local: Size = (64, 1, 1),
    offset: int = 0,
    count: np.generic | None = None,
) -> np.ndarray:
    """Runs a kernel with this body on x; what it has written, NaN where it has not."""
    text = f"KERNEL tested({PARAMETERS}) {{ {OPENED} {body} }}"
    source = source_text(Program("tested", text=text), driver.properties)
    regions = [Region(driver.allocate(x.nbytes + offset), offset, x.nbytes) for _ in range(2)]
    driver.write(regions[0], x.view(np.uint8))
    last = np.int32(x.size) if count is None else count
    driver.enqueue(driver.bind(driver.compile(source, ["tested"])["tested"], groups, local, [*regions, last]))
    out = np.empty_like(x)
    driver.read(regions[1], out.view(np.uint8))
    return out


def numbers(count: int = 64) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(count).astype(np.float32)


def test_blocks_and_threads_have_their_places(driver):
    body = "int place = GROUP_ID(1) * 32 + GROUP_ID(0) * 16 + LOCAL_ID(1) * 4 + id; y[place] = 2 * x[place];"
    x = numbers()
    np.testing.assert_array_equal(run(driver, body, x, groups=(2, 2, 1), local=(4, 4, 1)), 2 * x)


def test_threads_meet_at_barriers(driver):
    body = """LOCAL_ARRAY(float, scratch, 64);
    scratch[id] = x[id];
    for (int step = 1; step < 64; step *= 2) {
        BARRIER(); float other = scratch[(id + step) % 64]; BARRIER(); scratch[id] += other;
    }
    y[id] = scratch[id];"""
    x = np.arange(64, dtype=np.float32)
    np.testing.assert_array_equal(run(driver, body, x), np.full(64, x.sum()))


@pytest.mark.parametrize("neighbor", ["id + 1", "id + 63"])
def test_a_missing_barrier_shows(driver, neighbor):
    body = f"LOCAL_ARRAY(float, scratch, 64); scratch[id] = x[id]; y[id] = scratch[({neighbor}) % 64];"
    assert any(np.isnan(run(driver, body, numbers())).any() for _ in range(2))


def test_shared_memory_is_forgotten_between_blocks(driver):
    body = "LOCAL_ARRAY(float, scratch, 64); if (GROUP_ID(0) == 0) scratch[id] = x[id]; y[id] = scratch[id];"
    assert np.isnan(run(driver, body, numbers(), groups=(2, 1, 1))).all()


def test_a_thread_that_misses_a_barrier_is_an_error(driver):
    with pytest.raises(KernelError, match=r"tested\.h:1: not all threads of the block come to this barrier"):
        run(driver, "if (id < 40) BARRIER(); y[id] = x[id];", numbers())
    with pytest.raises(KernelError, match="threads of a block wait at different barriers"):
        run(driver, "if (id < 40) {\nBARRIER(); } else {\nBARRIER(); }", numbers())
    np.testing.assert_array_equal(run(driver, "y[id] = x[id];", numbers()), numbers())


def test_a_sum_over_a_subgroup(driver):
    x = numbers()
    got = run(driver, "y[id] = SUBGROUP_MAX(x[id]);", x)
    np.testing.assert_array_equal(got, np.repeat(x.reshape(2, 32).max(axis=1), 32))


@pytest.mark.parametrize(
    ("body", "arguments", "problem"),
    [
        ("y[id] = x[id];", {"offset": 2}, "not a multiple of the type's alignment"),
        ("LOCAL_ARRAY(float, scratch, 64); scratch[id + 1] = 0;", {}, "past the end of the array"),
        ("y[id] = (float)(1 << (id + 1));", {}, "a shift by more digits"),
        ("y[id] = x[id];", {"count": np.int64(64)}, "argument 4 has 4 bytes and was given 8"),
        ("y[id] = x[id];", {"local": (32, 64, 1)}, "1 to 1024 threads"),
    ],
)
def test_what_is_an_error_on_some_device(driver, body, arguments, problem):
    with pytest.raises(KernelError, match=problem):
        run(driver, body, numbers(), **arguments)


def test_the_compiler_is_quoted(driver):
    with pytest.raises(KernelError, match="nonsense"):
        run(driver, "y[id] = nonsense;", numbers())
