"""Counts message by message are those of the whole prompt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from langchain_core.messages import AIMessage, FunctionMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_qwen import ChatQwen
from langchain_qwen.errors import InvalidMessagesError, UnsupportedModelError
from langchain_qwen.history import pin
from langchain_qwen.history.counting import PromptCounter, key_of
from langchain_qwen.prompting import Prompter
from tests.unit_tests.history.histories import TOOL, histories


@settings(max_examples=40, deadline=None)
@given(histories())
def test_the_sum_is_the_whole(model: ChatQwen, messages):
    counter = PromptCounter(model.prompter)
    for tools in ([], [TOOL]):
        assert counter.count(messages, tools) == model.get_num_tokens_from_messages(messages, tools)


def test_old_functions_are_counted_too(model: ChatQwen):
    call = AIMessage("", additional_kwargs={"function_call": {"name": "f", "arguments": "{}"}})
    messages = [HumanMessage("a"), call, FunctionMessage("b", name="f"), FunctionMessage("\nc", name="f")]
    assert PromptCounter(model.prompter).count(messages) == model.get_num_tokens_from_messages(messages)
    assert PromptCounter(model.prompter).count([]) == 0


def test_a_changed_message_is_counted_anew(model: ChatQwen):
    counter = PromptCounter(model.prompter)
    call = AIMessage("", tool_calls=[{"name": "f", "args": {"a": 1}, "id": "1"}])
    messages = [SystemMessage("s"), HumanMessage("a"), call, ToolMessage("r", tool_call_id="1")]
    counter.count(messages)
    call.tool_calls[0]["args"]["b"] = "more"
    messages[1].content += " and more"
    messages[0].content = [{"type": "text", "text": "something else"}]
    assert counter.count(messages) == model.get_num_tokens_from_messages(messages)


def test_keys_tell_messages_apart():
    blocks = [{"type": "text", "text": "a"}]
    different = [
        HumanMessage("a"),
        AIMessage("a"),
        HumanMessage("a", name="ann"),
        HumanMessage(blocks),
        HumanMessage(repr(blocks)),
        pin(HumanMessage("a")),
        ToolMessage("a", tool_call_id="1"),
        ToolMessage("a", tool_call_id="1", status="error"),
    ]
    assert len(set(map(key_of, different))) == len(different)
    assert key_of(HumanMessage("a", id="1")) == key_of(HumanMessage("a", id="2"))


def test_half_answered_calls_are_refused(model: ChatQwen):
    call = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])
    with pytest.raises(InvalidMessagesError, match="no result"):
        PromptCounter(model.prompter).count([HumanMessage("a"), call])


def test_another_kind_of_template_is_refused(model: ChatQwen):
    prompter = model.prompter
    source = prompter._template.source.replace('message.role == "user"', 'message.role == "user" and loop.index > 2')
    other = Prompter(replace(prompter._template, source=source), model._open().tokenizer)
    with pytest.raises(UnsupportedModelError, match="message by message"):
        PromptCounter(other)
