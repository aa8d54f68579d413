"""GPTQ and AWQ checkpoints in the packed form, code for code.

Codes and scales are kept as they are. The kernels want scale * zero in fp16, which is exact for the zeros of symmetric
checkpoints and else within half a unit in the last place: at most 2^-11 * zero of a quantisation step. The zero is at
most 15 for 4 bits, and 128 for 8 bits, since the kernels' 8-bit codes are signed.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints.quantisation import Quantisation
from langchain_qwen.checkpoints.safetensors_file import as_float32
from langchain_qwen.engine.runners.cpu.library import INT4, INT8
from langchain_qwen.engine.runners.cpu.packing import DEFAULT_GROUP, Codes, Form, Packed, pack, pack_codes
from langchain_qwen.engine.runners.cpu.source import Maker, Matrix, Source
from langchain_qwen.errors import IncompleteCheckpointError, UnsupportedModelError

logger = logging.getLogger(__name__)

GROUPS = (128, 64, 32)  # what the kernels are made for; wider groups are held as several with the same scale
# The nibbles of an AWQ word hold its eight columns in the order 0 2 4 6 1 3 5 7: column c is in nibble AWQ_NIBBLE[c].
AWQ_NIBBLE = (0, 4, 1, 5, 2, 6, 3, 7)
LARGEST_HALF = 65504


@dataclass(frozen=True, slots=True)
class _Linear:
    """A quantised layer: weight[r, k] = scale[r, g] * (code[r, k] - zero[r, g]), g the group of k.

    Attributes:
        codes: [rows, cols], columns group by group.
        scale: [rows, groups].
        zero: [rows, groups].
    """

    codes: NDArray[np.uint8]
    scale: NDArray[np.float32]
    zero: NDArray[np.uint8]

    def weights(self) -> NDArray[np.float32]:
        """What the codes stand for, columns group by group."""
        rows, groups = self.scale.shape
        codes = self.codes.reshape(rows, groups, -1).astype(np.float32)
        return ((codes - self.zero[..., None]) * self.scale[..., None]).reshape(rows, -1)


class Prequantised(Maker):
    """Makes the packed matrices of a GPTQ or AWQ checkpoint.

    Matrices that the checkpoint leaves unquantised, such as the head, are rounded to int8; so are those whose layers
    differ in how they are quantised, all together.
    """

    title = "Repacking the quantised weights (once)"

    def __init__(self, source: Source, quantisation: Quantisation):
        self._source = source
        self._scheme = quantisation
        self._format = INT4 if quantisation.bits == 4 else INT8

    def shape(self, layer: str) -> tuple[int, int]:
        """Rows and columns of a layer, as the checkpoint has it."""
        if not self._is_quantised(layer):
            rows, cols = self._source.floats(f"{layer}.weight").shape
            return rows, cols
        words, width = self._source.words(f"{layer}.qweight").shape
        per_word = 32 // self._scheme.bits
        return (width * per_word, words) if self._scheme.method == "awq" else (width, words * per_word)

    def form(self, matrix: Matrix) -> Form:
        """How a matrix will be held."""
        rows, cols = self.size(matrix)
        if self._is_exact(matrix):
            return Form(self._format, self._held_group(cols), rows, cols)
        return Form(INT8, DEFAULT_GROUP, rows, cols)

    def order(self, matrix: Matrix) -> NDArray[np.int32] | None:
        """Where a matrix with act-order wants its inputs from; None for the order that they come in."""
        return None if matrix.is_fed or not self._is_exact(matrix) else self._order(matrix.layers[0])

    def pack(self, matrix: Matrix, pool: ThreadPoolExecutor) -> Packed:
        """Read a matrix and interleave its codes.

        The inputs of the down projection are the rows of gate and up: these are put into the order that it wants, so
        that nothing has to be moved at run time.
        """
        row_order = self._order(matrix.feeds) if matrix.feeds and self._is_quantised(matrix.feeds) else None
        if not self._is_exact(matrix):
            return self._round(matrix, row_order, pool)
        form = self.form(matrix)
        parts = [self._read(name) for name in matrix.layers]
        codes, scale, zero = (
            np.concatenate([_take(getattr(part, field), row_order) for part in parts])
            for field in ("codes", "scale", "zero")
        )
        signed_zero = zero.astype(np.float32)
        if form.format == INT8:  # 0 to 255 become -128 to 127, and so do the zeros
            codes, signed_zero = (codes ^ 128).view(np.int8), signed_zero - 128
        scale_zero = scale * signed_zero
        if not (np.abs(scale).max() <= LARGEST_HALF and np.abs(scale_zero).max() <= LARGEST_HALF):
            raise UnsupportedModelError(
                f"{matrix.layers[0]} has scales that fp16 cannot hold: the checkpoint is damaged"
            )
        split = form.cols // form.group // scale.shape[1]
        q = Codes(codes, np.repeat(scale, split, axis=1), np.repeat(scale_zero, split, axis=1))
        return pack_codes(q, form.format)

    def _is_quantised(self, name: str) -> bool:
        return f"{name}.qweight" in self._source

    def _is_exact(self, matrix: Matrix) -> bool:
        """Whether all layers that the engine fuses are quantised, and along the same order of columns."""
        if not all(self._is_quantised(name) for name in matrix.layers):
            return False
        first, *others = (self._order(name) for name in matrix.layers)
        return all(first is o if first is None or o is None else np.array_equal(first, o) for o in others)

    def _round(self, matrix: Matrix, row_order: NDArray[np.int32] | None, pool: ThreadPoolExecutor) -> Packed:
        quantised = [name for name in matrix.layers if self._is_quantised(name)]
        if quantised:
            logger.warning(
                "the layers %s of this checkpoint are quantised each in its own way, while the engine runs them as "
                "one: they are rounded to int8",
                ", ".join(matrix.layers),
            )
        weights = [self._floats(name) for name in matrix.layers]
        if row_order is not None:
            weights = [weight[row_order] for weight in weights]
        return pack(weights, INT8, DEFAULT_GROUP, pool)

    def _floats(self, name: str) -> NDArray[Any]:
        """The weights of a layer, quantised or not, columns in their own order."""
        if not self._is_quantised(name):
            return self._source.floats(f"{name}.weight")
        values, order = self._read(name).weights(), self._order(name)
        if order is not None:
            values = values[:, np.argsort(order)]
        return values

    def _group(self, cols: int) -> int:
        return cols if self._scheme.group_size == -1 else self._scheme.group_size

    def _held_group(self, cols: int) -> int:
        group = self._group(cols)
        held = next((held for held in GROUPS if group % held == 0), None)
        if held is None or cols % group:
            raise UnsupportedModelError(
                f"a matrix of {cols} columns in groups of {group} cannot be held in groups of 32, 64 or 128 columns; "
                "use the release without quantisation"
            )
        return held

    def _order(self, name: str) -> NDArray[np.int32] | None:
        """The columns group by group, from a layer's g_idx; None if they are so already."""
        if f"{name}.g_idx" not in self._source:
            return None
        groups = self._source[f"{name}.g_idx"]
        cols = self.shape(name)[1]
        if groups.dtype != np.int32 or groups.shape != (cols,):
            raise IncompleteCheckpointError(f"{name}.g_idx does not say the group of each of its {cols} columns")
        order = np.argsort(groups, kind="stable").astype(np.int32)
        group = self._group(cols)
        if not np.array_equal(groups[order], np.arange(len(groups)) // group):
            raise UnsupportedModelError(f"{name}.g_idx does not put {group} columns into each group")
        return None if np.array_equal(order, np.arange(len(order))) else order

    def _read(self, name: str) -> _Linear:
        scheme, source = self._scheme, self._source
        words, zero_words = (source.words(f"{name}.{x}") for x in ("qweight", "qzeros"))
        scale = as_float32(source.floats(f"{name}.scales"))
        rows, cols = self.shape(name)
        self._held_group(cols)  # whole groups
        groups = cols // self._group(cols)
        per_word = 32 // scheme.bits
        if scale.shape != (groups, rows) or zero_words.shape != (groups, rows // per_word) or rows % per_word:
            raise IncompleteCheckpointError(
                f"{name} has scales or zeros of another shape than its {rows} x {cols} weights"
            )
        if not np.isfinite(scale).all():
            raise IncompleteCheckpointError(f"{name} has scales that are no finite numbers: the checkpoint is damaged")
        if (
            f"{name}.bias" in source
            and not name.endswith(("q_proj", "k_proj", "v_proj"))
            and source[f"{name}.bias"].any()
        ):
            raise UnsupportedModelError(f"{name} has a bias, which Qwen2 models do not have there")
        if scheme.method == "awq":
            codes, zero = (np.ascontiguousarray(_awq_columns(x).T) for x in (words, zero_words))
        else:
            codes = _fields(np.ascontiguousarray(words.T), scheme.bits)
            # One addition for a whole word, as GPTQModel does it, whose subtraction may have borrowed.
            offset = np.uint32(scheme.zero_offset * (0x11111111 if scheme.bits == 4 else 0x01010101))
            zero = np.ascontiguousarray(_fields(zero_words + offset, scheme.bits).T)
        order = self._order(name)
        return _Linear(codes if order is None else codes[:, order], np.ascontiguousarray(scale.T), zero)


def _fields(words: NDArray[np.uint32], bits: int) -> NDArray[np.uint8]:
    """The numbers packed into each word, lowest bits first: [n, m] to [n, m * 32 / bits]."""
    data = words.astype("<u4", copy=False).view(np.uint8)
    if bits == 8:
        return data
    return np.stack([data & 15, data >> 4], axis=2).reshape(len(data), -1)


def _awq_columns(words: NDArray[np.uint32]) -> NDArray[np.uint8]:
    nibbles = _fields(np.ascontiguousarray(words), 4)
    return nibbles.reshape(len(nibbles), -1, 8)[..., AWQ_NIBBLE].reshape(nibbles.shape)


def _take(rows: NDArray[np.generic], order: NDArray[np.int32] | None) -> NDArray[np.generic]:
    return rows if order is None else rows[order]
