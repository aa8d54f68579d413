"""What a scheduler asks of a runner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Chunk:
    """New tokens of one request in a step.

    Attributes:
        tokens: The new tokens.
        start: The position of the first one in the request: how many tokens its blocks hold already.
        blocks: The request's blocks in order, with room for the new tokens.
        num_logits: For how many of the last new tokens logits are wanted; 0 within a prompt.
        allowed: The only tokens whose logits will be looked at, where a grammar leaves few; None for all. A runner may
            leave the others out: theirs are -inf then.
    """

    tokens: Sequence[int]
    start: int
    blocks: Sequence[int]
    num_logits: int
    allowed: NDArray[np.intp] | None = None


class Runner(Protocol):
    """Computes one step over a ragged batch."""

    @property
    def device(self) -> str:
        """Where it computes."""
        ...

    @property
    def precision(self) -> str:
        """How the weights are held."""
        ...

    @property
    def vocab_size(self) -> int:
        """Length of a row of logits."""
        ...

    @property
    def kv_bytes_per_token(self) -> int:
        """What one token in the KV memory costs."""
        ...

    def allocate(self, num_blocks: int) -> None:
        """Reserve KV memory for this many blocks and start whatever computes; what there was before is given up.

        A forked child calls it again, since it has copies of neither threads nor devices.

        Raises:
            EngineError: This runner cannot serve a forked child.
        """
        ...

    def step(self, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        """Process all chunks and store their keys and values.

        Returns:
            Logits, one row for each token that asked for them, in the order of chunks and tokens. Valid until the next
            step.
        """
        ...

    def read(self, blocks: Sequence[int]) -> NDArray[np.uint8]:
        """Copy blocks out of the KV memory: [keys and values, layers, blocks, bytes of a block]."""
        ...

    def write(self, blocks: Sequence[int], contents: NDArray[np.uint8]) -> None:
        """Put into blocks what `read` gave for as many."""
        ...

    def close(self) -> None:
        """Free weights and KV memory. Closing twice does nothing."""
        ...
