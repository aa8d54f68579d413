"""What quantised weights cost: their predictions beside those of the weights they were made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.runners.protocol import Chunk, Runner

PIECE = 64  # tokens of a step: each has a row of logits as long as the vocabulary


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
    loss_before = loss_after = divergence = 0.0
    same = tokens = 0
    for row in rows:
        for start in range(0, len(row), PIECE):
            piece = list(row[start : start + PIECE])
            chunk = Chunk(piece, start, blocks[: -(-(start + len(piece)) // BLOCK_SIZE)], len(piece))
            p, q = (_log_softmax(runner.step([chunk])) for runner in (before, after))
            targets = np.asarray(row[start + 1 : start + 1 + len(piece)], np.int64)
            count = len(targets)  # the last token of a row has nothing to predict
            p, q = p[:count], q[:count]
            loss_before -= float(p[np.arange(count), targets].sum())
            loss_after -= float(q[np.arange(count), targets].sum())
            divergence += float((np.exp(p) * (p - q)).sum())
            same += int((p.argmax(1) == q.argmax(1)).sum())
            tokens += count
            advance(count)
    return Quality(
        tokens, math.exp(loss_before / tokens), math.exp(loss_after / tokens), divergence / tokens, same / tokens
    )


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    values -= np.log(np.exp(values).sum(axis=1, keepdims=True))
    return values
