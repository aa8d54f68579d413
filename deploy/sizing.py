"""What the Qwen2.5 models need on a GPU, and how many users fit: the table of README.md.

    python -m deploy.sizing --context 4096

A user is one answer under way with its whole context. Memory bounds how many there are at once; how fast each of them
is served depends on the GPU, and is what `langchain-qwen doctor --base-url` and a test with your own load tell.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from langchain_qwen.cli.doctor.fit import Architecture

GPUS = (16, 24, 48, 80)  # GB
USED = 0.9  # of a GPU's memory (gpu-memory-utilization)
OWN = 2e9  # bytes for activations, CUDA graphs and the runtime
CONTEXT = 4096
KV_BYTES = 2  # fp8 (--kv-cache-dtype fp8) halves it
BF16_BITS = 16.0
INT4_BITS = 4 + 16 / 128 + 4 / 128  # GPTQ and AWQ: a scale of 16 bits and a zero point of 4 for each group of 128
# Layers, hidden size, attention heads, heads of keys and values, intermediate size, vocabulary, tied: each config.json.
MODELS = {
    "0.5B": (24, 896, 14, 2, 4864, 151_936, True),
    "1.5B": (28, 1536, 12, 2, 8960, 151_936, True),
    "3B": (36, 2048, 16, 2, 11_008, 151_936, True),
    "7B": (28, 3584, 28, 4, 18_944, 152_064, False),
    "14B": (48, 5120, 40, 8, 13_824, 152_064, False),
    "32B": (64, 5120, 40, 8, 27_648, 152_064, False),
}


@dataclass(frozen=True, slots=True)
class Size:
    """One model in one precision.

    Attributes:
        model: "7B".
        precision: "bf16", or "int4" for GPTQ and AWQ.
        weights: Bytes.
        kv: Bytes of one token's keys and values.
    """

    model: str
    precision: str
    weights: float
    kv: int

    def users(self, memory: float, context: int) -> int:
        """Answers that may be under way at once.

        Args:
            memory: Bytes of all GPUs that the model is cut across.
            context: Tokens of prompt and answer together.
        """
        return max(0, int((memory * USED - OWN - self.weights) // (self.kv * context)))


def architecture(model: str) -> Architecture:
    """How many numbers a model has."""
    layers, hidden, heads, kv_heads, ffn, vocabulary, tied = MODELS[model]
    return Architecture.from_config(
        {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "intermediate_size": ffn,
            "vocab_size": vocabulary,
            "tie_word_embeddings": tied,
            "max_position_embeddings": 32_768,
        }
    )


def sizes() -> Iterator[Size]:
    """All models, each as bf16 and with 4-bit weights, whose embedding and output layer stay bf16."""
    for model in MODELS:
        made = architecture(model)
        kept = made.embedding * (1 if MODELS[model][-1] else 2)
        kv = made.kv_numbers * KV_BYTES
        yield Size(model, "bf16", made.parameters * BF16_BITS / 8, kv)
        yield Size(model, "int4", (made.parameters - kept) * INT4_BITS / 8 + kept * 2, kv)


def table(context: int) -> str:
    """As Markdown."""
    titles = ["model", "weights", f"KV of {context:,} tokens", *(f"users on {gpu} GB" for gpu in GPUS)]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    for size in sizes():
        users = [f"{count:,}" if (count := size.users(gpu * 1e9, context)) else "-" for gpu in GPUS]
        kv = f"{size.kv * context / 1e6:,.0f} MB"
        lines.append(
            f"| {size.model} {size.precision} | {size.weights / 1e9:.1f} GB | {kv} | " + " | ".join(users) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", type=int, default=CONTEXT, help="tokens of prompt and answer of one user")
    print(table(parser.parse_args().context))


if __name__ == "__main__":
    main()
