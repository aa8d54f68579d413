"""bitsandbytes' nf4 of a real checkpoint, run by transformers on the CPU."""

from __future__ import annotations

from transformers import BitsAndBytesConfig

from langchain_qwen import ChatQwen

QUESTION = "What is the capital of France? Answer with its name only."


def test_nf4_answers():
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    with ChatQwen(model="coder-0.5b", quantization_config=config, temperature=0, max_tokens=8) as model:
        answer = model.invoke(QUESTION)
        assert "Paris" in answer.text
        assert "".join(chunk.text for chunk in model.stream(QUESTION)) == answer.text
