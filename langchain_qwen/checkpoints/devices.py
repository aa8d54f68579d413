"""Which device, and which precision suits it."""

from __future__ import annotations

from typing import Any

import torch

from langchain_qwen.checkpoints.memory import BITS
from langchain_qwen.errors import InvalidParameterError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("auto", *BITS)
DEVICES = "auto, cpu, cuda, cuda:N and mps"


def choose_device(device: str) -> str:
    """Turn "auto" into the first accelerator there is, else "cpu", and check any other name.

    Raises:
        InvalidParameterError: No such device exists here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in device and not (kind == "cuda" and index.isdecimal())):
        raise InvalidParameterError(f"device={device!r} is not known; choose one of {DEVICES}")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
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
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device == "mps":
        return "fp16"
    # Where a CPU has no instructions for bf16, torch reads a prompt five times slower in it than in fp32.
    return "bf16" if _cpu_multiplies_bf16() else "fp32"


def _cpu_multiplies_bf16() -> bool:
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch cannot tell
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
