"""Which conversations are refused, and that the error says where and what to do."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import invalid_tool_call
from langchain_core.utils.function_calling import tool_example_to_messages
from pydantic import BaseModel

from langchain_qwen.errors import InvalidMessagesError, UnsupportedContentError
from langchain_qwen.prompting import check_conversation


def calls(*ids: str | None) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "add", "args": {}, "id": id_} for id_ in ids])


def result(id_: str) -> ToolMessage:
    return ToolMessage("3", tool_call_id=id_)


HUMAN = HumanMessage("x")
BROKEN = AIMessage("", invalid_tool_calls=[invalid_tool_call(name="add", args="{", id="1", error="?")])


class Sum(BaseModel):
    """A sum."""

    value: int


@pytest.mark.parametrize(
    "messages",
    [
        [HUMAN],
        [SystemMessage("You begin.")],
        [AIMessage("Hello!")],
        [HUMAN, HumanMessage("")],
        [HUMAN, HUMAN, AIMessage("a"), AIMessage("b")],
        [HUMAN, calls("1", "2"), result("2"), result("1")],
        [HUMAN, calls("1"), result("1"), AIMessage("3"), HUMAN, calls("1"), result("1")],
        [HUMAN, calls("1"), result("1"), SystemMessage("Be short.")],
        [HUMAN, BROKEN, HUMAN],
        [HUMAN, BROKEN, result("1")],
        [calls("1"), result("1")],
        tool_example_to_messages("1+1", [Sum(value=2), Sum(value=3)], ai_response="Done."),
    ],
)
def test_what_can_be_sent(messages):
    check_conversation(messages)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "no messages; pass at least one"),
        ([HumanMessage("")], "all messages are empty"),
        ([SystemMessage(" "), HumanMessage([{"type": "text", "text": "\n"}])], "all messages are empty"),
        ([HUMAN, result("1")], r"messages\[1\] is the result of tool call '1'"),
        ([HUMAN, calls("1"), result("1"), result("2")], r"messages\[3\] is the result of tool call '2'"),
        ([HUMAN, calls("1"), result("1"), AIMessage("3"), result("1")], r"messages\[4\] is the result"),
        ([HUMAN, calls("1"), result("1"), HUMAN, result("1")], r"messages\[4\] is the result"),
        ([HUMAN, calls("1")], r"'add' in messages\[1\] \(id '1'\) has no result before the end; add a ToolMessage"),
        ([HUMAN, calls("1", "2"), result("2"), HUMAN], r"id '1'\) has no result before messages\[3\]"),
        ([HUMAN, calls("1"), AIMessage("3"), result("1")], r"id '1'\) has no result before messages\[2\]"),
        ([HUMAN, calls(None), HUMAN], r"id None\) has no result"),
    ],
)
def test_what_cannot(messages, message):
    with pytest.raises(InvalidMessagesError, match=message):
        check_conversation(messages)


def test_content_is_checked_too():
    with pytest.raises(UnsupportedContentError, match=r"messages\[1\] \(human\) .* 'image'"):
        check_conversation([HUMAN, HumanMessage([{"type": "image", "base64": "AAAA"}])])
