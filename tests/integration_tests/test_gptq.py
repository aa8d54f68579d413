"""Real GPTQ and AWQ checkpoints, made by a tool of its own.

LANGCHAIN_QWEN_TEST_GPTQ names their folders, separated as in PATH; `langchain-qwen quantize` makes one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from langchain_qwen import ChatQwen
from langchain_qwen.checkpoints import open_folder
from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.loading import load_runner
from langchain_qwen.engine.runners.cpu.packing import Packed, unpack
from langchain_qwen.engine.runners.protocol import Chunk
from langchain_qwen.prompting import Tokenizer
from tests.quantised import dequantise

FOLDERS = [Path(name) for name in os.environ.get("LANGCHAIN_QWEN_TEST_GPTQ", "").split(os.pathsep) if name]
TEXT = (
    "The Danube rises in the Black Forest and flows through ten countries before it reaches the Black Sea.\n"
    "def area(radius: float) -> float:\n    return math.pi * radius**2\n"
)
pytestmark = pytest.mark.skipif(not FOLDERS, reason="LANGCHAIN_QWEN_TEST_GPTQ names no quantised checkpoint")


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def checkpoint(request):
    return open_folder(request.param)


@pytest.fixture(scope="module")
def dense(checkpoint):
    """All weights of the checkpoint in float32."""
    tensors = {name: t for file in checkpoint.weight_files for name, t in load_file(file).items()}
    layers = sorted(name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight"))
    assert layers
    weights = {name: t.float() for name, t in tensors.items() if name.endswith((".weight", ".bias"))}
    own = checkpoint.config["quantization_config"]
    weights.update({f"{layer}.weight": dequantise(tensors, layer, own) for layer in layers})
    return weights


@pytest.fixture(scope="module")
def runner(checkpoint):
    runner = load_runner(checkpoint, precision="auto", device="cpu")
    runner.allocate(64)
    yield runner
    runner.close()


def in_own_order(packed: Packed) -> np.ndarray:
    weights = unpack(packed)
    return weights if packed.order is None else weights[:, np.argsort(packed.order)]


def test_every_weight_is_that_of_the_checkpoint(checkpoint, dense, runner):
    symmetric = checkpoint.config["quantization_config"].get("sym", False)
    worst = 0.0
    for i, layer in enumerate(runner._weights.layers):
        name = f"model.layers.{i}."
        pairs = [
            (in_own_order(layer.qkv[0]), [f"{name}self_attn.{x}_proj" for x in "qkv"]),
            (in_own_order(layer.out), [f"{name}self_attn.o_proj"]),
            # Rows of gate and up may have changed places, together with the columns of down.
            (np.sort(in_own_order(layer.gate_up[0]), axis=0), [f"{name}mlp.gate_proj", f"{name}mlp.up_proj"]),
            (np.sort(in_own_order(layer.down), axis=1), [f"{name}mlp.down_proj"]),
        ]
        for packed, layers in pairs:
            expected = np.concatenate([dense[f"{part}.weight"].numpy() for part in layers])
            axis = {"mlp.gate_proj": 0, "mlp.down_proj": 1}.get(layers[0].removeprefix(name))
            if axis is not None:
                expected = np.sort(expected, axis=axis)
            if symmetric:
                np.testing.assert_array_equal(packed, expected)
            else:  # scale * zero is rounded to fp16: an offset of zero 15 at most, or 128 for 8 bits
                worst = max(worst, float(np.abs(packed - expected).max() / np.abs(expected).max()))
    assert worst <= 2**-9


def test_logits_are_those_of_transformers(checkpoint, dense, runner):
    plain = {key: value for key, value in checkpoint.config.items() if key != "quantization_config"}
    with torch.device("meta"):
        model = Qwen2ForCausalLM(Qwen2Config.from_dict(plain))
    model.load_state_dict(dense, strict=False, assign=True)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)  # its buffers are no weights
    tokenizer = Tokenizer.from_folder(checkpoint.path, checkpoint.vocab_size, checkpoint.eos_token_ids)
    tokens = tokenizer.encode(TEXT)
    with torch.inference_mode():
        expected = model.eval()(torch.tensor([tokens])).logits[0].double()
    blocks = list(range(-(-len(tokens) // BLOCK_SIZE)))
    actual = torch.from_numpy(runner.step([Chunk(tokens, 0, blocks, len(tokens))]).copy()).double()
    p, q = expected.log_softmax(1), actual.log_softmax(1)
    divergence = (p.exp() * (p - q)).sum(1).mean().item()
    same = (p.argmax(1) == q.argmax(1)).double().mean().item()
    figures = {"folder": checkpoint.path.name, "tokens": len(tokens), "kl": divergence, "same_top": same}
    print(json.dumps(figures))  # noqa: T201
    # Activations and the head have 8 bits here.
    assert divergence < 0.02
    assert same > 0.85


def test_it_answers(checkpoint):
    if checkpoint.config["num_hidden_layers"] < 24:
        pytest.skip("a cut of a model says nothing sensible")
    with ChatQwen(model=str(checkpoint.path), temperature=0, max_tokens=40) as model:
        assert "Paris" in model.invoke("What is the capital of France?").text
