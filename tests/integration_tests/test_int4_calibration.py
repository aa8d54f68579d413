"""The smaller alias's bf16 weights in 4 bits, fitted to a text; it takes a minute on two cores."""

from __future__ import annotations

import pytest

from langchain_qwen import ChatQwen
from langchain_qwen.checkpoints import Checkpoint, resolve
from langchain_qwen.checkpoints.pulling import in_safetensors
from langchain_qwen.prompting import Tokenizer
from langchain_qwen.quantizing import BUILT_IN, calibration_texts, quantize_int4, split_rows


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return in_safetensors(resolve("coder-0.5b"), "bf16")


@pytest.fixture(scope="module")
def rows(source: Checkpoint) -> list[list[int]]:
    tokenizer = Tokenizer.from_folder(source.path, source.vocab_size, source.eos_token_ids)
    texts = list(calibration_texts(BUILT_IN.read_text(encoding="utf-8"), BUILT_IN))
    return split_rows(texts, tokenizer, BUILT_IN)[0]


def test_it_answers(source: Checkpoint, rows: list[list[int]], tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LANGCHAIN_QWEN_CACHE", str(tmp_path / "cache"))
    made = quantize_int4(source, tmp_path / "fitted.gguf", rows[:8])
    assert made.parameter_bytes < 0.5 * source.parameter_bytes
    with ChatQwen(model=str(tmp_path / "fitted.gguf"), temperature=0, max_tokens=20) as model:
        assert "Paris" in model.invoke("What is the capital of France?").text
