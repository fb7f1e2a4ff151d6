"""Values whose lifetimes overlap never share bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perfxapi.allocator import ALIGNMENT
from perfxapi.graph.memory_plan import Block, plan_memory

lifetimes = st.builds(
    lambda nbytes, first, length: Block(nbytes, first, first + length),
    st.integers(0, 100_000) | st.sampled_from([0, 1, 64, 4096]),
    st.integers(0, 30),
    st.integers(0, 30),
)


@given(st.lists(lifetimes, max_size=60))
def test_no_two_that_live_at_once_share_bytes(blocks: list[Block]) -> None:
    plan = plan_memory(blocks)
    assert len(plan.offsets) == len(blocks)
    placed = list(zip(plan.offsets, blocks, strict=True))
    for index, (offset, block) in enumerate(placed):
        assert offset % ALIGNMENT == 0
        assert offset + block.nbytes <= plan.arena_bytes
        for other_offset, other in placed[index + 1 :]:
            at_once = block.first <= other.last and other.first <= block.last
            apart = offset + block.nbytes <= other_offset or other_offset + other.nbytes <= offset
            assert apart or not at_once


@given(st.lists(lifetimes, min_size=1, max_size=40))
def test_the_arena_is_no_larger_than_everything_side_by_side(blocks: list[Block]) -> None:
    aligned = [-(-max(block.nbytes, 1) // ALIGNMENT) * ALIGNMENT for block in blocks]
    assert max(aligned) <= plan_memory(blocks).arena_bytes <= sum(aligned)


def test_a_chain_needs_two_buffers() -> None:
    """x0 -> x1 -> ... : each value lives for two nodes, so two places suffice."""
    chain = [Block(1000, index, index + 1) for index in range(20)]
    assert plan_memory(chain).arena_bytes == 2 * 1024
