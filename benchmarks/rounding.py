"""Ways to round matrices to 4 bits, ours and others', each a function of a matrix's name and some of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from gguf import quants
from gguf.constants import GGMLQuantizationType

from benchmarks.q4_k import Floats, Ggml
from langchain_qwen.checkpoints import Checkpoint
from langchain_qwen.checkpoints.gguf_blocks import dequantize
from langchain_qwen.checkpoints.gguf_file import KINDS
from langchain_qwen.engine.runners.cpu.fitting import Products, fit, fitted_kind
from langchain_qwen.engine.runners.cpu.gguf import GgufSource
from langchain_qwen.engine.runners.cpu.packing import SUPER_BLOCK, int4_form, pack, unpack
from langchain_qwen.engine.runners.cpu.source import Source, feeding

Rounding = Callable[[str, Floats], Floats]


def rounded_weights(named: Checkpoint, checkpoint: Checkpoint) -> dict[str, str]:
    """Which matrices are rounded: of each weight the matrix that is run, whose inputs are its own.

    What a GGUF file holds in Q4_K says nothing about rounding: it lies on a grid that some ways find again and others
    leave. So of such a file these are the ones that it holds in more bits.

    Args:
        named: What was asked for.
        checkpoint: The same in bf16.
    """
    file = GgufSource(named.gguf) if named.gguf else None
    weights = feeding(Source(checkpoint.path), checkpoint.config["num_hidden_layers"])
    return {weight: name for weight, name in weights.items() if file is None or file.kind(weight).name == "Q6_K"}


def roundings(
    ggml: Ggml | None, products: Mapping[str, Products], fed_as: Mapping[str, str], pool: ThreadPoolExecutor
) -> dict[str, Rounding]:
    """The ways by their names.

    Args:
        ggml: llama.cpp's own; None where the sizes are none of Q4_K's.
        products: Of the inputs of matrices on a calibration text, by the matrices' names.
        fed_as: The name of the matrix that each weight is a part of.
        pool: Threads to work on.
    """

    def int4(_: str, rows: Floats) -> Floats:
        return unpack(pack([rows], *int4_form(rows.shape[1]), pool))

    def fitted(name: str, rows: Floats) -> Floats:
        return dequantize(fit(rows, products[fed_as[name]].means(), pool), KINDS[fitted_kind(rows.shape[1])])

    ours: dict[str, Rounding] = {"int4": int4, "int4 calibrated": fitted, "Q4_0": _q4_0, "nf4": _nf4}
    if ggml is None:
        return ours
    return {
        **ours,
        "Q4_K": lambda _, rows: ggml.q4_k(rows),
        "Q4_K imatrix": lambda name, rows: ggml.q4_k(rows, products[fed_as[name]].squares()),
    }


def has_super_blocks(checkpoint: Checkpoint) -> bool:
    """Whether Q4_K can hold its matrices."""
    return all(checkpoint.config[size] % SUPER_BLOCK == 0 for size in ("hidden_size", "intermediate_size"))


def _q4_0(_: str, rows: Floats) -> Floats:
    kind = GGMLQuantizationType.Q4_0
    return quants.dequantize(quants.quantize(rows, kind), kind)


def _nf4(_: str, rows: Floats) -> Floats:
    rounded: Floats = dequantize_4bit(*quantize_4bit(torch.from_numpy(rows), quant_type="nf4")).numpy()
    return rounded
