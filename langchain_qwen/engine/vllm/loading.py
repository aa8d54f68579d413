"""From a checkpoint to vLLM's engine."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from langchain_qwen.checkpoints import Checkpoint
from langchain_qwen.checkpoints.pulling import in_safetensors
from langchain_qwen.engine.vllm.engine import VllmEngine
from langchain_qwen.errors import InvalidParameterError, MissingDependencyError

PRECISIONS = {"auto": "auto", "bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
# Set by this package: by what it promises, or by parameters of its own.
_OURS = {
    **{"model": "`model`", "tokenizer": "`model`", "revision": "`revision`", "dtype": "`precision`"},
    **{"kv_cache_memory_bytes": "`kv_cache_bytes`", "load_format": "safetensors are what is read"},
    **{"trust_remote_code": "code in checkpoints is never run", "generation_config": "the parameters of a call"},
    **{"structured_outputs_config": "llguidance reads the grammars", "skip_tokenizer_init": "grammars need it"},
}


def require_vllm() -> None:
    """Raise `MissingDependencyError` where vLLM is not installed. It is not imported, which takes seconds."""
    if importlib.util.find_spec("vllm") is None:
        raise MissingDependencyError(
            'engine="vllm" needs vLLM, on Linux and best with a GPU: pip install "langchain-qwen[vllm]". Without a GPU '
            "leave `engine` out: this package's own engine is made for CPUs"
        )


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of vLLM's that are set otherwise.

    Raises:
        InvalidParameterError: For the first one.
    """
    for name in arguments:
        if name in _OURS:
            raise InvalidParameterError(f"vllm_kwargs holds {name}, which is not for you to set there: {_OURS[name]}")
    try:
        json.dumps(arguments)
    except (TypeError, ValueError) as error:
        raise InvalidParameterError(
            f"vllm_kwargs holds what is no JSON ({error}): text, numbers, lists and dicts"
        ) from error


def load_vllm(
    checkpoint: Checkpoint, *, precision: str, kv_cache_bytes: int | None, arguments: Mapping[str, Any]
) -> VllmEngine:
    """Start vLLM over a checkpoint; takes a minute.

    Args:
        checkpoint: What to load; an alias is converted to safetensors, once.
        precision: One of `PRECISIONS`; "auto" is the checkpoint's own.
        kv_cache_bytes: Of the KV memory; None leaves it to vLLM (nine tenths of a GPU).
        arguments: Further ones of vLLM's `AsyncEngineArgs`.

    Raises:
        MissingDependencyError: There is no vLLM.
        PrecisionError: A GGUF file.
        InvalidParameterError: vLLM does not take the arguments.
        EngineError: It did not start.
    """
    require_vllm()
    checkpoint = in_safetensors(checkpoint, precision)
    given = {
        "max_model_len": -1,  # as much of the window as the KV memory holds
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "max_logprobs": 20,
        **arguments,
        "model": str(checkpoint.path),
        "dtype": PRECISIONS[precision],
        "load_format": "safetensors",
        "generation_config": "vllm",
        "structured_outputs_config": {"backend": "guidance"},
        "kv_cache_memory_bytes": kv_cache_bytes,
    }
    with Console(stderr=True).status(f"Starting vLLM for {checkpoint.name}, about a minute"):
        return VllmEngine(
            given, model=checkpoint.name, context_window=checkpoint.context_window, vocab_size=checkpoint.vocab_size
        )
