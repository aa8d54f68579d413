"""What a model needs in each precision, and what it gets here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_qwen.checkpoints.memory import BITS
from langchain_qwen.engine.runners.cpu.packing import DEFAULT_GROUP

PRECISIONS = ("int4", "int8", "bf16", "fp16", "fp32")  # the fastest on a CPU first
CPU_ENGINE, TORCH, BITSANDBYTES = "CPU engine", "torch", "torch with bitsandbytes"


@dataclass(frozen=True, slots=True)
class Architecture:
    """How many numbers a model has.

    Attributes:
        window: Tokens of a full window.
        embedding: Numbers of the embedding, and of the output layer.
        kv_numbers: Those that keys and values of one token are.
        read_per_token: Those that every new token goes through: all layers and the output layer.
        parameters: All of them.
    """

    window: int
    embedding: int
    kv_numbers: int
    read_per_token: int
    parameters: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Architecture:
        """Count them from a config.json."""
        layers, hidden, ffn = config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"]
        kv = config["num_key_value_heads"] * (hidden // config["num_attention_heads"])
        embedding = config["vocab_size"] * hidden
        attention = 2 * hidden * hidden + 2 * hidden * kv + hidden + 2 * kv  # with Qwen's biases
        read = layers * (attention + 3 * hidden * ffn + 2 * hidden) + hidden + embedding
        parameters = read + (0 if config.get("tie_word_embeddings", False) else embedding)
        return cls(config["max_position_embeddings"], embedding, 2 * layers * kv, read, parameters)


def _qwen(layers: int, hidden: int, heads: int, ffn: int) -> Architecture:
    sizes = {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": ffn}
    same = {"num_key_value_heads": 2, "vocab_size": 151_936, "max_position_embeddings": 32_768}
    return Architecture.from_config({**sizes, **same, "tie_word_embeddings": True})


# Models that need not be here yet.
QWEN_1_5B, QWEN_0_5B = _qwen(28, 1536, 12, 8960), _qwen(24, 896, 14, 4864)
KNOWN = {"Qwen/Qwen2.5-1.5B-Instruct": QWEN_1_5B, "coder-1.5b": QWEN_1_5B, "coder-0.5b": QWEN_0_5B}


@dataclass(frozen=True, slots=True)
class Fit:
    """One precision of a model on this machine; sizes in bytes.

    `missing` is what has to be installed first. `context_tokens` are those of a `window` that the free memory holds
    beside the weights, 0 where not even these fit. `tokens_per_second` is the most that the memory's speed allows.
    """

    precision: str
    runs_on: str
    missing: str | None
    weight_bytes: int
    window_bytes: int
    window: int
    context_tokens: int
    tokens_per_second: float | None


def runner(precision: str, device: str, *, native: bool) -> str:
    """What computes in a precision; the same choice as the engine's own when it loads."""
    if native and device == "cpu" and precision not in ("fp32", "fp16"):
        return CPU_ENGINE
    return BITSANDBYTES if precision in ("int8", "int4") else TORCH


def fit(
    model: Architecture,
    precision: str,
    runs_on: str,
    missing: str | None,
    free: int,
    speed: float | None,
    *,
    bits: float | None = None,
) -> Fit:
    """Judge one precision.

    Args:
        model: How many numbers it has.
        precision: One of `PRECISIONS`, or a name for what a file holds.
        runs_on: What computes.
        missing: What has to be installed first.
        free: Bytes of memory.
        speed: Bytes that it reads a second; None is unknown.
        bits: What a number takes, where the precision does not say so.
    """
    # The CPU engine looks embeddings up in the checkpoint's own file; torch keeps them in memory, unquantised.
    if bits is None:
        bits = BITS[precision] + (32 / DEFAULT_GROUP if runs_on == CPU_ENGINE and BITS[precision] < 16 else 0)
    read = int(model.read_per_token * bits / 8)
    weights = read if runs_on == CPU_ENGINE else int(model.parameters * bits / 8)
    if runs_on == BITSANDBYTES:
        weights = int((model.parameters - model.embedding) * bits / 8) + 2 * model.embedding
    kv = model.kv_numbers * (4 if precision == "fp32" else 2)
    context = max(0, min(model.window, (free - weights) // kv))
    rate = speed / read if speed else None
    return Fit(precision, runs_on, missing, weights, kv * model.window, model.window, context, rate)
