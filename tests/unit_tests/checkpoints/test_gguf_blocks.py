from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_qwen.checkpoints.gguf_blocks import READERS, SCALES, dequantize, scales_are_finite
from langchain_qwen.checkpoints.gguf_file import KINDS, Kind
from langchain_qwen.errors import UnsupportedModelError

BY_NAME = {kind.name: kind for kind in KINDS.values()}


def random_blocks(kind: Kind, rows: int, blocks: int, seed: int) -> np.ndarray:
    """Any bytes, but scales that are finite numbers."""
    random = np.random.default_rng(seed)
    data = random.integers(0, 256, (rows * blocks, kind.nbytes), np.uint8)
    if kind.numbers == 1:
        return random.normal(size=(rows, blocks * kind.nbytes // 4)).astype(np.float32).view(np.uint8)
    for place in SCALES.get(kind.name, (0,)):
        scale = random.normal(size=(len(data), 1)).astype(np.float16)
        data[:, place : place + 2] = scale.view(np.uint8)
    return data.reshape(rows, -1)


def test_the_table_of_types_is_that_of_llama_cpp() -> None:
    theirs = {int(kind): (kind.name, *GGML_QUANT_SIZES[kind]) for kind in GGML_QUANT_SIZES}
    known = KINDS.keys() & theirs.keys()
    assert KINDS.keys() - known <= {39, 40}  # MXFP4 and NVFP4, which the oldest gguf lacks
    assert {number: tuple(KINDS[number]) for number in known} == {number: theirs[number] for number in known}


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 4), blocks=st.integers(1, 3), seed=st.integers(0, 1 << 30))
def test_blocks_are_read_as_llama_cpp_reads_them(name: str, rows: int, blocks: int, seed: int) -> None:
    kind = BY_NAME[name]
    data = random_blocks(kind, rows, blocks * 4, seed)
    if name in ("F16", "BF16"):
        data = data.copy()
        data.view(np.uint16)[:] &= 0xBFFF  # no infinities
    got = dequantize(data, kind)
    expected = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name])
    np.testing.assert_array_equal(got, np.asarray(expected, np.float32).reshape(got.shape))
    assert scales_are_finite(data, kind)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("poison", [np.inf, -np.inf, np.nan])
def test_scales_that_are_no_numbers_are_seen(name: str, poison: float) -> None:
    kind = BY_NAME[name]
    for place in SCALES.get(name, (0,)):
        data = random_blocks(kind, 2, 4, 0).copy()
        if name == "BF16":
            bits = np.array([poison], np.float32).view(np.uint16)[1:]
        else:
            bits = np.array([poison], np.float32 if name == "F32" else np.float16)
        data[1, place : place + bits.nbytes] = bits.view(np.uint8)
        assert not scales_are_finite(data, kind)


def test_other_types_are_refused_by_name() -> None:
    for name in BY_NAME.keys() - READERS.keys():
        with pytest.raises(UnsupportedModelError, match=f"weights in {name}, and F32"):
            dequantize(np.zeros((1, BY_NAME[name].nbytes), np.uint8), BY_NAME[name])
