"""The smaller alias, for real: downloaded if it is not here yet, and converted once a test needs it."""

from __future__ import annotations

import time

import pytest
from safetensors import safe_open
from transformers import AutoTokenizer

from langchain_qwen.checkpoints import RELEASES, Checkpoint, alias_folder, pull, resolve
from langchain_qwen.checkpoints.folder import tensor_names
from langchain_qwen.checkpoints.pulling import in_safetensors

HIDDEN, FEED_FORWARD, KEYS, VOCABULARY, LAYERS = 896, 4864, 128, 151_936, 24

# Ids of the published tokenizer, from Qwen's own documentation of the chat format and its control tokens.
KNOWN_IDS = {
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n": [
        *(151644, 8948, 198, 2610, 525, 1207, 16948, 11, 3465, 553, 54364, 14817, 13),
        *(1446, 525, 264, 10950, 17847, 13, 151645, 198),
    ],
    "<|endoftext|><tool_call></tool_call><|fim_prefix|><|file_sep|>": [151643, 151657, 151658, 151659, 151664],
}


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return resolve("coder-0.5b")


def test_a_second_pull_is_instant(checkpoint: Checkpoint) -> None:
    started = time.perf_counter()
    assert pull("coder-0.5b") == checkpoint.place
    assert time.perf_counter() - started < 2
    folder = alias_folder("coder-0.5b")
    assert checkpoint.place in (folder, folder / "coder-0.5b.gguf")
    assert not [entry.name for entry in folder.parent.glob(".coder-0.5b.partial*")]


def test_it_is_the_published_model(checkpoint: Checkpoint) -> None:
    converted = in_safetensors(checkpoint, "bf16")
    assert converted.parameters == RELEASES["coder-0.5b"].parameters == 494_032_768
    assert converted.parameter_bytes == 2 * converted.parameters
    if checkpoint.gguf:  # which has a head of its own
        assert checkpoint.parameters == converted.parameters + VOCABULARY * HIDDEN
        assert checkpoint.gguf[0].stat().st_size == RELEASES["coder-0.5b"].gguf_bytes
    assert checkpoint.context_window == 32_768
    assert checkpoint.vocab_size == VOCABULARY
    assert checkpoint.eos_token_ids == {151645, 151643}
    assert checkpoint.config["rope_theta"] == 1_000_000.0
    assert checkpoint.config["rms_norm_eps"] == 1e-6
    assert checkpoint.generation["repetition_penalty"] == 1.1


def test_shapes(checkpoint: Checkpoint) -> None:
    checkpoint = in_safetensors(checkpoint, "bf16")
    with safe_open(checkpoint.path / "model.safetensors", framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  not a dict
        types = {file.get_slice(name).get_dtype() for name in shapes}
    assert types == {"BF16"}
    assert shapes.keys() == set(tensor_names(checkpoint.config))
    assert shapes["model.embed_tokens.weight"] == (VOCABULARY, HIDDEN)
    assert shapes["model.norm.weight"] == (HIDDEN,)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        assert shapes[prefix + "self_attn.q_proj.weight"] == (HIDDEN, HIDDEN)
        assert shapes[prefix + "self_attn.k_proj.weight"] == (KEYS, HIDDEN)
        assert shapes[prefix + "self_attn.v_proj.bias"] == (KEYS,)
        assert shapes[prefix + "mlp.gate_proj.weight"] == (FEED_FORWARD, HIDDEN)
        assert shapes[prefix + "mlp.down_proj.weight"] == (HIDDEN, FEED_FORWARD)


def test_tokenizer(checkpoint: Checkpoint) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path)
    for text, ids in KNOWN_IDS.items():
        assert tokenizer(text)["input_ids"] == ids
        assert tokenizer.decode(ids) == text
    assert len(tokenizer) == 151_665
    assert (
        tokenizer.decode([151644, 9707, 151659, 151657], skip_special_tokens=True) == "Hello<|fim_prefix|><tool_call>"
    )
    asked = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)
    assert asked.startswith(next(iter(KNOWN_IDS)))
    assert asked.endswith("<|im_start|>user\nHello<|im_end|>\n")
