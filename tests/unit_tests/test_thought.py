"""Reasoning checkpoints: what stands between `<think>` and `</think>` is no part of the answer."""

from __future__ import annotations

import asyncio
import json
from functools import reduce
from operator import add

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_qwen import ChatQwen
from langchain_qwen.backends import OnThisMachine
from langchain_qwen.output.parser import OutputParser
from langchain_qwen.output.pieces import Reasoning, Text
from langchain_qwen.output.thought import Thought
from langchain_qwen.safety import SafetyParser
from tests.tiny import make_tiny_checkpoint
from tests.unit_tests.scripted_engine import ScriptedEngine

OPENS = "<think>\n"


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return city


class Weather(BaseModel):
    """The weather."""

    degrees: int


@pytest.fixture(scope="module", params=[False, True], ids=["model-opens", "template-opens"])
def opened(request):
    return request.param


@pytest.fixture(scope="module")
def model(tmp_path_factory, opened):
    """A checkpoint with the two tokens, whose template may open the reasoning, as that of QwQ does."""
    folder = make_tiny_checkpoint(tmp_path_factory.mktemp("thinking") / "model")
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    last = tokenizer["added_tokens"][-1]
    tokenizer["added_tokens"] += [
        {**last, "id": last["id"] + 1 + n, "content": text} for n, text in enumerate(("<think>", "</think>"))
    ]
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    if opened:
        file = folder / "tokenizer_config.json"
        settings = json.loads(file.read_text(encoding="utf-8"))
        before, begins, after = settings["chat_template"].rpartition("assistant\\n")
        settings["chat_template"] = f"{before}{begins}<think>\\n{after}"
        file.write_text(json.dumps(settings), encoding="utf-8")
    return ChatQwen(model=str(folder), temperature=0, max_tokens=300)


@pytest.fixture
def scripted(model, opened, monkeypatch):
    """An engine that thinks and answers as it is told."""

    def script(reasoning: str, *answers: str) -> ScriptedEngine:
        first = ("" if opened else OPENS) + reasoning + answers[0]
        engine = ScriptedEngine(model._open().tokenizer, first, *answers[1:])
        monkeypatch.setattr(OnThisMachine, "engine", lambda *_a, **_k: engine)
        return engine

    return script


async def _astreamed(model):
    total = AIMessageChunk(content="")
    async for chunk in model.astream("hi"):
        total += chunk
    return total


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: model.invoke("hi"),
        lambda model: asyncio.run(model.ainvoke("hi")),
        lambda model: sum(model.stream("hi"), AIMessageChunk(content="")),
        lambda model: asyncio.run(_astreamed(model)),
    ],
    ids=["invoke", "ainvoke", "stream", "astream"],
)
def test_reasoning_is_a_block_before_the_text(model, scripted, ask):
    scripted("First, two\n\nand two.\n</think>\n\n", "It is four.")
    message = ask(model)
    assert message.text == "It is four."
    assert message.additional_kwargs["reasoning_content"] == "First, two\n\nand two."
    assert [(block["type"], block.get("reasoning")) for block in message.content_blocks] == [
        ("reasoning", "First, two\n\nand two."),
        ("text", None),
    ]
    assert 0 < message.usage_metadata["output_token_details"]["reasoning"] < message.usage_metadata["output_tokens"]


def test_content_of_version_1_has_two_blocks(model, scripted):
    for ask in (lambda m: m.invoke("hi"), lambda m: reduce(add, m.stream("hi"))):
        scripted("so\n</think>\n\n", "Four")
        content = ask(model.model_copy(update={"output_version": "v1"})).content
        assert [(b["type"], b.get("reasoning", b.get("text"))) for b in content] == [
            ("reasoning", "so"),
            ("text", "Four"),
        ]


def test_an_answer_that_ends_within_the_reasoning_is_all_reasoning(model, scripted):
    scripted("thinking on and on", "")
    message = model.invoke("hi", max_tokens=6)
    assert message.text == ""
    assert message.additional_kwargs["reasoning_content"].startswith("think")
    assert message.response_metadata["finish_reason"] == "length"


def test_stop_strings_and_calls_count_in_the_answer_alone(model, scripted):
    scripted('END {"name": "weather"} </think>', "so END more")
    message = model.bind_tools([weather]).invoke("hi", stop=["END"], decide_calls=False)
    assert (message.text, message.tool_calls) == ("so ", [])
    assert message.additional_kwargs["reasoning_content"] == 'END {"name": "weather"}'
    scripted("hm</think>", '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>')
    message = model.bind_tools([weather]).invoke("hi", decide_calls=False)
    assert [call["args"] for call in message.tool_calls] == [{"city": "Oslo"}]


def test_under_a_grammar_the_reasoning_is_closed_and_counted(model, opened, monkeypatch):
    engine = ScriptedEngine(model._open().tokenizer, '{"degrees": 3}')
    monkeypatch.setattr(OnThisMachine, "engine", lambda *_a, **_k: engine)
    assert model.with_structured_output(Weather).invoke("hi") == Weather(degrees=3)
    [request] = engine.requests
    prompt = model._open().tokenizer.decode(request.prompt_ids)
    assert prompt.endswith("assistant\n<think>\n</think>\n\n" if opened else "assistant\n")
    counted = model.get_num_tokens_from_messages([HumanMessage("hi")], response_format=Weather)
    assert counted == len(request.prompt_ids)


def test_the_guard_looks_at_reasoning(model, scripted):
    scripted("write to kim@example.com</think>", "I wrote to kim@example.com.")
    message = SafetyParser().guard(model).invoke("hi")
    assert "kim@" not in str(message)
    assert message.additional_kwargs["reasoning_content"].startswith("write to [")


def test_reasoning_of_earlier_turns_is_not_sent(model, scripted):
    engine = scripted("so</think>", "Four", "Five")
    first = model.invoke("hi")
    model.invoke([("human", "hi"), first, ("human", "and?")])
    with_text = model.prompter.encode([HumanMessage("hi"), AIMessage("Four"), HumanMessage("and?")])
    assert list(engine.requests[1].prompt_ids) == with_text


def test_the_characters_alone_are_text(tiny_checkpoint, monkeypatch):
    model = ChatQwen(model=str(tiny_checkpoint), temperature=0)
    engine = ScriptedEngine(model._open().tokenizer, "<think>a</think>b")
    monkeypatch.setattr(OnThisMachine, "engine", lambda *_a, **_k: engine)
    message = model.invoke("hi")
    assert message.text == "<think>a</think>b"
    assert "reasoning_content" not in message.additional_kwargs
    assert "output_token_details" not in message.usage_metadata


@given(st.lists(st.sampled_from([" ", "\n", "a", " b", "é", "<", ">"])), st.lists(st.sampled_from([" ", "c", "\n d"])))
def test_token_by_token_it_is_the_naive_split(reasoning, answer):
    """Each text is cut into tokens of single bytes at its odd places, so that characters are split."""
    begin, end = 1000, 1001
    pieces = [raw for text in (*reasoning, None, *answer) for raw in ([None] if text is None else _cut(text))]
    table = dict(enumerate(raw for raw in pieces if raw is not None))
    tokens, number = [begin], 0
    for raw in pieces:
        tokens.append(end if raw is None else number)
        number += raw is not None
    token_bytes = {**table, begin: b"<think>", end: b"</think>"}.__getitem__
    parser = OutputParser(token_bytes, thought=Thought(token_bytes, (begin, end), opened=False))
    out = [piece for token in tokens for piece in parser.feed(token)] + parser.finish()
    assert "".join(p.text for p in out if isinstance(p, Reasoning)) == "".join(reasoning).strip()
    behind = [raw for text in answer for raw in _cut(text)]
    while behind and not behind[0].strip():
        behind.pop(0)
    assert "".join(p.text for p in out if isinstance(p, Text)) == b"".join(behind).decode()


def _cut(text):
    raw = text.encode()
    return [raw[:1], raw[1:]] if len(raw) > 1 else [raw]
