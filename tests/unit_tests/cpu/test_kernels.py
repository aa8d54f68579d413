"""Every table of kernels computes the same, and one can be chosen by name."""

from __future__ import annotations

from ctypes import POINTER, c_bool, c_float, cast
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.kernel_tables import Activations, Attended, Kernels, Queries, kernels
from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu.kernels import VARIABLE, choose, tables
from langchain_qwen.errors import ConfigurationError


def test_the_best_is_first_and_the_portable_one_always_there(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    names = [table.name for table in tables()]
    assert len(set(names)) == len(names)
    assert names[-1] == "portable"
    assert tables()[-1].runs
    assert choose() == next(table.name for table in tables() if table.runs and table.proven)


def test_one_is_chosen_by_name(monkeypatch):
    monkeypatch.setenv(VARIABLE, "portable")
    assert choose() == "portable"
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(ConfigurationError, match=r"LANGCHAIN_QWEN_KERNELS=fast: there are no .*'fast'.* portable"):
        choose()
    assert choose("portable") == "portable"


FAST = [table.name for table in tables() if table.name != "portable"]
RUNS = {table.name for table in tables() if table.runs}
NAMES = ["amx", "avx512", "vnni", "avx2", "i8mm", "neon"]


@pytest.fixture(params=NAMES)
def fast(request):
    if request.param not in FAST:
        pytest.skip(f"{request.param} kernels are not in this build")
    if request.param not in RUNS:
        pytest.skip(f"this machine cannot run {request.param} kernels")
    return kernels(request.param)


def test_a_table_that_computes_something_else_is_found_out():
    portable = kernels("portable")
    agree = library.load().lq_agree
    agree.restype, agree.argtypes = c_bool, [POINTER(Kernels), POINTER(Kernels)]
    assert all(agree(kernels(name), portable) for name in RUNS)
    for form in (library.INT4, library.INT8, library.K4, library.K5, library.K6):

        def multiply(matrix, acts, tokens, first, last, out, wrong=form):
            portable.multiply(matrix, acts, tokens, first, last, out)
            if matrix.contents.format == wrong:
                cast(out, POINTER(c_float))[5] += 1

        other = Kernels.from_buffer_copy(portable)
        other.multiply = type(portable.multiply)(multiply)
        assert not agree(other, portable)


def product(table: Kernels, matrix: library.Matrix, x: np.ndarray, panels: list[int]) -> np.ndarray:
    """All panels' products, in the runs that begin at `panels`."""
    acts = Activations(table, matrix, x)
    tokens = len(x)
    out = np.full((tokens, matrix.rows), np.nan, np.float32)
    for first, last in pairwise([0, *panels, matrix.rows // 8]):
        table.multiply(matrix, acts.struct, tokens, first, last, out.ctypes.data)
    return out


numbers = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=numbers,
    layout=st.sampled_from([(library.BF16, 32), (library.INT4, 32), (library.INT4, 64), (library.INT4, 96)])
    | st.tuples(st.just(library.INT8), st.sampled_from([32, 64, 128])),
    panels=st.integers(1, 9),
    groups=st.integers(1, 5),
    tokens=st.integers(1, 50),
    cuts=st.sets(st.integers(1, 8)),
    biased=st.booleans(),
)
def test_products_have_the_bits_of_portable_c(fast, seed, layout, panels, groups, tokens, cuts, biased):
    random, (form, group) = np.random.default_rng(seed), layout
    rows, cols = panels * 8, groups * group
    if form == library.BF16:
        data = (
            (random.normal(size=rows * cols).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        )
    else:
        codes = random.integers(0, 256, (panels, groups, group * (4 if form == library.INT4 else 8)), np.uint8)
        scales = random.normal(size=(panels, groups, 16)).astype(np.float16).view(np.uint8)
        data = np.concatenate([codes, scales], 2).reshape(-1)
    data, bias = data.copy(), random.normal(size=rows).astype(np.float32)
    matrix = library.Matrix(
        form, group, rows, cols, rows, data.nbytes, data.ctypes.data, bias.ctypes.data if biased else None, None
    )
    x = (random.normal(size=(tokens, cols)) * random.choice([0, 1e-3, 1, 1e3], (tokens, 1))).astype(np.float32)
    expected = product(kernels("portable"), matrix, x, [])
    actual = product(fast, matrix, x, sorted(cut for cut in cuts if cut < panels))
    np.testing.assert_array_equal(actual.view(np.uint32), expected.view(np.uint32))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=numbers, sixteens=st.integers(1, 20), spread=st.sampled_from([1e-6, 1.0, 50.0]))
def test_vectors_have_the_bits_of_portable_c(fast, seed, sixteens, spread):
    random, n = np.random.default_rng(seed), sixteens * 16
    x, y = ((random.normal(size=n) * spread).astype(np.float32) for _ in range(2))

    def results(table):
        norm, silu, total, halves = np.empty(n, np.float32), np.empty(n, np.float32), x.copy(), np.empty(n, np.uint16)
        table.rms_norm(x.ctypes.data, y.ctypes.data, 1e-6, n, norm.ctypes.data)
        table.silu_multiply(x.ctypes.data, y.ctypes.data, n, silu.ctypes.data)
        table.add(total.ctypes.data, y.ctypes.data, n)
        table.to_half(x.ctypes.data, n, halves.ctypes.data)
        return np.concatenate([a.view(np.uint8) for a in (norm, silu, total, halves)])

    np.testing.assert_array_equal(results(fast), results(kernels("portable")))
    expected = x / (1 + np.exp(-x.astype(np.float64))) * y
    silu = np.empty(n, np.float32)
    fast.silu_multiply(x.ctypes.data, y.ctypes.data, n, silu.ctypes.data)
    np.testing.assert_allclose(silu, expected, rtol=2e-6, atol=1e-30)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=numbers,
    tokens=st.integers(1, 9),
    heads=st.integers(1, 14),
    head_dim=st.sampled_from([16, 32, 48, 64, 128]),
    position=st.integers(0, 600),
)
def test_attention_has_the_bits_of_portable_c(fast, seed, tokens, heads, head_dim, position):
    random, segment_length, block = np.random.default_rng(seed), 256, 16
    stored = position + tokens
    num_blocks = -(-stored // block)
    blocks = random.permutation(num_blocks).astype(np.int32)
    keys = np.full((num_blocks, head_dim, block), np.nan, np.float16)
    values = np.full((num_blocks, block, head_dim), np.nan, np.float16)  # what nobody wrote must not count
    k, v = (random.normal(size=(stored, head_dim)).astype(np.float16) for _ in range(2))
    for t in range(stored):
        keys[blocks[t // block], :, t % block] = k[t]
        values[blocks[t // block], t % block] = v[t]
    query = (random.normal(size=(tokens, heads, head_dim)) / head_dim**0.5).astype(np.float32)
    scratch = np.empty(12 * (head_dim + segment_length), np.float32)

    def results(table, segment):
        numbers, sums = np.zeros((2, tokens, heads), np.float32), np.zeros((tokens, heads, head_dim), np.float32)
        queries = Queries(
            query.ctypes.data,
            heads * head_dim,
            tokens,
            heads,
            head_dim,
            position,
            keys.ctypes.data,
            values.ctypes.data,
            head_dim * block,
            blocks.ctypes.data,
        )
        out = Attended(numbers[0].ctypes.data, numbers[1].ctypes.data, sums.ctypes.data)
        table.attend(queries, segment, scratch.ctypes.data, out)
        return numbers, sums

    for segment in range((stored - 1) // segment_length + 1):
        actual, expected = results(fast, segment), results(kernels("portable"), segment)
        for m in range(tokens):
            start, end = segment * segment_length, min(position + m + 1, (segment + 1) * segment_length)
            if start >= end:
                continue  # nothing of this segment is before this token
            (largest, total), sums = actual[0][:, m], actual[1][m]
            np.testing.assert_array_equal(largest, expected[0][0, m])
            np.testing.assert_array_equal(total, expected[0][1, m])
            np.testing.assert_array_equal(sums, expected[1][m])
            scores = query[m].astype(np.float64) @ k[start:end].T.astype(np.float64)
            weights = np.exp(scores - scores.max(1, keepdims=True))
            naive = weights @ v[start:end] / weights.sum(1, keepdims=True)
            np.testing.assert_allclose(sums / total[:, None], naive, rtol=1e-4, atol=2e-5)
