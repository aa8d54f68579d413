"""What a model needs in each precision, and what it gets here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_qwen.engine.runners.cpu.packing import DEFAULT_GROUP

# The order of the report: the fastest on a CPU first.
PRECISIONS = ("int4", "int8", "bf16", "fp16", "fp32")
BITS = {"int4": 4, "int8": 8, "bf16": 16, "fp16": 16, "fp32": 32}
CPU_ENGINE, TORCH, BITSANDBYTES = "CPU engine", "torch", "torch with bitsandbytes"


@dataclass(frozen=True, slots=True)
class Architecture:
    """The numbers of a config.json that decide sizes."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    window: int
    tied: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Architecture:
        """Read them from a config.json."""
        return cls(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            ffn=config["intermediate_size"],
            vocab=config["vocab_size"],
            window=config["max_position_embeddings"],
            tied=config.get("tie_word_embeddings", False),
        )

    @property
    def embedding(self) -> int:
        """Numbers in the embedding, and in the output layer."""
        return self.vocab * self.hidden

    @property
    def kv_numbers(self) -> int:
        """Numbers that keys and values of one token are."""
        return 2 * self.layers * self.kv_heads * (self.hidden // self.heads)

    @property
    def read_per_token(self) -> int:
        """Numbers that every new token has to go through: all layers and the output layer."""
        kv = self.kv_heads * (self.hidden // self.heads)
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * kv + self.hidden + 2 * kv  # with Qwen's biases
        return self.layers * (attention + 3 * self.hidden * self.ffn + 2 * self.hidden) + self.hidden + self.embedding

    @property
    def parameters(self) -> int:
        """All numbers of the model."""
        return self.read_per_token + (0 if self.tied else self.embedding)


# Of models that need not be here yet.
QWEN_1_5B = Architecture(28, 1536, 12, 2, 8960, 151_936, 32_768, tied=True)
QWEN_0_5B = Architecture(24, 896, 14, 2, 4864, 151_936, 32_768, tied=True)
KNOWN = {"Qwen/Qwen2.5-1.5B-Instruct": QWEN_1_5B, "coder-1.5b": QWEN_1_5B, "coder-0.5b": QWEN_0_5B}


@dataclass(frozen=True, slots=True)
class Fit:
    """One precision of a model on this machine.

    Attributes:
        precision: How the weights are held.
        runs_on: What computes.
        missing: What has to be installed first; None when nothing.
        weight_bytes: Memory that the weights take.
        window_bytes: Memory that keys and values of a full window take.
        window: Tokens of a full window.
        context_tokens: How many of them the free memory holds beside the weights; 0 where not even these fit.
        tokens_per_second: The most that the memory's speed allows; None on a GPU.
    """

    precision: str
    runs_on: str
    missing: str | None
    weight_bytes: int
    window_bytes: int
    window: int
    context_tokens: int
    tokens_per_second: float | None


def fits(
    architecture: Architecture, *, device: str, native: bool, bitsandbytes: bool, free: int, bandwidth: float | None
) -> list[Fit]:
    """Judge each precision.

    Args:
        architecture: The model.
        device: Where it would run.
        native: Whether the CPU engine is there.
        bitsandbytes: Whether that is installed.
        free: Bytes of the device's memory.
        bandwidth: Bytes a second that the device reads from it, if known.
    """
    return [_fit(architecture, p, runner(p, device, native=native), bitsandbytes, free, bandwidth) for p in PRECISIONS]


def runner(precision: str, device: str, *, native: bool) -> str:
    """What computes in a precision; the same choice as the engine's own when it loads."""
    if native and device == "cpu" and precision not in ("fp32", "fp16"):
        return CPU_ENGINE
    return BITSANDBYTES if precision in ("int8", "int4") else TORCH


def _fit(
    architecture: Architecture, precision: str, runs_on: str, bitsandbytes: bool, free: int, bandwidth: float | None
) -> Fit:
    # The CPU engine looks embeddings up in the checkpoint's own file; torch keeps them in memory, unquantised.
    bits = BITS[precision] + (32 / DEFAULT_GROUP if runs_on == CPU_ENGINE and BITS[precision] < 16 else 0)
    read = int(architecture.read_per_token * bits / 8)
    weights = read if runs_on == CPU_ENGINE else int(architecture.parameters * bits / 8)
    if runs_on == BITSANDBYTES:
        weights = int((architecture.parameters - architecture.embedding) * bits / 8) + 2 * architecture.embedding
    kv = architecture.kv_numbers * (4 if precision == "fp32" else 2)
    return Fit(
        precision=precision,
        runs_on=runs_on,
        missing='pip install "langchain-qwen[bnb]"' if runs_on == BITSANDBYTES and not bitsandbytes else None,
        weight_bytes=weights,
        window_bytes=kv * architecture.window,
        window=architecture.window,
        context_tokens=max(0, min(architecture.window, (free - weights) // kv)),
        tokens_per_second=bandwidth / read if bandwidth else None,
    )
