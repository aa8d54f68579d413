"""A GGUF file of a Qwen2 checkpoint in 4 bits, named and laid out as llama.cpp's converter does it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from gguf.quants import quantize
from numpy.typing import NDArray
from tokenizers import Tokenizer

from langchain_qwen.bars import Bar
from langchain_qwen.checkpoints import Checkpoint
from langchain_qwen.checkpoints.folder import tensor_names
from langchain_qwen.checkpoints.gguf_checkpoint import EMBEDDING, HEAD
from langchain_qwen.checkpoints.gguf_file import KINDS, Kind
from langchain_qwen.checkpoints.gguf_metadata import ARCHITECTURE, IN_LAYER, OUTER, SAMPLING_KEYS, SCALING
from langchain_qwen.checkpoints.limits import head_dim
from langchain_qwen.checkpoints.rope import read_rope
from langchain_qwen.checkpoints.safetensors_file import as_float32
from langchain_qwen.engine.runners.cpu.fitting import Products, fit, fitted_kind
from langchain_qwen.engine.runners.cpu.source import Source, feeding
from langchain_qwen.errors import UnsupportedModelError
from langchain_qwen.prompting.template import ChatTemplate

F32, Q8_0 = 0, 8  # llama.cpp's numbers
QUANTIZATION_VERSION = 2
HEADER_BYTES = 20_000_000  # more than tokens, merges and names take
SLAB = 4096  # rows of the embedding at a time


class Entry(NamedTuple):
    """A tensor to be written: its names there and in the checkpoint, its type and shape."""

    name: str
    weight: str
    number: int
    shape: tuple[int, ...]

    @property
    def kind(self) -> Kind:
        """Its type."""
        return KINDS[self.number]

    @property
    def nbytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) // self.kind.numbers * self.kind.nbytes


def check_metadata(source: Checkpoint) -> None:
    """Raise UnsupportedModelError for what the metadata of such a file cannot say."""
    if not source.eos_token_ids:
        raise UnsupportedModelError(f"{source.name} does not say which token ends an answer (eos_token_id)")
    if source.eos_token_ids - set(_ends(source)):
        raise UnsupportedModelError(
            f"answers of {source.name} end at {len(source.eos_token_ids)} different tokens, and a GGUF file names two"
        )
    if source.config["vocab_size"] % 8:
        raise UnsupportedModelError(f"{source.name} has {source.config['vocab_size']} tokens, no multiple of 8")
    rope = read_rope(source.config, source.name)
    if rope.yarn is not None:
        plain = {"rope_type": "yarn", "factor": rope.yarn.factor, "rope_theta": rope.theta}
        plain["original_max_position_embeddings"] = rope.yarn.original_window
        numbers = {"max_position_embeddings": source.config["max_position_embeddings"]}
        if read_rope({**numbers, "rope_scaling": plain}, source.name) != rope:
            raise UnsupportedModelError(f"{source.name} has settings of YaRN that a GGUF file does not hold")


def file_bytes(source: Checkpoint) -> int:
    """How large the file will be, or a little less."""
    return HEADER_BYTES + sum(entry.nbytes for entry in _entries(source, Source(source.path)))


def write_int4(source: Checkpoint, file: Path, products: Mapping[str, Products], pool: ThreadPoolExecutor) -> None:
    """Write the file: matrices fitted to what was seen, the embedding in 8 bits, vectors as they are.

    Args:
        source: A checkpoint in floating point, in safetensors.
        file: Where to; what is there is overwritten.
        products: Of what each matrix of `source.matrices` was given.
        pool: Threads to work on.
    """
    tensors = Source(source.path)
    entries = list(_entries(source, tensors))
    fed_as = feeding(tensors, source.config["num_hidden_layers"])
    writer = GGUFWriter(file, ARCHITECTURE)
    try:
        _describe(writer, source)
        for entry in entries:
            kind = GGMLQuantizationType(entry.number)
            writer.add_tensor_info(entry.name, entry.shape, np.dtype(np.float32), entry.nbytes, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        with Bar("Fitting the weights", sum(math.prod(entry.shape) for entry in entries)) as bar:
            for entry in entries:
                if entry.number == F32:
                    data: NDArray[Any] = tensors.vector(entry.weight, entry.shape[0])
                elif entry.number == Q8_0:
                    data = _in_8_bits(tensors.floats(entry.weight, entry.shape))
                else:
                    data = fit(tensors.floats(entry.weight, entry.shape), products[fed_as[entry.weight]].means(), pool)
                writer.write_tensor_data(data)
                bar.advance(math.prod(entry.shape))
    finally:
        writer.close()


def _entries(source: Checkpoint, tensors: Source) -> Iterator[Entry]:
    """All tensors; the head has one of its own, since it is rounded and the embedding hardly."""
    head = HEAD if HEAD in tensors else EMBEDDING
    for weight in tensor_names(source.config):
        shape = tensors[weight].shape
        if weight == EMBEDDING:
            yield Entry("token_embd.weight", weight, Q8_0, shape)
        elif weight != HEAD:
            yield Entry(_name(weight), weight, fitted_kind(shape[1]) if len(shape) == 2 else F32, shape)
    shape = tensors.floats(head).shape
    yield Entry("output.weight", head, fitted_kind(shape[1]), shape)


def _name(weight: str) -> str:
    """llama.cpp's name of a tensor of transformers."""
    module, _, kind = weight.rpartition(".")
    for own, theirs in OUTER.items():
        if module == theirs:
            return f"{own}.{kind}"
    _, _, layer, inner = module.split(".", 3)
    return f"blk.{layer}.{next(own for own, theirs in IN_LAYER.items() if theirs == inner)}.{kind}"


def _in_8_bits(embedding: NDArray[Any]) -> NDArray[np.uint8]:
    kind = GGMLQuantizationType.Q8_0
    rows = range(0, len(embedding), SLAB)
    return np.concatenate([quantize(as_float32(embedding[first : first + SLAB]), kind) for first in rows])


def _ends(source: Checkpoint) -> tuple[int, int]:
    """The token that ends an answer, and the other one, which pads."""
    ids: Any = source.generation.get("eos_token_id", source.config.get("eos_token_id"))
    first, *others = ids if isinstance(ids, list) else [ids]
    pad: Any = source.generation.get("pad_token_id", source.config.get("pad_token_id"))
    return first, others[0] if others else first if pad is None else pad


def _describe(writer: GGUFWriter, source: Checkpoint) -> None:
    """The metadata, as llama.cpp and our own reader want it."""
    config, rope = source.config, read_rope(source.config, source.name)
    size = head_dim(config)
    writer.add_name(source.name.rstrip("/").rpartition("/")[2])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    if size * config["num_attention_heads"] != config["hidden_size"]:
        writer.add_key_length(size)
        writer.add_value_length(size)
    writer.add_rope_freq_base(rope.theta)
    if rope.yarn is not None:
        writer.add_string(f"{SCALING}type", "yarn")
        writer.add_float32(f"{SCALING}factor", rope.yarn.factor)
        writer.add_uint32(f"{SCALING}original_context_length", rope.yarn.original_window)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(LlamaFileType.MOSTLY_Q4_K_S)
    writer.add_quantization_version(QUANTIZATION_VERSION)
    for key, setting in SAMPLING_KEYS.items():
        value = source.generation.get(setting)
        if value is not None:
            (writer.add_uint32 if setting == "top_k" else writer.add_float32)(key, value)
    _describe_tokenizer(writer, source)


def _describe_tokenizer(writer: GGUFWriter, source: Checkpoint) -> None:
    tokenizer = Tokenizer.from_file(str(source.path / "tokenizer.json"))
    added = tokenizer.get_added_tokens_decoder()
    tokens, kinds = [], []
    for number in range(source.vocab_size):
        token = tokenizer.id_to_token(number)
        tokens.append(f"[PAD{number}]" if token is None else token)
        if token is None:
            kinds.append(TokenType.UNUSED)
        elif number in added:
            kinds.append(TokenType.CONTROL if added[number].special else TokenType.USER_DEFINED)
        else:
            kinds.append(TokenType.NORMAL)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    eos, pad = _ends(source)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(ARCHITECTURE)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    bos = source.config.get("bos_token_id")
    writer.add_bos_token_id(pad if bos is None else bos)
    writer.add_eos_token_id(eos)
    writer.add_pad_token_id(pad)
    writer.add_add_bos_token(False)
    writer.add_chat_template(ChatTemplate.from_folder(source.path).source)
