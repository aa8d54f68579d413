"""The numbers of a config.json, checked in one place before anything is allocated, mapped or computed by them.

A config.json is input like any other. What is damaged (no number, out of all proportion, in contradiction) is told
from what is whole but another kind of model, which would answer wrongly if it were run as a plain Qwen2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import TypeIs

from langchain_qwen.checkpoints.rope import read_rope
from langchain_qwen.errors import IncompleteCheckpointError, UnsupportedModelError

# The largest that the engine holds (model.h), several times what the largest Qwen2.5 has.
LARGEST = {
    "num_hidden_layers": 1 << 10,
    "hidden_size": 1 << 16,
    "intermediate_size": 1 << 19,
    "num_attention_heads": 1 << 10,
    "num_key_value_heads": 1 << 10,
    "vocab_size": 1 << 21,
    "max_position_embeddings": 1 << 24,
}
LARGEST_HEAD_DIM = 1 << 10
LARGEST_ATTENDED = 1 << 17  # heads * head_dim
SMALLEST_EPS = 1e-20  # a float32 holds it, and the square root of what it is added to
MAX_EOS_IDS = 1_000

# Defaults of sampling that a generation_config.json may state: smallest and largest.
SAMPLING = {
    "temperature": (0, 100),
    "top_k": (0, 1 << 21),
    "top_p": (SMALLEST_EPS, 1),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 100),
}

# Settings that other models of the Qwen2 type have, with the only value that is computed here.
ONLY = {
    "use_sliding_window": (False,),
    "hidden_act": ("silu", "swish"),
    "attention_bias": (True,),
    "mlp_bias": (False,),
    "partial_rotary_factor": (1, 1.0),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
}


def check_numbers(config: Mapping[str, Any], name: str) -> None:
    """Raise unless the numbers of a config.json describe a model that can be run.

    What only the CPU engine asks for, such as whole groups of columns, it checks itself.

    Raises:
        IncompleteCheckpointError: A number is missing, is none, or contradicts another.
        UnsupportedModelError: It asks for what the engines do not compute.
    """
    for key, largest in LARGEST.items():
        if not _is_int(config.get(key)):
            raise _damaged(name, f"has no number for {key}")
        if not 1 <= config[key] <= largest:
            raise _damaged(name, f"says {key} = {_short(config[key])}, which is not between 1 and {largest:,}")
    _check_heads(config, name)
    eps = config.get("rms_norm_eps")
    if not is_number(eps) or not SMALLEST_EPS <= eps <= 1:
        raise _damaged(name, f"says rms_norm_eps = {_short(eps)}, which is no number between {SMALLEST_EPS} and 1")
    if not isinstance(config.get("tie_word_embeddings", False), bool):
        raise _damaged(name, f"says tie_word_embeddings = {_short(config['tie_word_embeddings'])}, not true or false")
    if not isinstance(config.get("quantization_config", {}), dict):
        raise _damaged(name, "has a quantization_config that is no object")
    for key, values in ONLY.items():
        said = config.get(key)
        if said is not None and not any(type(said) is type(value) and said == value for value in values):
            raise UnsupportedModelError(
                f"the config.json of {name} says {key} = {_short(said)}, and only {values[0]!r} is computed "
                "here; its answers would not be the model's. Use a Qwen2.5 release without it"
            )
    kinds = config.get("layer_types")
    if kinds is not None and kinds != ["full_attention"] * config["num_hidden_layers"]:
        raise UnsupportedModelError(
            f"the config.json of {name} has layer_types other than full_attention for each of its layers, and nothing "
            "else is computed here. Use a Qwen2.5 release without it"
        )
    read_rope(config, name)
    check_eos(config, config["vocab_size"], name)


def head_dim(config: Mapping[str, Any]) -> int:
    """Numbers of an attention head."""
    size: int = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    return size


def check_eos(config: Mapping[str, Any], vocab_size: int, name: str) -> None:
    """Raise unless the tokens that end an answer, in a config.json or generation_config.json, are tokens."""
    ids = config.get("eos_token_id")
    listed = ids if isinstance(ids, list) else [] if ids is None else [ids]
    if len(listed) > MAX_EOS_IDS or not all(_is_int(i) and 0 <= i < vocab_size for i in listed):
        raise _damaged(name, f"says eos_token_id = {_short(ids)}, which are no tokens of its vocabulary")


def check_generation(generation: Mapping[str, Any], vocab_size: int, name: str) -> None:
    """Raise unless a generation_config.json holds what sampling can start from.

    Raises:
        IncompleteCheckpointError: A value is of a wrong type or out of range.
    """
    check_eos(generation, vocab_size, name)
    for key, (smallest, largest) in SAMPLING.items():
        value = generation.get(key)
        if value is not None and not (is_number(value) and smallest <= value <= largest):
            raise _damaged(name, f"(or its generation_config.json) says {key} = {_short(value)}")
    if not _is_int(generation.get("top_k") or 0):
        raise _damaged(name, f"(or its generation_config.json) says top_k = {_short(generation['top_k'])}")


def is_number(value: object) -> TypeIs[int | float]:
    """Whether a value of a JSON file is a finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def _check_heads(config: Mapping[str, Any], name: str) -> None:
    heads, kv_heads, hidden = (config[x] for x in ("num_attention_heads", "num_key_value_heads", "hidden_size"))
    if heads % kv_heads:
        raise _damaged(name, f"says that {heads} attention heads share {kv_heads} heads of keys and values")
    if "head_dim" not in config and hidden % heads:
        raise _damaged(name, f"says that {heads} attention heads share a hidden size of {hidden}")
    size = config.get("head_dim", hidden // heads)
    if not _is_int(size) or not 2 <= size <= LARGEST_HEAD_DIM or size % 2:
        raise _damaged(
            name,
            f"says that a head has {_short(size)} numbers, which is not even and from 2 to {LARGEST_HEAD_DIM:,}",
        )
    if heads * size > LARGEST_ATTENDED:
        raise _damaged(name, f"says that {heads} heads have {size} numbers each, more than {LARGEST_ATTENDED:,} in all")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: object) -> str:
    """A value for an error, however long it is."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _damaged(name: str, what: str) -> IncompleteCheckpointError:
    return IncompleteCheckpointError(f"the config.json of {name} {what}; copy or download the checkpoint again")
