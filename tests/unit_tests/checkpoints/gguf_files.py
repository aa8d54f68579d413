"""GGUF files and wheels like the real ones, small."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import gguf
import numpy as np
from safetensors.torch import load_file
from tokenizers import Tokenizer

from langchain_qwen.checkpoints.aliases import Release

LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor of transformers."""
    parts = name.split(".")
    if parts[1] != "layers":
        return {"embed_tokens": "token_embd", "norm": "output_norm"}[parts[1]] + ".weight"
    return f"blk.{parts[2]}.{LAYER_NAMES['.'.join(parts[3:-1])]}.{parts[-1]}"


def write_gguf(
    checkpoint: Path,
    file: Path,
    *,
    quantization: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    architecture: str = "qwen2",
    spoilt_embedding: bool = False,
) -> Path:
    """Write a checkpoint as llama.cpp's converter does: matrices quantised, vectors in fp32.

    Args:
        checkpoint: A Hugging Face folder.
        file: Where to.
        quantization: Of the matrices.
        architecture: The name in the metadata.
        spoilt_embedding: Store the embedding apart from the output layer and much more coarsely.
    """
    config = json.loads((checkpoint / "config.json").read_text())
    tokenizer_config = json.loads((checkpoint / "tokenizer_config.json").read_text())
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    added = {i: token.special for i, token in tokenizer.get_added_tokens_decoder().items()}
    count = tokenizer.get_vocab_size()
    tokens = [tokenizer.id_to_token(i) for i in range(count)] + [
        f"[PAD{i}]" for i in range(count, config["vocab_size"])
    ]
    types = [
        gguf.TokenType.UNUSED
        if i >= count
        else gguf.TokenType.NORMAL
        if i not in added
        else gguf.TokenType.CONTROL
        if added[i]
        else gguf.TokenType.USER_DEFINED
        for i in range(config["vocab_size"])
    ]
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.token_to_id("<|endoftext|>"))
    writer.add_eos_token_id(tokenizer.token_to_id(tokenizer_config["eos_token"]))
    writer.add_pad_token_id(tokenizer.token_to_id(tokenizer_config["pad_token"]))
    writer.add_chat_template(tokenizer_config["chat_template"])
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        values = tensor.float().numpy()
        if name == "model.embed_tokens.weight" and spoilt_embedding:
            writer.add_tensor("output.weight", values)
            values = np.round(values)
        if values.ndim == 1:
            writer.add_tensor(gguf_name(name), values)
        else:
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(values, quantization), raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def make_release(gguf_file: Path, *, alias: str = "tiny", parts: int = 3) -> Release:
    """A release that consists of this file."""
    data = gguf_file.read_bytes()
    return Release(
        alias=alias,
        title="Qwen2.5-Tiny-Instruct",
        package=f"{alias}-model-part",
        version="1.0",
        parts=parts,
        gguf_bytes=len(data),
        gguf_sha256=hashlib.sha256(data).hexdigest(),
        parameters=100_000,
    )


def write_wheels(release: Release, gguf_file: Path, folder: Path) -> None:
    """Cut the file into wheels: a little code that must never run, and a piece of data."""
    data = gguf_file.read_bytes()
    size = -(-len(data) // release.parts)
    folder.mkdir()
    for number in range(1, release.parts + 1):
        module = f"{release.package}{number}".replace("-", "_")
        with zipfile.ZipFile(folder / f"{module}-{release.version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{module}/__init__.py", "raise SystemExit('the wheels are never imported')")
            wheel.writestr(f"{module}/data/part{number:02}.bin", data[(number - 1) * size : number * size])
