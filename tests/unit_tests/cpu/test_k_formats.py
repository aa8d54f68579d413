"""The forms that hold the blocks of GGUF files: code for code, and the same products on every instruction set."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from langchain_qwen.checkpoints.gguf_blocks import SCALES, dequantize
from langchain_qwen.checkpoints.gguf_file import KINDS
from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu.kernels import tables
from langchain_qwen.engine.runners.cpu.packing import Packed, pack, repack, unpack
from langchain_qwen.errors import IncompleteCheckpointError
from tests.unit_tests.checkpoints.test_gguf_blocks import random_blocks
from tests.unit_tests.cpu.test_kernels import kernels, product

BY_NAME = {kind.name: kind for kind in KINDS.values()}
HELD = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "Q4_K", "Q5_K", "Q6_K"]
TABLES = [table.name for table in tables() if table.runs]
TOKENS = st.integers(1, 50) | st.integers(120, 150)  # AMX takes up to 128 at once


def held(name: str, rows: int, blocks: int, seed: int) -> tuple[NDArray[np.uint8], Packed]:
    kind = BY_NAME[name]
    data = random_blocks(kind, rows, blocks * (1 if kind.numbers == 256 else 4), seed)
    return data, repack(data, kind)


def multiply(table: str, packed: Packed, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    matrix = library.Matrix(
        packed.format, packed.group, packed.rows, packed.cols, packed.rows, packed.data.nbytes, packed.data.ctypes.data
    )
    return product(kernels(table), matrix, inputs, [])


@pytest.mark.parametrize("name", HELD)
@settings(max_examples=15, deadline=None)
@given(panels=st.integers(1, 3), blocks=st.integers(1, 3), seed=st.integers(0, 1 << 30))
def test_blocks_are_held_code_for_code(name: str, panels: int, blocks: int, seed: int) -> None:
    data, packed = held(name, 8 * panels, blocks, seed)
    np.testing.assert_array_equal(unpack(packed), dequantize(data, BY_NAME[name]))


@pytest.mark.parametrize("name", HELD)
def test_scales_that_are_no_numbers_are_refused(name: str) -> None:
    kind = BY_NAME[name]
    for place in SCALES.get(name, (0,)):
        data = random_blocks(kind, 8, 4, 0).copy()
        data[5, place : place + 2] = np.array([np.inf], np.float16).view(np.uint8)
        with pytest.raises(IncompleteCheckpointError, match="infinity, NaN"):
            repack(data, kind)


def rounded(inputs: NDArray[np.float32], packed: Packed) -> NDArray[np.float64]:
    """The activations as the kernels see them."""
    columns = 128 if packed.format in (library.K4, library.K5, library.K6) else packed.group
    steps = 8191 if packed.format == library.INT8 else 127
    groups = inputs.reshape(len(inputs), -1, columns)
    largest = np.abs(groups).max(2, keepdims=True)
    codes = np.rint(groups * np.where(largest > 0, np.float32(steps) / np.maximum(largest, 1e-30), 0))
    return (codes * (largest / np.float32(steps)).astype(np.float64)).reshape(inputs.shape)


@pytest.mark.parametrize("name", HELD)
@settings(max_examples=15, deadline=None)
@given(
    panels=st.integers(1, 5), blocks=st.integers(1, 3), tokens=TOKENS, seed=st.integers(0, 1 << 30),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
)  # fmt: skip
def test_products_are_right_and_the_same_bits_everywhere(
    name: str, panels: int, blocks: int, tokens: int, seed: int, spread: float
) -> None:
    data, packed = held(name, 8 * panels, blocks, seed)
    random = np.random.default_rng(seed)
    inputs = (random.normal(size=(tokens, packed.cols)) * spread).astype(np.float32)
    results = [multiply(table, packed, inputs) for table in TABLES]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    for m in range(tokens):  # alone it is the same too
        np.testing.assert_array_equal(multiply(TABLES[0], packed, inputs[m : m + 1]), results[0][m : m + 1])
    weights = dequantize(data, BY_NAME[name]).astype(np.float64)
    seen = rounded(inputs, packed)
    exact, size = seen @ weights.T, np.abs(seen) @ np.abs(weights).T
    assert (np.abs(results[0] - exact) <= 1e-3 * size + 1e-6).all()


@settings(max_examples=20, deadline=None)
@given(panels=st.integers(1, 5), spans=st.integers(1, 3), tokens=TOKENS, seed=st.integers(0, 1 << 30))
def test_narrow_super_blocks(panels: int, spans: int, tokens: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = (random.normal(size=(8 * panels, 128 * spans)) / 10).astype(np.float32)
    with ThreadPoolExecutor(1) as pool:
        packed = pack([weights], library.K4, 128, pool)
    inputs = random.normal(size=(tokens, packed.cols)).astype(np.float32)
    results = [multiply(table, packed, inputs) for table in TABLES]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    np.testing.assert_allclose(results[0], rounded(inputs, packed) @ unpack(packed).T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("extreme", [0, 255])
def test_the_largest_sums_do_not_overflow(name: str, extreme: int) -> None:
    kind = BY_NAME[name]
    data = np.full((8, 4 * kind.nbytes), extreme, np.uint8)
    blocks = data.reshape(-1, kind.nbytes)
    for place in SCALES.get(name, (0,)):
        blocks[:, place : place + 2] = np.array([1], np.float16).view(np.uint8)
    packed = repack(data, kind)
    weights = dequantize(data, kind).astype(np.float64)
    for inputs in (np.ones((20, packed.cols), np.float32), -np.ones((20, packed.cols), np.float32)):
        expected = rounded(inputs, packed) @ weights.T
        for table in TABLES:
            np.testing.assert_allclose(multiply(table, packed, inputs), expected, rtol=1e-5, atol=1e-3)
