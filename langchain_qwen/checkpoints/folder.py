"""A checkpoint folder and what is checked of it before any weights are loaded."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from langchain_qwen.errors import IncompleteCheckpointError, UnsafeWeightsError, UnsupportedModelError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A Qwen2 checkpoint on this machine, checked, its weights not loaded.

    Attributes:
        name: What the user called it.
        path: The folder.
        config: Its config.json.
        generation: Its generation_config.json, or empty.
    """

    name: str
    path: Path
    config: Mapping[str, Any]
    generation: Mapping[str, Any]

    @property
    def context_window(self) -> int:
        """Tokens of prompt and answer together."""
        return int(self.config["max_position_embeddings"])

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        return int(self.config["vocab_size"])

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ids = self.generation.get("eos_token_id", self.config.get("eos_token_id"))
        return frozenset([ids] if isinstance(ids, int) else ids or ())

    @property
    def weight_files(self) -> list[Path]:
        """The safetensors files."""
        return sorted(self.path.glob("*.safetensors"))

    @cached_property
    def weight_bytes(self) -> int:
        """Size of the weights on the disk."""
        return sum(file.stat().st_size for file in self.weight_files)

    @cached_property
    def fingerprint(self) -> str:
        """Names the exact weights: configuration, and name, size and time of the files."""
        digest = hashlib.sha256(json.dumps(dict(self.config), sort_keys=True).encode())
        for file in self.weight_files:
            state = file.stat()
            digest.update(f"{file.name} {state.st_size} {state.st_mtime_ns}".encode())
        return digest.hexdigest()[:20]


def open_folder(folder: Path, name: str) -> Checkpoint:
    """Check a folder and describe it.

    Raises:
        IncompleteCheckpointError: Something is missing or damaged.
        UnsafeWeightsError: The weights are pickles.
        UnsupportedModelError: Another kind of model.
    """
    config = _read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind != "qwen2":
        raise UnsupportedModelError(
            f"{name} is a {kind!r} model; supported are causal language models of the Qwen2 family (Qwen2, Qwen2.5)"
        )
    _check_weights(folder, name)
    for key in ("vocab_size", "max_position_embeddings", "num_hidden_layers", "hidden_size"):
        if not isinstance(config.get(key), int):
            raise IncompleteCheckpointError(f"{folder / 'config.json'} has no {key!r}; download the checkpoint again")
    for file, purpose in (("tokenizer.json", "tokenizer"),):
        if not (folder / file).is_file():
            raise IncompleteCheckpointError(f"{folder} lacks {file} (the {purpose}); download the checkpoint again")
    generation = folder / "generation_config.json"
    return Checkpoint(name, folder, config, _read_json(generation) if generation.is_file() else {})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise IncompleteCheckpointError(f"{path.parent} lacks {path.name}; it is no whole checkpoint") from error
    except (OSError, ValueError) as error:
        raise IncompleteCheckpointError(f"{path} cannot be read ({error}); download the checkpoint again") from error
    if not isinstance(content, dict):
        raise IncompleteCheckpointError(f"{path} is no JSON object; download the checkpoint again")
    return content


def _check_weights(folder: Path, name: str) -> None:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [file.name for pattern in PICKLES for file in folder.glob(pattern)]
        if pickles:
            raise UnsafeWeightsError(
                f"{name} holds pickled weights only ({pickles[0]}), which could run code when loaded; use a checkpoint "
                "in safetensors, or convert this one in a place you trust with model.save_pretrained(folder)"
            )
        raise IncompleteCheckpointError(f"{folder} holds no weights (*.safetensors); download the checkpoint again")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        wanted = set(_read_json(index).get("weight_map", {}).values())
        missing = sorted(wanted - {file.name for file in files})
        if missing:
            raise IncompleteCheckpointError(
                f"{folder} lacks {len(missing)} of {len(wanted)} weight files ({missing[0]}, ...); the download was "
                "not finished: run it again"
            )
    for file in files:
        _check_size(file)


def _check_size(file: Path) -> None:
    """A safetensors file says in its header how long it is (64 bits of header length, JSON, data)."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > size:
                raise ValueError("its header is cut")
            header = json.loads(stream.read(length))
        end = max((t["data_offsets"][1] for key, t in header.items() if key != "__metadata__"), default=0)
        if 8 + length + end != size:
            raise ValueError(f"it has {size} bytes and should have {8 + length + end}")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IncompleteCheckpointError(f"{file} is damaged ({error}); download the checkpoint again") from error
