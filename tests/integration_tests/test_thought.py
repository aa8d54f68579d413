"""Reasoning among a real model's tokens. No checkpoint with `<think>` is at hand: two tokens of an answer stand in."""

from __future__ import annotations

from functools import reduce
from operator import add

from langchain_qwen.prompting.tokenizer import Tokenizer

PROMPT = "Name three fruits and say a sentence about each."


def test_what_stands_between_two_tokens_is_the_reasoning(model, monkeypatch):
    plain = model.invoke(PROMPT)
    tokenizer: Tokenizer = model._open().tokenizer
    ids = tokenizer.encode(plain.text)
    assert plain.usage_metadata["output_tokens"] == len(ids)  # the answer's own tokens
    begin, end = 3, 7
    assert ids[begin] not in ids[:begin] + ids[begin + 1 :]
    assert ids[end] not in ids[begin:end]
    monkeypatch.setattr(Tokenizer, "thought_marks", (ids[begin], ids[end]))
    for message in (model.invoke(PROMPT), reduce(add, model.stream(PROMPT))):
        assert message.additional_kwargs["reasoning_content"] == tokenizer.decode(ids[begin + 1 : end]).strip()
        assert message.text == tokenizer.decode(ids[:begin] + ids[end + 1 :])
        assert message.usage_metadata["output_token_details"] == {"reasoning": end - begin + 1}
        assert [block["type"] for block in message.content_blocks] == ["reasoning", "text"]
