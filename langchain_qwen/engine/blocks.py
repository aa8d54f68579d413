"""KV memory in blocks of 16 tokens, shared by every request that starts with the same tokens.

The pool hands out block numbers; the runner owns the memory behind them. A full block is known by the hash of all
tokens up to its end, so its contents can serve any later request with the same beginning. Blocks that nobody uses
keep their contents until memory is needed; the least recently used goes first.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

BLOCK_SIZE = 16

BlockHash = bytes
ROOT_HASH: BlockHash = b""


def chain_hash(parent: BlockHash, tokens: Sequence[int]) -> BlockHash:
    """Hash of a full block: of its own tokens and, through `parent`, of all tokens before it."""
    return blake2b(parent + array("q", tokens).tobytes(), digest_size=16).digest()


class BlockPool:
    """Counts who uses which block and remembers what unused blocks still hold."""

    def __init__(self, num_blocks: int):
        self.num_blocks = num_blocks
        self._users = [0] * num_blocks
        self._hash_of: dict[int, BlockHash] = {}
        self._block_of: dict[BlockHash, int] = {}
        # Oldest first; blocks without contents worth keeping are put at the old end.
        self._unused: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))

    @property
    def free(self) -> int:
        """Blocks that `allocate` could hand out now."""
        return len(self._unused)

    def match(self, tokens: Sequence[int]) -> tuple[list[int], list[BlockHash]]:
        """Take the cached blocks that hold the beginning of `tokens`.

        The last token is never matched: its logits are needed, so it has to be computed.

        Returns:
            The blocks, now in use by the caller, and their hashes, in order.
        """
        blocks: list[int] = []
        hashes: list[BlockHash] = []
        parent = ROOT_HASH
        for start in range(0, (len(tokens) - 1) // BLOCK_SIZE * BLOCK_SIZE, BLOCK_SIZE):
            parent = chain_hash(parent, tokens[start : start + BLOCK_SIZE])
            block = self._block_of.get(parent)
            if block is None:
                break
            blocks.append(block)
            hashes.append(parent)
        for block in blocks:
            self._users[block] += 1
            self._unused.pop(block, None)
        return blocks, hashes

    def allocate(self, count: int) -> list[int] | None:
        """Take `count` blocks with undefined contents, or none at all when there are too few."""
        if count > len(self._unused):
            return None
        blocks = [self._unused.popitem(last=False)[0] for _ in range(count)]
        for block in blocks:
            self._users[block] = 1
            self._forget(block)
        return blocks

    def publish(self, block: int, block_hash: BlockHash) -> None:
        """Say what a full block holds. The first block with some contents is the one that later requests share."""
        if block_hash not in self._block_of:
            self._block_of[block_hash] = block
            self._hash_of[block] = block_hash

    def release(self, blocks: Sequence[int]) -> None:
        """Give blocks back. The end of a prompt is evicted before its beginning, which more requests share."""
        for block in reversed(blocks):
            self._users[block] -= 1
            if self._users[block] == 0:
                self._unused[block] = None
                if block not in self._hash_of:
                    self._unused.move_to_end(block, last=False)

    def _forget(self, block: int) -> None:
        block_hash = self._hash_of.pop(block, None)
        if block_hash is not None:
            del self._block_of[block_hash]
