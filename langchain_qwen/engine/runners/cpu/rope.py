"""The frequencies of rotary position embeddings, number by number as transformers computes them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints.rope import Rope, Yarn


def frequencies(rope: Rope, head_dim: int) -> tuple[NDArray[np.float32], float]:
    """Radians per position of each pair of dimensions, and what cosine and sine are multiplied by."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    wavelengths = np.power(np.float32(rope.theta), exponents)
    plain = (1.0 / wavelengths).astype(np.float32)
    if rope.yarn is None:
        return plain, 1.0
    stretched = (1.0 / (np.float32(rope.yarn.factor) * wavelengths)).astype(np.float32)
    kept = np.float32(1) - _ramp(rope.yarn, rope.theta, head_dim)
    return stretched * (1 - kept) + plain * kept, rope.yarn.attention_factor


def _ramp(yarn: Yarn, theta: float, head_dim: int) -> NDArray[np.float32]:
    """0 for the dimensions that rotate often and stay as they are, 1 for those that are stretched."""

    def dimension(rotations: float) -> float:
        """The one that rotates so often within the original window."""
        return head_dim * math.log(yarn.original_window / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension(yarn.beta_fast), dimension(yarn.beta_slow)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    if low == high:
        high += 0.001
    dimensions = np.arange(head_dim // 2, dtype=np.float32)
    ramp: NDArray[np.float32] = np.clip((dimensions - np.float32(low)) / np.float32(high - low), 0, 1)
    return ramp
