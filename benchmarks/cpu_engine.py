"""The CPU engine as the speed benchmarks drive it: requests of given token ids, and figures of its parts."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.common import read_rows
from langchain_qwen.checkpoints import Checkpoint, cache_root
from langchain_qwen.engine import Request, Started, Token
from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.loading import native_weights
from langchain_qwen.engine.local import MAX_STEP_TOKENS, LocalEngine
from langchain_qwen.engine.runners.cpu.runner import CpuRunner
from langchain_qwen.engine.runners.cpu.weights import ModelWeights
from langchain_qwen.prompting.tokenizer import Tokenizer

BANDWIDTH_BYTES = 1 << 29
NEVER: frozenset[int] = frozenset()  # no token ends an answer


class CpuEngine:
    """A LocalEngine over a CpuRunner, with the runner at hand."""

    def __init__(self, checkpoint: Checkpoint, precision: str, *, threads: int, tokens: int):
        weights = cpu_weights(checkpoint, precision)
        self.runner = CpuRunner(weights, precision=precision, num_threads=threads, max_step_tokens=MAX_STEP_TOKENS)
        self.weight_bytes = weights.packed_bytes
        blocks = -(-tokens // BLOCK_SIZE)
        self._engine = LocalEngine(
            self.runner, model=checkpoint.name, context_window=checkpoint.context_window, num_blocks=blocks
        )

    def prefill(self, ids: list[int]) -> float:
        """Seconds from admission to the first token."""
        for event in self._engine.stream(Request(tuple(ids), 1, NEVER)):
            if isinstance(event, Started):
                if event.cached_tokens:
                    raise RuntimeError("part of the prompt was cached; give each measurement a text of its own")
                return event.prefill_s
        raise RuntimeError("the engine gave no token")

    def decode(self, prompts: list[list[int]], count: int) -> float:
        """Tokens a second of all requests together, while all of them are answered."""

        def run(ids: list[int]) -> list[float]:
            events = self._engine.stream(Request(tuple(ids), count + 1, NEVER))
            return [time.perf_counter() for event in events if isinstance(event, Token)]

        with ThreadPoolExecutor(len(prompts)) as pool:
            times = list(pool.map(run, prompts))
        begin, end = max(t[0] for t in times), min(t[-1] for t in times)
        return sum(begin < moment <= end for t in times for moment in t) / (end - begin)

    def products(self, repeats: int = 10) -> float:
        """Seconds for the matrix products of one step of one token, the median of a few."""
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self.runner.multiply_all(1)
            times.append(time.perf_counter() - start)
        return median(times)

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()


def cpu_weights(checkpoint: Checkpoint, precision: str) -> ModelWeights:
    """The packed weights of a checkpoint, kept in the package's own folder."""
    return native_weights(checkpoint, precision, cache_folder=cache_root())[0]


def read_bandwidth(threads: int, repeats: int = 10) -> float:
    """Bytes a second that `threads` threads read from memory: a sum over half a gibibyte, the median of a few."""
    torch.set_num_threads(threads)
    numbers = torch.from_numpy(np.ones(BANDWIDTH_BYTES // 8))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        numbers.sum()
        times.append(time.perf_counter() - start)
    time.sleep(0.3)  # torch's threads go on spinning for a while
    return BANDWIDTH_BYTES / median(times)


def text_ids(checkpoint: Checkpoint, data: Path, count: int) -> list[int]:
    """Token ids of running text, at least `count` of them."""
    tokenizer = text_tokenizer(checkpoint)
    ids: list[int] = []
    for row in read_rows(data / "text_corpus.jsonl"):
        ids += tokenizer.encode(row["text"])
        if len(ids) >= count:
            return ids
    raise RuntimeError(f"{data} holds only {len(ids)} tokens of text")


def text_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer of a checkpoint."""
    return Tokenizer.from_folder(checkpoint.path, checkpoint.vocab_size, sorted(checkpoint.eos_token_ids))
