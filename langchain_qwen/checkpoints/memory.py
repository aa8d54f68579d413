"""Whether weights fit, said in numbers."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from langchain_qwen.checkpoints.folder import Checkpoint
from langchain_qwen.errors import OutOfMemoryError

BITS = {"fp32": 32, "bf16": 16, "fp16": 16, "int8": 8, "int4": 4}
# Starting a thread takes memory too; it is refused for that, or for a limit on processes.
ALLOCATION_FAILED = ("can't allocate memory", "not enough memory", "out of memory", "can't start new thread")


def _needed_bytes(checkpoint: Checkpoint, held: str) -> int:
    if checkpoint.gguf or "quantization_config" in checkpoint.config:
        return checkpoint.parameter_bytes
    return checkpoint.parameters * BITS[held] // 8


def check_memory(checkpoint: Checkpoint, held: str) -> None:
    """Refuse before loading what would drive the machine into swapping or the process into being killed."""
    needed, free = _needed_bytes(checkpoint, held), psutil.virtual_memory().available
    if needed > free:
        raise OutOfMemoryError(
            f"{checkpoint.name} in {held} needs {_gigabytes(needed)} of memory and {_gigabytes(free)} is free. "
            f"{_less_memory(checkpoint, held)}"
        )


@contextmanager
def memory_errors(checkpoint: Checkpoint, held: str, device: str) -> Iterator[None]:
    """Turn the many ways of running out of memory into one error with sizes and what to do."""
    try:
        yield
    except OutOfMemoryError:
        raise
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"{checkpoint.name} in {held} needs {_gigabytes(_needed_bytes(checkpoint, held))}, more than {device} has "
            f"free. {_less_memory(checkpoint, held)}"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Torch raises kinds of RuntimeError, which can be told by their text on every device, and mmap an OSError."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in ALLOCATION_FAILED)
    )


def _less_memory(checkpoint: Checkpoint, held: str) -> str:
    lower = [p for p in ("bf16", "int8", "int4") if BITS[p] < BITS.get(held, 0)]
    if not lower or checkpoint.gguf or "quantization_config" in checkpoint.config:
        return "Close other programs or take a smaller model (coder-0.5b)"
    sizes = ", ".join(f"{p}: {_gigabytes(_needed_bytes(checkpoint, p))}" for p in lower)
    return f"Close other programs, choose a precision that takes less ({sizes}), or a smaller model (coder-0.5b)"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
