"""GGUF files in the forms of the CPU engine: each matrix code for code, as the file has it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints.gguf_blocks import dequantize, scales_are_finite
from langchain_qwen.checkpoints.gguf_checkpoint import tensors_of
from langchain_qwen.checkpoints.gguf_file import GgufFile, Kind
from langchain_qwen.engine.runners.cpu.library import BF16
from langchain_qwen.engine.runners.cpu.packing import (
    REPACKED,
    Form,
    Packed,
    int4_form,
    join,
    pack,
    repack,
)
from langchain_qwen.engine.runners.cpu.source import CHECKED_AT_ONCE, Maker, Matrix
from langchain_qwen.errors import IncompleteCheckpointError

BF16_GROUP = 32


class GgufSource:
    """The tensors of a GGUF file, by their names in transformers; mapped, not read."""

    def __init__(self, files: Sequence[Path]):
        self._tensors = tensors_of([GgufFile(file) for file in files])

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def kind(self, name: str) -> Kind:
        """The type of a tensor."""
        file, own = self._find(name)
        return file.header.tensors[own].kind

    def shape(self, name: str) -> tuple[int, int]:
        """Rows and columns of a matrix."""
        file, own = self._find(name)
        shape = file.header.tensors[own].shape
        if len(shape) != 2:
            raise self._damaged(name, f"has the shape {shape}, and should have rows and columns")
        return shape[0], shape[1]

    def blocks(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a matrix, [rows, bytes of a row]."""
        file, own = self._find(name)
        return file.blocks(own)

    def rows(self, name: str) -> GgufRows:
        """A matrix as numbers, of which some rows at a time are wanted."""
        return GgufRows(self.blocks(name), self.kind(name), self.shape(name))

    def vector(self, name: str, size: int) -> NDArray[np.float32]:
        """A small tensor as float32, in memory of its own; raises for another shape, and for what is not finite."""
        file, own = self._find(name)
        if math.prod(file.header.tensors[own].shape) != size:
            raise self._damaged(name, f"has the shape {file.header.tensors[own].shape}, and should have {size} numbers")
        values = dequantize(self.blocks(name), self.kind(name)).reshape(size)
        if not np.isfinite(values).all():
            raise self._damaged(name, "holds infinity or NaN")
        return values

    def check_finite(self, name: str) -> None:
        """Raise IncompleteCheckpointError for a matrix that holds infinity or NaN."""
        blocks, kind = self.blocks(name), self.kind(name)
        rows = max(1, CHECKED_AT_ONCE // blocks.shape[1])
        for start in range(0, len(blocks), rows):
            if not scales_are_finite(blocks[start : start + rows], kind):
                raise self._damaged(name, "holds infinity or NaN")

    def embedding(self, name: str, shape: tuple[int, int]) -> GgufRows:
        """A matrix of which single rows are wanted."""
        if self.shape(name) != shape:
            raise self._damaged(name, f"has the shape {self.shape(name)}, and should have {shape}")
        return self.rows(name)

    def _find(self, name: str) -> tuple[GgufFile, str]:
        if name not in self._tensors:
            raise IncompleteCheckpointError(f"the file lacks the tensor {name}; copy or download it again")
        return self._tensors[name]

    def _damaged(self, name: str, what: str) -> IncompleteCheckpointError:
        file, own = self._find(name)
        return IncompleteCheckpointError(f"the tensor {own} in {file.name} {what}; copy or download the file again")


class GgufRows:
    """Rows of a quantised matrix, made into numbers when they are asked for."""

    def __init__(self, blocks: NDArray[np.uint8], kind: Kind, shape: tuple[int, int]):
        self.shape: tuple[int, ...] = shape
        self._blocks = blocks
        self._kind = kind

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, rows: Sequence[int] | slice) -> NDArray[np.float32]:
        return dequantize(self._blocks[rows], self._kind)


class AsTheFileHasIt(Maker):
    """Makes the packed matrices of a GGUF file, code for code; what is in floating point is held in bf16."""

    title = "Repacking the weights (once)"

    def __init__(self, source: GgufSource):
        self._source = source

    def shape(self, layer: str) -> tuple[int, int]:
        """Rows and columns of a layer."""
        return self._source.shape(f"{layer}.weight")

    def split(self, matrix: Matrix) -> list[Matrix]:
        """Neighbors of one type are one part."""
        runs = [list(run) for _, run in groupby(matrix.layers, lambda layer: self._form_of(layer)[0])]
        names = [matrix.name, *(f"{matrix.name}/{number}" for number in range(1, len(runs)))]
        return [replace(matrix, name=name, layers=tuple(run)) for name, run in zip(names, runs, strict=True)]

    def form(self, matrix: Matrix) -> Form:
        """How a part will be held."""
        return Form(*self._form_of(matrix.layers[0]), *self.size(matrix))

    def pack(self, matrix: Matrix, pool: ThreadPoolExecutor) -> Packed:
        """Interleave the codes of a part."""
        return join([self._pack(layer, pool) for layer in matrix.layers])

    def _form_of(self, layer: str) -> tuple[int, int]:
        kind = self._source.kind(f"{layer}.weight")
        return REPACKED[kind.name][1:] if kind.name in REPACKED else (BF16, BF16_GROUP)

    def _pack(self, layer: str, pool: ThreadPoolExecutor) -> Packed:
        name = f"{layer}.weight"
        if self._source.kind(name).name in REPACKED:
            return repack(self._source.blocks(name), self._source.kind(name), pool)
        return pack([self._source.rows(name)], BF16, BF16_GROUP, pool)


class InFourBits(AsTheFileHasIt):
    """Makes the matrices of a GGUF file in 4 bits: what has them already code for code, the rest rounded."""

    title = "Rounding the weights to 4 bits (once)"

    def _form_of(self, layer: str) -> tuple[int, int]:
        return int4_form(self.shape(layer)[1])

    def _pack(self, layer: str, pool: ThreadPoolExecutor) -> Packed:
        name, (format_, group) = f"{layer}.weight", self._form_of(layer)
        if REPACKED.get(self._source.kind(name).name, ())[1:] == (format_, group):
            return repack(self._source.blocks(name), self._source.kind(name), pool)
        return pack([self._source.rows(name)], format_, group, pool)
