"""A checkpoint folder: what it is, and whether everything is there, before any weights load."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_qwen.checkpoints import identity, safetensors_file
from langchain_qwen.checkpoints.limits import check_generation, check_numbers
from langchain_qwen.checkpoints.rope import read_rope
from langchain_qwen.errors import (
    CheckpointError,
    IncompleteCheckpointError,
    UnsafeWeightsError,
    UnsupportedModelError,
)
from langchain_qwen.forks import cached_property
from langchain_qwen.regular_files import expanded, read_object

MODEL_TYPE, ARCHITECTURE = "qwen2", "Qwen2ForCausalLM"
SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"[A-Za-z0-9_.-]{1,200}\.safetensors")  # a name and no path
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
BIASED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
MATRICES = (*BIASED, "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on this machine.

    Attributes:
        name: What it was asked for by.
        path: Its folder; for a GGUF file the one in the cache that holds its config and tokenizer.
        revision: The commit of a hub snapshot; None for other folders.
        config: Its config.json.
        generation: Its generation_config.json; empty if there is none.
        gguf: The GGUF file that holds the weights, or its parts; empty where safetensors in `path` hold them.
    """

    name: str
    path: Path
    revision: str | None
    config: dict[str, Any] = field(compare=False, repr=False)
    generation: dict[str, Any] = field(compare=False, repr=False)
    gguf: tuple[Path, ...] = ()

    @property
    def place(self) -> Path:
        """What `model` can be, to name these weights: the folder, or the GGUF file."""
        return self.gguf[0] if self.gguf else self.path

    @property
    def context_window(self) -> int:
        """Tokens that prompt and answer can have together; YaRN in the config stretches it."""
        return read_rope(self.config, self.name).window

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding, padding included."""
        size: int = self.config["vocab_size"]
        return size

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Tokens that end an answer, from the generation config or else from the config."""
        ids = self.generation.get("eos_token_id", self.config.get("eos_token_id"))
        if ids is None:
            return frozenset()
        return frozenset([ids] if isinstance(ids, int) else ids)

    @cached_property
    def weight_files(self) -> tuple[Path, ...]:
        """The GGUF or safetensors files, in the order of their names."""
        return self.gguf or weight_files(self.path)

    @cached_property
    def parameters(self) -> int:
        """How many numbers the weight files hold; packed integers of quantised weights count as one each."""
        headers = map(identity.inspect, self.weight_files)
        return sum(math.prod(tensor.shape) for header in headers for tensor in header.tensors.values())

    @cached_property
    def parameter_bytes(self) -> int:
        """Size of the weights as they are stored."""
        headers = map(identity.inspect, self.weight_files)
        return sum(tensor.end - tensor.begin for header in headers for tensor in header.tensors.values())

    @cached_property
    def fingerprint(self) -> str:
        """Names the weights, for the keys of caches; see `identity.fingerprint`. Read once."""
        return identity.fingerprint(self.config, self.weight_files)


def open_folder(
    path: str | Path, name: str | None = None, *, revision: str | None = None, weights: bool = True
) -> Checkpoint:
    """Check that a folder holds a usable checkpoint, without loading weights or running code from it.

    Args:
        path: The folder.
        name: What it was asked for by; None is its path.
        revision: Its commit, where it is a snapshot from a hub.
        weights: Whether it has to have weights; a server has its own.

    Raises:
        UnsupportedModelError: It is not a Qwen2 causal language model.
        UnsafeWeightsError: Its weights are pickles.
        IncompleteCheckpointError: Something is missing or damaged.
        CheckpointError: A file cannot be read.
    """
    path = Path(path)
    name = str(path) if name is None else name
    try:
        config = read_object(path / "config.json")
        check_config(config, name)
        if weights:
            _check_weights(path, name, config)
        _check_tokenizer(path)
        generation_file = path / "generation_config.json"
        generation = read_object(generation_file) if generation_file.exists() else {}
        check_generation(generation, config["vocab_size"], name)
    except IncompleteCheckpointError as error:
        raise IncompleteCheckpointError(f"{error}. {_advice(path, name)}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return Checkpoint(name, path, revision, config, generation)


def check_config(config: Mapping[str, Any], name: str) -> None:
    """Raise unless `config` (a config.json) is that of a Qwen2 causal language model of sizes that can be run.

    Raises:
        UnsupportedModelError: It is another model, or asks for what is not computed here.
        IncompleteCheckpointError: A number is missing or damaged.
    """
    architectures = config.get("architectures") or [ARCHITECTURE]
    known = isinstance(architectures, list) and ARCHITECTURE in architectures
    if config.get("model_type") != MODEL_TYPE or not known:
        listed = architectures if isinstance(architectures, list) and config.get("architectures") else []
        kind = " ".join([repr(config.get("model_type")), *map(str, listed)])
        raise UnsupportedModelError(
            f"{name} is a model of type {kind[:200]}; langchain-qwen runs the causal language models of the Qwen2 "
            f"family (Qwen2, Qwen2.5, Qwen2.5-Coder and models fine-tuned from them: {MODEL_TYPE!r} {ARCHITECTURE})"
        )
    check_numbers(config, name)


def refuse_pickles(name: str, pickles: list[str]) -> UnsafeWeightsError:
    """The error for a checkpoint that has nothing but pickles."""
    return UnsafeWeightsError(
        f"the weights of {name} are pickles ({', '.join(pickles)}), and loading a pickle can run any code in it; only "
        "safetensors are loaded. Use a release with safetensors, or, if you trust where these came from, convert them "
        f"once with transformers: Qwen2ForCausalLM.from_pretrained({name!r}, use_safetensors=False)"
        '.save_pretrained("converted"), then copy the tokenizer files beside them'
    )


def _check_weights(path: Path, name: str, config: Mapping[str, Any]) -> None:
    pickles = sorted({file.name for pattern in PICKLES for file in path.glob(pattern)})
    if pickles and not any(path.glob("*.safetensors")) and not (path / INDEX_FILE).exists():
        raise refuse_pickles(name, pickles)
    files = weight_files(path)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise IncompleteCheckpointError(f"{path} lacks weights: {', '.join(missing)}")
    names = frozenset[str]().union(*(safetensors_file.inspect(file).tensors for file in files))
    if "quantization_config" not in config:  # quantisation methods have their own names for what a matrix consists of
        absent = [tensor for tensor in tensor_names(config) if tensor not in names]
        if absent:
            raise IncompleteCheckpointError(f"the weight files of {path} lack {len(absent)} tensors ({absent[0]}, ...)")


def tensor_names(config: Mapping[str, Any]) -> Iterator[str]:
    """The weights of a Qwen2 causal language model."""
    yield "model.embed_tokens.weight"
    for layer in range(config["num_hidden_layers"]):
        for module in ("input_layernorm", "post_attention_layernorm", *MATRICES):
            yield f"model.layers.{layer}.{module}.weight"
        for module in BIASED:
            yield f"model.layers.{layer}.{module}.bias"
    yield "model.norm.weight"
    if not config.get("tie_word_embeddings", False):
        yield "lm_head.weight"


def weight_files(path: Path) -> tuple[Path, ...]:
    """What transformers would load of a folder: one file, or those that the index names, in the order of their names.

    Raises:
        IncompleteCheckpointError: The index is damaged, or names files that are not in the folder.
    """
    index = path / INDEX_FILE
    if (path / SINGLE_FILE).exists() or not index.exists():
        return (path / SINGLE_FILE,)
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise IncompleteCheckpointError(f"{index} names no weight files")
    for shard in shards.values():
        if not isinstance(shard, str) or not SHARD.fullmatch(shard):
            raise IncompleteCheckpointError(f"{index} names {shard!r}, which is no safetensors file of its folder")
    return tuple(path / shard for shard in sorted(set(shards.values())))


def _check_tokenizer(path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (path / name).exists() and not (path / name).is_file():
            raise IncompleteCheckpointError(f"{path / name} is damaged: it is no regular file")
    if not (path / "tokenizer.json").exists():
        raise IncompleteCheckpointError(f"{path} lacks tokenizer.json")
    config = path / "tokenizer_config.json"
    has_template = (path / "chat_template.jinja").exists()
    if not has_template and not (config.exists() and read_object(config).get("chat_template")):
        raise IncompleteCheckpointError(
            f"{path} lacks a chat template (chat_template.jinja, or an entry in tokenizer_config.json)"
        )


def _advice(path: Path, name: str) -> str:
    if expanded(name).is_dir():
        return (
            "Copy or download the folder again; `langchain-qwen pull coder-1.5b` makes a complete one to compare with"
        )
    return f"Run `langchain-qwen pull {name}` to complete {path}"
