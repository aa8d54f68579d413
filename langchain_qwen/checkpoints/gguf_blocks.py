"""The quantised blocks of GGUF files: what their bytes stand for.

The layouts are those of ggml-quants.c of llama.cpp; the arithmetic is too, operation by operation in 32 bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints.gguf_file import Kind
from langchain_qwen.errors import UnsupportedModelError

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

# The values of IQ4_NL's sixteen codes.
IQ4_NL = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)


def dequantize(blocks: Bytes, kind: Kind) -> Floats:
    """The numbers that rows of blocks stand for.

    Args:
        blocks: [rows, bytes of a row].
        kind: Their type.

    Returns:
        float32 [rows, columns].

    Raises:
        UnsupportedModelError: It is a type that is not read.
    """
    if kind.name not in READERS:
        raise unsupported(kind)
    rows = len(blocks)
    return READERS[kind.name](np.ascontiguousarray(blocks).reshape(-1, kind.nbytes)).reshape(rows, -1)


def scales_are_finite(blocks: Bytes, kind: Kind) -> bool:
    """Whether all numbers of rows of blocks are finite: if the scales are, for codes are small integers."""
    if kind.numbers == 1:
        return bool(np.isfinite(dequantize(blocks, kind)).all())
    each = blocks.reshape(-1, kind.nbytes)
    return all(
        bool((_bits(each[:, place : place + 2]) & 0x7C00 != 0x7C00).all()) for place in SCALES.get(kind.name, (0,))
    )


def unsupported(kind: Kind) -> UnsupportedModelError:
    """The error for a type that is not read."""
    return UnsupportedModelError(
        f"it holds weights in {kind.name}, and {', '.join(READERS)} are read; take a file in Q4_K_M, Q5_K_M, Q6_K or "
        "Q8_0"
    )


def _bits(pairs: Bytes) -> NDArray[np.uint16]:
    return np.ascontiguousarray(pairs).view("<u2")


def _half(blocks: Bytes, place: int) -> Floats:
    """The fp16 number at a place of each block: [blocks, 1]."""
    return np.ascontiguousarray(blocks[:, place : place + 2]).view("<f2").astype(np.float32)


def _nibbles(data: Bytes) -> Bytes:
    """First the low halves of all bytes, then the high ones: [blocks, n] to [blocks, 2n]."""
    return np.concatenate([data & 15, data >> 4], axis=1)


def _fifth_bits(data: Bytes) -> Bytes:
    """32 bits of a block, lowest first, as 16 or 0."""
    return np.unpackbits(data, axis=1, bitorder="little") << np.uint8(4)


def _float(layout: str) -> Callable[[Bytes], Floats]:
    return lambda blocks: blocks.view(layout).astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _q4_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]).view(np.int8) - np.int8(8)).astype(np.float32)


def _q4_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]).astype(np.float32) + _half(blocks, 2)


def _q5_0(blocks: Bytes) -> Floats:
    codes = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])
    return _half(blocks, 0) * (codes.view(np.int8) - np.int8(16)).astype(np.float32)


def _q5_1(blocks: Bytes) -> Floats:
    codes = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return _half(blocks, 0) * codes.astype(np.float32) + _half(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * np.ascontiguousarray(blocks[:, 2:]).view(np.int8).astype(np.float32)


def _iq4_nl(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * IQ4_NL[_nibbles(blocks[:, 2:])].astype(np.float32)


def _six_bits(data: Bytes) -> tuple[Bytes, Bytes]:
    """Scales and minima of the eight groups of a super-block, from their 12 bytes."""
    low, middle, high = data[:, 0:4], data[:, 4:8], data[:, 8:12]
    scales = np.concatenate([low & 63, (high & 15) | (low >> 6 << 4)], axis=1)
    minima = np.concatenate([middle & 63, (high >> 4) | (middle >> 6 << 4)], axis=1)
    return scales, minima


def _with_minima(blocks: Bytes, codes: Bytes) -> Floats:
    """What codes stand for: scale * code - minimum, in groups of 32; codes [blocks, 8, 32]."""
    scales, minima = _six_bits(blocks[:, 4:16])
    scale = (_half(blocks, 0) * scales.astype(np.float32))[:, :, None]
    minimum = (_half(blocks, 2) * minima.astype(np.float32))[:, :, None]
    return scale * codes.astype(np.float32) - minimum


def _q4_k(blocks: Bytes) -> Floats:
    halves = blocks[:, 16:].reshape(-1, 4, 1, 32)  # each byte holds a code of one group, and one of the next
    codes = np.concatenate([halves & 15, halves >> 4], axis=2)
    return _with_minima(blocks, codes.reshape(-1, 8, 32))


def _q5_k(blocks: Bytes) -> Floats:
    halves = blocks[:, 48:].reshape(-1, 4, 1, 32)
    codes = np.concatenate([halves & 15, halves >> 4], axis=2).reshape(-1, 8, 32)
    fifth = (blocks[:, 16:48].reshape(-1, 1, 32) >> np.arange(8, dtype=np.uint8)[:, None]) & 1
    return _with_minima(blocks, codes | fifth << 4)


def _q6_k(blocks: Bytes) -> Floats:
    low = blocks[:, :128].reshape(-1, 2, 1, 64)
    low = np.concatenate([low & 15, low >> 4], axis=2).reshape(-1, 2, 4, 32)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    codes = (low | high << 4).reshape(-1, 16, 16).view(np.int8) - np.int8(32)
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.float32)
    return (_half(blocks, 208) * scales)[:, :, None] * codes.astype(np.float32)


READERS: dict[str, Callable[[Bytes], Floats]] = {
    "F32": _float("<f4"),
    "F16": _float("<f2"),
    "BF16": _bf16,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "IQ4_NL": _iq4_nl,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
# Where the fp16 scales of a block are, if not at its beginning alone.
SCALES = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
