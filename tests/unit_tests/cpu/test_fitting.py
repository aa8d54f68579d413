"""4-bit weights that are fitted to inputs: the error of the products is what gets smaller."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from langchain_qwen.checkpoints.gguf_blocks import dequantize
from langchain_qwen.checkpoints.gguf_file import KINDS
from langchain_qwen.engine.runners.cpu.fitting import RARE, SHRINKING, Products, fit, fitted_kind
from langchain_qwen.engine.runners.cpu.library import K4
from langchain_qwen.engine.runners.cpu.packing import pack, repack, unpack
from langchain_qwen.errors import IncompleteCheckpointError

WIDTHS = {512: "Q4_K", 96: "Q4_1"}


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as pool:
        yield pool


def inputs_of(random: np.random.Generator, tokens: int, cols: int) -> NDArray[np.float32]:
    """Columns of different sizes that go together, as those of a real model do."""
    mixed = random.normal(size=(tokens, cols // 8)) @ random.normal(size=(cols // 8, cols)) / np.sqrt(cols / 8)
    return ((mixed + random.normal(size=(tokens, cols))) * random.lognormal(sigma=0.5, size=cols)).astype(np.float32)


def seen(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    products = Products(inputs.shape[1])
    products.add(inputs)
    return products.means()


def fitted(weights: NDArray[np.float32], means: NDArray[np.float32], pool: ThreadPoolExecutor) -> NDArray[np.float32]:
    return dequantize(fit(weights, means, pool), KINDS[fitted_kind(weights.shape[1])])


def output_error(found: NDArray[np.float32], weights: NDArray[np.float32], inputs: NDArray[np.float32]) -> float:
    return float(np.square(inputs.astype(np.float64) @ (found - weights).T).mean())


def test_the_types():
    assert {cols: KINDS[fitted_kind(cols)].name for cols in WIDTHS} == WIDTHS


@pytest.mark.parametrize("cols", WIDTHS)
def test_means_of_products_are_the_naive_ones(cols):
    random = np.random.default_rng(1)
    inputs = inputs_of(random, 50, cols)
    inputs[:, 7] = 0
    products = Products(cols)
    products.add(inputs[:13])
    products.add(inputs[13:])
    means, width = products.means(), KINDS[fitted_kind(cols)].numbers
    assert means.shape == (cols // width, width, width)
    for b, found in enumerate(means):
        block = inputs[:, b * width : (b + 1) * width].astype(np.float64)
        size = np.square(block).mean()
        for i in range(width):
            for j in range(0, width, 5):
                naive = (block[:, i] * block[:, j]).mean() / size
                expected = max(naive, RARE) if i == j else (1 - SHRINKING) * naive
                assert found[i, j] == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("cols", WIDTHS)
def test_products_of_other_inputs_come_nearer(pool, cols):
    random = np.random.default_rng(2)
    weights = (random.normal(size=(64, cols)) * 0.02).astype(np.float32)
    inputs = inputs_of(random, 4000, cols)
    calibration, others = inputs[:3000], inputs[3000:]
    means = seen(calibration)
    alone = np.ascontiguousarray(means * np.eye(means.shape[1], dtype=np.float32))
    by_products, by_squares = (fitted(weights, m, pool) for m in (means, alone))
    plain = fitted(
        weights, np.ascontiguousarray(np.broadcast_to(np.eye(means.shape[1], dtype=np.float32), means.shape)), pool
    )
    errors = [output_error(found, weights, others) for found in (plain, by_squares, by_products)]
    assert errors[1] < 0.97 * errors[0]
    assert errors[2] < 0.9 * errors[1]


def test_without_inputs_it_is_no_worse_than_rounding_at_load_time(pool):
    weights = (np.random.default_rng(3).normal(size=(64, 512)) * 0.02).astype(np.float32)
    found = fitted(weights, Products(512).means(), pool)
    plain = unpack(pack([weights], K4, 256, pool))
    assert np.square(found - weights).mean() <= np.square(plain - weights).mean()


@settings(max_examples=20, deadline=None)
@given(
    cols=st.sampled_from(list(WIDTHS)),
    rows=st.integers(1, 9),
    seed=st.integers(0, 1 << 30),
    scale=st.sampled_from([0.0, 1e-2, 1.0, 1e3]),
)
def test_blocks_are_sound(cols, rows, seed, scale):
    """No error is larger than a step at the ends of a group, and the engine takes the blocks as they are."""
    random = np.random.default_rng(seed)
    weights = (random.normal(size=(8 * rows, cols)) * scale).astype(np.float32)
    with ThreadPoolExecutor(1) as pool:
        blocks = fit(weights, seen(inputs_of(random, 20, cols)), pool)
    kind = KINDS[fitted_kind(cols)]
    found = dequantize(blocks, kind)
    np.testing.assert_array_equal(unpack(repack(blocks, kind)), found)
    assert np.isfinite(found).all()
    assert np.abs(found - weights).max() <= np.abs(weights).max() + 1e-6
    assert np.square(found - weights).mean() <= 0.05 * np.square(weights).mean() + 1e-9


@pytest.mark.parametrize("cols", WIDTHS)
def test_the_same_whatever_the_threads_and_the_rows_beside(pool, cols):
    random = np.random.default_rng(5)
    weights = (random.normal(size=(200, cols)) * 0.02).astype(np.float32)
    means = seen(inputs_of(random, 300, cols))
    whole = fit(weights, means, pool)
    with ThreadPoolExecutor(1) as one:
        np.testing.assert_array_equal(fit(weights, means, one), whole)
        np.testing.assert_array_equal(fit(weights[70:78], means, one), whole[70:78])


@pytest.mark.parametrize("cols", WIDTHS)
@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e9])
def test_what_is_no_weight_is_refused(pool, cols, bad):
    weights = np.zeros((8, cols), np.float32)
    weights[3, 77] = bad
    with pytest.raises(IncompleteCheckpointError, match="infinity, NaN"):
        fit(weights, Products(cols).means(), pool)


@pytest.mark.parametrize("cols", WIDTHS)
@pytest.mark.parametrize("values", [[0.0], [1.5], [-2.0], [0.0, 1.0], [-1.0, 1e-30]])
def test_few_values(pool, cols, values):
    """Where plain rounding is exact, a code may still move by a step to make up for a bias of others, but hardly."""
    weights = np.resize(np.array(values, np.float32), (8, cols))
    inputs = inputs_of(np.random.default_rng(6), 2000, cols)
    means = seen(inputs)
    found = output_error(fitted(weights, means, pool), weights, inputs)
    assert found <= 1e-4 * np.square(inputs @ weights.T).mean()


def test_inputs_that_are_no_numbers_are_refused():
    products = Products(512)
    products.add(np.full((2, 512), np.inf, np.float32))
    with pytest.raises(IncompleteCheckpointError, match="computes infinity or NaN"):
        products.means()
