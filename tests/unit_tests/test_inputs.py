"""All inputs that LangChain knows become messages, in one place."""

from __future__ import annotations

import pytest
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue

from langchain_qwen.errors import InvalidMessagesError
from langchain_qwen.inputs import messages_of, variables_of

HELLO = HumanMessage("hello")
HISTORY = InMemoryChatMessageHistory(messages=[HELLO])


@pytest.mark.parametrize(
    "value",
    [
        "hello",
        HELLO,
        [HELLO],
        (HELLO,),
        [("human", "hello")],
        ["hello"],
        [{"role": "user", "content": "hello"}],
        StringPromptValue(text="hello"),
        ChatPromptValue(messages=[HELLO]),
        {"messages": [HELLO]},
        {"messages": "hello", "city": "Lisbon"},
        {"input": "hello"},
        HISTORY,
    ],
)
def test_every_spelling(value):
    assert [message.text for message in messages_of(value)] == ["hello"]
    assert isinstance(messages_of(value)[0], HumanMessage)


def test_a_list_is_copied():
    given = [HELLO, AIMessage("hi")]
    assert messages_of(given) == given
    assert messages_of(given) is not given


@pytest.mark.parametrize("value", [None, 3, {"city": "Lisbon"}, {"input": "a", "messages": "b"}, [3], [None], object()])
def test_what_is_no_conversation_is_refused(value):
    with pytest.raises(InvalidMessagesError):
        messages_of(value)


def test_messages_beside_the_input_are_not_left_out_silently():
    for name in ("history", "chat_history"):
        with pytest.raises(InvalidMessagesError, match=f"'{name}'"):
            messages_of({"input": "hello", name: [HELLO]})
    # A graph's state has lists of its own.
    assert messages_of({"messages": [HELLO], "notes": [AIMessage("x")]}) == [HELLO]


def test_variables_stand_beside_the_conversation():
    assert variables_of({"input": "a", "city": "Lisbon"}) == {"city": "Lisbon"}
    assert variables_of("a") == {}
