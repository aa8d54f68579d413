"""From a checkpoint folder to the packed weights of the CPU engine.

Quantised weights are made once and kept in the cache folder; later they are mapped from there, so that starting takes
a second and processes share the memory.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from langchain_qwen.engine.runners.cpu.library import BF16, INT4, INT8
from langchain_qwen.engine.runners.cpu.packing import Packed, pack, packed_bytes

logger = logging.getLogger(__name__)

FORMATS = {"bf16": BF16, "int8": INT8, "int4": INT4}
DEFAULT_GROUP = 64
# Raise it whenever the packed form or the way of rounding changes: older files are then made anew.
LAYOUT_VERSION = 1


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One transformer layer. Vectors are float32."""

    qkv: Packed
    qkv_bias: NDArray[np.float32]
    out: Packed
    gate_up: Packed
    down: Packed
    attention_norm: NDArray[np.float32]
    ffn_norm: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """A Qwen2 model.

    `embedding` is looked up row by row, [vocabulary, hidden], in the checkpoint's own precision: only the rows that
    are used are ever read from the disk.
    """

    config: Mapping[str, Any]
    layers: list[LayerWeights]
    final_norm: NDArray[np.float32]
    head: Packed
    embedding: Tensor

    @property
    def packed_bytes(self) -> int:
        """What a step of one token reads of the matrices."""
        per_layer = (m for layer in self.layers for m in (layer.qkv, layer.out, layer.gate_up, layer.down))
        return sum(m.data.nbytes for m in per_layer) + self.head.data.nbytes


class Source:
    """The tensors of a safetensors checkpoint, mapped, not read."""

    def __init__(self, folder: Path):
        self._files: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            file: Any = safe_open(path, framework="pt", device="cpu")
            self._files.update(dict.fromkeys(file.keys(), file))

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor

    def vector(self, name: str) -> NDArray[np.float32]:
        """A small tensor as float32."""
        return self[name].float().numpy()


@dataclass(frozen=True, slots=True)
class _Matrix:
    """A matrix of the engine: the checkpoint's matrices that it puts one below the other."""

    name: str
    parts: tuple[str, ...]


def _matrices(num_layers: int, head: str) -> Iterator[_Matrix]:
    for i in range(num_layers):
        layer = f"model.layers.{i}."
        attention, mlp = layer + "self_attn.", layer + "mlp."
        yield _Matrix(f"{i}.qkv", tuple(f"{attention}{x}_proj.weight" for x in "qkv"))
        yield _Matrix(f"{i}.out", (attention + "o_proj.weight",))
        yield _Matrix(f"{i}.gate_up", (mlp + "gate_proj.weight", mlp + "up_proj.weight"))
        yield _Matrix(f"{i}.down", (mlp + "down_proj.weight",))
    yield _Matrix("head", (head,))


def load_weights(
    folder: Path,
    config: Mapping[str, Any],
    *,
    precision: str,
    fingerprint: str,
    cache_folder: Path,
    num_threads: int,
    group: int = DEFAULT_GROUP,
) -> ModelWeights:
    """Map the packed weights from the cache, or make them, showing progress.

    Args:
        folder: The checkpoint.
        config: Its config.json.
        precision: bf16, int8 or int4.
        fingerprint: Names the checkpoint's exact weights.
        cache_folder: Where packed weights are kept.
        num_threads: Threads for packing.
        group: Columns that share a scale.
    """
    source = Source(folder)
    head = "model.embed_tokens.weight" if "lm_head.weight" not in source else "lm_head.weight"
    matrices = list(_matrices(config["num_hidden_layers"], head))
    format_ = FORMATS[precision]
    if format_ == BF16:  # only interleaved, which is quicker than reading a second file
        return _assemble(source, config, _pack_all(source, matrices, format_, group, num_threads))
    cache = cache_folder / "packed" / f"{fingerprint}-{precision}-g{group}-v{LAYOUT_VERSION}.safetensors"
    shapes = {m.name: _shape(source, m) for m in matrices}
    packed = _read_cache(cache, shapes, format_, group)
    if packed is None:
        packed = _pack_all(source, matrices, format_, group, num_threads)
        if _write_cache(cache, packed):
            packed = _read_cache(cache, shapes, format_, group) or packed
    return _assemble(source, config, packed)


def _shape(source: Source, matrix: _Matrix) -> tuple[int, int]:
    shapes = [source[name].shape for name in matrix.parts]
    return sum(rows for rows, _ in shapes), shapes[0][1]


def _pack_all(source: Source, matrices: list[_Matrix], format_: int, group: int, num_threads: int) -> dict[str, Packed]:
    packed = {}
    total = sum(rows * cols for rows, cols in (_shape(source, m) for m in matrices))
    with ThreadPoolExecutor(num_threads) as pool, Progress(transient=True) as progress:
        task = progress.add_task("Quantising the weights (once)", total=total)
        for matrix in matrices:
            packed[matrix.name] = pack([source[name] for name in matrix.parts], format_, group, pool)
            progress.advance(task, packed[matrix.name].rows * packed[matrix.name].cols)
    return packed


def _checksum(data: NDArray[np.uint8]) -> int:
    """Sum of 64-bit words: as fast as memory, and no single damaged word goes unnoticed."""
    return int(np.add.reduce(data[: len(data) // 8 * 8].view(np.uint64), dtype=np.uint64))


def _write_cache(path: Path, packed: Mapping[str, Packed]) -> bool:
    """Write whole or not at all; a full or read-only disk costs the next start, not this one."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    checksums = {name: _checksum(p.data) for name, p in packed.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: torch.from_numpy(p.data) for name, p in packed.items()}
        save_file(tensors, temporary, metadata={"checksums": json.dumps(checksums)})
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        logger.warning(
            "the quantised weights could not be kept in %s (%s); the next start makes them anew", path, error
        )
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True


def _read_cache(
    path: Path, shapes: Mapping[str, tuple[int, int]], format_: int, group: int
) -> dict[str, Packed] | None:
    """The cached weights, mapped; None when there are none or they are damaged."""
    if not path.exists():
        return None
    try:
        packed = {}
        with safe_open(path, framework="pt", device="cpu") as file:
            checksums = json.loads(file.metadata()["checksums"])
            for name, (rows, cols) in shapes.items():
                data = file.get_tensor(name).numpy()
                if len(data) != packed_bytes(format_, group, rows, cols) or _checksum(data) != checksums[name]:
                    raise ValueError(f"{name} is damaged")
                packed[name] = Packed(format_, group, rows, cols, data)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        logger.warning("the quantised weights in %s cannot be used (%s); making them anew", path, error)
        return None
    return packed


def _assemble(source: Source, config: Mapping[str, Any], packed: Mapping[str, Packed]) -> ModelWeights:
    layers = []
    for i in range(config["num_hidden_layers"]):
        name = f"model.layers.{i}."
        layers.append(
            LayerWeights(
                qkv=packed[f"{i}.qkv"],
                qkv_bias=np.concatenate([source.vector(f"{name}self_attn.{x}_proj.bias") for x in "qkv"]),
                out=packed[f"{i}.out"],
                gate_up=packed[f"{i}.gate_up"],
                down=packed[f"{i}.down"],
                attention_norm=source.vector(name + "input_layernorm.weight"),
                ffn_norm=source.vector(name + "post_attention_layernorm.weight"),
            )
        )
    return ModelWeights(
        config=config,
        layers=layers,
        final_norm=source.vector("model.norm.weight"),
        head=packed["head"],
        embedding=source["model.embed_tokens.weight"],
    )
