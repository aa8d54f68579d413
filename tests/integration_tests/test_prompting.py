"""Ids on the real vocabulary equal the Hugging Face tokenizer's and the template's own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from transformers import AutoTokenizer

from langchain_qwen.checkpoints import resolve
from langchain_qwen.prompting import Prompter, Tokenizer

DATA = Path(os.environ.get("LANGCHAIN_QWEN_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="module")
def reference():
    return AutoTokenizer.from_pretrained(resolve("coder-0.5b").path)


@pytest.fixture(scope="module")
def tokenizer():
    checkpoint = resolve("coder-0.5b")
    return Tokenizer.from_folder(checkpoint.path, checkpoint.vocab_size, checkpoint.eos_token_ids)


def test_the_corpus(tokenizer, reference):
    corpus = DATA / "text_corpus.jsonl"
    if not corpus.exists():
        pytest.skip(f"{corpus} is not there (set LANGCHAIN_QWEN_DATA)")
    for line in corpus.read_text(encoding="utf-8").splitlines():
        text = json.loads(line)["text"]
        assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_random_unicode(tokenizer, reference, text):
    if not any(token in text for token in tokenizer.control_tokens):
        assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False)
        if "�" not in tokenizer.decode(tokenizer.encode(text)):
            assert tokenizer.decode(tokenizer.encode(text)) == reference.decode(reference.encode(text))


TOOLS = [
    {
        "type": "function",
        "function": {"name": "add", "description": "Addiert — 加", "parameters": {"type": "object", "properties": {}}},
    }
]


@pytest.mark.parametrize("tools", [None, TOOLS])
def test_conversations_equal_the_template(tokenizer, reference, tools):
    conversation = [
        SystemMessage("Sei kurz."),
        HumanMessage("Was ist 1 + 2? 你好 😀"),
        AIMessage("Ich rechne.", tool_calls=[{"name": "add", "args": {"a": 1, "b": "é"}, "id": "1"}]),
        ToolMessage("3", tool_call_id="1"),
        AIMessage("3"),
        SystemMessage("Now in English."),
        HumanMessage("And 2 + 2?"),
    ]
    roles = [
        {"role": "system", "content": "Sei kurz."},
        {"role": "user", "content": "Was ist 1 + 2? 你好 😀"},
        {
            "role": "assistant",
            "content": "Ich rechne.",
            "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "é"}}}],
        },
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "3"},
        {"role": "system", "content": "Now in English."},
        {"role": "user", "content": "And 2 + 2?"},
    ]
    prompter = Prompter.from_folder(resolve("coder-0.5b").path, tokenizer)
    for end in range(1, len(roles) + 1):
        expected = reference.apply_chat_template(
            roles[:end], tools=tools, add_generation_prompt=True, return_dict=False
        )
        assert prompter.encode(conversation[:end], tools) == expected
        assert prompter.count(conversation[:end], tools) == len(expected)
