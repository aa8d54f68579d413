"""The tensors of a checkpoint, and which of them the engine runs as one matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints.folder import weight_files
from langchain_qwen.checkpoints.safetensors_file import TensorFile, as_float32
from langchain_qwen.errors import IncompleteCheckpointError


class Source:
    """The tensors of a safetensors checkpoint, mapped, not read.

    Each tensor is mapped anew, from files whose headers are read once: a mapping ends with the tensor, so that the
    pages of what has been packed do not add up to the whole checkpoint.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._files: dict[str, TensorFile] = {}
        for path in weight_files(folder):
            file = TensorFile(path)
            self._files.update(dict.fromkeys(file.header.tensors, file))

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A tensor as its file has it; bf16 as uint16."""
        if name not in self._files:
            raise IncompleteCheckpointError(f"{self._folder} lacks the tensor {name}; copy or download it again")
        return self._files[name][name]

    def vector(self, name: str) -> NDArray[np.float32]:
        """A small tensor as float32."""
        return as_float32(self[name])


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix of the engine: the checkpoint's layers that it puts one below the other.

    Attributes:
        name: Its name in the cache.
        layers: The layers, by their names in the checkpoint.
        feeds: A layer whose inputs are this matrix's outputs, so that both can agree on an order; or empty.
        is_fed: Whether it is such a layer.
    """

    name: str
    layers: tuple[str, ...]
    feeds: str = ""
    is_fed: bool = False

    @property
    def weights(self) -> tuple[str, ...]:
        """The layers' weights in a checkpoint that is not quantised."""
        return tuple(f"{layer}.weight" for layer in self.layers)


def matrices(source: Source, num_layers: int) -> Iterator[Matrix]:
    """All matrices of a model, in the order of their use."""
    for i in range(num_layers):
        attention, mlp = f"model.layers.{i}.self_attn.", f"model.layers.{i}.mlp."
        yield Matrix(f"{i}.qkv", tuple(f"{attention}{x}_proj" for x in "qkv"))
        yield Matrix(f"{i}.out", (attention + "o_proj",))
        yield Matrix(f"{i}.gate_up", (mlp + "gate_proj", mlp + "up_proj"), feeds=mlp + "down_proj")
        yield Matrix(f"{i}.down", (mlp + "down_proj",), is_fed=True)
    own_head = any(f"lm_head.{tensor}" in source for tensor in ("weight", "qweight"))
    yield Matrix("head", ("lm_head" if own_head else "model.embed_tokens",))


def check_shapes(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, int]]) -> None:
    """Raise unless the matrices have the shapes that a config.json states: the native code goes by it."""
    hidden, ffn, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    attended = heads * head_dim
    expected = {
        "qkv": (attended + 2 * config["num_key_value_heads"] * head_dim, hidden),
        "out": (hidden, attended),
        "gate_up": (2 * ffn, hidden),
        "down": (hidden, ffn),
        "head": (config["vocab_size"], hidden),
    }
    for name, shape in shapes.items():
        stated = expected[name.rpartition(".")[2]]
        if shape != stated:
            raise IncompleteCheckpointError(
                f"the weights {name} are {shape[0]} x {shape[1]}, and {stated[0]} x {stated[1]} by config.json; "
                "copy or download the checkpoint again"
            )
