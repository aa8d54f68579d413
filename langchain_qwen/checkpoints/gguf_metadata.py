"""What a GGUF file says of a Qwen2 model, as the files of a Hugging Face folder say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from langchain_qwen.checkpoints.gguf_file import GgufFile
from langchain_qwen.errors import IncompleteCheckpointError, UnsupportedModelError, panics_as

ARCHITECTURE = "qwen2"
# Names of the modules in the GGUF file and in transformers (llama.cpp keeps Qwen2's rotary layout: no permutation).
OUTER = {"token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm"}
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
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # llama.cpp's types of tokens
# Control tokens for llama.cpp, which goes by their looks; ordinary added tokens in Qwen's tokenizer, which keeps
# them when special tokens are skipped.
VISIBLE_TOKENS = frozenset(
    {"<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"}
)

# Few files say how Qwen samples; these are the values of the releases' generation_config.json. From 3B on the
# repetition penalty is smaller.
SAMPLING_DEFAULTS = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1}
LARGER_HIDDEN, LARGER_PENALTY = 2048, 1.05
SAMPLING_KEYS = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_p": "top_p",
    "general.sampling.top_k": "top_k",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}
# Without a version transformers and vLLM take a checkpoint for one of those with a wrong tokenizer, and warn.
TRANSFORMERS_VERSION = "5.0.0"
SCALING = "qwen2.rope.scaling."
SCALING_READ = {"type", "factor", "original_context_length", "finetuned"}


class ModelFiles(NamedTuple):
    """The small files of a checkpoint folder, by what they hold."""

    config: dict[str, Any]
    generation: dict[str, Any]
    tokenizer_config: dict[str, Any]


def transformers_name(name: str) -> str | None:
    """The name of a GGUF tensor in transformers; None for one that Qwen2 models do not have."""
    match name.split("."):
        case [module, "weight"] if module in OUTER:
            return f"{OUTER[module]}.weight"
        case ["blk", number, module, ("weight" | "bias") as kind] if module in IN_LAYER and _is_index(number):
            return f"model.layers.{number}.{IN_LAYER[module]}.{kind}"
    return None


def read_files(file: GgufFile, vocab_size: int, *, tied: bool) -> ModelFiles:
    """What config.json, generation_config.json and tokenizer_config.json would hold.

    Args:
        file: The file, or the first one of a model that is split.
        vocab_size: Rows of the embedding.
        tied: Whether the embedding is the output layer too.

    Raises:
        UnsupportedModelError: It is no Qwen2 model.
        IncompleteCheckpointError: Something is missing or of a wrong type.
    """
    fields = Fields(file)
    architecture = fields.text("general.architecture")
    if architecture != ARCHITECTURE:
        raise UnsupportedModelError(
            f"{file.name} holds a {architecture[:80]!r} model; only Qwen2 and Qwen2.5 ({ARCHITECTURE!r}) can be read"
        )
    kind, split = fields.text("tokenizer.ggml.model"), fields.text("tokenizer.ggml.pre", "missing")
    if (kind, split) != ("gpt2", ARCHITECTURE):
        raise UnsupportedModelError(
            f"{file.name} has a tokenizer of the kind {kind[:80]!r} with the split {split[:80]!r}, and Qwen2's is "
            "'gpt2' with 'qwen2'; take a file that a current llama.cpp has converted"
        )
    return ModelFiles(_config(fields, vocab_size, tied=tied), _generation(fields), _tokenizer_config(fields))


class Fields:
    """The metadata of a file, each value of the type that it should have."""

    def __init__(self, file: GgufFile):
        self.file = file
        self.values: Mapping[str, Any] = file.header.metadata

    def number(self, key: str, default: int | None = None) -> int:
        """A whole number."""
        value = self.values.get(key, default)
        if type(value) is not int:
            raise self.damaged(key, "a whole number")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A number, as short as the 32-bit float was written: 1e-06 rather than 9.999999974752427e-07."""
        value = self.values.get(key, default)
        if type(value) not in (int, float) or not np.isfinite(value):
            raise self.damaged(key, "a finite number")
        return float(str(np.float32(value)))

    def text(self, key: str, default: str | None = None) -> str:
        """A text."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.damaged(key, "a text")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts."""
        texts = self.file.texts(key)
        if not texts:
            raise self.damaged(key, "a list of texts")
        return texts

    def numbers(self, key: str) -> list[int]:
        """A list of whole numbers."""
        value = self.values.get(key)
        if not isinstance(value, list) or not all(type(entry) is int for entry in value):
            raise self.damaged(key, "a list of whole numbers")
        return value

    def damaged(self, key: str, expected: str) -> IncompleteCheckpointError:
        """The error for a value of another type."""
        what = f"its {key} is not {expected}" if key in self.values else f"it lacks {key}"
        return IncompleteCheckpointError(f"{self.file.name} is damaged: {what}; copy or download it again")


def read_tokenizer(file: GgufFile) -> Tokenizer:
    """Byte-level BPE with Qwen's normalisation and split pattern.

    Tokens of the type UNUSED are left out: they only name the rows that pad the embedding to a round size.

    Raises:
        IncompleteCheckpointError: The vocabulary contradicts itself.
    """
    fields = Fields(file)
    tokens, kinds = fields.texts("tokenizer.ggml.tokens"), fields.numbers("tokenizer.ggml.token_type")
    if len(tokens) != len(kinds) or len(set(tokens)) != len(tokens):
        raise fields.damaged("tokenizer.ggml.tokens", "a list of different tokens with a type for each")
    texts = fields.texts("tokenizer.ggml.merges")
    if any(merge.count(" ") != 1 for merge in texts):
        raise fields.damaged("tokenizer.ggml.merges", "a list of pairs")
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in texts)]
    vocab = {token: i for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind == NORMAL}
    damaged = f"{file.name} is damaged: its tokenizer cannot be built; copy or download it again"
    try:
        with panics_as(IncompleteCheckpointError, damaged):
            tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    except IncompleteCheckpointError:
        raise
    except Exception as error:  # the library raises plain ones
        raise IncompleteCheckpointError(f"{damaged} ({error})") from error
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        if kind not in (CONTROL, USER_DEFINED):
            continue
        if kind == CONTROL and token not in VISIBLE_TOKENS:
            tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True)])
        else:
            tokenizer.add_tokens([AddedToken(token, normalized=False, special=False)])
        if tokenizer.token_to_id(token) != i:  # the library numbers them on
            raise fields.damaged("tokenizer.ggml.tokens", "a list in which the added tokens come last")
    return tokenizer


def _config(fields: Fields, vocab_size: int, *, tied: bool) -> dict[str, Any]:
    layers = fields.number("qwen2.block_count")
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": fields.number("tokenizer.ggml.bos_token_id", fields.number("tokenizer.ggml.eos_token_id")),
        "eos_token_id": fields.number("tokenizer.ggml.eos_token_id"),
        "hidden_act": "silu",
        "hidden_size": fields.number("qwen2.embedding_length"),
        "initializer_range": 0.02,
        "intermediate_size": fields.number("qwen2.feed_forward_length"),
        "max_position_embeddings": fields.number("qwen2.context_length"),
        "max_window_layers": layers,
        "model_type": "qwen2",
        "num_attention_heads": fields.number("qwen2.attention.head_count"),
        "num_hidden_layers": layers,
        "num_key_value_heads": fields.number("qwen2.attention.head_count_kv"),
        "rms_norm_eps": fields.real("qwen2.attention.layer_norm_rms_epsilon"),
        "rope_theta": fields.real("qwen2.rope.freq_base", 10_000.0),
        "sliding_window": None,
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "transformers_version": TRANSFORMERS_VERSION,
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": vocab_size,
    }
    if "qwen2.attention.key_length" in fields.values:
        config["head_dim"] = fields.number("qwen2.attention.key_length")
    if scaling := _scaling(fields):
        config["rope_scaling"] = scaling
    return config


def _scaling(fields: Fields) -> dict[str, Any] | None:
    """How positions are stretched, as `rope.read_rope` reads it."""
    if fields.text(f"{SCALING}type", "none") == "none":
        return None
    unknown = {key for key in fields.values if key.startswith(SCALING)} - {SCALING + key for key in SCALING_READ}
    if unknown:
        raise UnsupportedModelError(
            f"{fields.file.name} says {min(unknown)[:80]}, which is not computed here; take a file without it"
        )
    scaling = {"rope_type": fields.text(f"{SCALING}type"), "factor": fields.real(f"{SCALING}factor")}
    if f"{SCALING}original_context_length" in fields.values:
        scaling["original_max_position_embeddings"] = fields.number(f"{SCALING}original_context_length")
    return scaling


def _generation(fields: Fields) -> dict[str, Any]:
    eos = fields.number("tokenizer.ggml.eos_token_id")
    pad = fields.number("tokenizer.ggml.padding_token_id", eos)
    # An answer ends with <|im_end|>; Qwen lists its padding token <|endoftext|> as a second end.
    ids = {
        "bos_token_id": fields.number("tokenizer.ggml.bos_token_id", eos),
        "pad_token_id": pad,
        "eos_token_id": sorted({eos, pad}, reverse=True),
    }
    sampling: dict[str, Any] = dict(SAMPLING_DEFAULTS)
    if fields.number("qwen2.embedding_length") >= LARGER_HIDDEN:
        sampling["repetition_penalty"] = LARGER_PENALTY
    read: Mapping[str, Callable[[str], Any]] = {"top_k": fields.number}
    own = {setting: key for key, setting in SAMPLING_KEYS.items() if key in fields.values}
    sampling |= {setting: read.get(setting, fields.real)(key) for setting, key in own.items()}
    return ids | sampling


def _tokenizer_config(fields: Fields) -> dict[str, Any]:
    tokens = fields.texts("tokenizer.ggml.tokens")
    eos = fields.number("tokenizer.ggml.eos_token_id")
    pad = fields.number("tokenizer.ggml.padding_token_id", eos)
    if not (0 <= eos < len(tokens) and 0 <= pad < len(tokens)):
        raise fields.damaged("tokenizer.ggml.eos_token_id", "one of its tokens")
    if "tokenizer.chat_template" not in fields.values:
        raise IncompleteCheckpointError(
            f"{fields.file.name} lacks a chat template (tokenizer.chat_template); take a file of an instruct model"
        )
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": tokens[eos],
        "pad_token": tokens[pad],
        "model_max_length": fields.number("qwen2.context_length"),
        "chat_template": fields.text("tokenizer.chat_template"),
    }


def _is_index(number: str) -> bool:
    return number.isascii() and number.isdecimal() and number == str(int(number)) and len(number) <= 5
