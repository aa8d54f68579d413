"""LangChain messages to role dicts: every kind of message and block."""

from __future__ import annotations

import datetime

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.tool import ToolCallChunk, invalid_tool_call

from langchain_qwen.errors import InvalidMessagesError, UnsupportedContentError
from langchain_qwen.prompting import to_roles


def call(id_: str, name: str = "add", **args):
    return {"name": name, "args": args, "id": id_}


def function(name: str = "add", **arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("message", "role", "content"),
    [
        (SystemMessage("s"), "system", "s"),
        (HumanMessage("h"), "user", "h"),
        (HumanMessageChunk(content="h"), "user", "h"),
        (AIMessage("a"), "assistant", "a"),
        (AIMessageChunk(content="a"), "assistant", "a"),
        (AIMessage("a", name="bot"), "assistant", "a"),
        (ToolMessage("t", tool_call_id="1"), "tool", "t"),
        (ToolMessage("failed", tool_call_id="1", status="error", name="add"), "tool", "Error: failed"),
        (FunctionMessage("f", name="add"), "tool", "f"),
        (ChatMessage("c", role="developer"), "system", "c"),
        (ChatMessage("c", role="system"), "system", "c"),
        (ChatMessage("c", role="user"), "user", "c"),
        (ChatMessage("c", role="assistant"), "assistant", "c"),
        (ChatMessage("c", role="tool"), "tool", "c"),
        (HumanMessage("Hello", name="alice"), "user", "alice: Hello"),
        (HumanMessage(""), "user", ""),
        (HumanMessage([]), "user", ""),
        (HumanMessage(["a ", {"type": "text", "text": "b"}, {"type": "text", "text": "c"}]), "user", "a bc"),
        (HumanMessage([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]), "user", "x"),
        (HumanMessage(content_blocks=[{"type": "text", "text": "v1"}]), "user", "v1"),
        (HumanMessage([{"type": "text-plain", "text": "file", "mime_type": "text/plain"}]), "user", "file"),
        (AIMessage([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "so"}]), "assistant", "so"),
        (AIMessage([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "so"}]), "assistant", "so"),
        (AIMessage([{"type": "refusal", "refusal": "I will not."}]), "assistant", "I will not."),
        (AIMessage("", additional_kwargs={"refusal": "I will not."}), "assistant", "I will not."),
        (ToolMessage([{"type": "json", "json": {"ß": [1, True]}}], tool_call_id="1"), "tool", '{"ß": [1, true]}'),
    ],
)
def test_role_and_text(message, role, content):
    assert to_roles([message]) == [{"role": role, "content": content}]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image", "url": "https://example.com/a.png"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"},
        {"type": "video", "url": "https://example.com/a.mp4"},
        {"type": "file", "file_id": "1"},
        {"type": "text-plain", "url": "https://example.com/a.txt", "mime_type": "text/plain"},
        {"type": "non_standard", "value": {"a": 1}},
        {"type": "server_tool_call", "id": "1", "name": "search", "args": {}},
        {"type": "no_such_type"},
        {"image": "AAAA"},
    ],
)
@pytest.mark.parametrize(
    "kind",
    [HumanMessage, SystemMessage, AIMessage, lambda content: ToolMessage(content, tool_call_id="1")],
    ids=["human", "system", "ai", "tool"],
)
def test_other_content_is_refused_by_type_and_place(kind, block):
    messages = [HumanMessage("first"), kind([{"type": "text", "text": "look:"}, block])]
    with pytest.raises(UnsupportedContentError) as error:
        to_roles(messages)
    assert "messages[1]" in str(error.value)
    assert repr(block.get("type")) in str(error.value)


@pytest.mark.parametrize("block", [{"type": "reasoning", "reasoning": "hm"}, {"type": "tool_use", "id": "1"}])
def test_blocks_of_ai_messages_are_refused_elsewhere(block):
    with pytest.raises(UnsupportedContentError):
        to_roles([HumanMessage([block])])


# -- tool calls -------------------------------------------------------------------------------------------------------


def test_tool_calls_keep_their_arguments_as_data():
    message = AIMessage("Moment.", tool_calls=[call("1", a=1, b={"ö": [None, 2.5]}), call("2", "noop")])
    assert to_roles([message]) == [
        {
            "role": "assistant",
            "content": "Moment.",
            "tool_calls": [function(a=1, b={"ö": [None, 2.5]}), function("noop")],
        }
    ]


def test_streamed_chunks_add_up_to_calls():
    chunks = [
        AIMessageChunk(content="", tool_call_chunks=[ToolCallChunk(name="add", args='{"a":', id="1", index=0)]),
        AIMessageChunk(content="", tool_call_chunks=[ToolCallChunk(name=None, args=" 7}", id=None, index=0)]),
    ]
    assert to_roles([chunks[0] + chunks[1]]) == [{"role": "assistant", "content": "", "tool_calls": [function(a=7)]}]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}},
        {"type": "tool_call", "id": "1", "name": "add", "args": {"a": 1}},
        {"type": "function_call", "id": "fc_9", "call_id": "1", "name": "add", "arguments": "{}"},
        {"type": "tool_call_chunk", "id": "1", "name": "add", "args": '{"a"', "index": 0},
        {"type": "input_json_delta", "partial_json": ": 1}", "index": 1},
    ],
)
def test_blocks_that_repeat_tool_calls_are_written_once(block):
    message = AIMessage([{"type": "text", "text": "x"}, block], tool_calls=[call("1", a=1)])
    assert to_roles([message]) == [{"role": "assistant", "content": "x", "tool_calls": [function(a=1)]}]


def test_blocks_of_unknown_calls_are_not_dropped():
    with pytest.raises(InvalidMessagesError, match=r"messages\[0\] has a 'tool_use' block"):
        to_roles([AIMessage([{"type": "tool_use", "id": "1", "name": "add", "input": {}}])])
    with pytest.raises(InvalidMessagesError, match="not among its tool_calls"):
        to_roles([AIMessage([{"type": "tool_use", "id": "2", "name": "add", "input": {}}], tool_calls=[call("1")])])


def test_content_blocks_set_tool_calls():
    message = AIMessage(content_blocks=[{"type": "tool_call", "id": "1", "name": "add", "args": {"a": 1}}])
    assert to_roles([message]) == [{"role": "assistant", "content": "", "tool_calls": [function(a=1)]}]


def test_calls_that_did_not_parse_stay_as_written():
    broken = [
        invalid_tool_call(name="add", args='{"a": 1', id="1", error="?"),
        invalid_tool_call(name=None, args='{"nam: "add"}', id="2", error="?"),
    ]
    assert to_roles([AIMessage("Hm.", invalid_tool_calls=broken)])[0]["content"] == (
        'Hm.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}\n</tool_call>'
        '\n<tool_call>\n{"nam: "add"}\n</tool_call>'
    )


def test_legacy_function_calls():
    message = AIMessage("", additional_kwargs={"function_call": {"name": "add", "arguments": '{"a": 1}'}})
    assert to_roles([message])[0]["tool_calls"] == [function(a=1)]
    broken = AIMessage("", additional_kwargs={"function_call": {"name": "add", "arguments": '{"a": '}})
    with pytest.raises(InvalidMessagesError, match=r"messages\[0\] has a function_call"):
        to_roles([broken])


def test_arguments_that_are_not_json_are_refused():
    message = AIMessage("", tool_calls=[call("1", day=datetime.date(2024, 1, 1))])
    with pytest.raises(InvalidMessagesError, match=r"messages\[0\] has tool call arguments that are not JSON"):
        to_roles([message])


def test_results_are_put_in_the_order_of_the_calls():
    messages = [
        AIMessage("", tool_calls=[call("1"), call("2")]),
        ToolMessage("two", tool_call_id="2"),
        ToolMessage("one", tool_call_id="1"),
        AIMessage("", tool_calls=[call("2"), call("1")]),
        ToolMessage("eins", tool_call_id="1"),
        ToolMessage("zwei", tool_call_id="2"),
    ]
    contents = [role["content"] for role in to_roles(messages) if role["role"] == "tool"]
    assert contents == ["one", "two", "zwei", "eins"]


def test_results_without_calls_stay_where_they_are():
    orphans = [ToolMessage(text, tool_call_id=text) for text in ("c", "a", "b")]
    assert [role["content"] for role in to_roles(orphans)] == ["c", "a", "b"]
    mixed = [AIMessage("", tool_calls=[call("1")]), orphans[0], ToolMessage("one", tool_call_id="1"), orphans[1]]
    assert [role["content"] for role in to_roles(mixed)[1:]] == ["one", "c", "a"]


# -- what is no conversation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [RemoveMessage(id="1"), ChatMessage("x", role="narrator")])
def test_messages_that_cannot_be_sent(message):
    with pytest.raises(InvalidMessagesError, match=r"messages\[1\]"):
        to_roles([HumanMessage("x"), message])


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage("caf\udce9"),
        HumanMessage("x", name="\ud800"),
        AIMessage("", tool_calls=[call("1", a=["\ud83d"])]),
        AIMessage("", tool_calls=[call("1", **{"\ud83d": 1})]),
        ToolMessage([{"type": "text", "text": "\udfff"}], tool_call_id="1"),
    ],
)
def test_lone_surrogates_are_found(message):
    with pytest.raises(InvalidMessagesError, match=r"messages\[1\] holds a lone surrogate"):
        to_roles([HumanMessage("😀"), message])
