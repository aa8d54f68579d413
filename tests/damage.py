"""Changes checkpoints in ways that no tool would, for the tests of what is refused."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints.safetensors_file import MappedFile, inspect

TYPES = {"uint16": "BF16", "float16": "F16", "float32": "F32", "int32": "I32", "uint8": "U8"}


def copy_with(
    checkpoint: Path,
    folder: Path,
    *,
    config: Mapping[str, Any] | None = None,
    tensors: Mapping[str, NDArray[Any] | None] | None = None,
) -> Path:
    """A copy with other values in its config.json, and tensors replaced, added or (None) taken out."""
    shutil.copytree(checkpoint, folder)
    if config:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | dict(config)))
    if tensors:
        weights = folder / "model.safetensors"
        mapped = MappedFile(weights)
        kept = {name: mapped[name].copy() for name in inspect(weights).tensors} | dict(tensors)
        write(weights, {name: tensor for name, tensor in kept.items() if tensor is not None})
    return folder


def write(file: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """A safetensors file; uint16 stands for bf16."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": TYPES[tensor.dtype.name], "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.unlink(missing_ok=True)
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t.tobytes() for t in tensors.values()))


def bf16(*shape: int, seed: int = 0) -> NDArray[np.uint16]:
    """Random weights of about 0.1."""
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) / 10
    return (values.view(np.uint32) >> 16).astype(np.uint16)
