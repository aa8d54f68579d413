"""The tensors of a checkpoint, which of them the engine runs as one matrix, and what makes these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints.folder import weight_files
from langchain_qwen.checkpoints.limits import head_dim
from langchain_qwen.checkpoints.safetensors_file import TensorFile, as_float32
from langchain_qwen.engine.runners.cpu.packing import Form, Packed
from langchain_qwen.errors import IncompleteCheckpointError, UnsupportedModelError

FLOATS = (np.uint16, np.float16, np.float32)  # bf16 comes as uint16
CHECKED_AT_ONCE = 1 << 24  # numbers


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

    def floats(self, name: str, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
        """A tensor in floating point; bf16 as uint16.

        Args:
            name: Its name.
            shape: What its shape has to be; None is any matrix.

        Raises:
            IncompleteCheckpointError: It is not there, of another shape, or not in floating point.
        """
        tensor = self[name]
        if tensor.dtype not in FLOATS:
            raise self._damaged(name, f"holds {tensor.dtype}, and should hold bf16, fp16 or fp32")
        if tensor.ndim != (2 if shape is None else len(shape)) or (shape is not None and tensor.shape != shape):
            raise self._damaged(name, f"has the shape {tensor.shape}, and should have {shape or 'rows and columns'}")
        return tensor

    def words(self, name: str) -> NDArray[np.uint32]:
        """A matrix of 32-bit words, in which codes are packed; raises as `floats`."""
        tensor = self[name]
        if tensor.dtype != np.int32 or tensor.ndim != 2:
            raise self._damaged(name, f"is {tensor.dtype} of the shape {tensor.shape}, and should be a matrix of int32")
        return tensor.view(np.uint32)

    def vector(self, name: str, size: int) -> NDArray[np.float32]:
        """A small tensor as float32, in memory of its own; raises as `floats`, and for what is not finite."""
        values = np.array(as_float32(self.floats(name, (size,))), np.float32)
        if not np.isfinite(values).all():
            raise self._damaged(name, "holds infinity or NaN")
        return values

    def embedding(self, name: str, shape: tuple[int, int]) -> NDArray[Any]:
        """A matrix of which single rows are wanted: only these are ever read from the disk."""
        return self.floats(name, shape)

    def check_finite(self, name: str) -> None:
        """Raise IncompleteCheckpointError for a matrix in floating point that holds infinity or NaN."""
        tensor = self.floats(name)
        rows = max(1, CHECKED_AT_ONCE // max(1, tensor.shape[1]))
        for start in range(0, len(tensor), rows):
            if not np.isfinite(as_float32(tensor[start : start + rows])).all():
                raise self._damaged(name, "holds infinity or NaN")

    def _damaged(self, name: str, what: str) -> IncompleteCheckpointError:
        return IncompleteCheckpointError(
            f"the tensor {name} in {self._folder} {what}; copy or download the checkpoint again"
        )


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


class Names(Protocol):
    """Anything that knows which tensors there are."""

    def __contains__(self, name: str) -> bool: ...


def matrices(source: Names, num_layers: int) -> Iterator[Matrix]:
    """All matrices of a model, in the order of their use."""
    for i in range(num_layers):
        attention, mlp = f"model.layers.{i}.self_attn.", f"model.layers.{i}.mlp."
        yield Matrix(f"{i}.qkv", tuple(f"{attention}{x}_proj" for x in "qkv"))
        yield Matrix(f"{i}.out", (attention + "o_proj",))
        yield Matrix(f"{i}.gate_up", (mlp + "gate_proj", mlp + "up_proj"), feeds=mlp + "down_proj")
        yield Matrix(f"{i}.down", (mlp + "down_proj",), is_fed=True)
    own_head = any(f"lm_head.{tensor}" in source for tensor in ("weight", "qweight"))
    yield Matrix("head", ("lm_head" if own_head else "model.embed_tokens",))


def feeding(source: Names, num_layers: int) -> dict[str, str]:
    """For each weight the name of the matrix that it is a part of, whose inputs are its own."""
    return {weight: matrix.name for matrix in matrices(source, num_layers) for weight in matrix.weights}


class Maker(ABC):
    """Turns the tensors of a checkpoint into the engine's matrices."""

    title: str
    """What it does, for the progress bar."""

    @abstractmethod
    def shape(self, layer: str) -> tuple[int, int]:
        """Rows and columns of a layer, as the checkpoint has it."""

    def size(self, matrix: Matrix) -> tuple[int, int]:
        """Rows and columns of a matrix, once the shapes of its layers are known to be right."""
        shapes = [self.shape(layer) for layer in matrix.layers]
        return sum(rows for rows, _ in shapes), shapes[0][1]

    def split(self, matrix: Matrix) -> list[Matrix]:
        """The parts of a matrix that are not held in one form; it alone, as a rule."""
        return [matrix]

    @abstractmethod
    def form(self, matrix: Matrix) -> Form:
        """How a matrix will be held."""

    def order(self, matrix: Matrix) -> NDArray[np.int32] | None:  # noqa: ARG002
        """Which input each of its columns takes; None, as a rule, for the order that they come in."""
        return None

    @abstractmethod
    def pack(self, matrix: Matrix, pool: ThreadPoolExecutor) -> Packed:
        """Make it, on the pool's threads."""


def check_shapes(config: Mapping[str, Any], wanted: Iterable[Matrix], shape: Callable[[str], tuple[int, int]]) -> None:
    """Raise unless each layer has the shape that a config.json states: the native code goes by it.

    Args:
        config: A config.json whose numbers have been checked.
        wanted: The matrices.
        shape: Rows and columns of a layer, by its name in the checkpoint.

    Raises:
        IncompleteCheckpointError: A layer has another shape.
        UnsupportedModelError: The heads have a size that the kernels are not made for.
    """
    hidden, ffn, size = config["hidden_size"], config["intermediate_size"], head_dim(config)
    attended, kv = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    if size % 16:
        raise UnsupportedModelError(
            f"the model has attention heads of {size} numbers, and the CPU engine takes multiples of 16; use "
            "precision='fp32', which runs through transformers"
        )
    expected = {
        "q_proj": (attended, hidden),
        "k_proj": (kv, hidden),
        "v_proj": (kv, hidden),
        "o_proj": (hidden, attended),
        "gate_proj": (ffn, hidden),
        "up_proj": (ffn, hidden),
        "down_proj": (hidden, ffn),
        "lm_head": (config["vocab_size"], hidden),
        "embed_tokens": (config["vocab_size"], hidden),
    }
    for matrix in wanted:
        for layer in matrix.layers:
            stated = expected[layer.rpartition(".")[2]]
            found = shape(layer)
            if found != stated:
                raise IncompleteCheckpointError(
                    f"the weights {layer} are {found[0]} x {found[1]}, and {stated[0]} x {stated[1]} by config.json; "
                    "copy or download the checkpoint again"
                )
