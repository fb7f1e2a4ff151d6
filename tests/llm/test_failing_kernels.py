"""What happens to a request when a kernel fails while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from fallback_helpers import (
    KERNEL_ERROR,
    OUT_OF_MEMORY,
    Baseline,
    Fault,
    fallback_of,
    make_llm,
    tokens_of,
)

import perfxapi as px
from perfxapi.backend import REGISTRY, Backend, BackendManifest, Kernel, OpCall
from perfxapi.errors import (
    FallbackError,
    FallbackWarning,
    KernelError,
)
from perfxapi.reference_backend import ReferenceKernel


class FailingKernel(ReferenceKernel):
    """Fails at one launch."""

    def __init__(self, op: str, at: int, error: Exception) -> None:
        super().__init__(px.ops.op_spec(op))
        self.at, self.error, self.num_launches = at, error, 0

    def launch(self, call: OpCall) -> None:
        self.num_launches += 1
        if self.num_launches == self.at:
            raise self.error
        super().launch(call)


class Plugin(Backend):
    """A stranger's backend: one kernel for host memory, before that of `cpu`."""

    name = "stranger"

    def __init__(self, kernel: FailingKernel) -> None:
        self.kernel = kernel

    def kernels(self, op: str) -> Sequence[Kernel]:
        return (self.kernel,) if op == self.kernel.op else ()


@pytest.fixture
def stranger() -> Iterator[Callable[[FailingKernel], None]]:
    def install(kernel: FailingKernel) -> None:
        backend = Plugin(kernel)
        REGISTRY.entries()
        manifest = BackendManifest("stranger", lambda: backend, priority=200, joins="host")
        REGISTRY.register(manifest, "perfxapi-backend-stranger")

    yield install
    REGISTRY.unregister("stranger")


@pytest.mark.parametrize("error", [KernelError("out of registers"), ZeroDivisionError("oops")])
@pytest.mark.parametrize("op", ["linear", "paged_attention", "kv_write"])
def test_a_plugins_kernel_raises_in_mid_run(
    op: str,
    error: Exception,
    baseline: Baseline,
    model_path: Path,
    stranger: Callable[[FailingKernel], None],
) -> None:
    kernel = FailingKernel(op, at=10, error=error)
    stranger(kernel)
    with pytest.warns(FallbackWarning, match=f"{op}: .*{error}. The work runs on cpu:0"):
        assert tokens_of(make_llm(model_path)) == baseline.tokens
    assert kernel.num_launches > 10, "it is tried again: one failure says nothing of the next call"
    row = fallback_of(op)
    assert (row.device, row.ran_on, row.count) == ("cpu:0", "cpu:0", 1)
    assert str(error) in row.reason


def test_with_error_a_plugins_kernel_that_raises_ends_the_request(
    baseline: Baseline, model_path: Path, stranger: Callable[[FailingKernel], None]
) -> None:
    stranger(FailingKernel("linear", at=10, error=KernelError("out of registers")))
    llm = make_llm(model_path, fallback="error")
    with pytest.raises(FallbackError, match="linear: out of registers"):
        tokens_of(llm)
    assert not llm.engine.has_unfinished
    assert llm.engine.scheduler.pool.usage == 0
    assert tokens_of(llm) == baseline.tokens, "the engine serves the next request"


@pytest.mark.parametrize("status", [OUT_OF_MEMORY, KERNEL_ERROR])
@pytest.mark.parametrize("op", ["linear", "paged_attention", "kv_write", "norm_add_rms_norm", "vocab_topk"])
def test_a_native_kernel_fails_inside_a_command_list(
    op: str, status: int, baseline: Baseline, model_path: Path, inject: Callable[..., Fault]
) -> None:
    """The list stops at the node, dispatch runs it, the list goes on; twice in one step, and once later."""
    fault = inject(op, status, at=[2, 3, 6] if op != "vocab_topk" else [2, 3])
    text = {OUT_OF_MEMORY: "out of memory", KERNEL_ERROR: "kernel error"}[status]
    with pytest.warns(FallbackWarning, match=f"device 'cpu:0': {op}: .*{text}. The work runs on numpy:0"):
        assert tokens_of(make_llm(model_path)) == baseline.tokens
    assert fault.num_runs > 10
    row = fallback_of(op)
    assert (row.ran_on, row.count, row.bytes_moved) == ("numpy:0", len(fault.at), 0)
    assert text in row.reason


def test_with_error_a_native_kernel_that_fails_ends_the_request(
    baseline: Baseline, model_path: Path, inject: Callable[..., Fault]
) -> None:
    inject("linear", KERNEL_ERROR, at=[8])
    llm = make_llm(model_path, fallback="error")
    with pytest.raises(FallbackError, match=r"device 'cpu:0': linear: .*kernel error"):
        tokens_of(llm)
    assert tokens_of(llm) == baseline.tokens
