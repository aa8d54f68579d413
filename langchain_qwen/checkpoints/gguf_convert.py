"""From a GGUF file of a Qwen2 model to a standard Hugging Face folder with bf16 safetensors."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np
from gguf.quants import dequantize
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from langchain_qwen.errors import UnsupportedModelError

# Names of the modules in the GGUF file and in transformers (llama.cpp keeps Qwen2's rotary layout: no permutation).
OUTER = {"token_embd": "model.embed_tokens", "output": "model.embed_tokens", "output_norm": "model.norm"}
IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SLAB = 1 << 22  # numbers to dequantise at a time
# Control tokens for llama.cpp, which goes by their looks; ordinary added tokens in Qwen's tokenizer, which keeps
# them when special tokens are skipped.
VISIBLE_TOKENS = frozenset(
    {"<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"}
)


def convert(source: Path, folder: Path, sampling: Mapping[str, Any], advance: Callable[[int], None]) -> None:
    """Write the checkpoint into a new folder.

    Args:
        source: The GGUF file.
        folder: Where to; it must not exist.
        sampling: The part of generation_config.json that a GGUF file does not hold.
        advance: Called with the number of bytes of weights written since the last call.

    Raises:
        UnsupportedModelError: The file holds another kind of model.
    """
    reader = gguf.GGUFReader(source)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    if fields["general.architecture"] != "qwen2":
        raise UnsupportedModelError(
            f"{source.name} holds a {fields['general.architecture']!r} model; only Qwen2 and Qwen2.5 can be converted"
        )
    folder.mkdir(parents=True)
    tensors = _by_transformers_name(reader.tensors)
    with (folder / "model.safetensors").open("wb") as file:
        _write_bf16(file, tensors, advance)
    _tokenizer(fields).save(str(folder / "tokenizer.json"))
    _write_json(folder / "config.json", _config(fields, vocab_size=int(tensors["model.embed_tokens.weight"].shape[-1])))
    _write_json(folder / "generation_config.json", _generation_config(fields, sampling))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(fields))


def _by_transformers_name(tensors: Iterable[gguf.ReaderTensor]) -> dict[str, gguf.ReaderTensor]:
    """The tensors under their names in transformers.

    Qwen's small models tie embedding and output layer. A file that holds both keeps the output layer in the finer
    quantisation, so that one serves as both.
    """
    named = {}
    for tensor in sorted(tensors, key=lambda t: t.name == "output.weight"):
        *layer, module, kind = tensor.name.split(".")
        name = f"model.layers.{layer[1]}.{IN_LAYER[module]}" if layer else OUTER[module]
        named[f"{name}.{kind}"] = tensor
    return named


def _write_bf16(file: BinaryIO, tensors: Mapping[str, gguf.ReaderTensor], advance: Callable[[int], None]) -> None:
    """Write a safetensors file one tensor at a time.

    The library's own writer takes all tensors at once, which needs three times the memory with the 1.5B model.
    Format: the header's length as 64 bits, the header as JSON, the data (the safetensors README).
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        shape = [int(size) for size in reversed(tensor.shape)]  # GGUF counts from the innermost dimension
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for tensor in tensors.values():
        rows = np.atleast_2d(tensor.data)
        step = max(1, SLAB * len(rows) // int(tensor.n_elements))
        for first in range(0, len(rows), step):
            data = as_bf16(dequantize(rows[first : first + step], tensor.tensor_type))
            file.write(data.data)
            advance(data.nbytes)


def as_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The nearest bfloat16 numbers, of two equally near ones the even one, as their bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    # Rounding could turn what is no number into infinity, or wrap round.
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)


def _config(fields: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    layers = fields["qwen2.block_count"]
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "hidden_act": "silu",
        "hidden_size": fields["qwen2.embedding_length"],
        "initializer_range": 0.02,
        "intermediate_size": fields["qwen2.feed_forward_length"],
        "max_position_embeddings": fields["qwen2.context_length"],
        "max_window_layers": layers,
        "model_type": "qwen2",
        "num_attention_heads": fields["qwen2.attention.head_count"],
        "num_hidden_layers": layers,
        "num_key_value_heads": fields["qwen2.attention.head_count_kv"],
        "rms_norm_eps": _shortest(fields["qwen2.attention.layer_norm_rms_epsilon"]),
        "rope_theta": _shortest(fields["qwen2.rope.freq_base"]),
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": vocab_size,
    }


def _generation_config(fields: Mapping[str, Any], sampling: Mapping[str, Any]) -> dict[str, Any]:
    eos, pad = fields["tokenizer.ggml.eos_token_id"], fields["tokenizer.ggml.padding_token_id"]
    # An answer ends with <|im_end|>; Qwen lists its padding token <|endoftext|> as a second end.
    ids = {"bos_token_id": fields["tokenizer.ggml.bos_token_id"], "pad_token_id": pad, "eos_token_id": [eos, pad]}
    return ids | dict(sampling)


def _tokenizer_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    tokens = fields["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": tokens[fields["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[fields["tokenizer.ggml.padding_token_id"]],
        "model_max_length": fields["qwen2.context_length"],
        "chat_template": fields["tokenizer.chat_template"],
    }


def _tokenizer(fields: Mapping[str, Any]) -> Tokenizer:
    """Byte-level BPE with Qwen's normalisation and split pattern.

    Tokens of the type UNUSED are left out: they only name the rows that pad the embedding to a round size.
    """
    kinds = list(zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"], strict=True))
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    vocab = {token: i for i, (token, kind) in enumerate(kinds) if kind == gguf.TokenType.NORMAL}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in kinds:
        if kind == gguf.TokenType.CONTROL and token not in VISIBLE_TOKENS:
            tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True)])
        elif kind in (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED):
            tokenizer.add_tokens([AddedToken(token, normalized=False, special=False)])
    return tokenizer


def _shortest(value: float) -> float:
    """The number a 32-bit float was written as: 1e-06 rather than 9.999999974752427e-07."""
    return float(str(np.float32(value)))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
