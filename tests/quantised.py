"""Writes GPTQ and AWQ checkpoints, number by number, from their published layouts; shares no code with the reader."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# AutoAWQ: the i-th nibble of a word holds column AWQ_ORDER[i] of eight.
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
LARGEST_RANGE = 0.6  # from the smallest weight of a group to its largest, at most


@dataclass(frozen=True)
class Variant:
    """A kind of quantised checkpoint."""

    method: str = "gptq"
    bits: int = 4
    group_size: int = 32
    sym: bool = True
    desc_act: bool = False
    version: int = 1
    scales: torch.dtype = torch.float16

    @property
    def config(self) -> dict[str, Any]:
        """The `quantization_config` that tools write for it."""
        common = {"quant_method": self.method, "bits": self.bits, "group_size": self.group_size}
        if self.method == "awq":
            return common | {"zero_point": True, "version": "gemm", "modules_to_not_convert": None}
        layout = "gptq" if self.version == 1 else "gptq_v2"
        return common | {"desc_act": self.desc_act, "sym": self.sym, "checkpoint_format": layout, "lm_head": False}


def pack_words(numbers: list[int], bits: int) -> int:
    """Numbers into one 32-bit word, the first in the lowest bits, as a signed integer."""
    word = sum(int(number) << (bits * i) for i, number in enumerate(numbers))
    return word - (1 << 32) if word >= 1 << 31 else word


def quantise(variant: Variant, rows: int, cols: int, order_seed: int, rng: np.random.Generator) -> dict[str, Any]:
    """A random layer: its tensors, and under "dense" the weights they stand for."""
    group = cols if variant.group_size == -1 else variant.group_size
    groups, largest = cols // group, (1 << variant.bits) - 1
    codes = rng.integers(0, largest + 1, (rows, cols))
    step = LARGEST_RANGE / largest
    scale = torch.from_numpy(rng.uniform(0.5 * step, step, (groups, rows))).to(variant.scales)
    zeros = rng.integers(1, largest + 1, (groups, rows))
    if variant.sym:
        zeros[:] = (largest + 1) // 2
    g_idx = np.arange(cols) // group
    if variant.desc_act:
        g_idx = np.random.default_rng(order_seed).permutation(g_idx)
    dense = np.empty((rows, cols))
    for k in range(cols):
        g = g_idx[k]
        dense[:, k] = scale[g].double().numpy() * (codes[:, k] - zeros[g])
    per_word = 32 // variant.bits
    tensors: dict[str, Any] = {"scales": scale, "dense": dense}
    if variant.method == "awq":
        tensors["qweight"] = _words(
            [[[codes[n + i, k] for i in AWQ_ORDER] for n in range(0, rows, 8)] for k in range(cols)], 4
        )
        tensors["qzeros"] = _words(
            [[[zeros[g, n + i] for i in AWQ_ORDER] for n in range(0, rows, 8)] for g in range(groups)], 4
        )
        return tensors
    tensors["qweight"] = _words(
        [[codes[n, k : k + per_word] for n in range(rows)] for k in range(0, cols, per_word)], variant.bits
    )
    stored = zeros - (1 if variant.version == 1 else 0)
    tensors["qzeros"] = _words(
        [[stored[g, n : n + per_word] for n in range(0, rows, per_word)] for g in range(groups)], variant.bits
    )
    tensors["g_idx"] = torch.tensor(g_idx, dtype=torch.int32)
    return tensors


def _words(rows: list[list[Any]], bits: int) -> torch.Tensor:
    return torch.tensor([[pack_words(numbers, bits) for numbers in row] for row in rows], dtype=torch.int32)


def dequantise(tensors: Mapping[str, torch.Tensor], layer: str, config: Mapping[str, Any]) -> torch.Tensor:
    """The weights of a layer of any GPTQ or AWQ checkpoint, float32 [rows, cols], by shifts and masks."""
    bits = config["bits"]
    shifts = torch.arange(0, 32, bits)
    mask = (1 << bits) - 1
    words, zeros = tensors[f"{layer}.qweight"].long(), tensors[f"{layer}.qzeros"].long()
    scales = tensors[f"{layer}.scales"].float()
    if config["quant_method"] == "awq":
        columns = torch.tensor([i for _, i in sorted(zip(AWQ_ORDER, range(8), strict=True))])
        codes, zeros = (((w[:, :, None] >> shifts & mask)[:, :, columns]).flatten(1) for w in (words, zeros))
        groups = torch.arange(len(codes)) // (len(codes) // len(scales))
    else:
        codes = (words[:, None, :] >> shifts[:, None] & mask).flatten(0, 1)
        if config.get("checkpoint_format", "gptq") == "gptq":
            zeros = zeros + sum(1 << int(shift) for shift in shifts)
        zeros = (zeros[:, :, None] >> shifts & mask).flatten(1)
        groups = tensors[f"{layer}.g_idx"].long()
    return ((codes - zeros[groups]) * scales[groups]).T.contiguous()


def write_quantised(source: Path, target: Path, variant: Variant, *, own_orders: bool = False) -> Path:
    """Write two checkpoints with the same random weights: `target`, quantised, and `target`-dense, in float32.

    Args:
        source: A checkpoint to take everything else from.
        target: Where to.
        variant: Which kind.
        own_orders: Give each layer its own act-order, also those that see the same input.
    """
    dense_folder = target.with_name(target.name + "-dense")
    for folder in (target, dense_folder):
        shutil.copytree(source, folder)
    config = json.loads((source / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"quantization_config": variant.config}))
    rng = np.random.default_rng(5)
    packed: dict[str, torch.Tensor] = {}
    dense: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        layer = name.removesuffix(".weight")
        kind = layer.rpartition(".")[2]
        if not name.endswith(".weight") or kind not in LAYERS:
            packed[name] = tensor
            dense[name] = tensor.float()
            continue
        inputs = layer.rpartition(".")[0] if kind not in ("o_proj", "down_proj") else layer
        seed = sum(map(ord, layer if own_orders else inputs))
        parts = quantise(variant, *tensor.shape, seed, rng)
        dense[name] = torch.from_numpy(parts.pop("dense")).float()
        packed.update({f"{layer}.{part}": values for part, values in parts.items()})
    save_file(packed, target / "model.safetensors", metadata={"format": "pt"})
    save_file(dense, dense_folder / "model.safetensors", metadata={"format": "pt"})
    return target
