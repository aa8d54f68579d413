"""Weights into memory through transformers: which device, which precision, and whether they fit."""

# mypy: allow-untyped-calls
# (transformers leaves some of its functions without types)

from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from transformers.utils import logging as transformers_logging

from langchain_qwen.checkpoints.devices import FLOATS, choose_device, choose_precision, dtype_of
from langchain_qwen.checkpoints.folder import Checkpoint
from langchain_qwen.checkpoints.memory import check_memory, is_out_of_memory, memory_errors
from langchain_qwen.checkpoints.quantisation import own_precision
from langchain_qwen.errors import (
    IncompleteCheckpointError,
    InvalidParameterError,
    MissingDependencyError,
    PrecisionError,
)


def load_model(
    checkpoint: Checkpoint,
    *,
    precision: str,
    device: str,
    attn_implementation: str,
    quantization_config: Mapping[str, Any] | None = None,
) -> tuple[transformers.PreTrainedModel, str]:
    """Load a checkpoint for inference.

    Args:
        checkpoint: What to load.
        precision: "auto", "fp32", "bf16", "fp16", "int8" or "int4" (the last two through bitsandbytes). A checkpoint
            that is quantised already takes "auto" or its own width.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        attn_implementation: Name of an attention function that transformers knows.
        quantization_config: Settings of bitsandbytes, from `bitsandbytes_settings`; `precision` is then "auto".

    Returns:
        The model, in evaluation mode and without gradients, and the precision it is held in.

    Raises:
        InvalidParameterError: Unknown precision or device, or settings that contradict each other.
        PrecisionError: This checkpoint cannot be held in that precision here.
        MissingDependencyError: The precision needs an extra that is not installed.
        OutOfMemoryError: The weights do not fit.
        IncompleteCheckpointError: The files lack some of the model's weights.
    """
    device = choose_device(device)
    held = choose_precision(precision, device)
    settings: dict[str, Any] = {"attn_implementation": attn_implementation}
    if quantization_config is not None:
        held = _asked_precision(checkpoint, quantization_config, precision)
        settings["quantization_config"] = transformers.BitsAndBytesConfig(**quantization_config)
    elif quantization := checkpoint.config.get("quantization_config"):
        held = _prequantized(checkpoint.name, quantization, precision)
    elif held not in FLOATS:
        settings["quantization_config"] = _bitsandbytes(held, _compute_dtype(device))
    quantized = held not in FLOATS
    settings["dtype"] = _compute_dtype(device) if quantized else dtype_of(held)
    if device == "cpu":
        check_memory(checkpoint, held)
    # Straight to the device where accelerate is there (quantised weights need it), else by way of CPU memory.
    if quantized or (device != "cpu" and importlib.util.find_spec("accelerate")):
        settings["device_map"] = {"": device}
    with memory_errors(checkpoint, held, device), _progress_on_terminals():
        model, report = _from_pretrained(checkpoint, held, settings)
        absent = sorted(report["missing_keys"]) + sorted(key for key, *_ in report["mismatched_keys"])
        if absent:
            raise IncompleteCheckpointError(
                f"{checkpoint.path} lacks {len(absent)} of the model's weights, or has them in another shape "
                f"({', '.join(absent[:3])}{', ...' if len(absent) > 3 else ''}); download it again"
            )
        if "device_map" not in settings:
            model.to(device)  # type: ignore[arg-type]  # its decorator hides the real signature
    model.requires_grad_(False)  # evaluation mode is what from_pretrained leaves it in
    return model, held


def _from_pretrained(
    checkpoint: Checkpoint, held: str, settings: Mapping[str, Any]
) -> tuple[transformers.PreTrainedModel, dict[str, Any]]:
    try:
        transformers.Qwen2Config.from_pretrained(checkpoint.path)
    except Exception as error:  # it checks the type of each value, with errors of several kinds
        raise IncompleteCheckpointError(
            f"transformers cannot read the config.json of {checkpoint.name}: {error}; download it again"
        ) from error
    try:
        # The class itself rather than an Auto class: code that a config names is then out of the question.
        loaded: Any = transformers.Qwen2ForCausalLM.from_pretrained(
            checkpoint.path,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are reported, and `load_model` refuses them by name
            output_loading_info=True,
            **settings,
        )
    except (ImportError, ValueError, NotImplementedError, RuntimeError) as error:
        if held in FLOATS or is_out_of_memory(error):
            raise
        # A quantisation library that is too old, or does not know this device.
        raise PrecisionError(f"{checkpoint.name} cannot be held as {held} here: {error}") from error
    model, report = loaded
    return model, report


def _compute_dtype(device: str) -> torch.dtype:
    """What quantised weights are multiplied in; on CPUs bf16, since the libraries' fp16 code is scalar there."""
    return torch.bfloat16 if device == "cpu" else dtype_of(choose_precision("auto", device))


def _prequantized(name: str, quantization: Mapping[str, Any], precision: str) -> str:
    """Which precision a quantised checkpoint is held in, if it can be loaded."""
    held = own_precision(name, quantization, precision)
    _require(("gptqmodel", "optimum"), extra="gptq", what=f"{name} ({quantization['quant_method'].upper()} weights)")
    return held


def bitsandbytes_settings(config: Any) -> dict[str, Any]:
    """The settings of a `transformers.BitsAndBytesConfig`, or a dict of them, in a form that JSON can hold.

    Raises:
        InvalidParameterError: They are no such settings, or ask for neither 8 nor 4 bits.
    """
    names = list(inspect.signature(transformers.BitsAndBytesConfig.__init__).parameters)[1:-1]
    if isinstance(config, Mapping):
        unknown = sorted(set(config) - {*names, "quant_method", "_load_in_4bit", "_load_in_8bit"})
        if unknown:
            raise InvalidParameterError(
                f"quantization_config has no setting {', '.join(unknown)}; BitsAndBytesConfig knows {', '.join(names)}"
            )
        try:
            config = transformers.BitsAndBytesConfig(**{name: config[name] for name in names if name in config})
        except (TypeError, ValueError) as error:
            raise InvalidParameterError(f"quantization_config: {error}") from error
    if not isinstance(config, transformers.BitsAndBytesConfig):
        raise InvalidParameterError(
            f"quantization_config takes a transformers.BitsAndBytesConfig, not {type(config).__name__}; for GPTQ name "
            "a folder that is quantised already (`langchain-qwen quantize` makes one)"
        )
    if not (config.load_in_8bit or config.load_in_4bit):
        raise InvalidParameterError("quantization_config asks for nothing: set load_in_8bit or load_in_4bit")
    settings: dict[str, Any] = config.to_dict()
    return {name: settings[name] for name in names if name in settings}


def _asked_precision(checkpoint: Checkpoint, config: Mapping[str, Any], precision: str) -> str:
    if precision != "auto":
        raise InvalidParameterError(
            f"precision={precision!r} and quantization_config both say how weights are held; give one of them"
        )
    if "quantization_config" in checkpoint.config:
        raise InvalidParameterError(f"{checkpoint.name} is quantised already; leave quantization_config out")
    _require(("bitsandbytes", "accelerate"), extra="bnb", what="quantization_config")
    return "int8" if config["load_in_8bit"] else "int4"


def _bitsandbytes(precision: str, compute: torch.dtype) -> transformers.BitsAndBytesConfig:
    _require(("bitsandbytes", "accelerate"), extra="bnb", what=f"precision={precision!r} through torch")
    if precision == "int8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def _require(modules: tuple[str, ...], *, extra: str, what: str) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingDependencyError(f"{what} needs {' and '.join(missing)}: pip install 'langchain-qwen[{extra}]'")


@contextmanager
def _progress_on_terminals() -> Iterator[None]:
    """Hide transformers' loading bar where nobody watches it, in logs and pipes, and where transformers is to be quiet.

    That is how the command line says that it shows a spinner of its own.
    """
    quiet = not sys.stderr.isatty() or transformers_logging.get_verbosity() >= logging.ERROR
    hide = quiet and transformers_logging.is_progress_bar_enabled()
    if hide:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if hide:
            transformers_logging.enable_progress_bar()
