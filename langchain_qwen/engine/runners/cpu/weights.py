"""From a checkpoint folder to the packed weights of the CPU engine.

Quantised weights are made once and kept in the cache folder; later they are mapped from there, so that starting takes
a second and processes share the memory.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
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
from langchain_qwen.checkpoints.safetensors_file import MappedFile, write_bytes
from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu.gguf import AsTheFileHasIt, GgufRows, GgufSource, InFourBits
from langchain_qwen.engine.runners.cpu.library import BF16, INT4, INT8
from langchain_qwen.engine.runners.cpu.packing import DEFAULT_GROUP, Form, Packed, check_shape, int4_form, pack
from langchain_qwen.engine.runners.cpu.prequantised import Prequantised
from langchain_qwen.engine.runners.cpu.source import Maker, Matrix, Names, Source, check_shapes, matrices
from langchain_qwen.errors import CheckpointError, UnsafeCacheError

logger = logging.getLogger(__name__)

FORMATS = {"bf16": BF16, "int8": INT8, "int4": INT4}
# Raise it whenever the packed form or the way of rounding changes: older files are then made anew.
LAYOUT_VERSION = 4
KEPT_BYTES = 20 << 30  # of packed weights, such as those of a dozen models of 1.5 billion parameters
EMBEDDING = "model.embed_tokens.weight"


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One transformer layer. Vectors are float32; matrices that are not held in one form are several parts."""

    qkv: tuple[Packed, ...]
    qkv_bias: NDArray[np.float32]
    out: Packed
    gate_up: tuple[Packed, ...]
    down: Packed
    attention_norm: NDArray[np.float32]
    ffn_norm: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """A Qwen2 model.

    `embedding` is looked up row by row, [vocabulary, hidden], in the checkpoint's own precision (bf16 as uint16,
    quantised rows as float32): only the rows that are used are ever read from the disk.
    """

    config: Mapping[str, Any]
    layers: list[LayerWeights]
    final_norm: NDArray[np.float32]
    head: Packed
    embedding: NDArray[Any] | GgufRows

    @property
    def packed_bytes(self) -> int:
        """What a step of one token reads of the matrices."""
        per_layer = (m for layer in self.layers for m in (*layer.qkv, layer.out, *layer.gate_up, layer.down))
        return sum(m.data.nbytes for m in per_layer) + self.head.data.nbytes


class Tensors(Names, Protocol):
    """The tensors of a checkpoint, beside its matrices."""

    def vector(self, name: str, size: int) -> NDArray[np.float32]:
        """A small one as float32; raises for another shape, and for what is not finite."""
        ...

    def embedding(self, name: str, shape: tuple[int, int]) -> NDArray[Any] | GgufRows:
        """A matrix of which single rows are wanted."""
        ...

    def check_finite(self, name: str) -> None:
        """Raise for a matrix that holds infinity or NaN."""
        ...


class Rounding(Maker):
    """Rounds a checkpoint in floating point."""

    title = "Quantising the weights (once)"

    def __init__(self, source: Source, format_: int):
        self._source = source
        self._format = format_

    def shape(self, layer: str) -> tuple[int, int]:
        """See `Maker.shape`."""
        rows, cols = self._source.floats(f"{layer}.weight").shape
        return rows, cols

    def form(self, matrix: Matrix) -> Form:
        """See `Maker.form`."""
        rows, cols = self.size(matrix)
        if self._format == INT4:
            return Form(*int4_form(cols), rows, cols)
        return Form(self._format, DEFAULT_GROUP, rows, cols)

    def pack(self, matrix: Matrix, pool: ThreadPoolExecutor) -> Packed:
        """See `Maker.pack`."""
        form = self.form(matrix)
        return pack([self._source.floats(name) for name in matrix.weights], form.format, form.group, pool)


def load_weights(
    folder: Path,
    config: Mapping[str, Any],
    *,
    precision: str,
    fingerprint: str,
    cache_folder: Path,
    num_threads: int,
    quantisation: Quantisation | None = None,
    gguf: Sequence[Path] = (),
) -> ModelWeights:
    """Map the packed weights from the cache, or make them, showing progress.

    Args:
        folder: The checkpoint.
        config: Its config.json.
        precision: bf16, int8 or int4.
        fingerprint: Names the checkpoint's exact weights.
        cache_folder: Where packed weights are kept.
        num_threads: Threads for packing.
        quantisation: How a checkpoint that is quantised already is stored; its groups are kept.
        gguf: The files that hold the weights instead of the folder; `precision` is then "gguf" for all of them as
            they are, or int4.

    Raises:
        IncompleteCheckpointError: A tensor is missing, of another shape or type than config.json states, or holds what
            is no finite number.
        UnsupportedModelError: The kernels are not made for these sizes.
    """
    check_config(config, str(folder))
    source, maker, kind = _maker(folder, precision, quantisation, gguf)
    whole = list(matrices(source, config["num_hidden_layers"]))
    check_shapes(config, whole, maker.shape)
    wanted = [part for matrix in whole for part in maker.split(matrix)]
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


def _maker(
    folder: Path, precision: str, quantisation: Quantisation | None, gguf: Sequence[Path]
) -> tuple[Tensors, Maker, str]:
    """Where the tensors come from, what makes the matrices of them, and a name for what comes out."""
    if gguf:
        file = GgufSource(gguf)
        return (file, AsTheFileHasIt(file), "gguf") if precision == "gguf" else (file, InFourBits(file), "gguf-int4")
    source = Source(folder)
    if quantisation is not None:
        return source, Prequantised(source, quantisation), quantisation.method
    return source, Rounding(source, FORMATS[precision]), precision


def _pack_all(source: Tensors, maker: Maker, wanted: list[Matrix], num_threads: int) -> dict[str, Packed]:
    if EMBEDDING not in {name for matrix in wanted for name in matrix.weights}:  # looked at while packed
        source.check_finite(EMBEDDING)
    packed = {}
    total = sum(form.rows * form.cols for form in map(maker.form, wanted))
    with ThreadPoolExecutor(num_threads) as pool, Bar(maker.title, total) as bar:
        for matrix in wanted:
            packed[matrix.name] = maker.pack(matrix, pool)
            bar.advance(packed[matrix.name].rows * packed[matrix.name].cols)
    return packed


def checksum(data: NDArray[np.uint8]) -> int:
    """Of bytes in a row: 64 bits, nearly as fast as memory is read.

    It finds every damage within one word of 8 bytes, and other accidents but for one in 2^64. It is no defense against
    a forger; the private folder is.
    """
    return int(library.load().lq_checksum(data.ctypes.data, data.nbytes))


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
    try:
        if not path.exists():
            return None
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


def _assemble(source: Tensors, config: Mapping[str, Any], packed: Mapping[str, Packed]) -> ModelWeights:
    hidden, size = config["hidden_size"], head_dim(config)
    widths = {"q": config["num_attention_heads"] * size, **dict.fromkeys("kv", config["num_key_value_heads"] * size)}
    parts: dict[str, list[Packed]] = {}
    for name, part in packed.items():
        parts.setdefault(name.partition("/")[0], []).append(part)
    layers = []
    for i in range(config["num_hidden_layers"]):
        name = f"model.layers.{i}."
        biases = [source.vector(f"{name}self_attn.{x}_proj.bias", width) for x, width in widths.items()]
        layers.append(
            LayerWeights(
                qkv=tuple(parts[f"{i}.qkv"]),
                qkv_bias=np.concatenate(biases),
                out=packed[f"{i}.out"],
                gate_up=tuple(parts[f"{i}.gate_up"]),
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
        embedding=source.embedding(EMBEDDING, (config["vocab_size"], hidden)),
    )
