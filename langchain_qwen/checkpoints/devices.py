"""Which device, and which precision suits it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_qwen.checkpoints.memory import BITS
from langchain_qwen.errors import InvalidParameterError, MissingDependencyError

if TYPE_CHECKING:
    import torch

FLOATS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # as torch names them
PRECISIONS = ("auto", *BITS)
# NVIDIA's driver, its Jetson boards, Windows' subsystem for Linux, and AMD's driver.
_DEVICE_FILES = ("nvidia*", "nvhost*", "nvmap", "dxg", "kfd")
DEVICES = "auto, cpu, cuda, cuda:N and mps"


def choose_device(device: str) -> str:
    """Turn "auto" into the first accelerator there is, else "cpu", and check any other name.

    Raises:
        InvalidParameterError: No such device exists here.
        MissingDependencyError: An accelerator was asked for by its name, and torch is not installed.
    """
    if device == "cpu" or (device == "auto" and not _may_have_accelerator()):
        return "cpu"
    if device == "auto":
        return _first_accelerator()
    kind, _, index = device.partition(":")
    if kind not in ("cuda", "mps") or (":" in device and not (kind == "cuda" and index.isdecimal())):
        raise InvalidParameterError(f"device={device!r} is not known; choose one of {DEVICES}")
    require_torch(f"device={device!r}")
    import torch

    count = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= count:
        raise InvalidParameterError(
            f"device={device!r} does not exist here: torch {torch.__version__} sees {count} {kind} device(s). "
            "Use device='auto', or install a torch build for your hardware"
        )
    return device


def choose_precision(precision: str, device: str) -> str:
    """Turn "auto" into the precision that suits a device (one that `choose_device` gave), and check any other name.

    Raises:
        InvalidParameterError: No such precision.
    """
    if precision not in PRECISIONS:
        raise InvalidParameterError(f"precision={precision!r} is not known; choose one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        import torch

        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device == "mps":
        return "fp16"
    # Where a CPU has no instructions for bf16, torch reads a prompt five times slower in it than in fp32.
    return "bf16" if _cpu_multiplies_bf16() else "fp32"


def require_torch(what: str) -> None:
    """Raise `MissingDependencyError` where torch or transformers is not installed; `what` is what needs them."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{what} runs through torch and transformers, and {error.name} is not installed: "
            "pip install torch transformers. int4, int8 and bf16 on a CPU need neither"
        ) from error


def dtype_of(precision: str) -> torch.dtype:
    """The type of numbers of a precision in floating point."""
    import torch

    dtype: torch.dtype = getattr(torch, FLOATS[precision])
    return dtype


def _first_accelerator() -> str:
    try:
        import torch
    except ModuleNotFoundError:  # without it nothing could use an accelerator
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _may_have_accelerator() -> bool:
    """Whether it is worth importing torch to ask it, which takes a second and 200 MB."""
    if "torch" in sys.modules or not sys.platform.startswith("linux"):
        return True
    return any(any(Path("/dev").glob(name)) for name in _DEVICE_FILES)


def _cpu_multiplies_bf16() -> bool:
    import torch

    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch cannot tell
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
