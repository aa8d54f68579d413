"""Weights into torch: any device and precision that transformers supports."""

from __future__ import annotations

from typing import Any

import psutil
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from langchain_qwen.checkpoints.folder import Checkpoint
from langchain_qwen.errors import InvalidParameterError, MissingDependencyError, OutOfMemoryError, PrecisionError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("auto", *DTYPES, "int8", "int4")


def choose_device(device: str) -> str:
    """ "auto" is the first accelerator there is, else the CPU; anything else is checked.

    Raises:
        InvalidParameterError: No such device here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise InvalidParameterError(f"device={device!r} is no device; use auto, cpu, cuda, cuda:N or mps") from error
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, False):
        raise InvalidParameterError(f"device={device!r} is not to be had here; use device='auto' or 'cpu'")
    return device


def choose_precision(precision: str, device: str) -> str:
    """What "auto" stands for when torch runs the model.

    On a CPU it is fp32: torch's bf16 products are several times slower there unless the CPU has special instructions.
    """
    if precision not in PRECISIONS:
        raise InvalidParameterError(f"precision={precision!r} is none of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "fp16" if device.startswith("mps") else "fp32"


def load_model(
    checkpoint: Checkpoint, *, precision: str, device: str, attn_implementation: str
) -> tuple[PreTrainedModel, str]:
    """Load a checkpoint with transformers.

    Args:
        checkpoint: What to load.
        precision: One of `PRECISIONS`; int8 and int4 (nf4) need bitsandbytes.
        device: A torch device.
        attn_implementation: Name of a registered attention function.

    Returns:
        The model, ready for inference, and the precision that it is held in.

    Raises:
        OutOfMemoryError: The weights do not fit.
        PrecisionError, MissingDependencyError: The precision cannot be had.
    """
    precision = choose_precision(precision, device)
    options: dict[str, Any] = {"device_map": {"": device}} if device != "cpu" else {}
    if "quantization_config" in checkpoint.config:
        method = checkpoint.config["quantization_config"].get("quant_method")
        if method in ("gptq", "awq"):
            _require("gptqmodel", "gptq", f"a {method.upper()} checkpoint")
        options["dtype"] = torch.bfloat16  # the kernels for fp16 are scalar on CPUs
        precision = f"{method}"
    elif precision in ("int8", "int4"):
        options["quantization_config"] = _bitsandbytes(precision)
        options["dtype"] = torch.bfloat16
    else:
        options["dtype"] = DTYPES[precision]
        _check_memory(checkpoint, precision, device)
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            checkpoint.path,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation=attn_implementation,
            **options,
        )
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemoryError(
            f"the weights of {checkpoint.name} do not fit on {device} in {precision}; use a lower precision or a "
            "smaller model"
        ) from error
    except (ValueError, NotImplementedError, RuntimeError) as error:
        if precision in DTYPES:
            raise
        raise PrecisionError(f"{checkpoint.name} cannot be held in {precision} on {device}: {error}") from error
    return model.eval().requires_grad_(False), precision


def _check_memory(checkpoint: Checkpoint, precision: str, device: str) -> None:
    """Refuse before the system starts to swap or kills the process."""
    if device != "cpu":
        return
    stored = DTYPES.get({"bfloat16": "bf16", "float16": "fp16"}.get(_stored_dtype(checkpoint), "fp32"), torch.float32)
    needed = checkpoint.weight_bytes * DTYPES[precision].itemsize // stored.itemsize
    available = psutil.virtual_memory().available
    if needed > available:
        raise OutOfMemoryError(
            f"{checkpoint.name} in {precision} needs {needed / 2**30:.1f} GiB and {available / 2**30:.1f} GiB are free; "
            "use a lower precision (int4 needs about a sixth of fp32) or a smaller model"
        )


def _stored_dtype(checkpoint: Checkpoint) -> str:
    return str(checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype"))


def _bitsandbytes(precision: str) -> Any:
    from transformers import BitsAndBytesConfig

    _require("bitsandbytes", "bnb", f"precision={precision!r} through torch")
    if precision == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)


def _require(module: str, extra: str, what: str) -> None:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise MissingDependencyError(f'{what} needs {module}: pip install "langchain-qwen[{extra}]"')
