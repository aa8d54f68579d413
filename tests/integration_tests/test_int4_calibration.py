"""The smaller alias's bf16 weights in 4 bits, fitted to a text: products of other texts come nearer, and it answers.

All of it takes a minute or two on two cores.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from langchain_qwen import ChatQwen
from langchain_qwen.checkpoints import Checkpoint, resolve
from langchain_qwen.checkpoints.gguf_blocks import dequantize
from langchain_qwen.checkpoints.gguf_file import KINDS
from langchain_qwen.checkpoints.pulling import in_safetensors
from langchain_qwen.checkpoints.safetensors_file import as_float32
from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.loading import load_runner
from langchain_qwen.engine.local import MAX_STEP_TOKENS
from langchain_qwen.engine.runners.cpu.fitting import Products, fit, fitted_kind
from langchain_qwen.engine.runners.cpu.packing import Packed, int4_form, pack, unpack
from langchain_qwen.engine.runners.cpu.runner import CpuRunner
from langchain_qwen.engine.runners.cpu.source import Source
from langchain_qwen.engine.runners.protocol import Chunk
from langchain_qwen.prompting import Tokenizer
from langchain_qwen.quantizing import BUILT_IN, calibration_texts, quantize_int4, split_rows

OTHERS = (
    "A glacier is ice that flows. Snow falls faster than it melts, year after year, and its weight presses the lower "
    "layers into ice, which creeps downhill by a few centimeters a day and grinds the rock beneath it to flour.",
    "class Stack:\n    def __init__(self):\n        self._items = []\n\n    def push(self, item):\n        "
    "self._items.append(item)\n\n    def pop(self):\n        if not self._items:\n            "
    "raise IndexError('empty')\n",
    "Le marché ouvre à six heures, mais les pêcheurs sont là bien avant. Заседание перенесли на пятницу. "
    "明日は雨でしょう。",
)


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return in_safetensors(resolve("coder-0.5b"), "bf16")


@pytest.fixture(scope="module")
def rows(source: Checkpoint) -> list[list[int]]:
    tokenizer = Tokenizer.from_folder(source.path, source.vocab_size, source.eos_token_ids)
    texts = list(calibration_texts(BUILT_IN.read_text(encoding="utf-8"), BUILT_IN))
    return split_rows(texts, tokenizer, BUILT_IN)[0]


def test_products_of_other_texts_come_nearer(source: Checkpoint, rows: list[list[int]]) -> None:
    tokenizer = Tokenizer.from_folder(source.path, source.vocab_size, source.eos_token_ids)
    # The file holds 21.down in 6 bits; what it holds in Q4_K any fit to Q4_K's grid finds again.
    runner, names = load_runner(source, precision="bf16", device="cpu"), ("12.gate_up", "21.down")
    assert isinstance(runner, CpuRunner)
    blocks = list(range(-(-max(map(len, rows)) // BLOCK_SIZE)))
    runner.allocate(len(blocks))
    try:
        products, held_out = {}, {name: [] for name in names}
        for row in rows[:10]:
            inputs = runner.step_inputs([Chunk(row[:MAX_STEP_TOKENS], 0, blocks, 1, np.array([0]))])
            for name in names:
                products.setdefault(name, Products(inputs[name].shape[1])).add(inputs[name])
        for ids in map(tokenizer.encode, OTHERS):
            inputs = runner.step_inputs([Chunk(ids, 0, blocks, 1, np.array([0]))])
            for name in names:
                held_out[name].append(inputs[name][1:].copy())  # the first token's are like no other's
    finally:
        runner.close()
    with ThreadPoolExecutor(2) as pool:
        for name, layer in zip(names, ("12.mlp.up_proj", "21.mlp.down_proj"), strict=True):
            weights = as_float32(Source(source.path)[f"model.layers.{layer}.weight"][:256])
            kind = KINDS[fitted_kind(weights.shape[1])]
            found = dequantize(fit(weights, products[name].means(), pool), kind)
            plain: Packed = pack([weights], *int4_form(weights.shape[1]), pool)
            others = np.concatenate(held_out[name])
            errors = [np.square(others @ (made - weights).T).mean() for made in (unpack(plain), found)]
            # Groups of 32, which the width 896 needs, have fewer inputs that can make up for one another.
            assert errors[1] < (0.9 if kind.numbers == 256 else 0.99) * errors[0], (name, errors)


def test_it_answers(source: Checkpoint, rows: list[list[int]], tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LANGCHAIN_QWEN_CACHE", str(tmp_path / "cache"))
    made = quantize_int4(source, tmp_path / "fitted.gguf", rows[:8])
    assert made.parameter_bytes < 0.5 * source.parameter_bytes
    with ChatQwen(model=str(tmp_path / "fitted.gguf"), temperature=0, max_tokens=20) as model:
        assert "Paris" in model.invoke("What is the capital of France?").text
