"""From a checkpoint to a running engine: which runner, in which precision."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langchain_qwen.checkpoints import RELEASES, Checkpoint, cache_root, choose_device
from langchain_qwen.checkpoints.devices import require_torch
from langchain_qwen.checkpoints.memory import memory_errors
from langchain_qwen.checkpoints.pulling import in_safetensors
from langchain_qwen.checkpoints.quantisation import own_precision, read_quantisation
from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.local import MAX_STEP_TOKENS, LocalEngine
from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu.cores import usable_cores
from langchain_qwen.engine.runners.cpu.runner import CpuRunner
from langchain_qwen.engine.runners.cpu.weights import ModelWeights, load_weights
from langchain_qwen.engine.runners.protocol import Runner

logger = logging.getLogger(__name__)


def load_engine(
    checkpoint: Checkpoint,
    *,
    precision: str,
    device: str,
    kv_cache_bytes: int | None,
    quantization_config: Mapping[str, Any] | None = None,
) -> LocalEngine:
    """Load the weights and start the engine.

    Args:
        checkpoint: What to load.
        precision: "auto", "fp32", "bf16", "fp16", "int8" or "int4". A GGUF file is read as it is, with "auto"; those of
            the aliases take all others too, and are converted for them but for int4.
        device: "auto" or a torch device.
        kv_cache_bytes: Budget of the KV memory; None holds one full context window.
        quantization_config: Settings of bitsandbytes: then transformers runs the model.
    """
    runner = load_runner(checkpoint, precision=precision, device=device, quantization_config=quantization_config)
    window = checkpoint.context_window
    if kv_cache_bytes is None:
        num_blocks = -(-window // BLOCK_SIZE)
    else:
        num_blocks = max(1, kv_cache_bytes // (runner.kv_bytes_per_token * BLOCK_SIZE))
    return LocalEngine(runner, model=checkpoint.name, context_window=window, num_blocks=num_blocks)


def load_runner(
    checkpoint: Checkpoint, *, precision: str, device: str, quantization_config: Mapping[str, Any] | None = None
) -> Runner:
    """Load the weights; see `load_engine`."""
    device = choose_device(device)
    if quantization_config is None and runs_natively(precision, device):
        return _native_runner(checkpoint, precision)
    checkpoint = in_safetensors(checkpoint, precision)
    # Imported here, since transformers takes seconds and a hundred megabytes that the CPU engine does without.
    require_torch(f"precision={precision!r} on the device {device!r}")
    from langchain_qwen.engine.runners.torch.load import load_model
    from langchain_qwen.engine.runners.torch.runner import ATTENTION, TransformersRunner, refuse_in_forked_child

    refuse_in_forked_child()
    model, held = load_model(
        checkpoint,
        precision=precision,
        device=device,
        attn_implementation=ATTENTION,
        quantization_config=quantization_config,
    )
    return TransformersRunner(model, held)


def runs_natively(precision: str, device: str) -> bool:
    """Whether the CPU engine serves this precision and device; without its library, torch does, slower."""
    if device != "cpu" or precision in ("fp32", "fp16"):
        return False
    if not library.available():
        logger.warning(
            "the CPU engine was not built with this installation (no C compiler was found): models run through torch, "
            "several times slower. Install a C compiler and reinstall langchain-qwen to get it"
        )
        return False
    return True


def native_weights(checkpoint: Checkpoint, precision: str, *, cache_folder: Path) -> tuple[ModelWeights, str]:
    """The weights of the CPU engine, and the name of how they are held.

    Args:
        checkpoint: What to load.
        precision: See `load_engine`.
        cache_folder: Where packed weights are kept.
    """
    quantisation = None
    if checkpoint.gguf and (precision == "auto" or (precision == "int4" and checkpoint.name in RELEASES)):
        precision = "gguf" if precision == "auto" else precision
    else:
        checkpoint = in_safetensors(checkpoint, precision)
    if own := checkpoint.config.get("quantization_config"):
        precision = own_precision(checkpoint.name, own, precision)
        quantisation = read_quantisation(checkpoint.name, own)
    elif precision == "auto":
        precision = "int4"
    with memory_errors(checkpoint, precision, "the machine"):
        weights = load_weights(
            checkpoint.path,
            checkpoint.config,
            precision=precision,
            fingerprint=checkpoint.fingerprint,
            cache_folder=cache_folder,
            num_threads=usable_cores(),
            quantisation=quantisation,
            gguf=checkpoint.gguf,
        )
    return weights, precision


def _native_runner(checkpoint: Checkpoint, precision: str) -> CpuRunner:
    weights, precision = native_weights(checkpoint, precision, cache_folder=cache_root())
    return CpuRunner(weights, precision=precision, num_threads=usable_cores(), max_step_tokens=MAX_STEP_TOKENS)
