"""Matrices in 4 bits, fitted to inputs that a model was seen with, as blocks of a GGUF file.

What counts is the error of the products, not of the weights: for a row with the rounding errors e it is e' G e, where G
is the mean of the products of all pairs of inputs. G of a whole matrix takes gigabytes; its blocks on the diagonal, one
for each block of weights, take a few hundred megabytes for a model of 1.5 billion parameters. Their own diagonal is
what llama.cpp calls an importance matrix.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints.gguf_file import KINDS
from langchain_qwen.checkpoints.safetensors_file import as_float32
from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu.packing import Rows, check_packed
from langchain_qwen.errors import IncompleteCheckpointError

Q4_1, Q4_K = 3, 12  # llama.cpp's numbers
# What is seen of a few thousand tokens holds by half for other texts: products of different inputs are halved.
SHRINKING = 0.5
ROWS = 64  # at a time: each takes milliseconds
RARE = 1e-3  # of the mean square in a block: inputs that were smaller count as if they had been of this size


def fitted_kind(cols: int) -> int:
    """The number of the type that holds 4 bits: super-blocks where the columns divide into them, else groups of 32."""
    return Q4_K if cols % KINDS[Q4_K].numbers == 0 else Q4_1


class Products:
    """Sums of products of a matrix's inputs, block by block of its columns."""

    def __init__(self, cols: int):
        self._width = KINDS[fitted_kind(cols)].numbers
        self._sums = np.zeros((cols // self._width, self._width, self._width), np.float32)
        self._count = 0

    def add(self, inputs: NDArray[np.float32]) -> None:
        """Count inputs in, [tokens, columns]."""
        blocks = inputs.reshape(len(inputs), -1, self._width).transpose(1, 0, 2)
        self._sums += blocks.transpose(0, 2, 1) @ blocks
        self._count += len(inputs)

    def squares(self) -> NDArray[np.float32]:
        """The mean square of each column, which others call an importance matrix."""
        squares: NDArray[np.float32] = np.einsum("bii->bi", self._sums).reshape(-1) / np.float32(self._count)
        return squares

    def means(self) -> NDArray[np.float32]:
        """The means, [blocks, width, width], as the fit takes them: shrunk, in multiples of a block's mean square.

        Raises:
            IncompleteCheckpointError: The model gave inputs that are no finite numbers.
        """
        if not np.isfinite(self._sums).all():
            raise IncompleteCheckpointError(
                "on the calibration texts this model computes infinity or NaN; copy or download the checkpoint again"
            )
        squares = np.einsum("bii->bi", self._sums)
        size = squares.mean(axis=1)
        unseen = size == 0  # as if all inputs had been alike
        means = (1 - SHRINKING) * self._sums / np.where(unseen, 1, size)[:, None, None]
        squares = np.maximum(squares / np.where(unseen, 1, size)[:, None], np.where(unseen, 1, RARE)[:, None])
        diagonal = np.arange(self._width)
        means[:, diagonal, diagonal] = squares
        return np.ascontiguousarray(means, np.float32)


def fit(weights: Rows, means: NDArray[np.float32], pool: ThreadPoolExecutor) -> NDArray[np.uint8]:
    """A matrix as blocks of the type `fitted_kind`: [rows, bytes of a row].

    Args:
        weights: The matrix in floating point, bf16 as uint16.
        means: Of its inputs, as `Products` gives them.
        pool: Threads to work on.

    Raises:
        IncompleteCheckpointError: It holds something that is no finite number.
    """
    cols = weights.shape[1]
    number, native = fitted_kind(cols), library.load()
    kind = KINDS[number]
    blocks = np.empty((len(weights), cols // kind.numbers * kind.nbytes), np.uint8)

    def fit_rows(start: int) -> None:
        values = np.require(as_float32(weights[start : start + ROWS]), np.float32, ["C", "A"])
        place = blocks[start:].ctypes.data
        check_packed(native.lq_quantise_gguf(values.ctypes.data, means.ctypes.data, number, len(values), cols, place))

    for _ in pool.map(fit_rows, range(0, len(weights), ROWS)):
        pass
    return blocks
