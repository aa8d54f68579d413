"""Weight matrices in the forms that the kernels read (see `native/model.h`)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints.safetensors_file import as_float32
from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu.library import BF16, INT4, INT8
from langchain_qwen.errors import IncompleteCheckpointError, UnsupportedModelError

# Rows are converted to float32 and packed this many at a time, so that a large matrix needs no large copy.
CHUNK_ROWS = 1024

DEFAULT_GROUP = 64
MAX_GROUP = 1024  # model.h


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
    bits = 4 if format_ == INT4 else 8
    return rows * cols * bits // 8 + rows * (cols // group) * 4


def check_shape(rows: int, cols: int, group: int) -> None:
    """Raise for a matrix that the kernels cannot hold."""
    if rows < 1 or cols < 1 or group not in range(32, MAX_GROUP + 1, 32) or rows % 8 or cols % group:
        raise UnsupportedModelError(
            f"a weight matrix of {rows} x {cols} cannot be held in panels of 8 rows and groups of {group} columns; "
            "use precision='bf16' or 'fp32', or another group size"
        )


def pack(weights: list[NDArray[Any]], format_: int, group: int, pool: ThreadPoolExecutor) -> Packed:
    """Quantise and interleave the rows of `weights`, one below the other.

    Args:
        weights: Floating-point matrices with the same number of columns; bf16 as uint16.
        format_: BF16, INT4 or INT8.
        group: Columns that share a scale; for BF16 only the granularity in which columns are shared out.
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
    function: Callable[..., int] = {
        BF16: native.lq_pack_bf16,
        INT4: native.lq_pack_int4,
        INT8: native.lq_pack_int8,
    }[format_]
    data = np.empty(packed_bytes(format_, group, rows, cols), np.uint8)
    row_bytes = data.nbytes // rows

    def pack_rows(part: NDArray[Any], first: int) -> None:
        values = np.require(as_float32(part), np.float32, ["C", "A"])
        result = function(values.ctypes.data, len(values), cols, group, data.ctypes.data + first * row_bytes)
        if result == library.NOT_FINITE:
            raise IncompleteCheckpointError(
                "the weights hold infinity, NaN or numbers beyond what can be held; copy or download the checkpoint "
                "again"
            )
        assert result == library.PACKED, result

    jobs = []
    first = 0
    for weight in weights:
        for start in range(0, len(weight), CHUNK_ROWS):
            part = weight[start : start + CHUNK_ROWS]
            jobs.append(pool.submit(pack_rows, part, first))
            first += len(part)
    for job in jobs:
        job.result()
    return Packed(format_, group, rows, cols, data)


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
