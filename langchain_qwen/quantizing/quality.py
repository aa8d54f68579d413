"""What quantised weights cost: their predictions beside those of the weights they were made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints import Checkpoint
from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.loading import load_runner
from langchain_qwen.engine.runners.protocol import Chunk, Runner

PIECE = 64  # tokens of a step: each has a row of logits as long as the vocabulary


class Agreement:
    """How a second model's predictions agree with a first one's, text by text."""

    def __init__(self) -> None:
        self._loss_before = self._loss_after = self._divergence = 0.0
        self._same = self.tokens = 0

    def add(self, before: NDArray[np.float32], after: NDArray[np.float32], targets: Sequence[int]) -> None:
        """Count predictions in.

        Args:
            before: Logits of the first model, [tokens, vocabulary].
            after: Of the second.
            targets: What came after each token; may be one shorter, as at the end of a text.
        """
        count = len(targets)
        p, q = _log_softmax(before[:count]), _log_softmax(after[:count])
        chosen = np.arange(count), np.asarray(targets, np.int64)
        self._loss_before -= float(p[chosen].sum())
        self._loss_after -= float(q[chosen].sum())
        self._divergence += float((np.exp(p) * (p - q)).sum())
        self._same += int((p.argmax(1) == q.argmax(1)).sum())
        self.tokens += count

    @property
    def quality(self) -> Quality:
        """The figures so far."""
        return Quality(
            self.tokens,
            math.exp(self._loss_before / self.tokens),
            math.exp(self._loss_after / self.tokens),
            self._divergence / self.tokens,
            self._same / self.tokens,
        )


@dataclass(frozen=True, slots=True)
class Quality:
    """How two models agree on a text.

    Attributes:
        tokens: Predicted tokens.
        perplexity_before: Of the first model.
        perplexity_after: Of the second.
        kl: Mean Kullback-Leibler divergence of the second's predictions from the first's, in nats.
        same_top: Share of tokens where both find the same one most likely.
    """

    tokens: int
    perplexity_before: float
    perplexity_after: float
    kl: float
    same_top: float


def compare(
    before: Runner, after: Runner, rows: Sequence[Sequence[int]], advance: Callable[[int], None] = lambda _: None
) -> Quality:
    """Let both runners predict the rows, each token from those before it.

    Args:
        before: The model to compare with; neither runner may have KV memory yet.
        after: The other one.
        rows: Token ids, at least two in each row.
        advance: Called with the number of tokens predicted since the last call.
    """
    blocks = list(range(-(-max(map(len, rows)) // BLOCK_SIZE)))
    for runner in (before, after):
        runner.allocate(len(blocks))
    agreement = Agreement()
    for row in rows:
        for start in range(0, len(row), PIECE):
            piece = list(row[start : start + PIECE])
            chunk = Chunk(piece, start, blocks[: -(-(start + len(piece)) // BLOCK_SIZE)], len(piece))
            first, second = (runner.step([chunk]) for runner in (before, after))
            targets = row[start + 1 : start + 1 + len(piece)]
            agreement.add(first, second, targets)
            advance(len(targets))
    return agreement.quality


def measure(
    source: Checkpoint, made: Checkpoint, rows: Sequence[Sequence[int]], *, device: str, advance: Callable[[int], None]
) -> Quality:
    """Load a checkpoint in bf16 and the quantised one made from it, and compare them; see `compare`."""
    before = load_runner(source, precision="bf16", device=device)
    try:
        after = load_runner(made, precision="auto", device=device)
        try:
            return compare(before, after, rows, advance)
        finally:
            after.close()
    finally:
        before.close()


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    values -= np.log(np.exp(values).sum(axis=1, keepdims=True))
    return values
