"""From a checkpoint folder to the packed weights of the CPU engine.

Quantised weights are made once and kept in the cache folder; later they are mapped from there, so that starting takes
a second and processes share the memory.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.bars import Bar
from langchain_qwen.checkpoints.folder import check_config
from langchain_qwen.checkpoints.limits import head_dim
from langchain_qwen.checkpoints.private_files import forget_unused, open_private, private_folder
from langchain_qwen.checkpoints.quantisation import Quantisation
from langchain_qwen.checkpoints.safetensors_file import MappedFile, checksum, write_bytes
from langchain_qwen.engine.runners.cpu.library import BF16, INT4, INT8
from langchain_qwen.engine.runners.cpu.packing import DEFAULT_GROUP, Form, Packed, check_shape, pack
from langchain_qwen.engine.runners.cpu.prequantised import Prequantised
from langchain_qwen.engine.runners.cpu.source import Matrix, Source, check_shapes, matrices
from langchain_qwen.errors import CheckpointError, UnsafeCacheError

logger = logging.getLogger(__name__)

FORMATS = {"bf16": BF16, "int8": INT8, "int4": INT4}
# Raise it whenever the packed form or the way of rounding changes: older files are then made anew.
LAYOUT_VERSION = 2
KEPT_BYTES = 20 << 30  # of packed weights, such as those of a dozen models of 1.5 billion parameters
EMBEDDING = "model.embed_tokens.weight"


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

    `embedding` is looked up row by row, [vocabulary, hidden], in the checkpoint's own precision (bf16 as uint16): only
    the rows that are used are ever read from the disk.
    """

    config: Mapping[str, Any]
    layers: list[LayerWeights]
    final_norm: NDArray[np.float32]
    head: Packed
    embedding: NDArray[Any]

    @property
    def packed_bytes(self) -> int:
        """What a step of one token reads of the matrices."""
        per_layer = (m for layer in self.layers for m in (layer.qkv, layer.out, layer.gate_up, layer.down))
        return sum(m.data.nbytes for m in per_layer) + self.head.data.nbytes


class Maker(Protocol):
    """Turns the tensors of a checkpoint into the engine's matrices."""

    @property
    def title(self) -> str:
        """What it does, for the progress bar."""
        ...

    def shape(self, layer: str) -> tuple[int, int]:
        """Rows and columns of a layer, as the checkpoint has it."""
        ...

    def form(self, matrix: Matrix) -> Form:
        """How a matrix will be held, once the shapes of its layers are known to be right."""
        ...

    def order(self, matrix: Matrix) -> NDArray[np.int32] | None:
        """Which input each of its columns takes; None for the order that they come in."""
        ...

    def pack(self, matrix: Matrix, pool: ThreadPoolExecutor) -> Packed:
        """Make it, on the pool's threads."""
        ...


class Rounding:
    """Rounds a checkpoint in floating point."""

    title = "Quantising the weights (once)"

    def __init__(self, source: Source, format_: int, group: int):
        self._source = source
        self._format = format_
        self._group = group

    def shape(self, layer: str) -> tuple[int, int]:
        """See `Maker.shape`."""
        rows, cols = self._source.floats(f"{layer}.weight").shape
        return rows, cols

    def form(self, matrix: Matrix) -> Form:
        """See `Maker.form`."""
        shapes = [self.shape(layer) for layer in matrix.layers]
        return Form(self._format, self._group, sum(rows for rows, _ in shapes), shapes[0][1])

    def order(self, matrix: Matrix) -> None:
        """See `Maker.order`."""

    def pack(self, matrix: Matrix, pool: ThreadPoolExecutor) -> Packed:
        """See `Maker.pack`."""
        return pack([self._source.floats(name) for name in matrix.weights], self._format, self._group, pool)


def load_weights(
    folder: Path,
    config: Mapping[str, Any],
    *,
    precision: str,
    fingerprint: str,
    cache_folder: Path,
    num_threads: int,
    group: int = DEFAULT_GROUP,
    quantisation: Quantisation | None = None,
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
        quantisation: How a checkpoint that is quantised already is stored; its groups are kept.

    Raises:
        IncompleteCheckpointError: A tensor is missing, of another shape or type than config.json states, or holds what
            is no finite number.
        UnsupportedModelError: The kernels are not made for these sizes.
    """
    check_config(config, str(folder))
    source = Source(folder)
    wanted = list(matrices(source, config["num_hidden_layers"]))
    if quantisation is None:
        maker: Maker = Rounding(source, FORMATS[precision], group)
        kind = f"{precision}-g{group}"
    else:
        maker = Prequantised(source, quantisation)
        kind = quantisation.method
    check_shapes(config, wanted, maker.shape)
    forms = {matrix.name: maker.form(matrix) for matrix in wanted}
    for form in forms.values():
        check_shape(form.rows, form.cols, form.group)
    if precision == "bf16":  # only interleaved, which is quicker than reading a second file
        return _assemble(source, config, _pack_all(source, maker, wanted, num_threads))
    cache = cache_folder / "packed" / f"{fingerprint}-{kind}-v{LAYOUT_VERSION}.safetensors"
    packed = _read_cache(cache, forms, num_threads)
    if packed is None:
        packed = _pack_all(source, maker, wanted, num_threads)
        if _write_cache(cache, packed, num_threads):
            packed = None  # never two copies in memory
            packed = _read_cache(cache, forms, num_threads) or _pack_all(source, maker, wanted, num_threads)
    orders = {matrix.name: maker.order(matrix) for matrix in wanted}
    return _assemble(source, config, {name: replace(p, order=orders[name]) for name, p in packed.items()})


def _pack_all(source: Source, maker: Maker, wanted: list[Matrix], num_threads: int) -> dict[str, Packed]:
    if EMBEDDING not in {name for matrix in wanted for name in matrix.weights}:  # looked at while packed
        source.check_finite(EMBEDDING)
    packed = {}
    total = sum(form.rows * form.cols for form in map(maker.form, wanted))
    with ThreadPoolExecutor(num_threads) as pool, Bar(maker.title, total) as bar:
        for matrix in wanted:
            packed[matrix.name] = maker.pack(matrix, pool)
            bar.advance(packed[matrix.name].rows * packed[matrix.name].cols)
    return packed


def _checksums(parts: Mapping[str, NDArray[np.uint8]], num_threads: int) -> dict[str, int]:
    with ThreadPoolExecutor(num_threads) as pool:
        return dict(zip(parts, pool.map(checksum, parts.values()), strict=True))


def _write_cache(path: Path, packed: Mapping[str, Packed], num_threads: int) -> bool:
    """Write whole or not at all; a folder that cannot be used costs the next start, not this one."""
    tensors = {name: p.data for name, p in packed.items()}
    checksums = _checksums(tensors, num_threads)
    try:
        private_folder(path.parent)
        write_bytes(path, tensors, {"of": path.name, "checksums": json.dumps(checksums)})
        forget_unused(path.parent, KEPT_BYTES, _is_obsolete)
    except (OSError, UnsafeCacheError) as error:
        logger.warning(
            "the quantised weights could not be kept in %s (%s); the next start makes them anew", path, error
        )
        return False
    return True


def _is_obsolete(name: str) -> bool:
    version = re.search(r"-v(\d+)\.safetensors$", name)
    return version is None or int(version[1]) < LAYOUT_VERSION


def _read_cache(path: Path, forms: Mapping[str, Form], num_threads: int) -> dict[str, Packed] | None:
    """The cached weights, mapped; None when there are none, they are damaged, or others could have written them."""
    if not path.exists():
        return None
    try:
        private_folder(path.parent)
        file = MappedFile(path, open_private)
        parts = {name: file[name] for name in forms}
        wrong = [name for name, form in forms.items() if parts[name].shape != (form.nbytes,)]
        if wrong or file.metadata["of"] != path.name:
            raise ValueError(f"it holds other weights than {path.name}")
        stated = json.loads(file.metadata["checksums"])
        damaged = [name for name, found in _checksums(parts, num_threads).items() if found != stated[name]]
        if damaged:
            raise ValueError(f"damaged: {', '.join(damaged)}")
    except (OSError, CheckpointError, ValueError, KeyError, TypeError, RecursionError) as error:
        logger.warning("the quantised weights in %s cannot be used (%s); making them anew", path, error)
        return None
    return {name: form.of(parts[name]) for name, form in forms.items()}


def _assemble(source: Source, config: Mapping[str, Any], packed: Mapping[str, Packed]) -> ModelWeights:
    hidden, size = config["hidden_size"], head_dim(config)
    widths = {"q": config["num_attention_heads"] * size, **dict.fromkeys("kv", config["num_key_value_heads"] * size)}
    layers = []
    for i in range(config["num_hidden_layers"]):
        name = f"model.layers.{i}."
        biases = [source.vector(f"{name}self_attn.{x}_proj.bias", width) for x, width in widths.items()]
        layers.append(
            LayerWeights(
                qkv=packed[f"{i}.qkv"],
                qkv_bias=np.concatenate(biases),
                out=packed[f"{i}.out"],
                gate_up=packed[f"{i}.gate_up"],
                down=packed[f"{i}.down"],
                attention_norm=source.vector(name + "input_layernorm.weight", hidden),
                ffn_norm=source.vector(name + "post_attention_layernorm.weight", hidden),
            )
        )
    return ModelWeights(
        config=config,
        layers=layers,
        final_norm=source.vector("model.norm.weight", hidden),
        head=packed["head"],
        embedding=source.floats(EMBEDDING, (config["vocab_size"], hidden)),
    )
