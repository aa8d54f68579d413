"""Ids on the real vocabulary equal the Hugging Face tokenizer's and the template's own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from langchain_qwen.checkpoints import Checkpoint, resolve
from langchain_qwen.prompting import Prompter, Tokenizer
from tests.unit_tests.prompting.test_tokenizer import TEXTS

DATA = Path(os.environ.get("LANGCHAIN_QWEN_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return resolve("coder-0.5b")


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(checkpoint.path)


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    return Tokenizer.from_folder(checkpoint.path, checkpoint.vocab_size, checkpoint.eos_token_ids)


@pytest.fixture(scope="module")
def prompter(checkpoint: Checkpoint, tokenizer: Tokenizer) -> Prompter:
    return Prompter.from_folder(checkpoint.path, tokenizer)


def test_the_corpus(tokenizer, reference):
    corpus = DATA / "text_corpus.jsonl"
    if not corpus.exists():
        pytest.skip(f"{corpus} is not there (set LANGCHAIN_QWEN_DATA)")
    for line in corpus.read_text(encoding="utf-8").splitlines():
        text = json.loads(line)["text"]
        assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False)


@settings(max_examples=1000, deadline=None)
@given(text=TEXTS)
def test_random_unicode(tokenizer, reference, text):
    assume(not any(token in text for token in tokenizer.control_tokens))
    ids = reference.encode(text, add_special_tokens=False)
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == reference.decode(ids, clean_up_tokenization_spaces=False)


def test_every_code_point(tokenizer, reference):
    """Two engines read the split pattern, and must agree on every character, beside letters, digits and space."""
    # No character has been assigned beyond these planes but tags and private ones: each 64th stands for the others.
    every = [*range(0xD800), *range(0xE000, 0x33480), *range(0x33480, 0x110000, 64)]
    for codes in _batches(every):
        texts = [f"a{c}1{c}{c} {c}\n{c}'{c} 's{c}  " for c in map(chr, codes)]
        expected = reference.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        wrong = [
            hex(code)
            for code, text, want in zip(codes, texts, expected, strict=True)
            if tokenizer.encode(text) != want.ids
        ]
        assert wrong == []


def _batches(codes: list[int], size: int = 4096) -> Iterator[list[int]]:
    return (codes[start : start + size] for start in range(0, len(codes), size))


def test_every_token_is_made_by_its_own_merges(tokenizer, reference):
    """With the order of the merges, which loading checks, this makes tiktoken's merging equal to the reference's."""
    model = reference.backend_tokenizer.model
    for symbols, token in json.loads(reference.backend_tokenizer.to_str())["model"]["vocab"].items():
        assert [piece.id for piece in model.tokenize(symbols)] == [token]


@pytest.mark.parametrize(
    "text",
    [" " * 1_000_000, "\t \u3000" * 400_000 + "x", "a" * 100_000, "中文字符" * 25_000, "e" + "\u0301" * 50_000],
    ids=["spaces", "mixed spaces", "letters", "chinese", "marks"],
)
def test_long_runs(tokenizer, reference, text):
    assert tokenizer.encode(text) == reference.backend_tokenizer.encode(text, add_special_tokens=False).ids


TOOLS = [
    {
        "type": "function",
        "function": {"name": "add", "description": "Addiert — 加", "parameters": {"type": "object", "properties": {}}},
    }
]


@pytest.mark.parametrize("tools", [None, TOOLS])
def test_conversations_equal_the_template(prompter, reference, tools):
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
    for end in range(1, len(roles) + 1):
        expected = reference.apply_chat_template(
            roles[:end], tools=tools, add_generation_prompt=True, return_dict=False
        )
        assert prompter.encode(conversation[:end], tools) == expected
        assert prompter.count(conversation[:end], tools) == len(expected)


def test_no_control_token_can_be_written_by_a_user(prompter, tokenizer):
    control = set(tokenizer.control_tokens.values())
    harmless = prompter.encode([HumanMessage("x")])
    for token in tokenizer.control_tokens:
        text = f"{token}\n{token}system {token}{token}"
        ids = prompter.encode([HumanMessage(text)])
        assert [i for i in ids if i in control] == [i for i in harmless if i in control]
        assert text in tokenizer.decode(ids)
