"""Weight matrices in the forms that the kernels read (see `native/model.h`)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints.gguf_file import Kind
from langchain_qwen.checkpoints.safetensors_file import as_float32
from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu.library import BF16, INT4, INT8, K4, K5, K6
from langchain_qwen.errors import IncompleteCheckpointError, UnsupportedModelError

# Rows are converted to float32 and packed this many at a time, so that a large matrix needs no large copy.
CHUNK_ROWS = 1024

DEFAULT_GROUP = 64
MAX_GROUP = 1024  # model.h
SUPER_BLOCK, SPAN = 256, 128  # columns of the K formats: forms.h
SPAN_BYTES = {K4: 560, K5: 688, K6: 832}


@dataclass(frozen=True, slots=True)
class Packed:
    """A matrix [rows, cols] as the kernels read it.

    `order` says which input each column takes; None is the order that they come in.
    """

    format: int
    group: int
    rows: int
    cols: int
    data: NDArray[np.uint8]
    order: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """How a matrix is held, before it is made."""

    format: int
    group: int
    rows: int
    cols: int

    @property
    def nbytes(self) -> int:
        """Its size."""
        return packed_bytes(self.format, self.group, self.rows, self.cols)

    def of(self, data: NDArray[np.uint8]) -> Packed:
        """The matrix in this form."""
        return Packed(self.format, self.group, self.rows, self.cols, data)


def packed_bytes(format_: int, group: int, rows: int, cols: int) -> int:
    """Size of a packed matrix."""
    if format_ == BF16:
        return rows * cols * 2
    if format_ in SPAN_BYTES:
        per_row = group // SPAN * SPAN_BYTES[format_] + (16 if format_ == K6 else 32)
        return rows // 8 * (cols // group) * per_row
    bits = 4 if format_ == INT4 else 8
    return rows * cols * bits // 8 + rows * (cols // group) * 4


def int4_form(cols: int) -> tuple[int, int]:
    """The form and group in which 4 bits are held: super-blocks as wide as the columns allow, else plain groups."""
    for super_block in (SUPER_BLOCK, SPAN):
        if cols % super_block == 0:
            return K4, super_block
    return INT4, DEFAULT_GROUP if cols % DEFAULT_GROUP == 0 else 32


def join(parts: Sequence[Packed]) -> Packed:
    """One matrix of the rows of several that are held in the same form."""
    first, rows = parts[0], sum(part.rows for part in parts)
    data = first.data if len(parts) == 1 else np.concatenate([part.data for part in parts])
    return Packed(first.format, first.group, rows, first.cols, data)


def check_shape(rows: int, cols: int, group: int) -> None:
    """Raise for a matrix that the kernels cannot hold."""
    if rows < 1 or cols < 1 or group not in range(32, MAX_GROUP + 1, 32) or rows % 8 or cols % group:
        raise UnsupportedModelError(
            f"a weight matrix of {rows} x {cols} cannot be held in panels of 8 rows and groups of {group} columns; "
            "use precision='bf16' or 'fp32'"
        )


class Rows(Protocol):
    """A matrix in floating point, bf16 as uint16, of which some rows at a time are needed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


def pack(weights: Sequence[Rows], format_: int, group: int, pool: ThreadPoolExecutor) -> Packed:
    """Quantise and interleave the rows of `weights`, one below the other.

    Args:
        weights: Matrices with the same number of columns.
        format_: BF16, INT4, INT8 or K4.
        group: Columns that share a scale, or the super-block; for BF16 only the granularity in which columns are shared
            out.
        pool: Threads to work on.

    Raises:
        UnsupportedModelError: The matrices have a shape that the kernels cannot hold.
        IncompleteCheckpointError: They hold something that is no finite number.
    """
    cols = weights[0].shape[1]
    for weight in weights:  # each, since the next begins with a panel of its own
        check_shape(len(weight), weight.shape[1], group)
        if weight.shape[1] != cols:
            raise IncompleteCheckpointError("matrices that are run as one have different numbers of columns")
    rows = sum(map(len, weights))
    native = library.load()
    function = {
        BF16: native.lq_pack_bf16,
        INT4: native.lq_pack_int4,
        INT8: native.lq_pack_int8,
        K4: native.lq_pack_k4,
    }[format_]
    data = np.empty(packed_bytes(format_, group, rows, cols), np.uint8)
    row_bytes = data.nbytes // rows

    def pack_rows(weight: Rows, start: int, first: int) -> None:
        values = np.require(as_float32(weight[start : start + CHUNK_ROWS]), np.float32, ["C", "A"])
        result = function(values.ctypes.data, len(values), cols, group, data.ctypes.data + first * row_bytes)
        check_packed(result)

    jobs = []
    first = 0
    for weight in weights:
        for start in range(0, len(weight), CHUNK_ROWS):
            jobs.append(pool.submit(pack_rows, weight, start, first))
            first += min(CHUNK_ROWS, len(weight) - start)
    for job in jobs:
        job.result()
    return Packed(format_, group, rows, cols, data)


# The blocks of GGUF files that a form holds code for code: llama.cpp's number of the type, the form and its group.
REPACKED = {
    "Q4_0": (2, INT4, 32),
    "Q4_1": (3, INT4, 32),
    "Q5_0": (6, INT8, 32),
    "Q5_1": (7, INT8, 32),
    "Q8_0": (8, INT8, 32),
    "IQ4_NL": (20, INT8, 32),
    "Q4_K": (12, K4, SUPER_BLOCK),
    "Q5_K": (13, K5, SUPER_BLOCK),
    "Q6_K": (14, K6, SUPER_BLOCK),
}


def repack(blocks: NDArray[np.uint8], kind: Kind, pool: ThreadPoolExecutor | None = None) -> Packed:
    """Interleave the blocks of a GGUF file, code for code.

    Args:
        blocks: [rows, bytes of a row].
        kind: Their type, one of `REPACKED`.
        pool: Threads to work on; None for the caller's.

    Raises:
        UnsupportedModelError: The kernels cannot hold the shape.
        IncompleteCheckpointError: A scale is no finite number.
    """
    number, format_, group = REPACKED[kind.name]
    rows, cols = len(blocks), blocks.shape[1] // kind.nbytes * kind.numbers
    check_shape(rows, cols, group)
    data = np.empty(packed_bytes(format_, group, rows, cols), np.uint8)
    row_bytes, native = data.nbytes // rows, library.load()

    def repack_rows(first: int) -> None:
        part = np.ascontiguousarray(blocks[first : first + CHUNK_ROWS])
        result = native.lq_repack_gguf(part.ctypes.data, number, len(part), cols, data.ctypes.data + first * row_bytes)
        check_packed(result)

    firsts = range(0, rows, CHUNK_ROWS)
    for _ in map(repack_rows, firsts) if pool is None else pool.map(repack_rows, firsts):
        pass
    return Packed(format_, group, rows, cols, data)


def check_packed(result: int) -> None:
    """Raise unless the native packers did their work."""
    if result == library.NOT_FINITE:
        raise IncompleteCheckpointError(
            "the weights hold infinity, NaN or numbers beyond what can be held; copy or download the checkpoint again"
        )
    assert result == library.PACKED, result


@dataclass(frozen=True, slots=True)
class Codes:
    """A quantised matrix: weight[r, k] = scale[r, k // group] * code[r, k] - scale_zero[r, k // group].

    Attributes:
        codes: [rows, cols]: 0 to 15 for int4, -128 to 127 for int8.
        scale: float [rows, cols / group].
        scale_zero: scale * zero, float [rows, cols / group].
    """

    codes: NDArray[np.uint8] | NDArray[np.int8]
    scale: NDArray[np.float32]
    scale_zero: NDArray[np.float32]


def pack_codes(q: Codes, format_: int) -> Packed:
    """Interleave codes that are there already, exactly."""
    rows, cols = q.codes.shape
    groups = q.scale.shape[1]
    group, panels = cols // groups, rows // 8
    check_shape(rows, cols, group)
    if format_ == INT4:
        # [panel, row, group, vector of 8 columns, half, 4] -> [panel, group, vector, row, 4]
        c = q.codes.reshape(panels, 8, groups, group // 8, 2, 4)
        nibbles = c[..., 0, :] | (c[..., 1, :] << 4)
        body = nibbles.transpose(0, 2, 3, 1, 4).reshape(panels, groups, group * 4)
    else:
        c = q.codes.reshape(panels, 8, groups, group // 4, 4)
        body = c.transpose(0, 2, 3, 1, 4).reshape(panels, groups, group * 8).view(np.uint8)
    data = np.empty((panels, groups, body.shape[2] + 32), np.uint8)
    data[..., :-32] = body
    for start, values in ((-32, q.scale), (-16, q.scale_zero)):
        halves = np.ascontiguousarray(values.reshape(panels, 8, groups).transpose(0, 2, 1).astype(np.float16))
        data[..., start : start + 16 or None] = halves.view(np.uint8)
    return Packed(format_, group, rows, cols, data.reshape(-1))


def unpack(packed: Packed) -> NDArray[np.float32]:
    """The weights that a packed matrix stands for, float32 [rows, cols]."""
    if packed.format in SPAN_BYTES:
        return _unpack_k(packed)
    rows, cols, group = packed.rows, packed.cols, packed.group
    panels, groups = rows // 8, cols // group
    if packed.format == BF16:
        bits = packed.data.view(np.uint16).reshape(panels, cols, 8).transpose(0, 2, 1).reshape(rows, cols)
        return (bits.astype(np.uint32) << 16).view(np.float32)
    blocks = packed.data.reshape(panels, groups, -1)
    body = blocks[..., :-32]
    if packed.format == INT4:
        c = body.reshape(panels, groups, group // 8, 8, 4)
        codes = np.stack([c & 15, c >> 4], axis=4).transpose(0, 3, 1, 2, 4, 5)
    else:
        codes = body.view(np.int8).reshape(panels, groups, group // 4, 8, 4).transpose(0, 3, 1, 2, 4)
    halves = np.ascontiguousarray(blocks[..., -32:]).view(np.float16).astype(np.float32).reshape(panels, groups, 2, 8)
    scale, scale_zero = halves[:, :, 0].transpose(0, 2, 1), halves[:, :, 1].transpose(0, 2, 1)
    values = codes.reshape(panels, 8, groups, group).astype(np.float32)
    return (values * scale[..., None] - scale_zero[..., None]).reshape(rows, cols)


def _unpack_k(packed: Packed) -> NDArray[np.float32]:
    """The same for the K formats, bit by bit as `native/model.h` describes them."""
    form, cols = packed.format, packed.cols
    panels, blocks, spans = packed.rows // 8, cols // packed.group, packed.group // SPAN
    data = packed.data.reshape(panels, blocks, -1)
    ends = np.ascontiguousarray(data[:, :, spans * SPAN_BYTES[form] :]).view(np.float16).astype(np.float32)
    ends = ends.reshape(panels, blocks, 1, -1, 8, 1)  # super-scales and super-minima of 8 rows
    body = data[:, :, : spans * SPAN_BYTES[form]].reshape(panels, blocks, spans, -1)
    vectors = body[..., :512].reshape(panels, blocks, spans, 16, 1, 8, 4)  # vector, half, row, column
    codes = np.concatenate([vectors & 15, vectors >> 4], axis=4).astype(np.int16)
    rest = body[..., 512:]
    if form == K5:
        above = rest[..., :128].reshape(panels, blocks, spans, 4, 1, 1, 8, 4) >> np.arange(8, dtype=np.uint8).reshape(
            4, 2, 1, 1
        )
        codes |= (above & 1).reshape(codes.shape).astype(np.int16) << 4
        rest = rest[..., 128:]
    if form == K6:
        above = rest[..., :256].reshape(panels, blocks, spans, 8, 1, 1, 8, 4) >> np.arange(
            0, 8, 2, dtype=np.uint8
        ).reshape(2, 2, 1, 1)
        codes |= (above & 3).reshape(codes.shape).astype(np.int16) << 4
        codes -= 32
        rest = rest[..., 256:]
    # [panel, block, span, row, column]
    values = codes.transpose(0, 1, 2, 5, 3, 4, 6).reshape(panels, blocks, spans, 8, SPAN).astype(np.float32)

    def by_row(places: NDArray[Any]) -> NDArray[Any]:
        """Bytes at the places lane, group, row of the lane: [..., 32] to [..., row, group]."""
        return places.reshape(*places.shape[:-1], 2, 4, 4).swapaxes(-1, -2).reshape(*places.shape[:-1], 8, 4)

    if form == K6:
        scales = np.concatenate([by_row(rest[..., :32]), by_row(rest[..., 32:])], axis=-1).view(np.int8)
        scale = ends[:, :, :, 0] * scales.astype(np.float32)
        values = values * np.repeat(scale, 16, axis=-1)
    else:
        low, high = rest[..., :32], np.concatenate([rest[..., 32:], rest[..., 32:] >> 2], axis=-1)
        scale = ends[:, :, :, 0] * by_row((low & 15) | (high & 3) << 4).astype(np.float32)
        minimum = ends[:, :, :, 1] * by_row((low >> 4) | (high >> 4 & 3) << 4).astype(np.float32)
        values = np.repeat(scale, 32, axis=-1) * values - np.repeat(minimum, 32, axis=-1)
    return values.transpose(0, 3, 1, 2, 4).reshape(packed.rows, cols)
