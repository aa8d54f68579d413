"""The C kernels of one instruction set, called one by one through ctypes: for the benchmark and the tests of them."""

from __future__ import annotations

from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_float, c_int, c_size_t, c_void_p

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.engine.runners.cpu import library


class Queries(Structure):
    """`lq_queries` of kernels.h."""

    _fields_ = (
        ("query", c_void_p),
        ("stride", c_size_t),
        ("tokens", c_int),
        ("heads", c_int),
        ("head_dim", c_int),
        ("position", c_int),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("block_stride", c_size_t),
        ("blocks", c_void_p),
    )


class Attended(Structure):
    """`lq_attended`."""

    _fields_ = (("largest", c_void_p), ("total", c_void_p), ("sums", c_void_p))


class Acts(Structure):
    """`lq_acts`."""

    _fields_ = tuple((name, c_void_p) for name in ("codes", "codes16", "scale", "sum", "values"))


class Kernels(Structure):
    """`lq_kernels`."""

    _fields_ = (
        ("name", c_char_p),
        ("store_acts", CFUNCTYPE(None, POINTER(library.Matrix), POINTER(Acts), c_void_p, c_int, c_int, c_int, c_int)),
        ("multiply", CFUNCTYPE(None, POINTER(library.Matrix), POINTER(Acts), c_int, c_int, c_int, c_void_p)),
        ("rms_norm", CFUNCTYPE(None, c_void_p, c_void_p, c_float, c_int, c_void_p)),
        ("add", CFUNCTYPE(None, c_void_p, c_void_p, c_int)),
        ("silu_multiply", CFUNCTYPE(None, c_void_p, c_void_p, c_int, c_void_p)),
        ("attend", CFUNCTYPE(None, POINTER(Queries), c_int, c_void_p, POINTER(Attended))),
        ("to_half", CFUNCTYPE(None, c_void_p, c_int, c_void_p)),
    )


def kernels(name: str) -> Kernels:
    """The table of this name, which this machine must be able to run."""
    named = library.load().lq_kernels_named
    named.restype, named.argtypes = POINTER(Kernels), [c_char_p]
    table: Kernels = named(name.encode()).contents
    return table


class Activations:
    """The rows of `x` [tokens, cols] in the form in which a table's products read them."""

    def __init__(self, table: Kernels, matrix: library.Matrix, x: NDArray[np.float32]):
        tokens, cols = x.shape
        self.tokens = tokens
        self._memory = [np.zeros(tokens * n + 16, np.float32) for n in (cols, cols // 32, cols // 32)]
        values, scale, sums = (memory.ctypes.data for memory in self._memory)
        self.struct = Acts(values, values, scale, sums, values)
        for m in range(tokens):
            table.store_acts(matrix, self.struct, x[m].ctypes.data, m, tokens, 0, cols)
