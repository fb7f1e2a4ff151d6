"""The blocks that the KV cache is divided into: who holds which (after vLLM's paged KV cache, Kwon et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterable

from perfxapi.errors import InvalidArgumentError, OutOfMemoryError


class BlockPool:
    """Hands out KV cache blocks by number and counts their holders; a block that nobody holds is free again.

    The block freed last is handed out first: it is the likeliest to be in a cache, and blocks never touched cost no
    memory.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 1 or block_size < 1:
            raise InvalidArgumentError(
                f"a pool needs blocks and tokens in them; got {num_blocks} blocks of {block_size}"
            )
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._num_holders = [0] * num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))

    @property
    def num_free(self) -> int:
        """Blocks that can be allocated."""
        return len(self._free)

    @property
    def usage(self) -> float:
        """The part of all blocks that is held, 0 to 1."""
        return 1.0 - len(self._free) / self.num_blocks

    def num_blocks_for(self, num_tokens: int) -> int:
        """How many blocks hold that many tokens."""
        return -(-num_tokens // self.block_size)

    def allocate(self, count: int) -> list[int]:
        """`count` free blocks, each with one holder. Raises OutOfMemoryError and takes none if there are fewer."""
        if count > len(self._free):
            raise OutOfMemoryError(
                f"{count} KV cache blocks were asked for; {len(self._free)} of {self.num_blocks} are free"
            )
        blocks = [self._free.pop() for _ in range(count)]
        for block in blocks:
            self._num_holders[block] = 1
        return blocks

    def share(self, blocks: Iterable[int]) -> None:
        """Adds a holder to blocks that are held already."""
        for block in blocks:
            if self._num_holders[block] == 0:
                raise InvalidArgumentError(f"KV cache block {block} is free and cannot be shared")
            self._num_holders[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """Removes a holder from each block."""
        for block in blocks:
            if self._num_holders[block] == 0:
                raise InvalidArgumentError(f"KV cache block {block} is free already")
            self._num_holders[block] -= 1
            if self._num_holders[block] == 0:
                self._free.append(block)

    def num_holders(self, block: int) -> int:
        """How many requests hold a block."""
        return self._num_holders[block]
