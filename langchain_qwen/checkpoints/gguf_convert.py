"""From a GGUF file of a Qwen2 model to a standard Hugging Face folder with bf16 safetensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints.gguf_blocks import dequantize
from langchain_qwen.checkpoints.gguf_checkpoint import EMBEDDING, HEAD, read_model, tensors_of, write_small_files
from langchain_qwen.checkpoints.gguf_file import GgufFile
from langchain_qwen.checkpoints.safetensors_file import write_header

SLAB = 1 << 22  # numbers to dequantise at a time


def convert(source: Path, folder: Path, advance: Callable[[int], None]) -> None:
    """Write the checkpoint into a folder.

    Qwen's small models tie embedding and output layer. A file that holds both keeps the output layer in the finer
    quantisation, so that one serves as both.

    Args:
        source: The GGUF file.
        folder: Where to; what is there is overwritten.
        advance: Called with the number of bytes of weights written since the last call.

    Raises:
        UnsupportedModelError: The file holds another kind of model.
        IncompleteCheckpointError: It is damaged.
    """
    file = GgufFile(source)
    model = read_model([file], str(source))
    tensors = tensors_of([file])
    if HEAD in tensors:
        tensors[EMBEDDING] = tensors.pop(HEAD)
    model.config["tie_word_embeddings"] = True
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "model.safetensors").open("wb") as stream:
        _write_bf16(stream, file, {name: own for name, (_, own) in tensors.items()}, advance)
    write_small_files(folder, file, model)


def _write_bf16(stream: BinaryIO, file: GgufFile, names: Mapping[str, str], advance: Callable[[int], None]) -> None:
    """Write a safetensors file one tensor at a time.

    The library's own writer takes all tensors at once, which needs three times the memory with the 1.5B model.
    """
    shapes = {name: file.header.tensors[own].shape for name, own in names.items()}
    write_header(stream, "BF16", shapes, {"format": "pt"})
    for own in names.values():
        tensor, rows = file.header.tensors[own], file.blocks(own)
        step = max(1, SLAB * len(rows) // math.prod(tensor.shape))
        for first in range(0, len(rows), step):
            data = as_bf16(dequantize(rows[first : first + step], tensor.kind))
            stream.write(data.data)
            advance(data.nbytes)


def as_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The nearest bfloat16 numbers, of two equally near ones the even one, as their bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    # Rounding could turn what is no number into infinity, or wrap round.
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)
