"""The comparison of two runners gives the textbook figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.runners.protocol import Chunk
from langchain_qwen.quantizing.quality import PIECE, Quality, compare

VOCAB = 11


class Table:
    """A runner whose prediction depends on the token and its position."""

    def __init__(self, seed: int, scale: float = 1.0):
        self._logits = np.random.default_rng(seed).standard_normal((VOCAB, 300, VOCAB)).astype(np.float32) * scale
        self.allocated = 0

    def allocate(self, num_blocks: int) -> None:
        self.allocated = num_blocks

    def at(self, tokens: list[int], start: int = 0) -> np.ndarray:
        return np.stack([self._logits[token, start + i] for i, token in enumerate(tokens)])

    def step(self, chunks: list[Chunk]) -> np.ndarray:
        (chunk,) = chunks
        assert chunk.num_logits == len(chunk.tokens)
        assert len(chunk.blocks) == -(-(chunk.start + len(chunk.tokens)) // BLOCK_SIZE)
        assert max(chunk.blocks) < self.allocated
        return self.at(chunk.tokens, chunk.start)


@pytest.fixture
def rows():
    rng = np.random.default_rng(2)
    return [[int(t) for t in rng.integers(0, VOCAB, n)] for n in (2, PIECE, PIECE + 1, 200)]


def test_figures_are_those_of_torch(rows):
    before, after = Table(0, scale=3), Table(1)
    advanced = []
    quality = compare(before, after, rows, advanced.append)
    losses_before, losses_after, divergences, same = [], [], [], []
    for row in rows:
        p, q = (torch.from_numpy(table.at(row)).double()[:-1] for table in (before, after))
        targets = torch.tensor(row[1:])
        losses_before.append(torch.nn.functional.cross_entropy(p, targets, reduction="none"))
        losses_after.append(torch.nn.functional.cross_entropy(q, targets, reduction="none"))
        p, q = p.log_softmax(1), q.log_softmax(1)
        divergences.append(torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(1))
        same.append((p.argmax(1) == q.argmax(1)).double())
    assert quality.tokens == sum(advanced) == sum(len(row) - 1 for row in rows)
    assert quality.perplexity_before == pytest.approx(torch.cat(losses_before).mean().exp().item())
    assert quality.perplexity_after == pytest.approx(torch.cat(losses_after).mean().exp().item())
    assert quality.kl == pytest.approx(torch.cat(divergences).mean().item())
    assert quality.same_top == pytest.approx(torch.cat(same).mean().item())


def test_a_model_equals_itself(rows):
    quality = compare(Table(0), Table(0), rows)
    assert isinstance(quality, Quality)
    assert (quality.kl, quality.same_top) == (0, 1)
    assert quality.perplexity_before == quality.perplexity_after
