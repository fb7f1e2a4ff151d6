"""The pool of KV cache blocks against a model of it that is too simple to be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfxapi.errors import InvalidArgumentError, OutOfMemoryError
from perfxlm.engine.block_pool import BlockPool


def test_allocate_is_all_or_nothing() -> None:
    pool = BlockPool(4, 16)
    assert sorted(pool.allocate(3)) == [0, 1, 2]
    with pytest.raises(OutOfMemoryError, match="2 KV cache blocks"):
        pool.allocate(2)
    assert pool.num_free == 1
    assert pool.usage == 0.75


def test_block_is_free_when_its_last_holder_lets_go() -> None:
    pool = BlockPool(2, 16)
    blocks = pool.allocate(2)
    pool.share(blocks[:1])
    pool.release(blocks)
    assert pool.num_free == 1
    pool.release(blocks[:1])
    assert pool.num_free == 2


def test_last_freed_block_is_handed_out_first() -> None:
    pool = BlockPool(8, 16)
    first, second = pool.allocate(1), pool.allocate(1)
    pool.release(first)
    pool.release(second)
    assert pool.allocate(1) == second


def test_misuse_is_refused() -> None:
    pool = BlockPool(2, 16)
    with pytest.raises(InvalidArgumentError, match="free"):
        pool.share([0])
    with pytest.raises(InvalidArgumentError, match="free already"):
        pool.release([1])
    with pytest.raises(InvalidArgumentError, match="needs blocks"):
        BlockPool(0, 16)


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (16, 1), (17, 2), (160, 10)])
def test_blocks_for_tokens(tokens: int, blocks: int) -> None:
    assert BlockPool(1, 16).num_blocks_for(tokens) == blocks


@given(st.lists(st.tuples(st.sampled_from(["allocate", "share", "release"]), st.integers(0, 12)), max_size=60))
def test_holders_match_a_plain_count(actions: list[tuple[str, int]]) -> None:
    pool = BlockPool(12, 16)
    holders = dict.fromkeys(range(12), 0)
    for action, number in actions:
        held = [block for block, count in holders.items() if count]
        if action == "allocate" and number <= 12 - len(held):
            for block in pool.allocate(number):
                assert holders[block] == 0
                holders[block] = 1
        elif action != "allocate" and held:
            block = held[number % len(held)]
            (pool.share if action == "share" else pool.release)([block])
            holders[block] += 1 if action == "share" else -1
        assert pool.num_free == sum(count == 0 for count in holders.values())
        assert all(pool.num_holders(block) == count for block, count in holders.items())
