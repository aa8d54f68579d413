"""From a checkpoint to a running engine."""

from __future__ import annotations

from langchain_qwen.checkpoints import Checkpoint, load_model
from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.local import LocalEngine
from langchain_qwen.engine.runners.transformers import ATTENTION, TransformersRunner


def load_engine(checkpoint: Checkpoint, *, precision: str, device: str, kv_cache_bytes: int | None) -> LocalEngine:
    """Load the weights and start the engine.

    Args:
        checkpoint: What to load.
        precision: As `load_model` takes it.
        device: As `load_model` takes it.
        kv_cache_bytes: Budget of the KV memory; None holds one full context window.
    """
    model, held = load_model(checkpoint, precision=precision, device=device, attn_implementation=ATTENTION)
    runner = TransformersRunner(model, held)
    window = checkpoint.context_window
    tokens = window if kv_cache_bytes is None else kv_cache_bytes // runner.kv_bytes_per_token
    return LocalEngine(
        runner,
        model=checkpoint.name,
        context_window=window,
        num_blocks=max(1, -(-tokens // BLOCK_SIZE) if kv_cache_bytes is None else tokens // BLOCK_SIZE),
    )
