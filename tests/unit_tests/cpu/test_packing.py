"""Packed weights stand for the weights that went in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_qwen.engine.runners.cpu.library import BF16, INT4, INT8, K4
from langchain_qwen.engine.runners.cpu.packing import Codes, int4_form, pack, pack_codes, packed_bytes, unpack
from langchain_qwen.errors import IncompleteCheckpointError, UnsupportedModelError


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as pool:
        yield pool


def rounding_to_nearest(weights: np.ndarray, group: int) -> np.ndarray:
    """Plain asymmetric 4-bit rounding between minimum and maximum."""
    w = weights.reshape(len(weights), -1, group)
    low, high = w.min(2, keepdims=True), w.max(2, keepdims=True)
    scale = np.maximum(high - low, 1e-12) / 15
    return (np.clip(np.rint((w - low) / scale), 0, 15) * scale + low).reshape(weights.shape)


@pytest.mark.parametrize("group", [32, 64, 128])
def test_int4_fits_better_than_plain_rounding(pool, group):
    weights = torch.randn(1040, 256, generator=torch.Generator().manual_seed(1)) * 0.02
    packed = pack([weights[:1024].numpy(), weights[1024:].numpy()], INT4, group, pool)
    assert len(packed.data) == packed_bytes(INT4, group, 1040, 256)
    ours = np.square(unpack(packed) - weights.numpy()).mean()
    plain = np.square(rounding_to_nearest(weights.numpy(), group) - weights.numpy()).mean()
    assert ours < 0.97 * plain


@pytest.mark.parametrize("super_block", [128, 256])
def test_super_blocks_fit_better_than_plain_groups_of_the_same_size(pool, super_block):
    weights = torch.randn(1040, 512, generator=torch.Generator().manual_seed(1)).numpy() * 0.02
    packed = pack([weights[:1024], weights[1024:]], K4, super_block, pool)
    assert len(packed.data) == packed_bytes(K4, super_block, 1040, 512)
    ours = np.square(unpack(packed) - weights).mean()
    assert ours < 0.85 * np.square(unpack(pack([weights], INT4, 64, pool)) - weights).mean()
    assert ours < 0.9 * np.square(rounding_to_nearest(weights, 32) - weights).mean()


@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e9])
def test_super_blocks_refuse_what_is_no_weight(pool, bad):
    weights = np.zeros((8, 256), np.float32)
    weights[3, 77] = bad
    with pytest.raises(IncompleteCheckpointError, match="infinity, NaN"):
        pack([weights], K4, 256, pool)


def test_int8_error_is_at_most_half_a_step(pool):
    weights = torch.randn(64, 128, generator=torch.Generator().manual_seed(2))
    back = unpack(pack([weights.numpy()], INT8, 64, pool)).reshape(64, 2, 64)
    w = weights.numpy().reshape(64, 2, 64)
    step = np.abs(w).max(2, keepdims=True) / 127
    assert (np.abs(back - w) <= step * 0.51 + np.abs(w) * 2**-11).all()


def test_bf16_is_exact(pool):
    weights = torch.randn(40, 96, generator=torch.Generator().manual_seed(3)).bfloat16()
    np.testing.assert_array_equal(
        unpack(pack([weights.view(torch.uint16).numpy()], BF16, 32, pool)), weights.float().numpy()
    )


def test_float32_is_rounded_to_bf16_as_torch_does(pool):
    weights = torch.randn(8, 64, generator=torch.Generator().manual_seed(4))
    np.testing.assert_array_equal(unpack(pack([weights.numpy()], BF16, 32, pool)), weights.bfloat16().float().numpy())


@pytest.mark.parametrize("values", [[0.0], [1.5], [-2.0], [0.0, 1.0], [-1.0, 1e-30]])
def test_degenerate_groups(pool, values):
    """Constant groups and groups of few values come back (almost) exactly."""
    weights = torch.tensor(values * (64 // len(values))).expand(8, 64)
    np.testing.assert_allclose(unpack(pack([weights.numpy()], INT4, 32, pool)), weights.numpy(), rtol=1e-3, atol=5e-4)
    wide = weights.repeat(1, 4).numpy()
    np.testing.assert_allclose(unpack(pack([wide], K4, 256, pool)), wide, rtol=1e-3, atol=5e-4)


def test_the_widest_super_block_that_the_columns_allow():
    assert [int4_form(cols) for cols in (1536, 896, 4864, 192, 96)] == [
        *[(K4, 256), (K4, 128), (K4, 256)],
        *[(INT4, 64), (INT4, 32)],
    ]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), group=st.sampled_from([32, 64, 128]), format_=st.sampled_from([INT4, INT8]))
def test_given_codes_are_kept_code_for_code(seed, group, format_):
    rng = np.random.default_rng(seed)
    low, high, dtype = (0, 16, np.uint8) if format_ == INT4 else (-128, 128, np.int8)
    codes = rng.integers(low, high, (16, 2 * group)).astype(dtype)
    scale = rng.random((16, 2), dtype=np.float32).astype(np.float16).astype(np.float32)
    scale_zero = rng.random((16, 2), dtype=np.float32).astype(np.float16).astype(np.float32)
    back = unpack(pack_codes(Codes(codes, scale, scale_zero), format_))
    plain = codes.reshape(16, 2, group) * scale[..., None] - scale_zero[..., None]
    np.testing.assert_array_equal(back, plain.reshape(16, 2 * group).astype(np.float32))


@pytest.mark.parametrize(("rows", "cols", "group"), [(12, 64, 64), (16, 96, 64), (16, 64, 16)])
def test_shapes_that_do_not_divide_are_refused(pool, rows, cols, group):
    with pytest.raises(UnsupportedModelError, match="group"):
        pack([np.zeros((rows, cols), np.float32)], INT4, group, pool)
