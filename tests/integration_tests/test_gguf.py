"""The smaller alias's GGUF file, read as it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from langchain_qwen import ChatQwen
from langchain_qwen.checkpoints import Checkpoint, resolve
from langchain_qwen.checkpoints.folder import tensor_names
from langchain_qwen.checkpoints.gguf_blocks import dequantize
from langchain_qwen.checkpoints.pulling import in_safetensors
from langchain_qwen.engine.loading import load_runner
from langchain_qwen.engine.runners.cpu.gguf import AsTheFileHasIt, GgufSource
from langchain_qwen.engine.runners.cpu.packing import unpack
from langchain_qwen.engine.runners.cpu.source import matrices
from langchain_qwen.engine.runners.protocol import Chunk

TEXTS = (
    "Water boils at 100 degrees Celsius at sea level, and at lower temperatures high in the mountains.",
    "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\n",
    "Der Zug nach Hamburg fährt um 14:05 Uhr von Gleis 7 ab. Это предложение написано по-русски. 今日は天気がいい。",
)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    checkpoint = resolve("coder-0.5b")
    if not checkpoint.gguf:
        pytest.skip("the alias is a folder that an earlier version has converted")
    return checkpoint


def test_each_matrix_is_held_code_for_code(checkpoint: Checkpoint) -> None:
    source = GgufSource(checkpoint.gguf)
    maker = AsTheFileHasIt(source)
    kinds = set()
    with ThreadPoolExecutor(2) as pool:
        for matrix in matrices(source, checkpoint.config["num_hidden_layers"]):
            if matrix.name not in ("0.qkv", "3.down", "23.qkv", "23.gate_up", "23.down"):
                continue
            for part in maker.split(matrix):
                held, first = unpack(maker.pack(part, pool)), 0
                for name in part.weights:
                    expected = dequantize(source.blocks(name), source.kind(name))
                    np.testing.assert_array_equal(held[first : first + len(expected)], expected)
                    first += len(expected)
                    kinds.add(source.kind(name).name)
                assert first == len(held)
    assert kinds == {"Q5_0", "Q8_0", "Q4_K", "Q6_K"}


def test_it_predicts_what_transformers_does_with_the_same_weights(checkpoint: Checkpoint) -> None:
    source = GgufSource(checkpoint.gguf)
    with torch.device("meta"):
        reference = Qwen2ForCausalLM(Qwen2Config(**checkpoint.config))
    weights = {
        name: torch.from_numpy(
            dequantize(source.blocks(name), source.kind(name)).reshape(reference.get_parameter(name).shape)
        )
        for name in tensor_names(checkpoint.config)
    }
    reference = Qwen2ForCausalLM(Qwen2Config(**checkpoint.config, dtype="float32"))
    reference.load_state_dict(weights, assign=True)
    tokenizer, runner = AutoTokenizer.from_pretrained(checkpoint.path), load_runner(
        checkpoint, precision="auto", device="cpu"
    )  # fmt: skip
    runner.allocate(8)
    try:
        for text in TEXTS:
            ids = tokenizer(text)["input_ids"]
            logits = torch.from_numpy(runner.step([Chunk(ids, 0, list(range(8)), len(ids))]).copy())
            with torch.inference_mode():
                expected = reference(torch.tensor([ids])).logits[0]
            before, after = expected.log_softmax(-1), logits.log_softmax(-1)
            divergence = (before.exp() * (before - after)).sum(-1).mean()
            assert divergence < 0.003  # activations have 8 or 14 bits
    finally:
        runner.close()


def test_the_tokenizer_is_that_of_the_converted_folder(checkpoint: Checkpoint) -> None:
    converted = in_safetensors(checkpoint, "bf16")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (checkpoint.path / name).read_text() == (converted.path / name).read_text()


def test_it_answers_and_int4_is_smaller(checkpoint: Checkpoint) -> None:
    with ChatQwen(model="coder-0.5b", temperature=0, max_tokens=20) as model:
        assert "Paris" in model.invoke("What is the capital of France?").text
    with ChatQwen(model="coder-0.5b", precision="int4", temperature=0, max_tokens=20) as model:
        assert "Paris" in model.invoke("What is the capital of France?").text
