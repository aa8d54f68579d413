"""The native library: its structs and functions, loaded through ctypes."""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, Structure, c_char_p, c_float, c_int, c_int32, c_void_p
from pathlib import Path

from langchain_qwen.errors import EngineError

BF16, INT4, INT8 = 0, 1, 2  # enum lq_format


class Matrix(Structure):
    """`lq_matrix`."""

    _fields_ = (
        ("format", c_int32),
        ("group", c_int32),
        ("rows", c_int32),
        ("cols", c_int32),
        ("data", c_void_p),
        ("bias", c_void_p),
        ("order", c_void_p),
    )


class Layer(Structure):
    """`lq_layer`."""

    _fields_ = (
        ("qkv", Matrix),
        ("out", Matrix),
        ("gate_up", Matrix),
        ("down", Matrix),
        ("attention_norm", c_void_p),
        ("ffn_norm", c_void_p),
    )


class Model(Structure):
    """`lq_model`."""

    _fields_ = (
        ("num_layers", c_int32),
        ("hidden", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_dim", c_int32),
        ("ffn", c_int32),
        ("vocab", c_int32),
        ("norm_eps", c_float),
        ("layers", POINTER(Layer)),
        ("final_norm", c_void_p),
        ("head", Matrix),
    )


class KV(Structure):
    """`lq_kv`."""

    _fields_ = (("num_blocks", c_int32), ("keys", c_void_p), ("values", c_void_p))


class Step(Structure):
    """`lq_step`."""

    _fields_ = (
        ("tokens", c_int32),
        ("position", c_void_p),
        ("table", c_void_p),
        ("blocks", c_void_p),
        ("cosine", c_void_p),
        ("sine", c_void_p),
        ("hidden", c_void_p),
        ("wanted", c_int32),
        ("wanted_token", c_void_p),
        ("logits", c_void_p),
        ("num_panels", c_int32),
        ("panels", c_void_p),
    )


PATH = Path(__file__).parent / "liblangchain_qwen.so"


def available() -> bool:
    """Whether the package's build made the library: it needs a C compiler and a POSIX system."""
    return PATH.exists()


@functools.cache
def load() -> ctypes.CDLL:
    """Load the library.

    Raises:
        EngineError: It was built from other sources than these.
    """
    library = ctypes.CDLL(str(PATH))
    try:
        library.lq_struct_bytes.restype = ctypes.c_size_t
        fits = library.lq_struct_bytes() == sum(map(ctypes.sizeof, (Model, Layer, KV, Step)))
    except AttributeError:
        fits = False
    if not fits:
        raise EngineError(f"{PATH} was built from another version of langchain-qwen; install the package again")
    library.lq_runner_new.restype = c_void_p
    library.lq_runner_new.argtypes = [POINTER(Model), POINTER(KV), c_int, c_int, c_int, c_int]
    library.lq_runner_free.restype = None
    library.lq_runner_free.argtypes = [c_void_p]
    for run in (library.lq_runner_step, library.lq_runner_products):
        run.restype = None
        run.argtypes = [c_void_p, POINTER(Step)]
    for pack in (library.lq_pack_int4, library.lq_pack_int8, library.lq_pack_bf16):
        pack.restype = None
        pack.argtypes = [c_void_p, c_int, c_int, c_int, c_void_p]
    library.lq_best_kernels.restype = c_char_p
    library.lq_best_kernels.argtypes = []
    return library
