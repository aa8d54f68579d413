"""The native library: its structs and functions, loaded through ctypes."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Iterator
from ctypes import POINTER, Structure, c_char, c_char_p, c_float, c_int, c_int32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from langchain_qwen.errors import EngineError

BF16, INT4, INT8, K4, K5, K6 = range(6)  # enum lq_format
QKV_PARTS, GATE_UP_PARTS = 3, 2
PACKED, NOT_FINITE, NO_SUCH_SHAPE = 0, 1, 2  # what the packers return


class Matrix(Structure):
    """`lq_matrix`."""

    _fields_ = (
        ("format", c_int32),
        ("group", c_int32),
        ("rows", c_int32),
        ("cols", c_int32),
        ("stride", c_int32),
        ("bytes", c_uint64),
        ("data", c_void_p),
        ("bias", c_void_p),
        ("order", c_void_p),
    )


class Layer(Structure):
    """`lq_layer`."""

    _fields_ = (
        ("qkv", Matrix * QKV_PARTS),
        ("out", Matrix),
        ("gate_up", Matrix * GATE_UP_PARTS),
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

    _fields_ = (("num_blocks", c_int32), ("bytes", c_uint64), ("keys", c_void_p), ("values", c_void_p))


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
        ("inputs", c_void_p),
    )


MIRRORS: dict[str, type[Structure]] = {
    "lq_matrix": Matrix,
    "lq_layer": Layer,
    "lq_model": Model,
    "lq_kv": KV,
    "lq_step": Step,
}


class _Field(Structure):
    """`lq_field` of layout.c."""

    _fields_ = (
        ("type", c_char_p),
        ("field", c_char_p),
        ("offset", c_uint64),
        ("size", c_uint64),
        ("kind", c_char),
    )


SUFFIXES = {"win32": ".dll", "darwin": ".dylib"}
PATH = Path(__file__).with_name("liblangchain_qwen" + SUFFIXES.get(sys.platform, ".so"))


def available() -> bool:
    """Whether the library is there: wheels bring it, and elsewhere the package's build makes it with a C compiler."""
    return PATH.exists()


@functools.cache
def load() -> ctypes.CDLL:
    """Load the library.

    Raises:
        EngineError: It was built from other sources than these.
    """
    try:
        library = ctypes.CDLL(str(PATH))
        theirs = set(_described(library))
    except (OSError, AttributeError) as error:
        raise _other_version(str(error)) from error
    if different := theirs ^ set(_mirrored()):
        type_, field, *_ = min(different)
        raise _other_version(f"{type_}.{field}" if field else f"the size of {type_}")
    library.lq_runner_new.restype = c_void_p
    library.lq_runner_new.argtypes = [POINTER(Model), POINTER(KV), c_int, c_int, c_int, c_char_p, POINTER(c_char_p)]
    library.lq_runner_free.restype = None
    library.lq_runner_free.argtypes = [c_void_p]
    for run in (library.lq_runner_step, library.lq_runner_products):
        run.restype = None
        run.argtypes = [c_void_p, POINTER(Step)]
    for pack in (library.lq_pack_int4, library.lq_pack_int8, library.lq_pack_bf16, library.lq_pack_k4):
        pack.restype = c_int
        pack.argtypes = [c_void_p, c_int, c_int, c_int, c_void_p]
    library.lq_quantise_gguf.restype = c_int
    library.lq_quantise_gguf.argtypes = [c_void_p, c_void_p, c_int, c_int, c_int, c_void_p]
    library.lq_repack_gguf.restype = c_int
    library.lq_repack_gguf.argtypes = [c_void_p, c_int, c_int, c_int, c_void_p]
    library.lq_kernels_list.restype = c_char_p
    library.lq_checksum.restype = c_uint64
    library.lq_checksum.argtypes = [c_void_p, c_uint64]
    library.lq_kernels_list.argtypes = [c_int, POINTER(c_int), POINTER(c_int)]
    return library


def _other_version(what: str) -> EngineError:
    return EngineError(f"{PATH} is not of this version of langchain-qwen ({what}); install the package again")


# One field: its struct, its name (empty for the struct itself), offset and size in bytes, and kind as in layout.c.
_Place = tuple[str, str, int, int, str]


def _described(library: ctypes.CDLL) -> Iterator[_Place]:
    """The fields as the library was compiled."""
    library.lq_layout.restype = POINTER(_Field)
    library.lq_layout.argtypes = [POINTER(c_int32)]
    count = c_int32()
    fields = library.lq_layout(ctypes.byref(count))
    for f in fields[: count.value]:
        yield f.type.decode(), f.field.decode(), f.offset, f.size, f.kind.decode()


def _mirrored() -> Iterator[_Place]:
    """The fields as this module has them."""
    for name, mirror in MIRRORS.items():
        yield name, "", 0, ctypes.sizeof(mirror), "s"
        for field, type_ in mirror._fields_:  # type: ignore[misc]  # these have no widths in bits
            place = getattr(mirror, field)
            yield name, field, place.offset, place.size, _kind(type_)


def _kind(type_: Any) -> str:
    if hasattr(type_, "_length_"):  # an array
        type_ = type_._type_
    return {c_int32: "i", c_uint64: "u", c_float: "f", Matrix: "m"}.get(type_, "p")
