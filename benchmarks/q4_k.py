"""Our 4 bits beside llama.cpp's Q4_K of the same weights: the error of the products, on inputs of other texts.

An alias is a Q4_K_M file. What of it has been Q4_K already says nothing, since Q4_K's own grid fits it exactly;
compared are the matrices that it holds in Q6_K. llama.cpp's side is its own code (`ggml_quantize_chunk`), without data
and with an importance matrix, the mean squares of each column's inputs. Ours is what rounding at load time gives, and
what `langchain-qwen quantize --method int4` gives. Both are given the same text, a mix of ours; the errors are those on
prose, languages and code of the corpus. Rows are taken from the beginning of each matrix.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from benchmarks.cpu_engine import text_tokenizer
from langchain_qwen.checkpoints import Checkpoint
from langchain_qwen.checkpoints.gguf_blocks import dequantize
from langchain_qwen.checkpoints.gguf_file import KINDS
from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.loading import load_runner
from langchain_qwen.engine.runners.cpu.cores import usable_cores
from langchain_qwen.engine.runners.cpu.fitting import Products, fit
from langchain_qwen.engine.runners.cpu.gguf import GgufSource
from langchain_qwen.engine.runners.cpu.library import K4
from langchain_qwen.engine.runners.cpu.packing import SUPER_BLOCK, pack, unpack
from langchain_qwen.engine.runners.cpu.runner import CpuRunner
from langchain_qwen.engine.runners.cpu.source import feeding
from langchain_qwen.engine.runners.protocol import Chunk
from langchain_qwen.quantizing import BUILT_IN, calibration_texts

Floats = NDArray[np.float32]
Q4_K = 12  # llama.cpp's number
ROWS = 256
ANY = np.array([0])  # a logit that nobody looks at


class Ggml:
    """The library that llama.cpp quantises with."""

    def __init__(self, path: Path):
        self._library = ctypes.CDLL(str(path))
        size = ctypes.c_int64
        self._library.ggml_quantize_chunk.restype = ctypes.c_size_t
        self._library.ggml_quantize_chunk.argtypes = [
            *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
            *(size, size, size, ctypes.c_void_p),
        ]

    @classmethod
    def of_llama_cpp_python(cls) -> Ggml:
        """The one that the package brings."""
        import llama_cpp

        return cls(Path(llama_cpp.__file__).with_name("lib") / "libggml-base.so")

    def q4_k(self, weights: Floats, importance: Floats | None = None) -> Floats:
        """Weights as Q4_K holds them; `importance` has a number for each column."""
        kind, (rows, cols) = KINDS[Q4_K], weights.shape
        blocks = np.empty((rows, cols // kind.numbers * kind.nbytes), np.uint8)
        data = None if importance is None else np.ascontiguousarray(importance, np.float32).ctypes.data
        written = self._library.ggml_quantize_chunk(Q4_K, weights.ctypes.data, blocks.ctypes.data, 0, rows, cols, data)
        if written != blocks.nbytes:
            raise RuntimeError(f"llama.cpp wrote {written} bytes instead of {blocks.nbytes}")
        return dequantize(blocks, kind)


def measure_error(
    checkpoint: Checkpoint, ggml: Ggml, held_out: list[list[int]], every: int
) -> dict[str, dict[str, float]]:
    """For each compared matrix the errors of each side, as multiples of llama.cpp's without data.

    Args:
        checkpoint: A GGUF file.
        ggml: llama.cpp's side.
        held_out: Token ids of the texts that the errors are of.
        every: Only every so many of the matrices.
    """
    source = GgufSource(checkpoint.gguf)
    compared = {
        weight: name
        for weight, name in feeding(source, checkpoint.config["num_hidden_layers"]).items()
        if source.kind(weight).name == "Q6_K" and source.shape(weight)[1] % SUPER_BLOCK == 0
    }
    compared = dict(list(compared.items())[::every])
    products, inputs = watch(checkpoint, set(compared.values()), held_out)
    result = {}
    with ThreadPoolExecutor(usable_cores()) as pool:
        for weight, name in compared.items():
            weights = np.ascontiguousarray(dequantize(source.blocks(weight)[:ROWS], source.kind(weight)))
            seen = products[name]
            sides = {
                "Q4_K": ggml.q4_k(weights),
                "Q4_K imatrix": ggml.q4_k(weights, seen.squares()),
                "int4": unpack(pack([weights], K4, SUPER_BLOCK, pool)),
                "int4 calibrated": dequantize(fit(weights, seen.means(), pool), KINDS[Q4_K]),
            }
            errors = {side: np.square(inputs[name] @ (found - weights).T).mean() for side, found in sides.items()}
            result[weight] = {side: round(float(error / errors["Q4_K"]), 4) for side, error in errors.items()}
            print(weight, result[weight], flush=True)
    return result


def summary(errors: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Means over the matrices: ours without data to theirs without, ours with data to theirs with and without."""
    sides = list(errors.values())
    return {
        "int4_error_vs_q4_k": round(fmean(of["int4"] for of in sides), 3),
        "int4_calibrated_error_vs_q4_k": round(fmean(of["int4 calibrated"] for of in sides), 3),
        "int4_calibrated_error_vs_q4_k_imatrix": round(
            fmean(of["int4 calibrated"] / of["Q4_K imatrix"] for of in sides), 3
        ),
        "q4_k_imatrix_error_vs_q4_k": round(fmean(of["Q4_K imatrix"] for of in sides), 3),
    }


def watch(
    checkpoint: Checkpoint, names: set[str], held_out: list[list[int]]
) -> tuple[dict[str, Products], dict[str, Floats]]:
    """What matrices are given: products of pairs on our mix, and the inputs themselves on the texts held out."""
    tokenizer = text_tokenizer(checkpoint)
    texts = calibration_texts(BUILT_IN.read_text(encoding="utf-8"), BUILT_IN)
    runner = load_runner(checkpoint, precision="auto", device="cpu")
    if not isinstance(runner, CpuRunner):
        raise RuntimeError("this needs the CPU engine")
    mix = [tokenizer.encode(text)[:512] for text in texts]
    blocks = list(range(-(-max(map(len, mix + held_out)) // BLOCK_SIZE)))
    products: dict[str, Products] = {}
    inputs: dict[str, list[Floats]] = {name: [] for name in names}
    runner.allocate(len(blocks))
    try:
        for row in (*mix, *held_out):
            for start in range(0, len(row), 64):
                piece = row[start : start + 64]
                given = runner.step_inputs([Chunk(piece, start, blocks, len(piece), ANY)])
                for name in names:
                    if row in held_out:
                        inputs[name].append(given[name].copy())
                    else:
                        products.setdefault(name, Products(given[name].shape[1])).add(given[name])
    finally:
        runner.close()
    return products, {name: np.concatenate(pieces) for name, pieces in inputs.items()}


def library(options: argparse.Namespace) -> Ggml:
    """llama.cpp's library: the one that was named, or the package's."""
    return Ggml(options.ggml) if options.ggml else Ggml.of_llama_cpp_python()
